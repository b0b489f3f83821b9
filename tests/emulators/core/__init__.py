"""What the emulated brokers share. Start with `dialect.py` (it has an example) and `server.py`.

| file | what |
|---|---|
| `clock.py` | the time, moved or stopped by hand |
| `instruments.py`, `market.py` | what is listed; books, the walk of prices, seeded candles |
| `orders.py`, `accounts.py` | orders, their rows and refusals; cash, holdings, positions, charges |
| `exchange.py` | matching and the life of orders |
| `faults.py`, `limits.py`, `recorder.py` | what goes wrong, how often one may ask, who asked what |
| `messages.py`, `sockets.py`, `server.py` | HTTP and WebSockets on raw loopback connections |
| `dialect.py` | the base of a broker |
| `control.py` | ``/__emulator__/...``: levers over HTTP |
"""
