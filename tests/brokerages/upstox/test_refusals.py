"""What an error answer proves: an explicit list of refusals, and everything else unknown."""

from __future__ import annotations

import json

import pytest

from brokerages.adapters.upstox.refusals import RATE_LIMITS, REFUSALS, refusal
from brokerages.errors import (
    BrokerError,
    InvalidOrder,
    MarketClosed,
    OrderNotFound,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    Refused,
    SessionExpired,
    StaticIpRefused,
)
from tests.brokerages.upstox.conftest import PAYLOADS


def answer(code, message="Some words", *, old=True, new=True):
    one = {"message": message}
    one |= {"errorCode": code} if old else {}
    one |= {"error_code": code} if new else {}
    return json.dumps({"status": "error", "errors": [one]}).encode()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "UDAPI100050", SessionExpired),
        (401, "UDAPI100016", Refused),
        (403, "UDAPI1154", StaticIpRefused),
        (403, "UDAPI100067", PermissionDenied),
        (400, "UDAPI100010", OrderNotFound),
        (400, "UDAPI100040", OrderNotFound),
        (400, "UDAPI100041", OrderNotFound),
        (400, "UDAPI1158", InvalidOrder),
        (400, "UDAPI1052", InvalidOrder),
        (400, "UDAPI100074", MarketClosed),
        (423, "UDAPI100072", Refused),
        (400, "UDAPI1161", PermissionDenied),
        (429, "UDAPI10005", RateLimited),
    ],
)
def test_listed_codes(status, code, kind):
    for old, new in ((True, True), (True, False), (False, True)):
        error = refusal(status, answer(code, old=old, new=new))
        assert type(error) is kind
        assert (error.code, error.message, error.broker) == (code, "Some words", "upstox")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, answer("UDAPI99999")),  # a code that nobody has told us of
        (400, answer("")),
        (400, b"Order request timed out"),
        (400, b'{"status":"error","errors":[]}'),
        (400, b'{"status":"error","errors":["UDAPI1052"]}'),
        (403, b"<html>error code: 1010</html>"),
        (401, b""),
        (404, b"{}"),
        (429, b"slow down"),
        (500, answer("UDAPI100500")),
        (500, answer("UDAPI1052")),  # no refusal under a server error, whatever it says
        (503, answer("UDAPI10005")),
        (504, b""),
        (302, answer("UDAPI99999")),
        (0, b""),
    ],
)
def test_everything_else_proves_nothing(status, body):
    error = refusal(status, body)
    assert type(error) is OutcomeUnknown
    assert error.code


def test_nothing_of_the_list_is_unknown_or_resent():
    assert all(issubclass(kind, Refused) for kind in REFUSALS.values())
    assert not RATE_LIMITS & REFUSALS.keys()


@pytest.mark.parametrize(
    ("given", "seconds"), [("7", 7), ("0", 1), ("9999", 60), ("soon", 1), ("-3", 1), ("", 1)]
)
def test_when_to_come_back(given, seconds):
    error = refusal(429, answer("UDAPI10005"), {"Retry-After": given})
    assert error.retry_after == seconds


def test_words_are_kept_on_one_line_and_bounded():
    error = refusal(400, answer("UDAPI1052", "a\r\n\tb\x1b[0m" + "c" * 1000))
    assert error.message.startswith("a b [0mccc")
    assert len(error.message) == 500


def test_static_ip_as_the_broker_says_it():
    error = refusal(403, (PAYLOADS / "static_ip.json").read_bytes())
    assert isinstance(error, StaticIpRefused)
    assert "203.0.113.9" in error.message
    assert "IP" in error.advice
    assert isinstance(error, BrokerError)


def test_only_one_code_proves_that_an_order_is_absent() -> None:
    from brokerages.adapters.upstox.adapter import _prove_absent
    from brokerages.errors import OutcomeUnknown

    _prove_absent(OrderNotFound("no such order", broker="upstox", code="UDAPI100010"))
    for code in ("UDAPI1003", "UDAPI1010", "UDAPI1023", "UDAPI1109"):
        with pytest.raises(OutcomeUnknown):
            _prove_absent(OrderNotFound("order id required", broker="upstox", code=code))
