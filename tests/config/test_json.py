import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum

import pytest
from django.utils.functional import lazystr

from config.renderers import JSONRenderer, encode


class Side(StrEnum):
    BUY = "BUY"


@dataclass
class Row:
    price: Decimal


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1450.0500"), '"1450.0500"'),
        (Decimal("1E+2"), '"100"'),
        (Decimal("0E-8"), '"0.00000000"'),
        ([{"a": Decimal("-1.5E+3")}, "1E+2"], '[{"a":"-1500"},"1E+2"]'),
        (Row(Decimal("1E+2")), '{"price":"100"}'),
        (datetime(2026, 11, 23, 9, 15, tzinfo=UTC), '"2026-11-23T09:15:00Z"'),
        (
            datetime(2026, 11, 23, 9, 15, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            '"2026-11-23T09:15:00+05:30"',
        ),
        (uuid.UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        ({Side.BUY: Side.BUY}, '{"BUY":"BUY"}'),
        (lazystr("later"), '"later"'),
        ((n for n in range(2)), "[0,1]"),
        (float("nan"), "null"),
    ],
)
def test_value_is_written_exactly(value, text):
    assert encode(value).decode() == text


def test_what_has_no_form_is_refused():
    with pytest.raises(TypeError):
        encode({"a": object()})


def test_no_data_is_no_body():
    assert JSONRenderer().render(None) == b""
