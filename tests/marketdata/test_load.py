"""Loading instruments: complete, repeatable, and quick when nothing changed."""

import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command

from brokerages.types import InstrumentKind, Segment
from marketdata import selectors
from marketdata.errors import UnknownInstrument
from marketdata.models import Instrument, TradingSession
from marketdata.services import bundled_instruments, instruments_load

pytestmark = pytest.mark.django_db
EXPIRY_DAY = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)


def test_bundled_shares_are_whole():
    shares = [row for row in bundled_instruments(date(2026, 11, 23)) if row["kind"] == "EQ"]

    assert len(shares) == 50
    assert len({row["isin"] for row in shares}) == 50
    assert all(len(row["isin"]) == 12 and row["isin"].startswith("INE") for row in shares)
    assert all(row["industry"] and row["exchange_token"] and row["name"] for row in shares)


def test_keys_and_tokens_are_unique():
    rows = bundled_instruments(date(2026, 11, 23))

    assert len({(row["exchange"], row["symbol"]) for row in rows}) == len(rows)
    assert len({(row["exchange"], row["exchange_token"]) for row in rows}) == len(rows)


def test_load_is_idempotent():
    first = instruments_load(EXPIRY_DAY)
    started = time.perf_counter()
    again = instruments_load(EXPIRY_DAY)
    took = time.perf_counter() - started

    assert first.created == Instrument.objects.count() > 1000
    assert first.sessions == TradingSession.objects.count()
    assert (again.created, again.changed, again.expired, again.sessions) == (0, 0, 0, 0)
    assert took < 1


def test_load_retires_expired_contracts():
    instruments_load(EXPIRY_DAY)
    ref = selectors.ref_by_key("NFO:NIFTY26NOV24800CE")

    done = instruments_load(EXPIRY_DAY + timedelta(days=1))

    assert done.expired > 100
    assert selectors.ref_by_key("NFO:NIFTY26NOV24800CE") is None
    assert selectors.ref_by_id(ref.id) == ref  # orders and fills still point at it
    assert not selectors.is_tradable(ref)


def test_load_repairs_changed_rows_and_keeps_added_ones():
    instruments_load(EXPIRY_DAY)
    Instrument.objects.filter(symbol="INFY").update(tick_size="0.05", name="x")
    TradingSession.objects.create(
        group="ALL", phase="CLOSED", valid_from=date(2026, 12, 1), valid_to=date(2026, 12, 1),
        special=True, source="an administrator",
    )  # fmt: skip

    done = instruments_load(EXPIRY_DAY)

    assert (done.created, done.changed, done.sessions) == (0, 1, 0)
    assert Instrument.objects.get(symbol="INFY").tick_size == Decimal("0.10")
    assert TradingSession.objects.filter(source="an administrator").exists()


def test_command_says_what_it_did(capsys):
    call_command("load_instruments")
    call_command("load_instruments")

    assert "Instruments: 0 new, 0 changed" in capsys.readouterr().out


def test_refs_carry_what_orders_need(market):
    share = selectors.ref_by_key("NSE:RELIANCE")
    assert (share.exchange_token, share.isin, share.tick_size, share.lot_size) == (
        "2885", "INE002A01018", Decimal("0.10"), 1,
    )  # fmt: skip
    index = selectors.ref_by_key("NSE:NIFTY 50")
    assert index.kind is InstrumentKind.INDEX
    assert not selectors.is_tradable(index)
    future = next(
        x.ref for x in selectors.listings_active() if x.ref.kind is InstrumentKind.FUT
        and x.ref.underlying == "NIFTY"
    )  # fmt: skip
    assert (future.segment, future.lot_size, future.freeze_quantity) == (
        Segment.EQUITY_DERIVATIVES, 65, 1800,
    )  # fmt: skip


def test_lookups_ask_no_query(market, django_assert_num_queries):
    share = selectors.ref_by_key("NSE:RELIANCE")

    with django_assert_num_queries(0):
        assert selectors.ref_by_id(share.id) is share
        assert selectors.refs_by_ids([share.id]) == {share.id: share}
        assert selectors.listing_by_token("NSE", "2885").ref is share
        assert selectors.ref_by_key("NSE:NOTHING") is None


def test_unknown_id_raises(market):
    with pytest.raises(UnknownInstrument):
        selectors.ref_by_id(10**9)
    assert selectors.refs_by_ids([10**9]) == {}


def test_tables_follow_the_database_within_a_minute(market, monkeypatch):
    selectors.ref_by_key("NSE:RELIANCE")
    Instrument.objects.filter(symbol="RELIANCE").update(
        tick_size="0.05", updated_at=datetime.now(UTC)
    )  # another process's write: no signal here
    assert selectors.ref_by_key("NSE:RELIANCE").tick_size == Decimal("0.10")

    monkeypatch.setattr(selectors, "TABLE_SECONDS", 0.0)

    assert selectors.ref_by_key("NSE:RELIANCE").tick_size == Decimal("0.05")


@pytest.mark.parametrize(
    ("q", "first"),
    [
        ("reliance", "NSE:RELIANCE"),
        ("INE002A01018", "NSE:RELIANCE"),
        ("M&M", "NSE:M&M"),
        ("hdfc bank", "NSE:HDFCBANK"),
        ("nifty 50", "NSE:NIFTY 50"),
        ("NIFTY26DECFUT", "NFO:NIFTY26DECFUT"),
    ],
)
def test_search_puts_the_likeliest_first(q, first):
    instruments_load(EXPIRY_DAY)

    assert selectors.instrument_search(q)[0].key == first


def test_search_filters_and_pages(market):
    options = selectors.instrument_search("NIFTY", exchange="NFO", kind="CE", limit=5)
    more = selectors.instrument_search("NIFTY", exchange="NFO", kind="CE", limit=5, offset=5)

    assert {row.kind for row in options} == {"CE"}
    assert len({row.key for row in [*options, *more]}) == 10
    assert selectors.instrument_search("' OR 1=1 --") == []
    assert selectors.instrument_search("100%") == []
