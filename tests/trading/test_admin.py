"""The admin shows orders and changes none."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from trading.models import Order


@pytest.fixture
def staff(db) -> Client:
    user = User.objects.create_superuser(email="admin@example.com", password="a-long-pass-phrase-1")
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize(
    "name", ["order", "ordercommand", "position", "fill", "trade", "notification"]
)
def test_lists_open(staff, trader, name):
    trader.placed()
    trader.placed(quantity=100_000)

    assert staff.get(reverse(f"admin:trading_{name}_changelist")).status_code == 200
    assert staff.get(reverse(f"admin:trading_{name}_add")).status_code == 403


def test_an_order_shows_its_timeline_and_cannot_be_changed(staff, trader):
    trader.placed()
    address = reverse("admin:trading_order_change", args=[Order.objects.get().pk])

    page = staff.get(address)

    assert page.status_code == 200
    assert b"ACCEPTED" in page.content
    assert staff.post(address, {"status": "CANCELLED"}).status_code == 403
    assert Order.objects.get().status == "FILLED"
