"""A broker's way of saying things: the base of every emulated broker. Usable: write dialects on it.

A dialect is a class with routes, a few words, and (where the broker has one) a socket. It keeps
the accounts and sessions of its broker; the exchange keeps the market. All its methods run on its
server's loop, so they need no locks and must not block. (`Exchange` takes its own.)

    class Example(Dialect):
        name = "example"
        limits = (limit("order", 10, 1), limit("read", 10, 1))

        @route("POST", "/orders/{kind}", group="order", fixed_ip=True)
        def place(self, call: Call) -> Response:
            form = call.request.form
            instrument = self.exchange.find(form["instrument"])
            ticket = Ticket(instrument, form["side"], int(form["quantity"]), product="MIS")
            order = self.exchange.place(call.account, ticket, id=f"X{self.next_number()}")
            return Response.of({"order_id": order.id})

        @route("GET", "/orders", group="read")
        def orders(self, call: Call) -> Response:
            return Response.of([self.row(order, row) for order, row in call.book()])

        def authenticate(self, call):    # -> Account, or the Response that says no
        def refused(self, refusal):      # -> how the broker says a Refusal
        async def serve_socket(self, socket):  # socket.receive(), socket.send(); ends with it

    with EmulatorServer(Example()) as emulator:
        requests.post(emulator.url + "/orders/plain", ...)

Order of a request: record, faults that do not act, limits (needs `limit_key`), static address,
`authenticate`, the route, faults of the answer. A `Refusal` that a route raises goes to `refused`.
Pushes: `on_event` is called on the loop for each event of the exchange; `Socket.send` and
`EmulatorServer.post` (postbacks) apply the faults of events.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from tests.emulators.core.accounts import Account
from tests.emulators.core.clock import Clock
from tests.emulators.core.exchange import Event, Exchange
from tests.emulators.core.faults import Fault, Faults
from tests.emulators.core.limits import Limit, Limiter
from tests.emulators.core.messages import Request, Response
from tests.emulators.core.orders import Fill, Order, Refusal, Row
from tests.emulators.core.recorder import Recorder

if TYPE_CHECKING:
    from tests.emulators.core.server import EmulatorServer
    from tests.emulators.core.sockets import Socket

Handler = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Route:
    """``group`` names what it counts as toward limits ("" counts nowhere); ``fixed_ip`` routes
    take calls from registered addresses only; ``open`` routes need no session.
    """

    method: str
    pattern: str
    group: str
    fixed_ip: bool
    open: bool
    handler: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.pattern}"


def route(
    method: str, pattern: str, *, group: str = "", fixed_ip: bool = False, open: bool = False
) -> Callable[[Handler], Handler]:
    """Mark a method of a dialect as the answer to ``method`` at ``pattern`` (``/orders/{id}``)."""

    def mark(handler: Handler) -> Handler:
        marks = getattr(handler, "routes", ())
        made = Route(method, pattern, group, fixed_ip, open, handler.__name__)
        handler.routes = (*marks, made)  # type: ignore[attr-defined]
        return handler

    return mark


@dataclass(slots=True)
class Call:
    """One request on its way through a route. ``account`` is whose session it carries (unset on
    open routes).
    """

    dialect: Dialect
    request: Request
    params: dict[str, str]
    route: Route
    account: Account = field(default=None)  # type: ignore[assignment]
    fault: Fault | None = None

    def book(self) -> list[tuple[Order, Row]]:
        """Return the account's orders and how each is shown, oldest first; partial or stale where a
        fault says so.
        """
        with self.dialect.exchange.lock:
            orders = list(self.account.orders.values())
            if self.fault and self.fault.kind == "partial_book":
                orders = orders[: max(len(orders) - self.fault.get("missing", 1), 0)]
            if self.fault and self.fault.kind == "stale_book":
                at = self.dialect.clock.now() - timedelta(seconds=self.fault.get("seconds", 60))
                rows = ((order, order.row_at(at)) for order in orders)
                return [(order, row) for order, row in rows if row]
            return [(order, order.rows[-1]) for order in orders]

    def trades(self) -> list[Fill]:
        """Return the account's executions, oldest first, by the same faults."""
        with self.dialect.exchange.lock:
            fills = [fill for order in self.account.orders.values() for fill in order.fills]
        fills.sort(key=lambda fill: int(fill.id))
        if self.fault and self.fault.kind == "partial_book":
            return fills[: max(len(fills) - self.fault.get("missing", 1), 0)]
        if self.fault and self.fault.kind == "stale_book":
            at = self.dialect.clock.now() - timedelta(seconds=self.fault.get("seconds", 60))
            return [fill for fill in fills if fill.at <= at]
        return fills


