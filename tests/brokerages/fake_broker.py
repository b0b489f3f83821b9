"""A broker that signs its postbacks as Kite does, or none, with a book that the test writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from brokerages import registry, webhooks
from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.base import BrokerAdapter, CredentialField
from brokerages.errors import BrokerError, SessionExpired
from brokerages.types import (
    FillReport,
    Funds,
    OrderAck,
    OrderChange,
    OrderHint,
    OrderReport,
    OrderRequest,
    Profile,
    SessionToken,
)


def checksum(body: Mapping[str, Any], secret: str) -> str:
    text = f"{body['order_id']}{body['order_timestamp']}{secret}"
    return hashlib.sha256(text.encode()).hexdigest()


class SigningBroker(BrokerAdapter):
    name, label = "signing", "Signing broker"
    capabilities = replace(
        PaperAdapter.capabilities, signs_postbacks=True, sends_postbacks=True, dispatch_lane=""
    )
    credential_fields = (
        CredentialField("api_key", "API key", secret=False),
        CredentialField("api_secret", "API secret"),
    )

    # The broker's book: what reads answer with.
    reports: ClassVar[dict[str, OrderReport]] = {}
    fills: ClassVar[list[FillReport]] = []
    reads: ClassVar[list[str]] = []
    fails: ClassVar[list[BrokerError]] = []

    def open_session(self, grant: str | None) -> SessionToken:
        return SessionToken({"access_token": "t"}, broker_user_id="S1")

    def check_session(self) -> None:
        if self.token and self.token.secrets.get("access_token") == "revoked":
            raise SessionExpired("not a token of ours", broker=self.name)

    def close_session(self) -> None: ...

    def place_order(self, request: OrderRequest) -> OrderAck:
        return OrderAck(f"B{request.client_order_id}")

    def modify_order(
        self, broker_order_id: str, change: OrderChange, request: OrderRequest
    ) -> OrderAck:
        return OrderAck(broker_order_id)

    def cancel_order(self, broker_order_id: str, request: OrderRequest) -> OrderAck | None:
        return None

    def find_order(self, request: OrderRequest) -> OrderReport | None:
        tag = request.client_order_id
        return next((r for r in self.fetch_orders() if r.client_order_id == tag), None)

    def fetch_orders(self) -> list[OrderReport]:
        self.reads.append("orders")
        if self.fails:
            raise self.fails.pop(0)
        return list(self.reports.values())

    def fetch_fills(self) -> list[FillReport]:
        return list(self.fills)

    def fetch_positions(self) -> list[Any]:
        return []

    def fetch_holdings(self) -> list[Any]:
        return []

    def fetch_funds(self) -> Funds:
        raise NotImplementedError

    def fetch_profile(self) -> Profile:
        token = self.token.secrets["access_token"] if self.token else ""
        return Profile("S2" if token.startswith("other") else "S1", "Someone")

    @classmethod
    def verify_postback(cls, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        try:
            told = json.loads(body)
            return checksum(told, secret) == told["checksum"]
        except (ValueError, KeyError, TypeError):
            return False

    @classmethod
    def parse_postback(cls, body: bytes) -> list[OrderHint]:
        told = json.loads(body)
        if not isinstance(told, dict) or "order_id" not in told:
            raise ValueError("not about an order")
        return [OrderHint(told["order_id"], told.get("tag", ""))]


class SilentBroker(SigningBroker):
    """Signs nothing, as Upstox; hands over sessions that its user approved."""

    name, label = "silent", "Silent broker"
    capabilities = replace(
        SigningBroker.capabilities, signs_postbacks=False, opens_by_approval=True
    )

    @classmethod
    def verify_postback(cls, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        return False

    @classmethod
    def parse_session_notice(cls, body: bytes, credentials: Mapping[str, str]) -> SessionToken:
        told = json.loads(body)
        if told.get("message_type") != "access_token":
            raise ValueError("no notice")
        if told["client_id"] != credentials["api_key"]:
            raise ValueError("of another app")
        return SessionToken({"access_token": told["access_token"]}, None, told["user_id"])


BROKERS = {"signing": SigningBroker, "silent": SilentBroker}


def install(monkeypatch: pytest.MonkeyPatch) -> type[SigningBroker]:
    """Register both brokers for one test, with empty books; return what the books stand in."""
    for name, kind in BROKERS.items():
        monkeypatch.setitem(registry._ADAPTERS, name, f"{__name__}:{kind.__name__}")
    monkeypatch.setattr(webhooks, "BROKER_NAMES", (*webhooks.BROKER_NAMES, *BROKERS))
    for book in (
        SigningBroker.reports, SigningBroker.fills, SigningBroker.reads, SigningBroker.fails,
    ):  # fmt: skip
        book.clear()
    return SigningBroker
