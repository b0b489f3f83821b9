"""What an adapter says of itself."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest

from brokerages.base import Pace, SessionRenewal
from brokerages.errors import NotSupported, RateLimited, Refused
from brokerages.registry import BROKER_NAMES
from brokerages.types import (
    CandleInterval,
    OrderType,
    PositionConversion,
    Product,
    QuoteDepth,
    Side,
)
from tests.brokerages.contract.benches import BENCHES, MONDAY
from tests.brokerages.contract.conftest import limit, order, refusal_of

SDKS = ("kiteconnect", "upstox_client", "growwapi", "twisted", "pandas")


def test_every_broker_is_on_the_bench():
    assert set(BROKER_NAMES) <= set(BENCHES)


def test_names_and_capabilities(adapter):
    says = adapter.capabilities
    assert adapter.name in BROKER_NAMES
    assert adapter.label
    assert says.client_order_id_max_length >= 20
    assert says.order_types >= {OrderType.MARKET, OrderType.LIMIT}
    assert bool(adapter.api_hosts) == (says.session_renewal is not SessionRenewal.NONE)
    assert bool(says.max_stream_instruments) == says.streams_ticks
    assert says.signs_postbacks <= says.sends_postbacks


def test_credential_fields(adapter):
    fields = adapter.credential_fields
    assert len({field.name for field in fields}) == len(fields)
    assert all(field.secret for field in fields if "secret" in field.name or "token" in field.name)
    assert all(field.label and field.help_text for field in fields)


def test_pace_is_declared_and_keeps_room_for_cancels(bench, adapter):
    bench.need_wire()
    rules = adapter.capabilities.pace
    assert {kind for rule in rules for kind in rule.kinds} == set(Pace)
    assert adapter.capabilities.orders_per_second == 10
    for rule in rules:
        assert rule.scope in {"CONNECTION", "APP", "IP"}
        if Pace.CANCEL in rule.kinds:
            assert 0 < rule.reserve < rule.limit


def test_every_request_asks_for_its_permit_first(bench, adapter):
    """A permit of the right kind for each request: what the limits are kept by."""
    bench.need_wire()
    kinds = {
        Pace.ORDER: lambda: adapter.place_order(limit(bench, "95")),
        Pace.QUOTE: lambda: adapter.fetch_quotes([bench.share], QuoteDepth.LTP),
        Pace.OTHER: adapter.fetch_funds,
    }
    for kind, call in kinds.items():
        bench.paced.clear()
        bench.server.recorder.clear()
        call()
        assert bench.paced[0] is kind
        assert len(bench.paced) == bench.server.recorder.count()
    number = adapter.find_order(limit(bench, "95")).broker_order_id
    bench.paced.clear()
    adapter.cancel_order(number, limit(bench, "95"))
    assert Pace.CANCEL in bench.paced


def test_without_a_permit_nothing_is_sent(bench):
    bench.need_wire()

    def refuse(kind: Pace) -> None:
        raise RateLimited("not now", broker="test", retry_after=0.5)

    opened = bench.adapter()
    adapter = type(opened)(bench.context(pace=refuse), opened.credentials, opened.token)
    for call in (lambda: adapter.place_order(order(bench)), adapter.fetch_orders):
        with pytest.raises(RateLimited, match="not now"):
            call()
    assert bench.server.recorder.count() == 0


def test_sdk_is_not_imported_before_the_first_call(bench):
    code = (
        "import sys; from brokerages.registry import adapter_class; "
        f"adapter_class({bench.name!r}).capabilities; "
        f"print([name for name in {SDKS!r} if name in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_what_is_not_offered_says_so(bench, adapter):
    """A method either works or raises `NotSupported`: what the capabilities say."""
    says = adapter.capabilities
    conversion = PositionConversion(bench.share, Side.BUY, 10, Product.MIS, Product.CNC)
    offers = {
        "an instrument list": (says.lists_instruments, lambda: list(adapter.fetch_instruments())),
        "candles": (
            bool(says.candle_intervals),
            lambda: adapter.fetch_candles(
                bench.share, CandleInterval.DAY, MONDAY - timedelta(days=3), MONDAY
            ),
        ),
        "quotes": (
            bool(says.quotes),
            lambda: adapter.fetch_quotes([bench.share], QuoteDepth.LTP),
        ),
        "margins": (says.estimates_margin, lambda: adapter.estimate_margin([order(bench)])),
        "conversion": (
            says.can_convert_position,
            lambda: adapter.convert_position(conversion),
        ),
        "a stream": (
            says.pushes_order_updates or says.streams_ticks,
            lambda: adapter.open_stream().close(),
        ),
        "a login": (
            says.session_renewal is SessionRenewal.INTERACTIVE,
            lambda: adapter.login_url("state"),
        ),
    }
    for what, (offered, call) in offers.items():
        refusal = refusal_of(call)
        assert isinstance(refusal, NotSupported) == (not offered), what
        assert refusal is None or (refusal.broker == adapter.name and refusal.message)


@pytest.mark.parametrize("interval", list(CandleInterval), ids=lambda interval: interval.value)
def test_candle_interval_is_offered_or_refused(bench, adapter, interval):
    def ask() -> None:
        adapter.fetch_candles(bench.share, interval, MONDAY - timedelta(days=1), MONDAY)

    offered = interval in adapter.capabilities.candle_intervals
    refusal = refusal_of(ask)
    assert refusal is None if offered else isinstance(refusal, Refused)
