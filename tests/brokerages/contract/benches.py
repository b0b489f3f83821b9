"""Each broker on the test bench.

A `Bench` makes adapters of new accounts with ₹100,000 and an open session, and moves the market at
the venue behind them. ``share`` and ``other`` trade at 100 with ticks of 0.05. A bench on an
emulator can also break the wire, and counts the requests that came over it.
"""

from __future__ import annotations

import html
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from brokerages.adapters.paper.engine import PaperEngine
from brokerages.base import AdapterContext, BrokerAdapter, Pace, SessionRenewal
from brokerages.registry import adapter_class
from brokerages.types import Exchange, InstrumentKind, InstrumentRef, Segment, SessionToken
from tests.brokerages.conftest import CALL, FUTURE, INDEX, SHARE, Market, levels
from tests.emulators.core.accounts import Account, Holding
from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.exchange import Exchange as Venue
from tests.emulators.core.exchange import Latency
from tests.emulators.core.faults import Fault
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.orders import Stage
from tests.emulators.core.server import EmulatorServer

MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=IST)
REDIRECT = "http://127.0.0.1:9/callback"
HURRY = 0.4  # seconds that a hurried adapter waits for an answer

Pairs = list[tuple[Any, int]]


class Bench(ABC):
    """One broker. ``has_wire``: requests go over a socket, and can be broken and counted."""

    name: ClassVar[str]
    has_wire: ClassVar[bool] = False
    share: InstrumentRef
    other: InstrumentRef
    future: InstrumentRef
    call: InstrumentRef
    index: InstrumentRef

    @abstractmethod
    def adapter(self, **context: Any) -> BrokerAdapter:
        """Return an adapter of a new account with ₹100,000 and an open session."""

    @abstractmethod
    def show(
        self,
        last: Any,
        bids: Pairs | None = None,
        asks: Pairs | None = None,
        instrument: InstrumentRef | None = None,
    ) -> None:
        """Print a trade at ``last`` and display a book: by default 10,000 units at ``last`` on both
        sides.
        """

    @abstractmethod
    def close_market(self) -> None: ...

    @abstractmethod
    def give(self, adapter: BrokerAdapter, quantity: int, price: str) -> None:
        """Put shares of ``share`` into the account's holdings, bought at ``price``."""

    def settle(self) -> None:  # noqa: B027 - an emulator does all at once
        """Let the venue do what it has to do by now."""

    def need_wire(self) -> None:
        if not self.has_wire:
            pytest.skip(f"{self.name} is inside the platform: there is no wire to break")


class PaperBench(Bench):
    name = "paper"
    share, future, call, index = SHARE, FUTURE, CALL, INDEX
    other = replace(SHARE, id=5, symbol="INFY", isin="INE009A01021")

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.market: Market = request.getfixturevalue("market")
        self.make_connection: Callable[..., Any] = request.getfixturevalue("make_connection")

    def adapter(self, **context: Any) -> BrokerAdapter:
        made = AdapterContext(
            str(self.make_connection().pk),
            self.market.read,
            self.market.clock,
            self.market.is_open,
            self.market.day_end,
            **context,
        )
        adapter = adapter_class("paper")(made, {})
        adapter.token = adapter.open_session(None)
        return adapter

    def show(
        self,
        last: Any,
        bids: Pairs | None = None,
        asks: Pairs | None = None,
        instrument: InstrumentRef | None = None,
    ) -> None:
        book = [(last, 10_000)]
        self.market.show(
            instrument or self.share,
            last=last,
            bids=levels(*(book if bids is None else bids)),
            asks=levels(*(book if asks is None else asks)),
        )

    def close_market(self) -> None:
        self.market.open = False

    def give(self, adapter: BrokerAdapter, quantity: int, price: str) -> None:
        from brokerages.types import OrderRequest, OrderType, Product, Side

        self.show(price)
        adapter.place_order(
            OrderRequest(
                "GIVEN000000000000001",
                self.share,
                Side.BUY,
                quantity,
                OrderType.MARKET,
                Product.CNC,
            )
        )
        self.settle()
        self.show("100")

    def settle(self) -> None:
        PaperEngine().advance(self.market.read, self.market.now)


@dataclass(frozen=True, slots=True)
class Wire:
    """Which requests do what, as shell patterns over "METHOD /path"."""

    place: str
    modify: str
    cancel: str
    find: str  # how an order is found by its tag
    book: str
    fills: str
    quotes: str
    history: str
    instruments: str
    session: str  # the cheap call that checks a session
    mint: str  # where a session is opened
    renewed: str = ""


