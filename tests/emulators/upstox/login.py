"""Sessions: the login page, codes, the exchange of tokens, approvals with their notices, profile.

A token dies at 03:30 in India. A code is good once, also if its exchange fails.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.emulators.core.accounts import Account
from tests.emulators.core.clock import IST
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.messages import Request, Response, dump
from tests.emulators.upstox.words import EXCHANGES, ORDER_TYPES, PRODUCTS, error, millis, success

CODE_LIFE = timedelta(minutes=5)
ENDS_AT = time(3, 30)

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Upstox (emulated)</title>
<style>body{{font:16px/1.5 system-ui;max-width:22rem;margin:4rem auto;padding:0 1rem}}
label{{display:block;margin:.8rem 0}}input{{width:100%;padding:.5rem;box-sizing:border-box}}
button{{padding:.6rem 1.2rem;margin-right:.5rem}}.error{{color:#b00020}}</style></head><body>
<h1>Upstox, emulated</h1><p>No real broker: any six digits will do.</p>{problem}
<form method="post" action="/v2/login/authorization/dialog">
<input type="hidden" name="client_id" value="{client_id}">
<input type="hidden" name="redirect_uri" value="{redirect_uri}">
<input type="hidden" name="state" value="{state}">
<label>User ID <input name="user_id" value="{user_id}" required></label>
<label>One-time password <input name="otp" value="123456" inputmode="numeric" required></label>
<label>PIN <input name="pin" type="password" value="123456" inputmode="numeric" required></label>
<button name="decision" value="login">Log in</button></form></body></html>"""


@dataclass(slots=True)
class App:
    """A developer's app. An empty ``redirect_url`` takes any address on loopback."""

    api_key: str
    api_secret: str
    redirect_url: str = ""
    notifier_url: str = ""
    postback_url: str = ""
    active: bool = True


@dataclass(slots=True)
class Session:
    user_id: str
    api_key: str
    access_token: str
    issued_at: datetime
    ends_at: datetime


@dataclass(slots=True)
class Code:
    user_id: str
    api_key: str
    redirect_uri: str
    ends_at: datetime


@dataclass(slots=True)
class Approval:
    """A session that an app has asked for and the user has not decided on."""

    number: int
    api_key: str
    ends_at: datetime
    tokens: list[str] = field(default_factory=list)


def session_end(at: datetime) -> datetime:
    end = datetime.combine(at.astimezone(IST).date(), ENDS_AT, IST)
    return end if at < end else end + timedelta(days=1)


