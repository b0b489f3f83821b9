"""Brokers' instrument lists: matched, not duplicated; refused when they cannot be right; never an
empty table meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from accounts.clients import Client as Device
from accounts.models import User
from accounts.services.sign_in import user_signup
from brokerages.errors import OutcomeUnknown, SessionExpired
from brokerages.services import connection_create, session_close, session_open
from brokerages.types import InstrumentKind
from marketdata import broker_refs, selectors, tasks
from marketdata.contracts import Expiry, contract_symbol
from marketdata.errors import NotAtBroker
from marketdata.instrument_sync import instruments_sync, is_due, records_load
from marketdata.models import BrokerInstrument, Instrument, InstrumentSync
from marketdata.services import instruments_load
from tests.marketdata import fake_broker
from tests.marketdata.fake_broker import NAME, contract, share

RELIANCE = share("RELIANCE", "2885", "INE002A01018")
TODAY = timezone.localdate()
FAR = date(TODAY.year + 1, 3, 25)


@pytest.fixture(autouse=True, scope="module")
def swept(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Leave no hundred thousand dead rows behind: all later tests would go through them."""
    yield
    with django_db_blocker.unblock():
        given = connection.get_connection_params()
        with psycopg.connect(**given, autocommit=True) as owner:
            owner.execute("VACUUM (ANALYZE) marketdata_instrument, marketdata_brokerinstrument")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> fake_broker.World:
    return fake_broker.registered(monkeypatch)()


@pytest.fixture
def user(db: None) -> User:
    user_signup(email="lists@example.com", password="a-long-enough-pass", client=Device())
    return User.objects.get(email="lists@example.com")


@pytest.fixture
def session(user: User, world: Any) -> Any:
    made = connection_create(user_id=user.pk, broker=NAME, credentials={"api_key": "k"})
    session_open(user_id=user.pk, connection_id=made.pk, grant="g")
    return made


def load(*records: Any) -> InstrumentSync:
    run = records_load(NAME, records)
    assert run is not None
    assert run.state == "DONE", run.error
    return run


def listed(key: str) -> BrokerInstrument:
    exchange, _, symbol = key.partition(":")
    return BrokerInstrument.objects.get(instrument__exchange=exchange, instrument__symbol=symbol)


def expiry_of(**where: Any) -> Any:
    return Instrument.objects.filter(is_active=True, **where).order_by("expiry").first()


def test_bundled_share_is_matched(market, world):
    before = Instrument.objects.count()

    run = load(RELIANCE)

    assert (run.rows, run.matched, run.created, run.changed) == (1, 1, 0, 1)
    assert Instrument.objects.count() == before
    row = listed("NSE:RELIANCE")
    assert (row.broker_symbol, row.broker_token) == ("RELIANCE-EQ", "t2885")


def test_generated_contract_is_matched_by_its_terms_and_gets_its_number(market, world):
    kept = expiry_of(kind="CE", underlying="NIFTY")
    record = contract("NIFTY", "CE", kept.expiry, kept.strike, exchange_token="41234")

    run = load(record)

    assert (run.matched, run.created) == (1, 0)
    kept.refresh_from_db()
    assert kept.exchange_token == "41234"
    instruments_load()  # the half-hourly listing of contracts by rule
    kept.refresh_from_db()
    assert kept.exchange_token == "41234"
    assert selectors.listing_by_token("NFO", "41234").ref.id == kept.pk


def test_contract_of_a_reused_number_is_not_the_old_one(market, world):
    old = expiry_of(kind="CE", underlying="NIFTY")
    load(contract("NIFTY", "CE", old.expiry, old.strike, exchange_token="41234"))

    load(
        contract("NIFTY", "CE", old.expiry, old.strike, exchange_token="50001"),
        contract("RELIANCE", "CE", FAR, 1500, exchange_token="41234"),
    )

    assert Instrument.objects.get(symbol__startswith="RELIANCE27").exchange_token == "41234"
    assert listed(f"NFO:{old.symbol}").broker_symbol.startswith("NIFTY")


def test_what_only_the_broker_lists_becomes_an_instrument(market, world):
    run = load(share("NEWCO", "99999", "INE999Z01011"), RELIANCE)

    assert (run.matched, run.created) == (1, 1)
    listing = selectors.listing_by_key("NSE:NEWCO")
    assert listing is not None
    assert listing.is_tradable
    assert listing.reference_price is None
    assert selectors.listing_by_token("NSE", "99999") is listing
    assert selectors.instrument_search("newco")[0].symbol == "NEWCO"