@dataclass
class EmulatedBench(Bench):
    """A broker on its emulator. The clock starts on a Monday morning and runs."""

    request: pytest.FixtureRequest
    has_wire: ClassVar[bool] = True
    wire: ClassVar[Wire]
    dialect_name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    unknown_token: ClassVar[str] = "1"  # of an instrument that is not listed
    history_from: ClassVar[datetime] = datetime(2000, 1, 1, tzinfo=IST)
    checks_later: ClassVar[bool] = False  # orders are taken first and rejected by a report
    parks_when_closed: ClassVar[bool] = False  # any order, whether or not it says so
    users: int = 0
    paced: list[Pace] = field(default_factory=list)

    def __post_init__(self) -> None:
        module = import_module(f"tests.emulators.{self.name}")
        self.venue = Venue(clock=Clock(MONDAY))
        dialect = getattr(module, self.dialect_name)(self.venue, **self.options)
        self.server = EmulatorServer(dialect).start()
        self.request.addfinalizer(self.server.stop)
        self.dialect: Any = dialect
        self.dialect.limiter.on = False
        self.refs = {
            key: self.ref(number, instrument)
            for number, (key, instrument) in enumerate(self.venue.instruments.items(), 1)
        }
        self.share, self.other = self.refs["NSE:RELIANCE"], self.refs["NSE:INFY"]
        self.index = self.refs["NSE:NIFTY 50"]
        kinds = {one.kind: self.refs[one.key] for one in self.venue.instruments.values()}
        self.future, self.call = kinds["FUT"], kinds["CE"]

    # --- What each broker says --------------------------------------------------------------------

    @abstractmethod
    def broker_words(self, instrument: Instrument) -> tuple[str, str]:
        """Return the broker's own symbol and token of an instrument."""

    @abstractmethod
    def enroll(self, user_id: str) -> dict[str, str]:
        """Return the credentials of a user, whose account exists from now on."""

    def grant(self, adapter: BrokerAdapter, user_id: str) -> str | None:
        """Return what the redirect of a login brings; None where there is no redirect."""
        return None

    @abstractmethod
    def end_session(self, adapter: BrokerAdapter) -> None:
        """End the session from the broker's side."""

    @abstractmethod
    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the adapter wait `HURRY` seconds for an answer, and a moment to connect anew."""

    @abstractmethod
    def doubt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let streams take `HURRY` seconds of silence for a dead connection."""

    @abstractmethod
    def say(self, monkeypatch: pytest.MonkeyPatch, stage: Stage, word: str) -> None:
        """Let the broker have another word for a status."""

    def fill_login_form(self, user_id: str) -> dict[str, str]:
        """Return what a person enters on the login page, beside the hidden fields."""
        return {"user_id": user_id}

    # --- The market -------------------------------------------------------------------------------

    def ref(self, number: int, instrument: Instrument) -> InstrumentRef:
        segment = Segment.EQUITY_DERIVATIVES if instrument.is_derivative else Segment.EQUITY
        symbol, token = self.broker_words(instrument)
        return InstrumentRef(
            id=number,
            exchange=Exchange(instrument.exchange),
            segment=Segment.INDEX if instrument.is_index else segment,
            symbol=instrument.symbol,
            kind=InstrumentKind(instrument.kind),
            exchange_token=str(instrument.token),
            isin=instrument.isin,
            name=instrument.name,
            tick_size=instrument.tick,
            lot_size=instrument.lot,
            freeze_quantity=instrument.freeze,
            expiry=instrument.expiry,
            strike=instrument.strike,
            underlying=instrument.underlying,
            broker_symbol=symbol,
            broker_token=token,
        )

    def listed(self, ref: InstrumentRef) -> Instrument:
        return self.venue.find(ref.key)

    def show(
        self,
        last: Any,
        bids: Pairs | None = None,
        asks: Pairs | None = None,
        instrument: InstrumentRef | None = None,
    ) -> None:
        book = [(last, 10_000)]
        key = (instrument or self.share).key
        self.venue.show(key, last, book if bids is None else bids, book if asks is None else asks)

    def close_market(self) -> None:
        self.venue.close_market()

    def give(self, adapter: BrokerAdapter, quantity: int, price: str) -> None:
        holding = Holding(self.listed(self.share), quantity, Decimal(price))
        self.account(adapter).holdings[self.share.key] = holding

    def new_day(self) -> None:
        self.venue.new_day(self.dialect.accounts.values())

    def slow(self, **seconds: float) -> None:
        self.venue.latency = Latency(**seconds)

    # --- Accounts and sessions --------------------------------------------------------------------

    def account(self, adapter: BrokerAdapter) -> Account:
        assert adapter.token
        account: Account = self.dialect.accounts[adapter.token.broker_user_id]
        return account

    def new_user(self) -> str:
        self.users += 1
        return f"AB{self.users:04d}"

    def context(self, **more: Any) -> AdapterContext:
        given: dict[str, Any] = {
            "endpoints": {
                "api": self.server.url,
                "login": self.server.url,
                "stream": self.server.ws_url,
                "assets": self.server.url,
            },
            "redirect_url": REDIRECT,
            "pace": self.paced.append,
            **more,
        }
        return AdapterContext(
            "00000000-0000-0000-0000-000000000001",
            lambda instrument: None,
            self.venue.clock.now,
            **given,
        )

    def closed_adapter(
        self, user_id: str = "", credentials: Mapping[str, str] | None = None, **context: Any
    ) -> BrokerAdapter:
        """Return an adapter without a session."""
        known = self.enroll(user_id or self.new_user())
        return adapter_class(self.name)(
            self.context(**context), known if credentials is None else credentials
        )

    def adapter(self, **context: Any) -> BrokerAdapter:
        user_id = self.new_user()
        adapter = self.closed_adapter(user_id, **context)
        adapter.token = adapter.open_session(self.grant(adapter, user_id))
        self.server.recorder.clear()
        self.paced.clear()
        return adapter

    def with_token(self, adapter: BrokerAdapter, token: SessionToken) -> BrokerAdapter:
        return type(adapter)(adapter.context, adapter.credentials, token)

    # --- The wire ---------------------------------------------------------------------------------

    def fault(self, kind: str, what: str = "place", **options: Any) -> Fault:
        pattern = getattr(self.wire, what) if hasattr(self.wire, what) else what
        return self.server.faults.add(kind, pattern, **options)

    def cut_sockets(self) -> None:
        """Cut every open socket without a word."""
        self.server.call(self._cut_sockets)

    def _cut_sockets(self) -> None:
        for socket in list(self.dialect.sockets):
            socket.abort()

    def sent(self, what: str = "place") -> int:
        return self.server.recorder.count(getattr(self.wire, what))

    def log_in(self, url: str, user_id: str) -> dict[str, str]:
        """Open the login page, fill in its form, and return the query of the redirect."""
        with requests.Session() as browser:
            browser.trust_env = False
            page = browser.get(url, timeout=5)
            assert page.status_code == 200, page.text
            found = re.findall(r'name="(\w+)"[^>]*?value="([^"]*)"', page.text)
            fields = {name: html.unescape(value) for name, value in found}
            action = re.search(r'<form[^>]*action="([^"]*)"', page.text)
            assert action
            answer = browser.post(
                self.server.url + action[1],
                data={**fields, **self.fill_login_form(user_id)},
                timeout=5,
                allow_redirects=False,
            )
        assert answer.status_code == 302, answer.text
        location = answer.headers["location"]
        assert location.startswith(REDIRECT)
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


