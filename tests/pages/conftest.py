"""Signed-in browsers without scripts, on a market whose prices the test sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import User
from brokerages.services import connection_create
from tests.accounts.factories import UserFactory
from tests.trading.conftest import Market, _fresh_tables, market, work
from trading.forms import new_key
from trading.models import Order, Position

__all__ = ["Market", "_fresh_tables", "market"]

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@dataclass
class Visitor:
    """A user at a browser."""

    user: User
    client: Client = field(default_factory=lambda: Client(headers=BROWSER))

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def post(self, path: str, data: dict[str, Any] | None = None, **headers: str) -> Any:
        return self.client.post(path, data or {}, headers=headers)

    def buy(self, **terms: Any) -> Order:
        """Place an order through the page, and let the worker send it."""
        answer = self.post("/orders/new", ticket(**terms))
        assert answer.status_code == 302, answer.content.decode()
        work()
        return Order.objects.filter(user_id=self.user.pk).latest("id")

    @property
    def position(self) -> Position:
        return Position.objects.get(user_id=self.user.pk)


def ticket(**terms: Any) -> dict[str, Any]:
    return {
        "symbol": "NSE:RELIANCE",
        "side": "BUY",
        "quantity": 10,
        "order_type": "MARKET",
        "product": "CNC",
        "validity": "DAY",
        "idempotency_key": new_key(),
    } | terms


@pytest.fixture
def new_visitor(market: Market) -> Callable[..., Visitor]:
    def make(*, paper: bool = True, **fields: Any) -> Visitor:
        user = UserFactory(email=f"visitor-{uuid4().hex[:10]}@example.com", **fields)
        if paper:
            connection_create(user_id=user.pk, broker="paper", label="Paper")
        visitor = Visitor(user)
        visitor.client.force_login(user)
        return visitor

    return make


@pytest.fixture
def visitor(new_visitor: Callable[..., Visitor]) -> Visitor:
    return new_visitor()


@pytest.fixture
def stranger(new_visitor: Callable[..., Visitor]) -> Visitor:
    return new_visitor()
