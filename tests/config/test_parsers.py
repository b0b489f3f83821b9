from decimal import Decimal

import pytest
from rest_framework.exceptions import ParseError

from config.parsers import decode


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"NaN",
        b'{"a": Infinity}',
        b"-Infinity",
        b"{a: 1}",
        b"[1] x",
        b'"\xff"',
        b"[" * 100_000,
        b'"\\ud800"',
        b'"\\u0000"',
        b"1" * 5000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_malformed_body_is_refused(body):
    with pytest.raises(ParseError):
        decode(body)


def test_numbers_are_exact():
    assert decode(b'{"price": 1450.10, "quantity": 3}') == {
        "price": Decimal("1450.10"),
        "quantity": 3,
    }
