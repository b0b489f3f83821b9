"""The emulated Groww as a whole: what its parts share, pushes, and its own levers."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.emulators.core.dialect import Call
from tests.emulators.core.exchange import Event, Exchange, QuoteEvent
from tests.emulators.core.limits import limit
from tests.emulators.core.messages import Request, Response
from tests.emulators.core.orders import Refusal
from tests.emulators.groww.feed import VIOLATION, Feed
from tests.emulators.groww.sessions import Levers, Login
from tests.emulators.groww.words import failure, refusal_answer, refusal_text

LOGIN = Login(
    "GR1234",
    "growwemulatedtotptoken0001",
    "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
    "growwemulatedapikey0001",
    "growwemulatedsecret00000000000001",
)


class Groww(Feed):
    """Starts with one client (`LOGIN`). A test makes others::

        login = emulator.dialect.enroll("GR5678")          # credentials for the mint
        token = emulator.dialect.open_session("GR5678")    # or a session at once

    `control` takes ``enroll`` {user_id, approved?}, ``approve`` {api_key}, ``end_sessions``
    {user_id?}, ``violate`` (ends every feed), ``lever`` {name: bool, ...} as in `Levers`, and
    ``fail`` {user_id, id, message} for an order that could not be placed.
    """

    name = "groww"
    default_port = 9003
    limits: ClassVar = (
        limit("order", 10, 1),
        limit("order", 250, 60),
        limit("live", 10, 1),
        limit("live", 300, 60),
        limit("other", 20, 1),
        limit("other", 500, 60),
    )

    def __init__(self, exchange: Exchange | None = None) -> None:
        super().__init__(exchange)
        self.keys, self.sessions, self.references = {}, {}, {}
        self.by_words = {}
        self.passes, self.listeners, self.levers = {}, [], Levers()
        self._start()

    def _start(self) -> None:
        self.account(LOGIN.user_id)
        self.admit(LOGIN)

    # --- Words ------------------------------------------------------------------------------------

    def refused(self, refusal: Refusal) -> Response:
        answer = refusal_answer(refusal)
        if self.levers.failures_as_200:
            answer.status = 200
        return answer

    def say(self, refusal: Refusal) -> str:
        return refusal_text(refusal)

    def over_limit(self, call: Call) -> Response:
        if self.levers.text_limit:
            return Response.text("Too Many Requests", 429)
        return Response.of({"message": "Too many requests"}, 429)

    def wrong_address(self, call: Call) -> Response:
        if self.levers.bare_errors:
            return Response.of({"message": "Forbidden"}, 403)
        return failure("GA005", "Orders are allowed only from whitelisted IP addresses")

    def timed_out(self) -> Response:
        return failure("GA003", "Unable to serve the request right now: timed out", 400)

    def not_found(self, request: Request) -> Response:
        return Response.of({"message": "Not Found"}, 404)

    def bad_request(self, error: Exception) -> Response:
        return failure("GA001", "Bad request")

    # --- Pushes -----------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        if isinstance(event, QuoteEvent):
            self.publish_tick(event.instrument)
        elif self.accounts.get(event.account.user_id) is event.account:
            self.publish_order(event)

    # --- Levers -----------------------------------------------------------------------------------

    def violate(self) -> None:
        """End every feed as an expired token does. From any thread."""
        self.server.call(self._violate)

    def _violate(self) -> None:
        for listener in list(self.listeners):
            listener.socket.send(VIOLATION.encode())
            listener.socket.close()

    def drop_feeds(self) -> None:
        """Cut every feed without a word. From any thread."""
        self.server.call(lambda: [listener.socket.abort() for listener in list(self.listeners)])

    def fail(self, user_id: str, number: str, message: str) -> None:
        """Let an order end FAILED: it could not be placed."""
        account = self.accounts[user_id]
        self.exchange.order(account, number).ticket.extra["failed"] = True
        self.exchange.reject(account, number, message)

    def describe(self) -> dict[str, Any]:
        return dict(LOGIN) | {"instruments": "/instruments/instrument.csv"}

    def control(self, name: str, body: dict[str, Any]) -> Any:
        if name == "enroll":
            return dict(self.enroll(**body))
        if name == "approve":
            return self.approve(body["api_key"])
        if name == "end_sessions":
            return self.end_sessions(body.get("user_id"))
        if name == "violate":
            return self._violate()
        if name == "fail":
            return self.fail(body["user_id"], body["id"], body.get("message", ""))
        if name == "lever":
            for lever, value in body.items():
                if not isinstance(getattr(self.levers, lever, None), bool):
                    raise KeyError(lever)
                setattr(self.levers, lever, bool(value))
            return None
        raise KeyError(name)

    def reset(self) -> None:
        super().reset()
        for kept in (self.keys, self.sessions, self.references, self.passes):
            kept.clear()
        self.levers = Levers()
        self._start()
