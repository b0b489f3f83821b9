"""Sessions: the login page, the redirect with its request token, the exchange of tokens, their end.

A session ends at 06:00 in India, when a later login of the same user to the same app supersedes it,
or at a logout. A request token is good once, for five minutes.
"""

from __future__ import annotations

import hashlib
import html
import secrets
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.emulators.core.accounts import Account
from tests.emulators.core.clock import IST
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.messages import Request, Response
from tests.emulators.zerodha.words import EXCHANGES, BadInput, error, stamp, success

REQUEST_TOKEN_LIFE = timedelta(minutes=5)
ENDS_AT = time(6)

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Kite (emulated)</title>
<style>body{{font:16px/1.5 system-ui;max-width:22rem;margin:4rem auto;padding:0 1rem}}
label{{display:block;margin:.8rem 0}}input{{width:100%;padding:.5rem;box-sizing:border-box}}
button{{padding:.6rem 1.2rem;margin-right:.5rem}}.error{{color:#b00020}}</style></head><body>
<h1>Kite, emulated</h1><p>No real broker: any password and any six digits will do.</p>{problem}
<form method="post" action="/connect/login"><input type="hidden" name="api_key" value="{api_key}">
<input type="hidden" name="redirect_params" value="{redirect_params}">
<label>User ID <input name="user_id" value="{user_id}" required></label>
<label>Password <input name="password" type="password" value="emulated" required></label>
<label>App code <input name="twofa_value" value="123456" inputmode="numeric" required></label>
<button name="decision" value="login">Log in</button>
<button name="decision" value="cancel" formnovalidate>Cancel</button></form></body></html>"""


@dataclass(slots=True)
class App:
    """A developer's app. ``plan`` personal has no market data; ``renews`` brings refresh tokens."""

    api_key: str
    api_secret: str
    redirect_url: str = "http://127.0.0.1:8000/"
    postback_url: str = ""
    plan: str = "connect"
    renews: bool = False


@dataclass(slots=True)
class Session:
    user_id: str
    api_key: str
    access_token: str
    refresh_token: str
    started_at: datetime
    ends_at: datetime


@dataclass(slots=True)
class RequestToken:
    user_id: str
    api_key: str
    ends_at: datetime


def checksum(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()


class Login(Dialect):
    """Sessions of the emulated Kite."""

    apps: dict[str, App]
    sessions: dict[str, Session]  # by access token
    request_tokens: dict[str, RequestToken]

    # --- For tests --------------------------------------------------------------------------------

    def request_token(self, user_id: str, api_key: str) -> str:
        """Return what a login of the user at the app's page brings."""
        self.account(user_id)
        token = secrets.token_urlsafe(24).replace("-", "a").replace("_", "b")
        self.request_tokens[token] = RequestToken(
            user_id, api_key, self.clock.now() + REQUEST_TOKEN_LIFE
        )
        return token

    def open_session(self, user_id: str, api_key: str) -> Session:
        """Open a session; an earlier one of the user at the app is over."""
        now = self.clock.now()
        ends = datetime.combine(now.astimezone(IST).date(), ENDS_AT, IST)
        if ends <= now:
            ends += timedelta(days=1)
        for token, old in list(self.sessions.items()):
            if (old.user_id, old.api_key) == (user_id, api_key):
                self.end_session(token)
        renews = self.apps[api_key].renews
        session = Session(
            user_id,
            api_key,
            secrets.token_hex(16),
            secrets.token_hex(16) if renews else "",
            now,
            ends,
        )
        self.account(user_id)
        self.sessions[session.access_token] = session
        return session

    def end_session(self, access_token: str) -> None:
        self.sessions.pop(access_token, None)

    def live_session(self, api_key: str, access_token: str) -> Session | None:
        session = self.sessions.get(access_token)
        if session is None or session.api_key != api_key:
            return None
        return session if self.clock.now() < session.ends_at else None

    # --- Every request ----------------------------------------------------------------------------

    def authenticate(self, call: Call) -> Account | Response:
        request = call.request
        if request.headers.get("x-kite-version") != "3":
            return error(400, "InputException", "Invalid or missing X-Kite-Version header.")
        scheme, _, pair = request.headers.get("authorization", "").partition(" ")
        api_key, _, access_token = pair.partition(":")
        session = self.live_session(api_key, access_token) if scheme == "token" else None
        if session is None:
            return self.session_over()
        if call.route.group in ("quote", "historical") and self.apps[api_key].plan == "personal":
            return error(403, "PermissionException", "Insufficient permission for that call.")
        return self.accounts[session.user_id]

    def limit_key(self, request: Request) -> str:
        return request.headers.get("authorization", "").partition(":")[0]

    def api_key_of(self, request: Request) -> str:
        return request.headers["authorization"].partition(" ")[2].partition(":")[0]

    def session_over(self) -> Response:
        return error(403, "TokenException", "Incorrect `api_key` or `access_token`.")

    # --- The page ---------------------------------------------------------------------------------

    @route("GET", "/connect/login", open=True)
    def login_page(self, call: Call) -> Response:
        query = call.request.query
        if query.get("api_key") not in self.apps:
            return error(400, "InputException", "Invalid `api_key`.")
        return self._page(query["api_key"], query.get("redirect_params", ""))

    @route("POST", "/connect/login", open=True)
    def log_in(self, call: Call) -> Response:
        form = call.request.form
        app = self.apps.get(form.get("api_key", ""))
        if app is None:
            return error(400, "InputException", "Invalid `api_key`.")
        back = dict(parse_qsl(form.get("redirect_params", ""), keep_blank_values=True))
        joint = "&" if "?" in app.redirect_url else "?"
        if form.get("decision") == "cancel":
            answer = {"action": "login", "type": "login", "status": "cancelled", **back}
            return Response.redirect(f"{app.redirect_url}{joint}{urlencode(answer)}")
        user_id, code = form.get("user_id", "").strip().upper(), form.get("twofa_value", "")
        if not user_id.isalnum() or not form.get("password"):
            return self._page(app.api_key, form.get("redirect_params", ""), "Invalid username.")
        if len(code) != 6 or not code.isdigit():
            return self._page(app.api_key, form.get("redirect_params", ""), "Invalid app code.")
        answer = {"action": "login", "type": "login", "status": "success"}
        answer |= {"request_token": self.request_token(user_id, app.api_key), **back}
        return Response.redirect(f"{app.redirect_url}{joint}{urlencode(answer)}")

    def _page(self, api_key: str, redirect_params: str, problem: str = "") -> Response:
        return Response.html(
            PAGE.format(
                api_key=html.escape(api_key),
                redirect_params=html.escape(redirect_params),
                user_id="AB1234",
                problem=f'<p class="error">{html.escape(problem)}</p>' if problem else "",
            )
        )

    # --- Tokens -----------------------------------------------------------------------------------

    @route("POST", "/session/token", group="other", open=True)
    def exchange_token(self, call: Call) -> Response:
        form = call.request.form
        app = self.apps.get(form.get("api_key", ""))
        if app is None:
            return error(403, "TokenException", "Invalid `api_key`.")
        given, token = form.get("checksum", ""), form.get("request_token", "")
        if not secrets.compare_digest(given, checksum(app.api_key, token, app.api_secret)):
            return error(403, "TokenException", "Invalid `checksum`.")
        known = self.request_tokens.pop(token, None)
        if not known or known.api_key != app.api_key or known.ends_at <= self.clock.now():
            return error(403, "TokenException", "Token is invalid or has expired.")
        session = self.open_session(known.user_id, app.api_key)
        return success(self._session_data(session))

    @route("POST", "/session/refresh_token", group="other", open=True)
    def renew_token(self, call: Call) -> Response:
        form = call.request.form
        app = self.apps.get(form.get("api_key", ""))
        token = form.get("refresh_token", "")
        old = next((s for s in self.sessions.values() if token and s.refresh_token == token), None)
        if app is None or old is None or old.api_key != app.api_key:
            return error(403, "TokenException", "Token is invalid or has expired.")
        if form.get("checksum") != checksum(app.api_key, token, app.api_secret):
            return error(403, "TokenException", "Invalid `checksum`.")
        return success(self._session_data(self.open_session(old.user_id, app.api_key)))

    @route("DELETE", "/session/token", group="other", open=True)
    def log_out(self, call: Call) -> Response:
        query = call.request.query
        if "refresh_token" in query:
            for session in self.sessions.values():
                if session.refresh_token == query["refresh_token"]:
                    session.refresh_token = ""
            return success(True)
        if not self.live_session(query.get("api_key", ""), query.get("access_token", "")):
            return self.session_over()
        self.end_session(query["access_token"])
        return success(True)

    def _session_data(self, session: Session) -> dict[str, Any]:
        return {
            **self.profile_data(self.accounts[session.user_id]),
            "api_key": session.api_key,
            "access_token": session.access_token,
            "public_token": secrets.token_hex(16),
            "refresh_token": session.refresh_token,
            "enctoken": secrets.token_hex(32),
            "silo": "",
            "login_time": stamp(session.started_at),
        }

    def profile_data(self, account: Account) -> dict[str, Any]:
        return {
            "user_id": account.user_id,
            "user_type": "individual",
            "email": account.email,
            "user_name": account.name,
            "user_shortname": account.name.split()[0],
            "broker": "ZERODHA",
            "exchanges": list(EXCHANGES),
            "products": ["CNC", "NRML", "MIS", "MTF"],
            "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
            "avatar_url": None,
            "meta": {"demat_consent": "consent"},
        }

    @route("GET", "/user/profile", group="other")
    def profile(self, call: Call) -> Response:
        return success(self.profile_data(call.account))

    @route("GET", "/user/profile/full", group="other")
    def full_profile(self, call: Call) -> Response:
        return success(
            {
                **self.profile_data(call.account),
                "phone": "*0000",
                "pan": "*000A",
                "bank_accounts": [],
                "dp_ids": ["1208160000000000"],
                "twofa_type": "app_code",
                "tags": [],
                "password_timestamp": None,
                "twofa_timestamp": None,
                "meta": {"poa": "ddpi", "silo": "", "account_blocks": []},
            }
        )


__all__ = ["App", "BadInput", "Login", "Session", "checksum"]
