"""The token mint: TOTP and daily approval, and the life of access tokens."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from typing import Any

import pyotp

from tests.emulators.core.accounts import Account
from tests.emulators.core.clock import IST
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.messages import Request, Response
from tests.emulators.groww.words import failure, local

VALID = 600  # seconds that a checksum's timestamp may be old


@dataclass(slots=True)
class Key:
    """A client's API key. ``totp_secret`` set: a TOTP token; else one with ``secret``, which has to
    be approved on the day that it is used.
    """

    user_id: str
    totp_secret: str = ""
    secret: str = ""
    approved_on: date | None = None


@dataclass(slots=True)
class Session:
    user_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Login:
    """What a client of the emulator enters on the platform."""

    user_id: str
    totp_token: str
    totp_secret: str
    api_key: str
    api_secret: str

    def __iter__(self) -> Any:
        names = ("totp_token", "totp_secret", "api_key", "api_secret")
        return iter([(name, getattr(self, name)) for name in names])


@dataclass(slots=True)
class Levers:
    """How the emulated broker behaves where its documents leave it open, or as it was seen to."""

    bare_errors: bool = False  # 401 and 403 without the envelope
    text_limit: bool = False  # 429 as text instead of JSON
    failures_as_200: bool = False  # refusals under HTTP 200
    positions_in_paise: bool = False
    trades_of_contracts: bool = True  # False: their trades are not found
    ohlc_as_text: bool = False
    redirect_socket_token: bool = False
    full_ticks: bool = False  # False: prices carry only the last price and the time


class Sessions(Dialect):
    keys: dict[str, Key]
    sessions: dict[str, Session]
    levers: Levers

    def enroll(self, user_id: str, *, approved: bool = True, **fields: Any) -> Login:
        """Return the credentials of an account, made on first use."""
        self.account(user_id, **fields)
        login = Login(
            user_id,
            f"totp-{user_id}-{secrets.token_hex(8)}",
            pyotp.random_base32(),
            f"key-{user_id}-{secrets.token_hex(8)}",
            secrets.token_hex(16),
        )
        self.admit(login, approved=approved)
        return login

    def admit(self, login: Login, *, approved: bool = True) -> None:
        self.keys[login.totp_token] = Key(login.user_id, totp_secret=login.totp_secret)
        self.keys[login.api_key] = Key(login.user_id, secret=login.api_secret)
        if approved:
            self.approve(login.api_key)

    def approve(self, api_key: str) -> None:
        """Let the client approve a key for today, as on Groww's page."""
        self.keys[api_key].approved_on = self.day()

    def day(self) -> date:
        """Return the day that approvals count for: it begins at 06:00."""
        return (self.clock.local() - timedelta(hours=6)).date()

    def open_session(self, user_id: str) -> str:
        """Return a new access token."""
        local_now = self.clock.local()
        end = datetime.combine(local_now.date(), clock_time(6), IST)
        if end <= local_now:
            end += timedelta(days=1)
        token = f"eyJ{secrets.token_urlsafe(24)}"
        self.sessions[token] = Session(user_id, end)
        return token

    def end_sessions(self, user_id: str | None = None) -> None:
        """End all sessions (of one client), as 06:00 does."""
        for token, session in list(self.sessions.items()):
            if user_id in (None, session.user_id):
                del self.sessions[token]

    def session(self, request: Request) -> Session | None:
        found = self.sessions.get(request.bearer)
        return found if found and found.expires_at > self.clock.now() else None

    def authenticate(self, call: Call) -> Account | Response:
        found = self.session(call.request)
        return self.accounts[found.user_id] if found else self.session_over()

    def limit_key(self, request: Request) -> str:
        found = self.session(request)
        return found.user_id if found else request.peer

    def session_over(self) -> Response:
        if self.levers.bare_errors:
            return Response.of({"message": "Unauthorized"}, 401)
        return failure("GA005", "User is not authorised to perform this operation", 401)

    @route("POST", "/v1/token/api/access", open=True)
    def mint(self, call: Call) -> Response:
        key, body = self.keys.get(call.request.bearer), call.request.json
        if key is None or not isinstance(body, dict):
            return Response.of({"error": {"displayMessage": "Invalid API key"}}, 401)
        refusal = (
            self._why_not_totp(key, body)
            if body.get("key_type") == "totp"
            else self._why_not_approval(key, body)
        )
        if refusal:
            return Response.of({"error": {"displayMessage": refusal}}, 400)
        token = self.open_session(key.user_id)
        return Response.of(
            {
                "token": token,
                "tokenRefId": secrets.token_hex(8),
                "sessionName": "algo-1",
                "expiry": local(self.sessions[token].expires_at),
                "isActive": True,
            }
        )

    def _why_not_totp(self, key: Key, body: dict[str, Any]) -> str:
        if not key.totp_secret:
            return "This is not a TOTP token"
        code = str(body.get("totp"))
        if not pyotp.TOTP(key.totp_secret).verify(code, for_time=self.clock.now(), valid_window=1):
            return "Invalid TOTP"
        return ""

    def _why_not_approval(self, key: Key, body: dict[str, Any]) -> str:
        if body.get("key_type") != "approval" or not key.secret:
            return "Invalid key type"
        stamp = str(body["timestamp"])
        if abs(time.time() - int(stamp)) > VALID:  # the SDK takes it from the machine's clock
            return "Timestamp is too old"
        if body["checksum"] != hashlib.sha256((key.secret + stamp).encode()).hexdigest():
            return "Invalid checksum"
        if key.approved_on != self.day():
            return "API key is not approved for today"
        return ""