class ZerodhaBench(EmulatedBench):
    name, dialect_name = "zerodha", "Zerodha"
    options = {"heartbeat": 0.1}
    wire = Wire(
        place="POST /orders/*",
        modify="PUT /orders/*",
        cancel="DELETE /orders/*",
        find="GET /orders",
        book="GET /orders",
        fills="GET /trades",
        quotes="GET /quote*",
        history="GET /instruments/historical/*",
        instruments="GET /instruments*",
        session="GET /user/profile",
        mint="POST /session/token",
    )

    def broker_words(self, instrument: Instrument) -> tuple[str, str]:
        from tests.emulators.zerodha.words import token_of

        return instrument.symbol, str(token_of(instrument))

    def enroll(self, user_id: str) -> dict[str, str]:
        from tests.emulators.zerodha.dialect import API_KEY, API_SECRET

        self.dialect.account(user_id)
        self.dialect.apps[API_KEY].redirect_url = REDIRECT
        return {"api_key": API_KEY, "api_secret": API_SECRET}

    def grant(self, adapter: BrokerAdapter, user_id: str) -> str | None:
        token: str = self.dialect.request_token(user_id, adapter.credentials["api_key"])
        return token

    def end_session(self, adapter: BrokerAdapter) -> None:
        assert adapter.token
        self.dialect.end_session(adapter.token.secrets["access_token"])

    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from brokerages.adapters.zerodha import client

        monkeypatch.setattr(client, "READ_SECONDS", HURRY)

    def doubt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from brokerages.adapters.zerodha import stream

        monkeypatch.setattr(stream, "WATCH_SECONDS", 0.1)
        monkeypatch.setitem(stream.KiteStream.__init__.__kwdefaults__, "silence_seconds", HURRY)

    def say(self, monkeypatch: pytest.MonkeyPatch, stage: Stage, word: str) -> None:
        from tests.emulators.zerodha import words

        monkeypatch.setitem(words.STATUS, stage, word)

    def fill_login_form(self, user_id: str) -> dict[str, str]:
        return {"user_id": user_id, "decision": "login"}

    def postbacks_to(self, url: str) -> str:
        """Let postbacks go to ``url``; return the secret that they are signed with."""
        app = next(iter(self.dialect.apps.values()))
        app.postback_url = url
        return str(app.api_secret)