def test_symbols_of_contracts_follow_the_one_form(market, world):
    weekly, monthly = date(2027, 6, 1), date(2027, 6, 29)
    records = [
        contract("TCS", "FUT", monthly),
        contract("TCS", "CE", monthly, "3500"),
        contract("TCS", "PE", weekly, "3512.50"),
        contract("TCS", "CE", weekly, "3500.00"),
    ]

    load(*records)

    expected = {
        contract_symbol("TCS", Expiry(r.expiry, r.expiry == monthly), r.kind, r.strike)
        for r in records
    }
    assert expected == {"TCS27JUNFUT", "TCS27JUN3500CE", "TCS276013512.5PE", "TCS276013500CE"}
    made = Instrument.objects.filter(underlying="TCS", broker_listed=True)
    assert {row.symbol for row in made} == expected
    assert "TCS 01 Jun 2027 3512.5 PE" in {row.name for row in made}


def test_chain_holds_what_the_broker_lists(market, world):
    load(contract("TCS", "FUT", FAR), contract("TCS", "CE", FAR, 3500))
    spot = selectors.listing_by_key("NSE:TCS")

    assert selectors.expiries_of(spot) == [FAR]
    (option,) = selectors.options_of(spot, FAR)
    assert option.spot is spot
    assert option.ref.strike == Decimal(3500)


def test_renamed_share_is_found_by_its_isin(market, world):
    run = load(replace(RELIANCE, symbol="RIL", broker_symbol="RIL-EQ"))

    assert (run.matched, run.created) == (1, 0)
    assert listed("NSE:RELIANCE").broker_symbol == "RIL-EQ"


def test_number_alone_names_no_share(market, world):
    run = load(share("OTHERCO", "2885"))

    assert (run.matched, run.created) == (0, 1)
    assert not BrokerInstrument.objects.filter(instrument__symbol="RELIANCE").exists()


def test_new_isin_with_the_old_number_is_the_same_share(market, world):
    assert load(share("RELIANCE", "2885", "INE002A01099")).matched == 1


def test_symbol_of_another_share_is_left_out_and_reported(market, world):
    run = load(share("RELIANCE", "777", "INE777Z01017"), share("INFY", "1594", "INE009A01021"))

    assert run.report["skipped"] == {"conflict": 1}
    assert run.report["examples"]["conflict"] == ["NSE:RELIANCE-EQ"]
    assert not BrokerInstrument.objects.filter(instrument__symbol="RELIANCE").exists()


@pytest.mark.parametrize("name", ["NIFTY 50", "Nifty 50", "NIFTY", "NIFTY50"])
def test_index_is_matched_however_it_is_written(market, world, name):
    record = share(name, "1001", kind=InstrumentKind.INDEX, segment="INDEX", broker_symbol=name)

    load(replace(record, segment=selectors.listing_by_key("NSE:NIFTY 50").ref.segment))

    assert listed("NSE:NIFTY 50").broker_symbol == name
    assert Instrument.objects.get(symbol="NIFTY 50").exchange_token == "26000"


def test_one_row_an_instrument(market, world):
    run = load(replace(RELIANCE, broker_symbol="RELIANCE-BL"), RELIANCE)

    assert run.report["skipped"] == {"twice": 1}
    assert BrokerInstrument.objects.filter(broker=NAME).count() == 1


def test_rows_that_cannot_be_used_are_counted(market, world):
    yesterday = TODAY - timedelta(days=2)
    run = load(
        RELIANCE,
        share("", "1"),
        share("X" * 41, "2"),
        share("NOLOT", "3", lot_size=0),
        share("NOTICK", "4", tick_size=Decimal(0)),
        contract("TCS", "CE", FAR),
        contract("TCS", "CE", FAR, "100.005"),
        contract("TCS", "FUT", yesterday),
        contract("", "FUT", FAR),
    )

    assert run.rows == 9
    assert run.report["skipped"] == {
        "no_symbol": 1, "too_long": 1, "lot_size": 1, "tick_size": 1, "strike": 2, "expired": 1,
        "contract_terms": 1,
    }  # fmt: skip
    assert run.report["listed"] == 1


def test_text_that_copy_would_misread(market, world):
    load(share("ODD&CO", "55", name="back\\slash\ttab\nline \\", broker_symbol="ODD\\N"))

    row = Instrument.objects.get(symbol="ODD&CO")
    assert row.name == "back\\slash tab line \\"
    assert listed("NSE:ODD&CO").broker_symbol == "ODD\\N"


def test_unchanged_list_writes_nothing(market, world):
    records = [RELIANCE, share("NEWCO", "99999"), contract("TCS", "FUT", FAR)]
    load(*records)
    before = list(Instrument.objects.values_list("pk", "updated_at").order_by("pk"))
    seen = list(BrokerInstrument.objects.values_list("pk", "seen_at").order_by("pk"))

    run = load(*records)

    assert (run.matched, run.created, run.changed, run.retired) == (3, 0, 0, 0)
    assert list(Instrument.objects.values_list("pk", "updated_at").order_by("pk")) == before
    assert list(BrokerInstrument.objects.values_list("pk", "seen_at").order_by("pk")) == seen


