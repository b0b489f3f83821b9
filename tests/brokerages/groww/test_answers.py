"""What each answer of Groww proves."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from brokerages.adapters.groww import answers
from brokerages.errors import (
    BrokerError,
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
    OffTick,
    OrderNotFound,
    OutcomeUnknown,
    OverFreeze,
    PermissionDenied,
    RateLimited,
    Refused,
    SessionExpired,
    StaticIpRefused,
)


def failure(code, message="Words."):
    return json.dumps(
        {"status": "FAILURE", "error": {"code": code, "message": message, "metadata": None}}
    ).encode()


def error_of(status, content, *, order=True, places=False, **more):
    with pytest.raises(BrokerError) as raised:
        answers.payload_of(status, content, more, order=order, places=places)
    return raised.value


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        (400, "GA001", "Quantity must be a multiple of lot size", InvalidOrder),
        (200, "GA001", "Bad request", InvalidOrder),
        (400, "GA001", "Price should be a multiple of tick size", OffTick),
        (400, "GA001", "Quantity exceeds freeze limit", OverFreeze),
        (400, "GA006", "Insufficient balance", InsufficientFunds),
        (400, "GA006", "Insufficient funds in the account", InsufficientFunds),
        (400, "GA006", "Margin short by 500", InsufficientFunds),
        (400, "GA006", "You do not have enough holdings", InsufficientHoldings),
        (400, "GA006", "TPIN authorisation needed", InsufficientHoldings),
        (400, "GA006", "Market is closed", MarketClosed),
        (400, "GA006", "Order is already executed", OrderNotFound),
        (400, "GA006", "Something else", Refused),
        (404, "GA004", "No such order", OrderNotFound),
        (403, "GA005", "Not authorised", PermissionDenied),
        (200, "GA005", "Not authorised", PermissionDenied),
        (403, "GA005", "Your IP is not whitelisted", StaticIpRefused),
        (401, "GA005", "Not authorised", SessionExpired),
        (400, "GA000", "Internal error", OutcomeUnknown),
        (503, "GA003", "Unable to serve", OutcomeUnknown),
        (400, "GA003", "Unable to serve", OutcomeUnknown),
        (400, "GA007", "Duplicate order reference id", OutcomeUnknown),
        (400, "GA002", "Unlisted code", OutcomeUnknown),
        (400, "GA099", "Insufficient balance", OutcomeUnknown),
        (400, "GA006", "Request timed out", OutcomeUnknown),
        (400, "GA001", "Time out. Please try again", OutcomeUnknown),
        (500, "GA001", "Bad request", OutcomeUnknown),
        (502, "GA006", "Insufficient balance", OutcomeUnknown),
        (429, "GA006", "Too many", RateLimited),
    ],
)
def test_failures(status, code, message, error):
    found = error_of(status, failure(code, message))
    assert type(found) is error
    assert found.broker == "groww"
    if status < 429:
        assert (found.message, found.code) == (message, code)


@pytest.mark.parametrize("code", ["GA001", "GA006"])
@pytest.mark.parametrize(
    "message",
    [
        "Order already exists",
        "Duplicate order reference id",
        "DUPLICATE request",
        "Order reference id is in use",
        "order_reference_id: reference exists",
        "The order reference must be unique",
        "Use a unique order reference id",
    ],
)
def test_a_new_order_whose_reference_is_in_use_may_be_there(code, message):
    found = error_of(400, failure(code, message), places=True)
    assert type(found) is OutcomeUnknown
    assert (found.message, found.code) == (message, code)


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        ("GA001", "Quantity must be a multiple of lot size", InvalidOrder),
        ("GA001", "Invalid order reference id", InvalidOrder),
        ("GA006", "Insufficient balance", InsufficientFunds),
        ("GA005", "Not authorised", PermissionDenied),
    ],
)
def test_other_refusals_of_a_new_order_are_final(code, message, error):
    assert type(error_of(400, failure(code, message), places=True)) is error


def test_a_read_is_refused_in_general_words():
    assert type(error_of(400, failure("GA001", "tick"), order=False)) is Refused


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (401, b"{}", SessionExpired),
        (401, b"<html>", SessionExpired),
        (403, b'{"message": "Forbidden"}', PermissionDenied),
        (404, b"{}", OutcomeUnknown),
        (400, b"{}", OutcomeUnknown),
        (429, b"Too Many Requests", RateLimited),
        (429, b"{}", RateLimited),
        (500, b"", OutcomeUnknown),
        (302, b"", OutcomeUnknown),
        (200, b"", OutcomeUnknown),
        (200, b"OK", OutcomeUnknown),
        (200, b"[]", OutcomeUnknown),
        (200, b"{}", OutcomeUnknown),
        (200, b'{"status": "SUCCESS"}', OutcomeUnknown),
        (200, b'{"status": "SUCCESS", "payload": null}', OutcomeUnknown),
        (200, b'{"status": "SUCCESS", "payload": {"price": NaN}}', OutcomeUnknown),
        (200, b'{"status": "FAILURE"}', OutcomeUnknown),
        (200, b'{"status": "FAILURE", "error": null}', OutcomeUnknown),
        (200, b'{"status": "FAILURE", "error": {"code": 1}}', OutcomeUnknown),
        (200, b"\xff\xfe", OutcomeUnknown),
    ],
)
def test_answers_without_the_envelope(status, content, error):
    assert type(error_of(status, content)) is error


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3.0), ("", 1.0), ("soon", 1.0), ("99999", 60.0), ("-1", 0.0)]
)
def test_when_to_try_again(text, seconds):
    assert error_of(429, b"", **{"Retry-After": text}).retry_after == seconds


def test_payloads():
    body = b'{"status": "SUCCESS", "payload": {"price": 1380.10}}'
    assert answers.payload_of(200, body, {}) == {"price": Decimal("1380.10")}
    assert answers.payload_of(200, b'{"token": "x"}', {}, enveloped=False) == {"token": "x"}


def test_refusals_of_the_mint():
    body = b'{"error": {"displayMessage": "Invalid TOTP"}}'
    assert answers.mint_refusal(400, body).message == "Invalid TOTP"
    assert answers.mint_refusal(401, b"<html>").message == "Groww refused the credentials."
    for status in (200, 302, 429, 500):
        assert answers.mint_refusal(status, body) is None
