"""A market whose prices the test sets, two traders with paper connections, and a worker by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client

from accounts.clients import Client as Device
from accounts.models import User
from accounts.services.sign_in import user_signup
from brokerages.services import adapter_for, connection_create
from brokerages.types import BookLevel, Quote
from marketdata import quotes, selectors
from marketdata.services import instruments_load
from marketdata.sources.base import DataSource, Listing
from trading.models import OrderCommand
from trading.services.execution import lane_drain
from trading.services.reconciliation import venues_advance


class Market(DataSource):
    """Quotes as the test says. Every `set` is a new book, with fresh liquidity."""

    name, computed, simulated = "simulated", True, True

    def __init__(self) -> None:
        self.quotes_by_key: dict[str, Quote] = {}

    def set(
        self,
        key: str,
        last: str,
        *,
        bids: list[tuple[str, int]] | None = None,
        asks: list[tuple[str, int]] | None = None,
    ) -> Quote:
        ref = selectors.ref_by_key(key)
        price, tick = Decimal(last), ref.tick_size
        before = self.quotes_by_key.get(key)
        quote = Quote(
            instrument_id=ref.id,
            last_price=price,
            at=datetime.now(UTC),
            source="simulated",
            bids=_levels(bids) if bids is not None else (BookLevel(price - tick, 1_000_000),),
            asks=_levels(asks) if asks is not None else (BookLevel(price + tick, 1_000_000),),
            lower_circuit=price * Decimal("0.8"),
            upper_circuit=price * Decimal("1.2"),
            sequence=before.sequence + 1 if before else 1,
            simulated=True,
        )
        self.quotes_by_key[key] = quote
        return quote

    def quote(self, listing: Listing, at: datetime) -> Quote | None:
        quote = self.quotes_by_key.get(listing.key)
        return quote and replace(quote, at=at)

    def candles(self, listing: Listing, interval: str, start: datetime, end: datetime) -> list[Any]:
        return []


def _levels(levels: list[tuple[str, int]]) -> tuple[BookLevel, ...]:
    return tuple(BookLevel(Decimal(price), quantity) for price, quantity in levels)


@pytest.fixture(autouse=True)
def _fresh_tables() -> Iterator[None]:
    selectors.clear_tables()
    yield
    selectors.clear_tables()


@pytest.fixture
def market(db: None, monkeypatch: pytest.MonkeyPatch) -> Market:
    instruments_load()
    source = Market()
    monkeypatch.setattr(quotes, "source_current", lambda: source)
    source.set("NSE:RELIANCE", "2500.00")
    source.set("NSE:INFY", "1500.00")
    return source


@dataclass
class Trader:
    """A signed-up user with a paper connection, speaking to the API as a client does."""

    email: str
    token: str
    connection_id: str = ""
    http: Client = field(default_factory=Client)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        return self.http.generic(
            method,
            f"/api/v1{path}",
            b"" if body is None else _json(body),
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.token}", **headers},
        )

    def get(self, path: str) -> Any:
        response = self.call("GET", path)
        assert response.status_code == 200, response.content
        return response.json()

    def place(self, key: str | None = None, **terms: Any) -> Any:
        body = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 10} | terms
        return self.call("POST", "/orders", body, **{"Idempotency-Key": key or uuid4().hex})

    def placed(self, **terms: Any) -> dict[str, Any]:
        """Place an order that has to be accepted, let the worker send it, and read it again."""
        response = self.place(**terms)
        assert response.status_code == 201, response.content
        work()
        return self.order(response.json()["id"])

    def order(self, order_id: str) -> dict[str, Any]:
        return self.get(f"/orders/{order_id}")

    def events(self, order_id: str) -> list[str]:
        return [event["kind"] for event in self.get(f"/orders/{order_id}/events")["results"]]

    def funds(self) -> dict[str, Decimal]:
        funds = adapter_for(UUID(self.connection_id)).fetch_funds()
        return {"available": funds.available, "used": funds.used, "total": funds.total}


def _json(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def work() -> None:
    """Do what workers do: send all that waits, then move the paper market on."""
    lanes = OrderCommand.objects.filter(state="WAITING").values_list("lane", flat=True)
    for lane in set(lanes):
        lane_drain(lane)
    venues_advance()


@pytest.fixture
def new_trader(market: Market) -> Callable[[], Trader]:
    def make() -> Trader:
        email = f"trader-{uuid4().hex[:12]}@example.com"
        pair = user_signup(
            email=email, password="a-long-enough-pass-phrase", client=Device(ip="127.0.0.1")
        )
        trader = Trader(email, pair.access_token)
        user = User.objects.get(email=email)
        trader.connection_id = str(connection_create(user_id=user.pk, broker="paper").pk)
        return trader

    return make


@pytest.fixture
def trader(new_trader: Callable[[], Trader]) -> Trader:
    return new_trader()