def test_what_the_list_drops_is_retired_and_comes_back(market, world):
    names = [share(f"CO{n}", f"9{n}") for n in range(10)]
    load(*names)

    run = load(*names[1:])

    assert run.retired == 1
    assert not listed("NSE:CO0").is_active
    assert selectors.listing_by_key("NSE:CO0") is None
    load(*names)
    assert listed("NSE:CO0").is_active
    assert selectors.listing_by_key("NSE:CO0") is not None


def test_bundled_instrument_stays_when_a_broker_drops_it(market, world):
    names = [share(f"CO{n}", f"9{n}") for n in range(10)]
    load(RELIANCE, *names)
    load(*names)

    assert selectors.listing_by_key("NSE:RELIANCE") is not None
    with pytest.raises(NotAtBroker) as refusal:
        broker_refs.ref_at_broker(NAME, selectors.ref_by_key("NSE:RELIANCE").id)
    assert refusal.value.code == "instrument_not_at_broker"


def test_short_list_is_refused_and_changes_nothing(market, world):
    names = [share(f"CO{n}", f"9{n}") for n in range(10)]
    load(*names)

    run = records_load(NAME, names[:7])

    assert run.state == "FAILED"
    assert "7 usable rows" in run.error
    assert BrokerInstrument.objects.filter(broker=NAME, is_active=True).count() == 10
    assert records_load(NAME, []).state == "FAILED"
    assert records_load(NAME, names[:8]).state == "DONE"


def test_download_that_breaks_off_changes_nothing(market, session, world):
    world.records = [RELIANCE, share("NEWCO", "99999")]
    world.stop_after = 1

    run = instruments_sync(NAME)

    assert (run.state, run.error) == ("FAILED", "The download broke off.")
    assert not BrokerInstrument.objects.exists()
    assert not InstrumentSync.objects.filter(state="RUNNING").exists()


def test_two_readings_at_once(market, session, world):
    world.records = [RELIANCE]
    running = InstrumentSync.objects.create(
        broker=NAME,
        state="RUNNING",
        started_at=timezone.now(),
        lease_until=timezone.now() + timedelta(minutes=1),
    )

    assert instruments_sync(NAME) is None
    InstrumentSync.objects.filter(pk=running.pk).update(lease_until=timezone.now())
    assert instruments_sync(NAME).state == "DONE"
    running.refresh_from_db()
    assert running.state == "FAILED"


def test_session_that_is_over_leaves_it_to_the_next(market, session, user, world):
    other = connection_create(user_id=user.pk, broker=NAME, credentials={"api_key": "k2"})
    session_open(user_id=user.pk, connection_id=other.pk, grant="g")
    world.records = [RELIANCE]
    world.fail["fetch_instruments"] = SessionExpired("over", broker=NAME)

    assert instruments_sync(NAME).error == "over"
    assert len(world.asked("fetch_instruments")) == 2


def test_no_session_no_list(market, world):
    assert instruments_sync(NAME).error == "No session of this broker is open."


@pytest.mark.parametrize(
    ("done_at", "now", "due"),
    [
        ("2026-11-25T02:59", "2026-11-25T03:01", True),  # before 08:30 in India, and after it
        ("2026-11-25T03:00", "2026-11-25T15:00", False),
        ("2026-11-25T03:00", "2026-11-26T02:59", False),
        ("2026-11-25T03:00", "2026-11-26T03:00", True),
    ],
)
def test_list_is_due_once_a_day(db, done_at, now, due):
    at = datetime.fromisoformat(done_at).replace(tzinfo=UTC)
    InstrumentSync.objects.create(broker=NAME, state="DONE", started_at=at, lease_until=at)

    assert is_due(NAME, datetime.fromisoformat(now).replace(tzinfo=UTC)) is due


@pytest.mark.usefixtures("market")
def test_first_session_reads_the_list(
    user, world, settings, monkeypatch, django_capture_on_commit_callbacks
):
    settings.WAKE_WORKERS = True
    sent: list[Any] = []
    monkeypatch.setattr(tasks.sync_instruments_of, "apply_async", lambda **kw: sent.append(kw))
    world.records = [RELIANCE]
    made = connection_create(user_id=user.pk, broker=NAME, credentials={"api_key": "k"})

    with django_capture_on_commit_callbacks(execute=True):
        session_open(user_id=user.pk, connection_id=made.pk, grant="g")

    assert [kw["args"] for kw in sent] == [[NAME]]
    tasks.sync_instruments_of(NAME)
    assert listed("NSE:RELIANCE").is_active
    with django_capture_on_commit_callbacks(execute=True):
        session_open(user_id=user.pk, connection_id=made.pk, grant="g")
    assert len(sent) == 1  # the list of today is there


