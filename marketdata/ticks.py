"""How a price looks in the live stream."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec

from brokerages.types import Quote
from marketdata import selectors
from marketdata.channels import broker_symbol, split_symbol
from marketdata.quotes import broker_latest, quotes_latest

_CENT = Decimal("0.01")
_encoder = msgspec.json.Encoder()


class TickOutput(msgspec.Struct):
    """What the live stream says of one instrument; prices are decimal strings, volume is units."""

    symbol: str
    last_price: str
    open: str | None
    high: str | None
    low: str | None
    previous_close: str | None
    change: str | None
    change_percent: str | None
    volume: int
    bid: str | None
    ask: str | None
    at: datetime
    source: str
    simulated: bool


def tick_output(key: str, quote: Quote) -> TickOutput:
    """Return the outside shape of a quote for the live stream."""
    previous = quote.previous_close
    change = percent = None
    if previous:
        difference = quote.last_price - previous
        change, percent = str(difference), str((difference * 100 / previous).quantize(_CENT))
    return TickOutput(
        symbol=key,
        last_price=str(quote.last_price),
        open=_text(quote.open),
        high=_text(quote.high),
        low=_text(quote.low),
        previous_close=_text(previous),
        change=change,
        change_percent=percent,
        volume=quote.volume,
        bid=str(quote.bids[0].price) if quote.bids else None,
        ask=str(quote.asks[0].price) if quote.asks else None,
        at=quote.at,
        source=quote.source,
        simulated=quote.simulated,
    )


def _text(price: Decimal | None) -> str | None:
    return None if price is None else str(price)


def ticks_latest(keys: Iterable[str]) -> dict[str, bytes]:
    """Return the latest tick of each key as JSON, for a subscriber that has seen nothing yet.

    Computed where prices are computed, else read from what the feed published; symbols without one
    are left out. A key may be a broker's name of a price: see `channels`.
    """
    wanted: list[str] = []
    of_brokers: dict[str, list[str]] = {}
    for name in keys:
        broker, key = split_symbol(name)
        (of_brokers.setdefault(broker, []) if broker else wanted).append(key)
    refs = {ref.id: key for key in wanted if (ref := selectors.ref_by_key(key)) is not None}
    found: dict[str, bytes] = {}
    for quote in quotes_latest(selectors.ref_by_id(pk) for pk in refs):
        key = refs[quote.instrument_id]
        found[key] = _encoder.encode(tick_output(key, quote))
    for broker, symbols in of_brokers.items():
        refs = {ref.id: key for key in symbols if (ref := selectors.ref_by_key(key)) is not None}
        for pk, quote in broker_latest(broker).read(refs).items():
            tick = tick_output(refs[pk], quote)
            found[broker_symbol(broker, refs[pk])] = _encoder.encode(tick)
    return found
