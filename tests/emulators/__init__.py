"""Brokers on loopback: they answer on the wire as the real ones do, over one emulated exchange.

`core` is the exchange, the faults, the record and the server; each broker is a dialect on it. As a
program: ``python -m tests.emulators zerodha --port 9001`` or ``python -m tests.emulators all``.
"""