def test_schedule_reads_what_is_due_where_somebody_is_logged_in(
    market, session, world, monkeypatch
):
    sent: list[str] = []
    monkeypatch.setattr(tasks.sync_instruments_of, "delay", sent.append)
    world.records = [RELIANCE]

    tasks.sync_instruments()
    assert sent == [NAME]
    tasks.sync_instruments_of(sent.pop())
    tasks.sync_instruments()
    assert sent == []
    InstrumentSync.objects.all().delete()
    session_close(user_id=session.user_id, connection_id=session.pk)
    tasks.sync_instruments()
    assert sent == []


def test_command(market, session, world, capsys):
    world.records = [RELIANCE, share("NOLOT", "3", lot_size=0)]

    call_command("sync_instruments", NAME)

    out = capsys.readouterr().out
    assert "2 rows; 1 known, 0 new, 1 written, 0 retired; left out: 1 lot_size" in out
    assert "NSE:NOLOT-EQ" in out
    with pytest.raises(CommandError, match="Brokers with a list"):
        call_command("sync_instruments", "paper")
    world.fail["fetch_instruments"] = OutcomeUnknown("no answer", broker=NAME)
    with pytest.raises(CommandError, match="no answer"):
        call_command("sync_instruments", NAME)


# --- References -----------------------------------------------------------------------------------


def test_reference_carries_the_brokers_words_and_terms(market, world):
    load(replace(RELIANCE, tick_size=Decimal("0.05"), lot_size=1, freeze_quantity=500))
    plain = selectors.ref_by_key("NSE:RELIANCE")

    ref = broker_refs.ref_at_broker(NAME, plain.id)

    assert (ref.broker_symbol, ref.broker_token) == ("RELIANCE-EQ", "t2885")
    assert (ref.tick_size, ref.freeze_quantity) == (Decimal("0.05"), 500)
    assert (plain.tick_size, plain.broker_symbol) == (Decimal("0.10"), "")


def test_paper_asks_nothing(market, django_assert_num_queries):
    ref = selectors.ref_by_key("NSE:RELIANCE")

    with django_assert_num_queries(0):
        assert broker_refs.ref_at_broker("paper", ref.id) is ref


def test_reference_is_looked_up_once(market, world, django_assert_num_queries):
    load(RELIANCE)
    ref = selectors.ref_by_key("NSE:RELIANCE")
    first = broker_refs.ref_at_broker(NAME, ref.id)

    with django_assert_num_queries(0):
        assert broker_refs.ref_at_broker(NAME, ref.id) is first


def test_new_list_is_seen_at_once(market, world):
    load(RELIANCE)
    ref = selectors.ref_by_key("NSE:RELIANCE")
    broker_refs.ref_at_broker(NAME, ref.id)

    load(replace(RELIANCE, broker_token="t9"))

    assert broker_refs.ref_at_broker(NAME, ref.id).broker_token == "t9"


def test_no_list_yet_has_a_reason_of_its_own(market, world):
    with pytest.raises(NotAtBroker) as refusal:
        broker_refs.ref_at_broker(NAME, selectors.ref_by_key("NSE:RELIANCE").id)

    assert refusal.value.code == "instruments_not_loaded"
    assert "Fake Broker" in refusal.value.message


def test_unknown_names_are_looked_for_once(market, django_assert_num_queries):
    assert selectors.listing_by_key("NSE:NOSUCH") is None

    with django_assert_num_queries(0):
        assert selectors.listing_by_key("NSE:NOSUCH") is None
        assert selectors.listing_by_key("NSE:\0") is None
        assert selectors.listing_by_key("NSE:" + "X" * 100) is None


def test_100k_rows_in_seconds(market, world):
    """120,000 contracts: a first reading, and one with a tenth changed."""
    strikes = range(100, 100 + 300 * 10, 10)
    days = [date(FAR.year, month, 25) for month in range(3, 11)]
    records = [
        contract(f"CO{n}", kind, day, strike)
        for n in range(25)
        for day in days
        for strike in strikes
        for kind in ("CE", "PE")
    ]
    assert len(records) == 120_000

    first = load(*records)
    changed = load(
        *[replace(r, broker_token=r.broker_token + "x") for r in records[:12_000]],
        *records[12_000:],
    )

    times = [run.report["read_ms"] + run.report["merge_ms"] for run in (first, changed)]
    assert (first.created, changed.matched, changed.changed) == (120_000, 120_000, 12_000)
    assert max(times) < 60_000, times  # some seconds on a machine that does nothing else
    assert BrokerInstrument.objects.filter(is_active=True).count() == 120_000
