"""The measured paths: what is asked, what its bare reference is, and which bars it must meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode


@dataclass(slots=True)
class Caller:
    """A user of the bench: what its requests carry."""

    email: str
    password: str
    token: str
    resting_price: str  # far below the market of SYMBOL, inside today's band
    rich_token: str  # of the user with many orders and positions

    def ask(self, path: str) -> bytes:
        return self._head("GET", path, self.token) + b"\r\n"

    def ask_rich(self, path: str) -> bytes:
        return self._head("GET", path, self.rich_token) + b"\r\n"

    def send(self, path: str, body: str, kind: str = "application/json", more: str = "") -> bytes:
        about = f"{more}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return self._head("POST", path, self.token) + about.encode() + body.encode()

    def _head(self, method: str, path: str, token: str) -> bytes:
        return (
            f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Proto: https\r\n"
            f"Authorization: Bearer {token}\r\n"
        ).encode()


Make = Callable[[Caller, int], bytes]

HOST = "bench.localhost"
# Orders go to several instruments, as users' orders do.
SYMBOLS = (
    "NSE:RELIANCE",
    "NSE:TCS",
    "NSE:INFY",
    "NSE:HDFCBANK",
    "NSE:ICICIBANK",
    "NSE:SBIN",
    "NSE:ITC",
    "NSE:LT",
)
RESTING_SYMBOL = "NSE:RELIANCE"


@dataclass(frozen=True, slots=True)
class Bars:
    """What `--check` asks for, at 8 and 32 clients."""

    rate: float
    p99_ms: float | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Path:
    title: str
    unit: str
    request: Make
    reference: Make
    status: int = 200
    reference_status: int = 200
    until_filled: bool = False
    gives_work: bool = False  # workers have something to do afterwards
    clients: tuple[int, ...] = (1, 8, 32)
    bars: Bars | None = None


def _key(number: int) -> str:
    return f"Idempotency-Key: b{number}\r\n"


def _place_limit(caller: Caller, number: int) -> bytes:
    body = (
        f'{{"symbol":"{RESTING_SYMBOL}","side":"BUY","quantity":1,"order_type":"LIMIT",'
        f'"price":"{caller.resting_price}"}}'
    )
    return caller.send("/api/v1/orders", body, more=_key(number))


def _place_market(caller: Caller, number: int) -> bytes:
    symbol = SYMBOLS[number % len(SYMBOLS)]
    body = f'{{"symbol":"{symbol}","side":"BUY","quantity":1,"order_type":"MARKET"}}'
    return caller.send("/api/v1/orders", body, more=_key(number))


def _bare_place(caller: Caller, number: int) -> bytes:
    return caller.send("/bench/place", '{"quantity":1}', more=_key(number))


def _positions(caller: Caller, number: int) -> bytes:
    return caller.ask_rich("/api/v1/positions")


def _orders(caller: Caller, number: int) -> bytes:
    return caller.ask_rich("/api/v1/orders?limit=50")


def _quote(caller: Caller, number: int) -> bytes:
    body = '[{"exchange_token":"2885","exchange":"NSE","instrument_type":"EQ"}]'
    return caller.send("/api/v1/ltp-quote", body)


def _bare_json(caller: Caller, number: int) -> bytes:
    return caller.ask("/bench/json")


def _sign_in(caller: Caller, number: int) -> bytes:
    form = urlencode({"username": caller.email, "password": caller.password})
    return caller.send("/api/v1/auth/signin", form, "application/x-www-form-urlencoded")


def _bare_hash(caller: Caller, number: int) -> bytes:
    return caller.ask("/bench/hash")


_PLACING = Bars(rate=400, p99_ms=200, ratio=0.25)

PATHS: dict[str, Path] = {
    "place": Path(
        "place a resting LIMIT order", "orders/s", _place_limit, _bare_place,
        status=201, reference_status=201, gives_work=True, bars=_PLACING,
    ),
    "market": Path(
        "place a MARKET order", "orders/s", _place_market, _bare_place,
        status=201, reference_status=201, gives_work=True, bars=_PLACING,
    ),
    "filled": Path(
        "place a MARKET order, wait until it is filled", "orders/s", _place_market, _bare_place,
        status=201, reference_status=201, until_filled=True, gives_work=True, bars=Bars(rate=150),
    ),
    "positions": Path("50 positions", "requests/s", _positions, _bare_json, bars=Bars(rate=500)),
    "orders": Path("the newest 50 of 2,000 orders", "requests/s", _orders, _bare_json),
    "quote": Path("one quote", "requests/s", _quote, _bare_json, bars=Bars(rate=500)),
    "signin": Path("sign in with a password", "requests/s", _sign_in, _bare_hash),
}  # fmt: skip
