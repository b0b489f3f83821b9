"""The calendar and the instruments in the admin."""

from datetime import UTC, datetime

import pytest
from django.test import Client

from accounts.models import User
from marketdata import selectors
from marketdata.calendar import SessionGroup
from marketdata.models import Instrument, TradingSession

pytestmark = pytest.mark.usefixtures("market")


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(
        User.objects.create_superuser("staff@example.com", "correct horse battery"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return client


def test_instruments_are_found_and_not_changed(staff):
    page = staff.get("/admin/marketdata/instrument/", {"q": "INE002A01018"})
    assert b"RELIANCE" in page.content

    row = Instrument.objects.get(symbol="RELIANCE")
    assert staff.post(f"/admin/marketdata/instrument/{row.pk}/change/", {}).status_code == 403
    assert staff.get("/admin/marketdata/instrument/add/").status_code == 403


def test_an_announced_holiday_can_be_added(staff):
    monday = datetime(2026, 12, 7, 6, tzinfo=UTC)
    assert selectors.calendar_current().is_open(SessionGroup.EQUITY, monday)

    answer = staff.post(
        "/admin/marketdata/tradingsession/add/",
        {
            "group": "ALL",
            "phase": "CLOSED",
            "valid_from": "2026-12-07",
            "valid_to": "2026-12-07",
            "weekdays": "1234567",
            "special": "on",
            "note": "Election",
            "source": "NSE circular",
        },
    )

    assert answer.status_code == 302
    assert not selectors.calendar_current().is_open(SessionGroup.EQUITY, monday)


def test_bundled_rows_stay(staff):
    row = TradingSession.objects.filter(bundled=True).first()

    assert staff.post(f"/admin/marketdata/tradingsession/{row.pk}/delete/").status_code == 403
    assert staff.get(f"/admin/marketdata/tradingsession/{row.pk}/change/").status_code == 200
