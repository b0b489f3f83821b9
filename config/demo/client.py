"""The demo's two roads to the platform: HTTP and ``WS /ws``, as any client would use them."""

import email
import email.policy
import json
import re
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from config.demo.report import Failed, expect

API = "/api/v1"
HTTP_SECONDS = 15.0
EVENT_SECONDS = 10.0
MAIL_SECONDS = 10.0
OVER = frozenset({"FILLED", "CANCELLED", "REJECTED", "DENIED", "EXPIRED", "NOT_PLACED"})

Message = dict[str, Any]


class Api:
    """The API for one user, or for nobody yet."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # No proxy of the environment: the platform is asked directly.
        self._http = httpx.Client(base_url=self.url, timeout=HTTP_SECONDS, trust_env=False)
        self.access_token = self.refresh_token = ""
        self.last: httpx.Response

    def close(self) -> None:
        self._http.close()

    def sign_in(self, tokens: Message) -> None:
        """Use these tokens from here on."""
        expect(
            tokens.keys() >= {"access_token", "refresh_token", "token_type"}
            and tokens["token_type"] == "bearer",  # noqa: S105
            "an access and a refresh token of type bearer",
            sorted(tokens),
        )
        self.access_token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]

    def call(
        self,
        method: str,
        path: str,
        *,
        status: int | tuple[int, ...] = 200,
        root: str = API,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> Any:
        """Return the JSON of the answer, numbers with fractions as ``Decimal``.

        Raises:
            Failed: another status, an answer that is not JSON, or none.
        """
        wanted = (status,) if isinstance(status, int) else status
        headers = dict(headers or {})
        if self.access_token:
            headers.setdefault("Authorization", f"Bearer {self.access_token}")
        what = f"{method} {root}{path}"
        try:
            answer = self._http.request(method, root + path, headers=headers, **body)
        except httpx.HTTPError as e:
            raise Failed(f"an answer to {what}", f"{type(e).__name__}: {e}") from e
        self.last = answer
        if answer.status_code not in wanted:
            raise Failed(
                f"status {' or '.join(map(str, wanted))} for {what}",
                f"{answer.status_code} {answer.text[:600]}",
            )
        if not answer.content:
            return None
        try:
            return json.loads(answer.content, parse_float=Decimal)
        except ValueError:
            raise Failed(f"JSON for {what}", answer.text[:200]) from None

    def get(self, path: str, **options: Any) -> Any:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.call("POST", path, json={} if body is None else body, **options)

    def all(self, path: str, **params: str) -> list[Message]:
        """Return every row of a list, page after page."""
        rows: list[Message] = []
        cursor: str | None = None
        while True:
            page = self.get(path, params=params | ({"cursor": cursor} if cursor else {}))
            rows += page["results"]
            cursor = page.get("next")
            if not cursor:
                return rows

    def refused(
        self, method: str, path: str, status: int, code: str = "", **options: Any
    ) -> Message:
        """Return the error of a request that must be refused with ``status`` (and ``code``).

        Raises:
            Failed: it was not, or not in the one shape of errors.
        """
        answer = self.call(method, path, status=status, **options)
        error: Message = answer.get("error", {}) if isinstance(answer, dict) else {}
        expect(error.keys() == {"code", "message", "detail"}, "the one shape of errors", answer)
        expect(not code or error["code"] == code, f"error code {code}", error)
        return error


class Live:
    """A socket on ``WS /ws`` that keeps every message it got."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        self.messages: list[Message] = []
        try:
            self._socket = connect(f"{scheme}://{parts.netloc}/ws", proxy=None, compression=None)
        except (OSError, WebSocketException) as e:
            raise Failed("a socket at /ws", f"{type(e).__name__}: {e}") from e
        self.send(type="auth", token=token)
        self.until("ready", lambda m: m.get("type") == "ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, **message: Any) -> None:
        self._socket.send(json.dumps(message))

    def subscribe(self, channel: str, **more: Any) -> None:
        """Subscribe and wait for the platform to say so."""
        self.send(type="subscribe", channel=channel, **more)
        self.until(
            f"subscribed to {channel}",
            lambda m: m.get("type") == "subscribed" and m.get("channel") == channel,
        )

    def until(
        self, what: str, wanted: Callable[[Message], bool], seconds: float = EVENT_SECONDS
    ) -> Message:
        """Return the first message, old or to come, that is ``wanted``.

        Raises:
            Failed: it did not come within ``seconds``.
        """
        for message in self.messages:
            if wanted(message):
                return message
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if (latest := self._receive(left)) is not None and wanted(latest):
                return latest
        raise Failed(f"{what} over the socket within {seconds:.0f} s", self._latest())

    def order(self, order_id: str, *statuses: str, seconds: float = EVENT_SECONDS) -> Message:
        """Wait for the order to be in one of ``statuses``; return it as the event shows it.

        Raises:
            Failed: it did not come to that.
        """

        def reached(message: Message) -> bool:
            order = message.get("order", {})
            return order.get("id") == order_id and order.get("status") in (*statuses, *OVER)

        wanted = f"order {order_id} {' or '.join(statuses)}"
        order: Message = self.until(wanted, reached, seconds)["order"]
        expect(order["status"] in statuses, wanted, order)
        return order

    def _receive(self, seconds: float) -> Message | None:
        try:
            message: Message = json.loads(self._socket.recv(timeout=seconds), parse_float=Decimal)
        except TimeoutError:
            return None
        except ConnectionClosed as e:
            raise Failed("an open socket", f"closed: {e}") from e
        self.messages.append(message)
        return message

    def _latest(self) -> str:
        news = [m for m in self.messages if m.get("type") != "quote"][-3:]
        return f"{len(self.messages)} messages; the latest: {json.dumps(news, default=str)[:900]}"


def mailed_code(folder: Path, address: str) -> str:
    """Return the six digits of the newest mail with a sign-in code to ``address``; waits for it.

    Raises:
        Failed: no such mail came.
    """
    until = time.monotonic() + MAIL_SECONDS
    while time.monotonic() < until:
        for path in sorted(folder.glob("[0-9]*.eml"), reverse=True):
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            if address in str(mail["To"]) and "sign-in code" in str(mail["Subject"]):
                body = mail.get_body(("plain",))
                found = re.search(r"(?<!\d)\d{6}(?!\d)", body.get_content() if body else "")
                if found:
                    return found[0]
        time.sleep(0.05)
    raise Failed(
        f"a mail with a code to {address}", f"none in {folder} within {MAIL_SECONDS:.0f} s"
    )
