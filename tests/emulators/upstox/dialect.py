"""The emulated Upstox as a whole: what its parts share, pushes, and its own levers."""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar

from tests.emulators.core.dialect import Call
from tests.emulators.core.exchange import Event, Exchange, OrderEvent, QuoteEvent
from tests.emulators.core.limits import Limit, limit
from tests.emulators.core.messages import Request, Response, dump
from tests.emulators.core.orders import Refusal
from tests.emulators.core.sockets import Socket
from tests.emulators.upstox.feed import Feed, Ticket
from tests.emulators.upstox.login import App, Approval, Code, Login, Session
from tests.emulators.upstox.market import Market
from tests.emulators.upstox.orders import Orders
from tests.emulators.upstox.portfolio import Portfolio
from tests.emulators.upstox.words import LATE, Wrong, error, key_of, refused, update_row

API_KEY = "5f0e6d2a-1111-4222-8333-a0b1c2d3e4f5"
API_SECRET, USER_ID = "upstoxsecret", "4CAB12"
READS = (
    *("token", "logout", "profile", "ip", "status", "authorize", "ltp", "ohlc", "quotes"),
    *("candles", "book", "details", "history", "trades", "positions", "mtf", "holdings"),
    *("convert", "funds", "margin", "brokerage"),
)


def _limits() -> tuple[Limit, ...]:
    """Return the broker's caps: order calls together, every other call for itself."""
    orders = (limit("order", 10, 1), limit("order", 500, 60), limit("order", 2000, 1800))
    reads = [
        limit(name, count, seconds)
        for name in READS
        for count, seconds in ((50, 1), (500, 60), (2000, 1800))
    ]
    return (*orders, *reads)


class Upstox(Login, Orders, Portfolio, Market, Feed):
    """Starts with one app (``API_KEY``, ``API_SECRET``) and no account: accounts come by a login.

    One address serves both of the broker's hosts and its files. A test opens sessions by hand::

        session = emulator.dialect.open_session("4CAB12", API_KEY)

    ``heartbeat`` is seconds. ``night_closes`` lets orders and funds keep their hours. `control`
    takes ``app`` (fields of `App`), ``code``, ``session``, ``end_session``, ``approve``, ``reject``
    and ``night_closes``.
    """

    name = "upstox"
    default_port = 9002
    limits: ClassVar = _limits()

    def __init__(self, exchange: Exchange | None = None, *, heartbeat: float = 5.0) -> None:
        super().__init__(exchange)
        self.heartbeat, self.owner, self.night_closes = heartbeat, USER_ID, False
        self.apps = {API_KEY: App(API_KEY, API_SECRET)}
        self.sessions: dict[str, Session] = {}
        self.codes: dict[str, Code] = {}
        self.approvals: list[Approval] = []
        self.tickets: dict[str, Ticket] = {}
        self.sockets: list[Socket] = []
        self.holidays: dict[date, str] = {}
        self.by_key = {key_of(one): one for one in self.exchange.instruments.values()}

    # --- Words ------------------------------------------------------------------------------------

    def refused(self, refusal: Refusal) -> Response:
        return refused(refusal)

    def say(self, refusal: Refusal) -> str:
        return LATE.get(refusal.reason, refusal.message)

    def over_limit(self, call: Call) -> Response:
        return error(429, "UDAPI10005", "Too Many Request Sent")

    def wrong_address(self, call: Call) -> Response:
        configured = ", ".join(sorted(self.allowed_ips or ())) or "none"
        return error(
            403,
            "UDAPI1154",
            "Access to this API is blocked due to static IP restrictions. "
            f"Configured: {configured}. Origin: {call.request.peer}.",
        )

    def timed_out(self) -> Response:
        return error(500, "UDAPI100500", "Something went wrong... please contact us")

    def not_found(self, request: Request) -> Response:
        return error(404, "UDAPI100060", "Resource not Found.")

    def bad_request(self, error_: Exception) -> Response:
        if isinstance(error_, Wrong):
            return error(error_.status, error_.code, error_.message)
        return error(400, "UDAPI100036", "Invalid Input")

    # --- Pushes -----------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        if isinstance(event, QuoteEvent):
            self.push_tick(event.instrument)
        elif self.accounts.get(event.account.user_id) is event.account:
            self.push_order(event)
            self._post(event)

    def _post(self, event: OrderEvent) -> None:
        """Post every change to the apps of the user, unsigned."""
        users = {(s.user_id, s.api_key) for s in self.sessions.values()}
        for app in self.apps.values():
            if app.postback_url and (event.account.user_id, app.api_key) in users:
                body = dump(update_row(event.order, event.row))
                self.server.post(app.postback_url, body, {"Content-Type": "application/json"})

    # --- Levers -----------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        app = next(iter(self.apps.values()))
        return {
            "api_key": app.api_key,
            "api_secret": app.api_secret,
            "redirect_url": app.redirect_url or "any on this machine",
            "notifier_url": app.notifier_url,
            "postback_url": app.postback_url,
            "log in as": f"{USER_ID}, any six digits twice",
        }

    def control(self, name: str, body: dict[str, Any]) -> Any:
        if name == "app":
            app = self.apps.setdefault(body["api_key"], App(body["api_key"], ""))
            for field, value in body.items():
                if field not in App.__dataclass_fields__:
                    raise KeyError(field)
                setattr(app, field, value)
            return {"api_key": app.api_key}
        if name == "night_closes":
            self.night_closes = bool(body["on"])
            return {}
        user_id, api_key = body.get("user_id", USER_ID), body.get("api_key", API_KEY)
        if name == "code":
            return {"code": self.code(user_id, api_key, body["redirect_uri"])}
        if name == "session":
            return {"access_token": self.open_session(user_id, api_key).access_token}
        if name == "end_session":
            self.end_sessions(user_id)
            return {}
        if name == "approve":
            return {"access_token": self.approve(user_id, api_key).access_token}
        if name == "reject":  # nobody is told
            self.approvals = [a for a in self.approvals if a.api_key != api_key]
            return {}
        raise KeyError(name)

    def reset(self) -> None:
        super().reset()
        self.apps = {API_KEY: App(API_KEY, API_SECRET)}
        self.sessions.clear()
        self.codes.clear()
        self.approvals.clear()
        self.tickets.clear()
        self.holidays.clear()
        self.night_closes = False
