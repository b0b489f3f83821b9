"""What each answer of Kite proves."""

from __future__ import annotations

import pytest

from brokerages.adapters.zerodha.failures import failure_of
from brokerages.errors import (
    BrokerError,
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
    NotSent,
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

TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."
FUNDS = (
    "Insufficient funds. Required margin is 1200.00 but available margin is 900.00. "
    "Check the orderbook for open orders."
)

PLACING = [
    (403, "TokenException", "Incorrect `api_key` or `access_token`.", SessionExpired),
    (403, "TokenException", "Session timed out, log in again.", SessionExpired),
    (403, "TwoFAException", "Two factor authentication failed.", SessionExpired),
    (403, "PermissionException", "Insufficient permission for that call.", PermissionDenied),
    (403, "PermissionError", "Insufficient permission for that call.", PermissionDenied),
    (403, "UserException", "The account is blocked.", PermissionDenied),
    (403, "PermissionException", "IP not allowed to place orders for this app", StaticIpRefused),
    (400, "InputException", "IP not allowed to place orders for this app", StaticIpRefused),
    (
        403,
        "PermissionException",
        "No IPs configured for this app. Add allowed IPs on the Kite developer console.",
        StaticIpRefused,
    ),
    (400, "MarginException", FUNDS, InsufficientFunds),
    (400, "OrderException", FUNDS, InsufficientFunds),
    (400, "GeneralException", FUNDS, InsufficientFunds),
    (400, "OrderException", "RMS:Margin Exceeds,Required:1200, Available:900", InsufficientFunds),
    (400, "MarginException", "Something new about margins.", InsufficientFunds),
    (400, "HoldingException", "Insufficient stock holding.", InsufficientHoldings),
    (400, "HoldingException", "Something new about holdings.", InsufficientHoldings),
    (400, "OrderException", "Authorise the holdings at CDSL (TPIN) first.", InsufficientHoldings),
    (
        400,
        "InputException",
        "Tick size for this script is 0.05. Kindly enter price in the multiple of tick size.",
        OffTick,
    ),
    (400, "InputException", "Quantity 3600 exceeds the freeze quantity 1800.", OverFreeze),
    (400, "OrderException", "Markets are closed right now. Place an AMO instead.", MarketClosed),
    (
        400,
        "OrderException",
        "Your order could not be converted to a After Market Order (AMO).",
        MarketClosed,
    ),
    (400, "InputException", "Quantity must be a multiple of lot size 65.", InvalidOrder),
    (400, "InputException", "The price is out of the circuit limits.", InvalidOrder),
    (
        400,
        "InputException",
        "Market orders without market protection are not allowed through the API.",
        InvalidOrder,
    ),
    (400, "InputException", "MIS orders are not allowed for this instrument.", InvalidOrder),
    (400, "OrderException", "Trading in this instrument is blocked.", InvalidOrder),
    (400, "InputException", "Invalid `quantity`.", InvalidOrder),
    (400, "InputException", "The NFO segment is not enabled for you.", PermissionDenied),
    (400, "OrderException", "Your account is not activated for MTF.", PermissionDenied),
    (404, "GeneralException", "Route not found", Refused),
    (405, "GeneralException", "Method not allowed", Refused),
    # what may have been acted on
    (400, "OrderException", TIMED_OUT, OutcomeUnknown),
    (400, "InputException", TIMED_OUT, OutcomeUnknown),
    (400, "NetworkException", "Request to the OMS timed-out", OutcomeUnknown),
    (400, "OrderException", "Something that nobody has seen yet.", OutcomeUnknown),
    (400, "GeneralException", "Something that nobody has seen yet.", OutcomeUnknown),
    (400, "BrandNewException", "Something that nobody has seen yet.", OutcomeUnknown),
    (403, "InputException", "Something that nobody has seen yet.", OutcomeUnknown),
    (409, "InputException", "Something that nobody has seen yet.", OutcomeUnknown),
    (500, "OrderException", FUNDS, OutcomeUnknown),
    (500, "TokenException", "Incorrect `api_key` or `access_token`.", OutcomeUnknown),
    (500, "GeneralException", "Something broke.", OutcomeUnknown),
    (502, "DataException", "Bad answer of the OMS.", OutcomeUnknown),
    (503, "NetworkException", "The OMS is down.", OutcomeUnknown),
    (504, "NetworkException", "Gateway timeout.", OutcomeUnknown),
    (200, "InputException", "Invalid `quantity`.", OutcomeUnknown),
    (302, "InputException", "Invalid `quantity`.", OutcomeUnknown),
    # not now
    (429, "NetworkException", "Too many requests", RateLimited),
    (429, "BrandNewException", "Too many requests", RateLimited),
]


@pytest.mark.parametrize(("status", "kind", "words", "error"), PLACING)
def test_placing(status: int, kind: str, words: str, error: type[BrokerError]) -> None:
    body = {"status": "error", "error_type": kind, "message": words, "data": None}
    failure = failure_of(status, body)
    assert type(failure) is error
    assert failure.message == str(failure) == words
    assert (failure.broker, failure.code) == ("zerodha", kind)


@pytest.mark.parametrize(
    ("status", "kind", "words", "error"),
    [
        (400, "OrderException", "Couldn't find that `order_id`.", OrderNotFound),
        (404, "GeneralException", "Couldn't find that `order_id`.", OrderNotFound),
        (404, "GeneralException", "Route not found", OrderNotFound),
        (400, "InputException", "Invalid `order_id`.", OrderNotFound),
        (400, "OrderException", "The order does not exist.", OrderNotFound),
        (
            400,
            "OrderException",
            "Order cannot be cancelled: it is already complete.",
            OrderNotFound,
        ),
        (400, "OrderException", "Order cannot be modified as it's rejected.", OrderNotFound),
        (400, "OrderException", "Order cannot be modified in the closing session.", Refused),
        (400, "OrderException", "Maximum allowed order modifications exceeded.", InvalidOrder),
        (400, "MarginException", FUNDS, InsufficientFunds),
        (400, "OrderException", TIMED_OUT, OutcomeUnknown),
        (400, "OrderException", "Something that nobody has seen yet.", OutcomeUnknown),
    ],
)
def test_changing_and_cancelling(
    status: int, kind: str, words: str, error: type[BrokerError]
) -> None:
    failure = failure_of(status, {"error_type": kind, "message": words}, of_order=True)
    assert type(failure) is error
    assert failure.message == words


def test_order_that_is_being_processed_may_be_asked_again() -> None:
    """The gate refused and did nothing: the same cancel may go a moment later."""
    words = "Order cannot be changed as it is being processed. Try later."
    failure = failure_of(400, {"error_type": "OrderException", "message": words}, of_order=True)
    assert type(failure) is NotSent
    assert failure.code == "being_processed"


def test_placing_never_finds_that_an_order_is_missing() -> None:
    words = "The instrument you are placing an order for has either expired or does not exist."
    failure = failure_of(400, {"error_type": "InputException", "message": words})
    assert type(failure) is InvalidOrder


@pytest.mark.parametrize(
    "body",
    [
        None, [], "text", {}, {"status": "error"}, {"error_type": "InputException"},
        {"message": "Invalid `quantity`."}, {"error_type": 7, "message": "x"},
        {"error_type": "InputException", "message": None}, {"error_type": "", "message": "x"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, 403, 404, 500, 502])
def test_answers_that_are_not_kites_prove_nothing(body: object, status: int) -> None:
    failure = failure_of(status, body, of_order=True)
    assert type(failure) is OutcomeUnknown
    assert str(status) in failure.message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 1), ("", 1), ("3", 3), ("0", 0.2), ("-5", 0.2), ("999999", 60), ("nan", 1),
     ("inf", 1), ("Wed, 25 Nov 2026 10:00:00 GMT", 1)],
)  # fmt: skip
def test_waits_of_a_rate_limit(header: str | None, seconds: float) -> None:
    failure = failure_of(429, None, retry_after=header)
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == seconds
    assert failure.message


def test_long_messages_are_cut() -> None:
    body = {"error_type": "InputException", "message": "x" * 10_000}
    assert len(failure_of(400, body).message) == 500


def test_a_placement_that_is_being_processed_is_not_sent_again() -> None:
    """Of a change it says "too early"; of a placement, perhaps, that the order was taken."""
    body = {
        "status": "error",
        "error_type": "OrderException",
        "message": "Your order request is being processed. Check the order book.",
    }
    assert isinstance(failure_of(400, body), OutcomeUnknown)
    assert isinstance(failure_of(400, body, of_order=True), NotSent)