class UpstoxBench(EmulatedBench):
    name, dialect_name = "upstox", "Upstox"
    unknown_token = "NSE_EQ|INE999Z01010"
    checks_later = parks_when_closed = True
    options = {"heartbeat": 0.1}
    wire = Wire(
        place="POST /v3/order/place",
        modify="PUT /v3/order/modify",
        cancel="DELETE /v3/order/cancel",
        find="GET /v2/order/history",
        book="GET /v2/order/retrieve-all",
        fills="GET /v2/order/trades/get-trades-for-day",
        quotes="GET /v[23]/market-quote/*",
        history="GET /v3/historical-candle/*",
        instruments="GET /market-quote/instruments/*",
        session="GET /v2/user/profile",
        mint="POST /v2/login/authorization/token",
    )

    def broker_words(self, instrument: Instrument) -> tuple[str, str]:
        from tests.emulators.upstox.words import key_of, long_symbol

        return long_symbol(instrument), key_of(instrument)

    def enroll(self, user_id: str) -> dict[str, str]:
        from tests.emulators.upstox.dialect import API_KEY, API_SECRET

        self.dialect.account(user_id)
        return {"api_key": API_KEY, "api_secret": API_SECRET}

    def grant(self, adapter: BrokerAdapter, user_id: str) -> str | None:
        code: str = self.dialect.code(user_id, adapter.credentials["api_key"], REDIRECT)
        return code

    def end_session(self, adapter: BrokerAdapter) -> None:
        assert adapter.token
        self.dialect.end_sessions(adapter.token.broker_user_id)

    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from brokerages.adapters.upstox import client, stream

        monkeypatch.setattr(client, "READ_SECONDS", HURRY)
        quick = stream.Patience(first_delay=0.1)
        monkeypatch.setattr(stream, "Patience", lambda: quick)

    def doubt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from brokerages.adapters.upstox import stream

        quick = replace(stream.Patience(), beat=HURRY, silence=HURRY, opening=2)
        monkeypatch.setattr(stream, "Patience", lambda: quick)

    def say(self, monkeypatch: pytest.MonkeyPatch, stage: Stage, word: str) -> None:
        from tests.emulators.upstox import words

        monkeypatch.setitem(words.STATUS, stage, word)

    def postbacks_to(self, url: str) -> str:
        app = next(iter(self.dialect.apps.values()))
        app.postback_url = url
        return str(app.api_secret)


class GrowwBench(EmulatedBench):
    name, dialect_name = "groww", "Groww"
    history_from = datetime(2020, 1, 1, tzinfo=IST)
    wire = Wire(
        place="POST /v1/order/create",
        modify="POST /v1/order/modify",
        cancel="POST /v1/order/cancel",
        find="GET /v1/order/status/reference/*",
        book="GET /v1/order/list",
        fills="GET /v1/order/trades/*",
        quotes="GET /v1/live-data/*",
        history="GET /v1/historical/candles",
        instruments="GET /instruments/instrument.csv",
        session="GET /v1/user/detail",
        mint="POST /v1/token/api/access",
    )

    def broker_words(self, instrument: Instrument) -> tuple[str, str]:
        from tests.emulators.groww import words

        token = f"{words.token(instrument)}/{words.groww_symbol(instrument)}"
        return words.symbol(instrument), token

    def enroll(self, user_id: str) -> dict[str, str]:
        login = self.dialect.enroll(user_id)
        return {"totp_token": login.totp_token, "totp_secret": login.totp_secret}

    def end_session(self, adapter: BrokerAdapter) -> None:
        assert adapter.token
        self.dialect.end_sessions(adapter.token.broker_user_id)
        self.dialect.violate()

    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from brokerages.adapters.groww import client, stream

        monkeypatch.setattr(client, "READ_TIMEOUT", HURRY)
        monkeypatch.setattr(stream, "FIRST_DELAY", 0.1)

    def doubt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from brokerages.adapters.groww import stream

        monkeypatch.setattr(stream, "PING_EVERY", HURRY)

    def cut_sockets(self) -> None:
        self.dialect.drop_feeds()

    def say(self, monkeypatch: pytest.MonkeyPatch, stage: Stage, word: str) -> None:
        from tests.emulators.groww import words

        monkeypatch.setitem(words.STATUSES, stage, word)


BENCHES: dict[str, Callable[[pytest.FixtureRequest], Bench]] = {
    "paper": PaperBench,
    "zerodha": ZerodhaBench,
    "upstox": UpstoxBench,
    "groww": GrowwBench,
}

NEEDS_LOGIN = frozenset({SessionRenewal.INTERACTIVE, SessionRenewal.UNATTENDED})
