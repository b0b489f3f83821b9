"""What an error answer of Upstox proves. Pure Python.

Only a code of this table, under a 4xx status, proves that nothing was done; everything else leaves
the outcome unknown. Codes: https://upstox.com/developer/api-documentation/error-codes and the pages
of the calls.
"""

from __future__ import annotations

from collections.abc import Mapping

from brokerages.adapters.upstox.values import read_json, record, rows, text
from brokerages.errors import (
    BrokerError,
    InvalidOrder,
    MarketClosed,
    NotSupported,
    OrderNotFound,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    Refused,
    SessionExpired,
    StaticIpRefused,
)

BROKER = "upstox"

REFUSALS: dict[str, type[Refused]] = {
    # the call
    "UDAPI10000": NotSupported,  # no such call
    "UDAPI100015": Refused,  # API version
    "UDAPI100060": Refused,  # no such resource
    "UDAPI100042": Refused,  # more than 500 instruments
    "UDAPI1087": Refused,  # instrument key
    "UDAPI1088": Refused,  # date
    "UDAPI1146": Refused,  # unit of candles
    "UDAPI1147": Refused,  # interval of candles
    "UDAPI1148": Refused,  # span of candles
    # who calls
    "UDAPI100050": SessionExpired,  # invalid token; of an order call the adapter makes sure first
    "UDAPI100016": Refused,  # client id, secret, redirect address or code
    "UDAPI100069": Refused,  # the same, at the exchange of the code
    "UDAPI100049": PermissionDenied,  # for business apps only
    "UDAPI100067": PermissionDenied,  # not with an extended token
    "UDAPI100073": PermissionDenied,  # the app is not active
    "UDAPI1154": StaticIpRefused,
    "UDAPI1156": PermissionDenied,  # algo name
    # hours
    "UDAPI100039": MarketClosed,  # after-market order during the session
    "UDAPI100057": MarketClosed,
    "UDAPI100072": Refused,  # funds service, at night
    "UDAPI100074": MarketClosed,  # order service, at night
    # terms of an order
    "UDAPI100011": InvalidOrder,  # instrument key
    "UDAPI100036": InvalidOrder,  # invalid input
    "UDAPI100038": InvalidOrder,
    "UDAPI1004": InvalidOrder,  # order type required
    "UDAPI1007": InvalidOrder,  # validity required
    "UDAPI1008": InvalidOrder,  # price required
    "UDAPI1026": InvalidOrder,  # instrument key required
    "UDAPI1029": InvalidOrder,  # price required
    "UDAPI1030": InvalidOrder,  # price not wanted
    "UDAPI1031": InvalidOrder,  # price and trigger price required
    "UDAPI1032": InvalidOrder,  # only the trigger price wanted
    "UDAPI1035": Refused,  # position conversion
    "UDAPI1036": InvalidOrder,  # trigger price required
    "UDAPI1039": InvalidOrder,  # disclosed quantity below a tenth
    "UDAPI1052": InvalidOrder,  # quantity zero
    "UDAPI1055": InvalidOrder,  # validity
    "UDAPI1056": InvalidOrder,  # order type
    "UDAPI1118": InvalidOrder,  # too many slices
    "UDAPI1158": InvalidOrder,  # market order without protection
    "UDAPI1159": InvalidOrder,  # market protection
    "UDAPI1160": InvalidOrder,
    "UDAPI1161": PermissionDenied,  # MCX is closed to the API for now
    "UDAPI1176": InvalidOrder,  # market protection above 25
    "UDAPI1177": InvalidOrder,
    # which order
    "UDAPI100010": OrderNotFound,
    "UDAPI100040": OrderNotFound,  # cancel of an order at its end
    "UDAPI100041": OrderNotFound,  # change of an order at its end
    "UDAPI1003": OrderNotFound,  # order id required
    "UDAPI1010": OrderNotFound,  # order id malformed
    "UDAPI1023": OrderNotFound,  # order id required
    "UDAPI1109": OrderNotFound,  # nothing to cancel
}
RATE_LIMITS = frozenset({"UDAPI10005", "UDAPI100099"})
MAX_WORDS = 500


def refusal(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> BrokerError:
    """Return the error that an answer other than success stands for.

    ``status`` is HTTP's. The broker's first error counts; it names both ``error_code`` and, older,
    ``errorCode``.
    """
    code, words = first_error(body)
    if 200 <= status < 500 and code in RATE_LIMITS:
        return RateLimited(
            words or "Too many requests.", broker=BROKER, code=code, retry_after=_after(headers)
        )
    if 200 <= status < 500 and (kind := REFUSALS.get(code)):
        return kind(words or f"Upstox refused: {code}.", broker=BROKER, code=code)
    said = f" It said: {words}" if words else ""
    return OutcomeUnknown(
        f"Upstox answered with HTTP {status}.{said}", broker=BROKER, code=code or f"http_{status}"
    )


def first_error(body: bytes) -> tuple[str, str]:
    """Return the code and the words of the first error of an answer, empty where it names none."""
    try:
        errors = rows(record(read_json(body)).get("errors"))
        if not errors:
            return "", ""
        first = errors[0]
        code = text(first, "error_code") or text(first, "errorCode")
        return code[:64], plain(text(first, "message"))
    except ValueError:
        return "", ""


def plain(words: str) -> str:
    """Return a broker's sentence fit to be shown: one line, of a bounded length."""
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())[:MAX_WORDS]


def _after(headers: Mapping[str, str] | None) -> float:
    given = str(headers.get("Retry-After", "")) if headers else ""
    if not (given.isascii() and given.isdigit() and len(given) < 6):
        return 1.0
    return float(min(max(int(given), 1), 60))
