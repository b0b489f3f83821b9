"""The emulated Kite as a whole: what its parts share, pushes, and its own levers."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.emulators.core.dialect import Call
from tests.emulators.core.exchange import Event, Exchange, OrderEvent, QuoteEvent
from tests.emulators.core.limits import limit
from tests.emulators.core.messages import Request, Response, dump
from tests.emulators.core.orders import Refusal, Stage
from tests.emulators.core.sockets import Socket
from tests.emulators.zerodha.login import App, Login, RequestToken, Session, checksum
from tests.emulators.zerodha.market import Market
from tests.emulators.zerodha.orders import Orders
from tests.emulators.zerodha.portfolio import Portfolio
from tests.emulators.zerodha.ticker import TOLD, Ticker
from tests.emulators.zerodha.words import (
    BadInput,
    error,
    order_row,
    refusal_answer,
    refusal_text,
    status_of,
    token_of,
)

API_KEY, API_SECRET, USER_ID = "kiteemulated0001", "kiteemulatedsecret00000000000001", "AB1234"
POSTED = {Stage.COMPLETE, Stage.CANCELLED, Stage.REJECTED}


class Zerodha(Login, Orders, Portfolio, Market, Ticker):
    """Starts with one app (``API_KEY``, ``API_SECRET``) and no account: accounts come by a login.

    A test opens sessions by hand::

        session = emulator.dialect.open_session("AB1234", API_KEY)
        kite = KiteConnect(API_KEY, session.access_token, root=emulator.url)

    ``heartbeat`` is seconds. `control` takes ``app`` (fields of `App`), ``request_token``,
    ``session`` and ``end_session``.
    """

    name = "zerodha"
    default_port = 9001
    limits: ClassVar = (
        limit("order", 10, 1, calendar=True),
        limit("order", 400, 60),
        limit("order", 5000, 86_400),
        limit("quote", 1, 1),
        limit("historical", 3, 1),
        limit("other", 10, 1),
    )

    def __init__(self, exchange: Exchange | None = None, *, heartbeat: float = 1.0) -> None:
        super().__init__(exchange)
        self.heartbeat = heartbeat
        self.apps = {API_KEY: App(API_KEY, API_SECRET)}
        self.sessions: dict[str, Session] = {}
        self.request_tokens: dict[str, RequestToken] = {}
        self.sockets: list[Socket] = []
        self.gtts: dict[int, dict[str, Any]] = {}
        self.by_token = {token_of(one): one for one in self.exchange.instruments.values()}

    # --- Words ------------------------------------------------------------------------------------

    def refused(self, refusal: Refusal) -> Response:
        return refusal_answer(refusal)

    def say(self, refusal: Refusal) -> str:
        return refusal_text(refusal)

    def over_limit(self, call: Call) -> Response:
        return error(429, "NetworkException", "Too many requests")

    def wrong_address(self, call: Call) -> Response:
        if self.allowed_ips is not None and not self.allowed_ips:
            text = "No IPs configured for this app. Add allowed IPs on the Kite developer console."
        else:
            text = "IP not allowed to place orders for this app"
        return error(403, "PermissionException", text)

    def timed_out(self) -> Response:
        return error(
            400,
            "OrderException",
            "Order request timed out. Please check the order book and confirm before placing "
            "again.",
        )

    def not_found(self, request: Request) -> Response:
        return error(404, "GeneralException", "Route not found")

    def bad_request(self, error_: Exception) -> Response:
        message = str(error_) if isinstance(error_, BadInput) else "Invalid or missing parameters."
        return error(400, "InputException", message)

    # --- Pushes -----------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        if isinstance(event, QuoteEvent):
            self.push_tick(event.instrument)
            self.watch_gtts(event.instrument)
        elif self.accounts.get(event.account.user_id) is event.account:
            self._push(event)
            self.follow_up(event)

    def _push(self, event: OrderEvent) -> None:
        row = event.row
        update = row.stage is Stage.MODIFIED or (event.fill and row.stage is not Stage.COMPLETE)
        status = "UPDATE" if update else status_of(event.order, row)
        if update or row.stage in TOLD:
            self.push_order(event, status)
        app = self.apps.get(event.order.ticket.extra["api_key"])
        if app and app.postback_url and (update or row.stage in POSTED):
            body = self.postback(event, app, status)
            self.server.post(app.postback_url, body, {"Content-Type": "application/json"})

    def postback(self, event: OrderEvent, app: App, status: str) -> bytes:
        """Return the body of a postback, with its checksum."""
        data = order_row(event.order, event.row, status)
        data |= {
            "user_id": event.account.user_id,
            "app_id": 1234,
            "unfilled_quantity": event.row.remaining,
            "checksum": checksum(data["order_id"], data["order_timestamp"], app.api_secret),
        }
        return dump(data)

    # --- Levers -----------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        app = next(iter(self.apps.values()))
        return {
            "api_key": app.api_key,
            "api_secret": app.api_secret,
            "redirect_url": app.redirect_url,
            "postback_url": app.postback_url,
            "log in as": f"{USER_ID}, any password, any six digits",
        }

    def control(self, name: str, body: dict[str, Any]) -> Any:
        if name == "app":
            app = self.apps.setdefault(body["api_key"], App(body["api_key"], ""))
            for field, value in body.items():
                if not hasattr(app, field):
                    raise KeyError(field)
                setattr(app, field, value)
            return {"api_key": app.api_key}
        user_id, api_key = body.get("user_id", USER_ID), body.get("api_key", API_KEY)
        if name == "request_token":
            return {"request_token": self.request_token(user_id, api_key)}
        if name == "session":
            return {"access_token": self.open_session(user_id, api_key).access_token}
        if name == "end_session":
            self.sessions = {
                token: one for token, one in self.sessions.items() if one.user_id != user_id
            }
            return {}
        raise KeyError(name)

    def reset(self) -> None:
        super().reset()
        self.apps = {API_KEY: App(API_KEY, API_SECRET)}
        self.sessions.clear()
        self.request_tokens.clear()
        self.gtts.clear()
