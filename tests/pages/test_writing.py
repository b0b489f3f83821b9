"""How numbers, times and words are written."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.templatetags import sauda


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0", "0.00"),
        ("5", "5.00"),
        ("999.995", "1,000.00"),
        ("1234", "1,234.00"),
        ("123456.78", "1,23,456.78"),
        (Decimal(1234567890), "1,23,45,67,890.00"),
        ("-1234.5", "−1,234.50"),
        ("-0.001", "0.00"),
        (None, "–"),
        ("", "–"),
        ("abc", "–"),
        (Decimal("NaN"), "–"),
    ],
)
def test_amounts_are_in_indian_grouping(value: Any, words: str) -> None:
    assert sauda.inr(value) == words


@given(st.integers(min_value=0, max_value=10**15))
def test_grouping_keeps_every_digit(number: int) -> None:
    words = sauda.group(str(number))
    assert words.replace(",", "") == str(number)
    head, *rest = words.split(",")
    assert 1 <= len(head) <= 3
    assert [len(part) for part in rest] == [2] * (len(rest) - 1) + [3] * bool(rest)


@pytest.mark.parametrize(
    ("value", "signed", "tone", "arrow"),
    [
        ("12.5", "+12.50", "up", "▲"),
        ("-12.5", "−12.50", "down", "▼"),
        ("0", "0.00", "flat", ""),
        ("0.001", "0.00", "flat", ""),
        ("-0.004", "0.00", "flat", ""),
        (None, "–", "flat", ""),
    ],
)
def test_gains_and_losses_differ_by_more_than_colour(
    value: Any, signed: str, tone: str, arrow: str
) -> None:
    assert (sauda.signed(value), sauda.tone(value), sauda.arrow(value)) == (signed, tone, arrow)


def test_rupees_and_percent() -> None:
    assert sauda.money("1000000") == "₹10,00,000.00"
    assert sauda.money("-5") == "−₹5.00"
    assert sauda.signed_money("5") == "+₹5.00"
    assert sauda.percent("1.005") == "+1.01%"
    assert sauda.percent(None) == "–"
    assert sauda.qty("-100000") == "−1,00,000"
    assert sauda.share("50", "-200") == 25
    assert sauda.share("50", "0") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [("23456789", "₹2.35 Cr"), ("120000", "₹1.20 L"), ("45000", "₹45,000"), (None, "–")],
)
def test_large_amounts_in_crore_and_lakh(value: Any, words: str) -> None:
    assert sauda.compact(value) == words


def test_times_are_indian() -> None:
    moment = datetime(2026, 11, 5, 20, 15, 30, tzinfo=UTC)
    full = str(sauda.ist(moment, "full"))
    assert "6 Nov 2026, 01:45:30 IST" in full
    assert 'datetime="2026-11-06T01:45:30+05:30"' in full
    assert ">6 Nov, 01:45<" in str(sauda.ist(moment))
    assert ">6 Nov 2026<" in str(sauda.ist(moment.isoformat(), "day"))
    assert sauda.ist("never") == "–"
    assert sauda.day("2026-11-06") == "6 Nov 2026"
    assert sauda.day("x") == "–"


def test_words() -> None:
    assert sauda.ticker("NSE:RELIANCE") == "RELIANCE"
    assert sauda.exchange("NSE:RELIANCE") == "NSE"
    assert sauda.ticker("TCS") == "TCS"
    assert sauda.exchange("TCS") == ""
    assert sauda.status_label("PARTIALLY_FILLED") == "Partly filled"
    assert sauda.status_label("SOME_NEW_ONE") == "Some new one"
    assert sauda.status_tone("SOME_NEW_ONE") == "idle"
    assert sauda.words("order_filled") == "Order filled"
    assert sauda.initials(SimpleNamespace(name="Asha Rao", email="")) == "AR"
    assert sauda.initials(SimpleNamespace(name="", email="asha.rao@example.com")) == "AR"