class Dialect:
    """``allowed_ips`` None: orders are taken from everywhere. ``accounts`` are by user id."""

    name: ClassVar[str] = ""
    default_port: ClassVar[int] = 0
    limits: ClassVar[tuple[Limit, ...]] = ()

    def __init__(self, exchange: Exchange | None = None) -> None:
        self.exchange = exchange or Exchange()
        self.faults, self.recorder = Faults(), Recorder()
        self.limiter = Limiter(self.limits)
        self.allowed_ips: set[str] | None = None
        self.accounts: dict[str, Account] = {}
        self.postbacks: list[tuple[float, str, bytes, int | None]] = []  # at, url, body, status
        self.server: EmulatorServer = None  # type: ignore[assignment]
        self._count = 0
        self._routes = self._collect()

    # --- To be said by each broker ----------------------------------------------------------------

    def authenticate(self, call: Call) -> Account | Response:
        """Return whose session the request carries, or how the broker refuses it."""
        raise NotImplementedError

    def limit_key(self, request: Request) -> str:
        """Return what the limits count by, e.g. the API key."""
        return request.headers.get("authorization", "")

    def refused(self, refusal: Refusal) -> Response:
        raise NotImplementedError

    def say(self, refusal: Refusal) -> str:
        """Return the reason of an order that was taken and rejected later."""
        return refusal.message

    def over_limit(self, call: Call) -> Response:
        raise NotImplementedError

    def wrong_address(self, call: Call) -> Response:
        """Answer an order from an address that is not registered."""
        raise NotImplementedError

    def session_over(self) -> Response:
        raise NotImplementedError

    def timed_out(self) -> Response:
        """Answer that the order system did not answer the broker in time."""
        raise NotImplementedError

    def not_found(self, request: Request) -> Response:
        return Response.of({"message": "not found"}, 404)

    def bad_request(self, error: Exception) -> Response:
        """Answer a request that a route could not read (KeyError, ValueError, ...)."""
        return Response.of({"message": f"bad request: {error}"}, 400)

    def accept_socket(self, request: Request) -> Response | None:
        """Return how a handshake is refused (or redirected), or None to accept it."""
        return Response.of({"message": "no socket here"}, 404)

    async def serve_socket(self, socket: Socket) -> None:
        """Talk on an accepted socket until it ends."""

    def on_event(self, event: Event) -> None:
        """Called on the loop for every event of the exchange, other brokers' accounts included."""

    def control(self, name: str, body: dict[str, Any]) -> Any:
        """Answer ``POST /__emulator__/do/{name}``: the broker's own levers."""
        raise KeyError(name)

    def describe(self) -> dict[str, Any]:
        """Return what a person needs to use it: keys, logins. Printed at the start."""
        return {}

    def reset(self) -> None:
        """Forget accounts and sessions. Extend it for what a dialect keeps beside."""
        self.accounts.clear()

    # --- Given ------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        return self.exchange.clock

    def next_number(self) -> int:
        self._count += 1
        return self._count

    def account(self, user_id: str, **fields: Any) -> Account:
        """Return an account, made on first use."""
        if user_id not in self.accounts:
            fields.setdefault("opening_cash", fields.get("cash", Account("").cash))
            self.accounts[user_id] = Account(user_id, say=self.say, **fields)
        return self.accounts[user_id]

    def match(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        for pattern, made in self._routes:
            if made.method == request.method and (found := pattern.fullmatch(request.path)):
                return made, found.groupdict()
        return None

    def routes(self) -> Iterator[Route]:
        return (made for _, made in self._routes)

    def _collect(self) -> list[tuple[re.Pattern[str], Route]]:
        found = []
        for name in dir(type(self)):
            for made in getattr(getattr(type(self), name), "routes", ()):
                text = re.sub(
                    r"\{(\w+)\}",
                    r"(?P<\1>[^/]+)",
                    re.escape(made.pattern).replace(r"\{", "{").replace(r"\}", "}"),
                )
                found.append((re.compile(text), made))
        # Fixed paths before those with parameters.
        return sorted(found, key=lambda pair: (pair[1].pattern.count("{"), pair[1].pattern))
