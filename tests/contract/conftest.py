"""Two traders in a market that the tests set, and HTTP as it is written in documents."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from accounts import limits
from marketdata import quotes
from marketdata.models import Instrument
from tests.trading.conftest import (  # noqa: F401 - fixtures
    Market,
    _fresh_tables,
    new_trader,
    trader,
)

# Loading the middleware takes longer than many requests; no path of the API sets a cookie.
HTTP = Client(raise_request_exception=False)

_REQUEST_LINE = re.compile(r"(?P<method>[A-Z]+) (?P<path>/\S*)")


@pytest.fixture(autouse=True)
def _no_throttles(settings: Any) -> Iterator[None]:
    """A contract is asked more often than a person asks."""
    settings.ACCOUNTS_THROTTLES = dict.fromkeys(limits.DEFAULTS)
    return


@pytest.fixture
def market(db: None, monkeypatch: pytest.MonkeyPatch) -> Market:
    """Two shares and an index: all that a contract needs of the market, and quick to make."""
    for token, symbol, kind in (
        ("2885", "RELIANCE", "EQ"),
        ("1594", "INFY", "EQ"),
        ("26000", "NIFTY 50", "INDEX"),
    ):
        Instrument.objects.create(
            exchange="NSE",
            segment="EQUITY" if kind == "EQ" else "INDEX",
            symbol=symbol,
            name=symbol,
            kind=kind,
            exchange_token=token,
            tick_size="0.10",
            reference_price="2500",
            is_tradable=kind == "EQ",
        )
    source = Market()
    monkeypatch.setattr(quotes, "source_current", lambda: source)
    source.set("NSE:RELIANCE", "2500.00")
    source.set("NSE:INFY", "1500.00")
    return source


@pytest.fixture
def replay() -> Callable[..., Any]:
    """Send a request as documents show it: ``METHOD path``, headers, an empty line, the body.

    ``fill`` gives what stands for a value of the reader's own, such as ``<access_token>``.
    """

    def send(text: str, fill: dict[str, str] | None = None) -> Any:
        for placeholder, value in (fill or {}).items():
            assert placeholder in text
            text = text.replace(placeholder, value)
        head, _, body = text.strip().partition("\n\n")
        first, *lines = head.splitlines()
        asked = _REQUEST_LINE.fullmatch(first)
        assert asked is not None, first
        headers = dict(line.split(": ", 1) for line in lines)
        content_type = headers.pop("Content-Type", "application/octet-stream")
        return HTTP.generic(
            asked["method"], asked["path"], body.encode(), content_type, headers=headers
        )

    return send