class Login(Dialect):
    """Sessions of the emulated Upstox."""

    apps: dict[str, App]
    sessions: dict[str, Session]  # by access token
    codes: dict[str, Code]
    approvals: list[Approval]
    owner: str  # the user whose app it is: who is asked to approve

    # --- For tests --------------------------------------------------------------------------------

    def code(self, user_id: str, api_key: str, redirect_uri: str) -> str:
        """Return what a login of the user at the app's page brings."""
        self.account(user_id)
        made = secrets.token_hex(3).upper()
        self.codes[made] = Code(user_id, api_key, redirect_uri, self.clock.now() + CODE_LIFE)
        return made

    def open_session(self, user_id: str, api_key: str) -> Session:
        now = self.clock.now()
        ends = session_end(now)
        session = Session(user_id, api_key, _jwt(user_id, now, ends), now, ends)
        self.account(user_id)
        self.sessions[session.access_token] = session
        return session

    def end_sessions(self, user_id: str) -> None:
        kept = {token: one for token, one in self.sessions.items() if one.user_id != user_id}
        self.sessions.clear()
        self.sessions.update(kept)

    def live_session(self, token: str) -> Session | None:
        session = self.sessions.get(token)
        return session if session and self.clock.now() < session.ends_at else None

    def approve(self, user_id: str, api_key: str) -> Session:
        """Let the user approve what the app has asked for: the token goes to the notifier."""
        asked = [a for a in self.approvals if a.api_key == api_key and a.ends_at > self.clock.now()]
        if not asked:
            raise KeyError("nothing to approve")
        self.approvals.remove(asked[0])
        session = self.open_session(user_id, api_key)
        notifier = self.apps[api_key].notifier_url
        if notifier:
            body = dump(self.notice(session))
            self.server.call(self.server.post, notifier, body, {"Content-Type": "application/json"})
        return session

    def notice(self, session: Session) -> dict[str, Any]:
        return {
            "client_id": session.api_key,
            "user_id": session.user_id,
            "access_token": session.access_token,
            "token_type": "Bearer",
            "expires_at": str(millis(session.ends_at)),
            "issued_at": str(millis(session.issued_at)),
            "message_type": "access_token",
        }

    # --- Every request ----------------------------------------------------------------------------

    def authenticate(self, call: Call) -> Account | Response:
        versioned = call.route.pattern.startswith("/v2/") and call.route.group not in UNVERSIONED
        if versioned and "api-version" not in call.request.headers:
            return error(400, "UDAPI100015", "API Version does not exist")
        session = self.live_session(call.request.bearer)
        return self.accounts[session.user_id] if session else self.session_over()

    def limit_key(self, request: Request) -> str:
        return request.bearer or request.peer

    def session_over(self) -> Response:
        return error(401, "UDAPI100050", "Invalid token used to access API")

    # --- The page ---------------------------------------------------------------------------------

    @route("GET", "/v2/login/authorization/dialog", open=True)
    def login_page(self, call: Call) -> Response:
        query = call.request.query
        if problem := self._problem(query):
            return problem
        if query.get("response_type") != "code":
            return _mismatch()
        return self._page(query)

    @route("POST", "/v2/login/authorization/dialog", open=True)
    def log_in(self, call: Call) -> Response:
        form = call.request.form
        if problem := self._problem(form):
            return problem
        user_id = form.get("user_id", "").strip().upper()
        if not (user_id.isalnum() and user_id.isascii()):
            return self._page(form, "Enter your user ID.")
        for name in ("otp", "pin"):
            if len(form.get(name, "")) != 6 or not form[name].isdigit():
                return self._page(form, "Enter the six digits.")
        address = form["redirect_uri"]
        answer = {"code": self.code(user_id, form["client_id"], address)}
        if form.get("state"):
            answer["state"] = form["state"]
        joint = "&" if "?" in address else "?"
        return Response.redirect(f"{address}{joint}{urlencode(answer)}")

    def _problem(self, asked: dict[str, str]) -> Response | None:
        app = self.apps.get(asked.get("client_id", ""))
        if app and not app.active:
            return error(401, "UDAPI100073", "Your 'client_id' is inactive.")
        return None if app and _fits(app, asked.get("redirect_uri", "")) else _mismatch()

    def _page(self, asked: dict[str, str], problem: str = "") -> Response:
        return Response.html(
            PAGE.format(
                client_id=html.escape(asked["client_id"]),
                redirect_uri=html.escape(asked["redirect_uri"]),
                state=html.escape(asked.get("state", "")),
                user_id=html.escape(self.owner),
                problem=f'<p class="error">{html.escape(problem)}</p>' if problem else "",
            )
        )

    # --- Tokens -----------------------------------------------------------------------------------

    @route("POST", "/v2/login/authorization/token", group="token", open=True)
    def exchange_code(self, call: Call) -> Response:
        form = call.request.form
        code = self.codes.pop(form.get("code", ""), None)
        app = self.apps.get(form.get("client_id", ""))
        if app is None or form.get("client_secret") != app.api_secret:
            return _mismatch()
        if form.get("grant_type") != "authorization_code":
            return error(400, "UDAPI100036", "Invalid Input")
        if (
            code is None
            or code.api_key != app.api_key
            or code.redirect_uri != form.get("redirect_uri")
            or code.ends_at <= self.clock.now()
        ):
            return error(401, "UDAPI100069", "Check your 'client_id', 'redirect_uri' and 'code'")
        session = self.open_session(code.user_id, app.api_key)
        profile = self.profile_data(self.accounts[code.user_id])
        del profile["ddpi"]
        return Response.of({**profile, "access_token": session.access_token, "extended_token": ""})

    @route("POST", "/v3/login/auth/token/request/{client_id}", group="token", open=True)
    def request_token(self, call: Call) -> Response:
        app = self.apps.get(call.params["client_id"])
        given = call.request.json
        secret = given.get("client_secret") if isinstance(given, dict) else None
        if app is None or secret != app.api_secret:
            return _mismatch()
        ends = session_end(self.clock.now())
        self.approvals.append(Approval(self.next_number(), app.api_key, ends))
        return success(
            {"authorization_expiry": str(millis(ends)), "notifier_url": app.notifier_url}
        )

    @route("DELETE", "/v2/logout", group="logout")
    def log_out(self, call: Call) -> Response:
        self.sessions.pop(call.request.bearer, None)
        return success(True)

    # --- Who --------------------------------------------------------------------------------------

    def profile_data(self, account: Account) -> dict[str, Any]:
        return {
            "email": account.email,
            "exchanges": list(EXCHANGES),
            "products": list(PRODUCTS),
            "broker": "UPSTOX",
            "user_id": account.user_id,
            "user_name": account.name,
            "order_types": list(ORDER_TYPES),
            "user_type": "individual",
            "poa": False,
            "ddpi": True,
            "is_active": True,
        }

    @route("GET", "/v2/user/profile", group="profile")
    def profile(self, call: Call) -> Response:
        return success(self.profile_data(call.account))

    @route("GET", "/v2/user/ip", group="ip")
    def addresses(self, call: Call) -> Response:
        ips = sorted(self.allowed_ips or ())
        return success({"primary_ip": ips[0] if ips else None, "secondary_ip": None})


# v2 methods that the SDK sends without a version.
UNVERSIONED = frozenset({"details", "order", "ip", "margin", "status"})


def _fits(app: App, address: str) -> bool:
    if app.redirect_url:
        return address == app.redirect_url
    parts = urlsplit(address)
    return parts.scheme in ("http", "https") and (
        parts.hostname in ("localhost", "127.0.0.1", "::1", "testserver")
    )


def _mismatch() -> Response:
    return error(401, "UDAPI100016", "Invalid Credentials")


def _jwt(user_id: str, issued: datetime, ends: datetime) -> str:
    """Return a token in the shape of the broker's; its signature is a random number."""
    claims = {
        "sub": user_id,
        "jti": secrets.token_hex(12),
        "isMultiClient": False,
        "isPlusPlan": False,
        "iat": int(issued.timestamp()),
        "iss": "udapi-gateway-service",
        "exp": int(ends.timestamp()),
    }
    parts = [json.dumps({"typ": "JWT", "alg": "HS256"}), json.dumps(claims)]
    signature = hashlib.sha256(secrets.token_bytes(16)).digest()
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (*(part.encode() for part in parts), signature)
    )
