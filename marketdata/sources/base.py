"""What a source of market data offers, and what it is handed of an instrument. Pure Python."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from brokerages.types import Candle, InstrumentKind, InstrumentRef, Quote
from marketdata.calendar import SessionGroup

# Seconds of every interval that candles are offered in.
INTERVALS = {
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "10m": 600,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "1d": 86_400,
}


@dataclass(frozen=True, slots=True)
class Listing:
    """An instrument with what the platform knows beyond its reference.

    ``spot`` is the share or index that a derivative follows. ``reference_price`` (rupees) is the
    base of simulated prices. An inactive listing has expired or was delisted.
    """

    ref: InstrumentRef
    group: SessionGroup
    reference_price: Decimal | None
    spot: Listing | None = None
    is_tradable: bool = True
    is_active: bool = True
    industry: str = ""

    @property
    def key(self) -> str:
        return self.ref.key

    @property
    def is_option(self) -> bool:
        return self.ref.kind in (InstrumentKind.CE, InstrumentKind.PE)


class DataSource(ABC):
    """Where quotes and candles come from.

    ``name`` stands in every quote. A source that is ``computed`` gives the same answer in every
    process by itself; any other is read by one feed process and shared through the quote cache.
    """

    name: ClassVar[str]
    computed: ClassVar[bool]
    simulated: ClassVar[bool]

    @abstractmethod
    def quote(self, listing: Listing, at: datetime) -> Quote | None:
        """Return the market of ``listing`` at ``at`` (aware UTC), or None when the source does not
        have it.
        """

    @abstractmethod
    def candles(
        self, listing: Listing, interval: str, start: datetime, end: datetime
    ) -> list[Candle]:
        """Return the candles that start in [start, end), oldest first; the newest may still be
        growing.

        Raises:
            KeyError: ``interval`` is not one of `INTERVALS`.
        """

    def ticks(
        self, listings: Iterable[Listing], at: datetime, seen: MutableMapping[int, int]
    ) -> Iterator[tuple[Listing, Quote]]:
        """Yield the quotes that changed since ``seen`` (instrument id → sequence), and note them
        there.
        """
        for listing in listings:
            quote = self.quote(listing, at)
            if quote is not None and seen.get(listing.ref.id) != quote.sequence:
                seen[listing.ref.id] = quote.sequence
                yield listing, quote

    def symbols(self) -> Collection[str] | None:
        """Return the keys of all that the source has, or None where it has everything."""
        return None

    def quotes(self, listings: Iterable[Listing], at: datetime) -> list[Quote]:
        """Return the quotes of those that the source has."""
        found = (self.quote(listing, at) for listing in listings)
        return [quote for quote in found if quote is not None]
