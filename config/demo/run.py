"""What the steps of one demo share."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from config.demo.client import Api, Live
from config.demo.platform import Platform
from config.demo.report import expect

PASSWORD_BYTES = 18


@dataclass(slots=True)
class Person:
    """Somebody with an account of the demo's making."""

    email: str = field(default_factory=lambda: f"demo-{secrets.token_hex(6)}@example.com")
    password: str = field(default_factory=lambda: secrets.token_urlsafe(PASSWORD_BYTES))


@dataclass(slots=True)
class Run:
    """One demo: the user's API and socket, and what earlier steps found out."""

    api: Api
    person: Person = field(default_factory=Person)
    platform: Platform | None = None  # None: somebody else's, at --url
    mail_folder: Path | None = None
    live: Live | None = None
    symbol: str = "NSE:RELIANCE"
    instrument: dict[str, Any] = field(default_factory=dict)
    connection_id: str = ""
    broker: str = "paper"
    starting_funds: Decimal = Decimal(0)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)  # by what the demo calls them

    @property
    def socket(self) -> Live:
        assert self.live is not None  # noqa: S101 - opened by the step that watches quotes
        return self.live

    def find(self, symbol: str) -> dict[str, Any]:
        """Return the instrument of this symbol, found by a search as a person makes it."""
        name = symbol.partition(":")[2]
        found = self.api.get("/instruments", params={"q": name})["results"]
        match: list[dict[str, Any]] = [row for row in found if row["symbol"] == symbol]
        expect(len(match) == 1, f"{symbol} among the instruments", found[:3])
        return match[0]

    def funds(self) -> Decimal:
        """Return what the broker says can be spent."""
        return Decimal(self.api.get(f"/connections/{self.connection_id}/funds")["available"])

    def quote(self, instrument: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the full market quote of an instrument, with its book of five levels a side."""
        wanted = instrument or self.instrument
        body = [
            {
                "exchange_token": wanted["exchange_token"],
                "exchange": wanted["exchange"],
                "instrument_type": wanted["kind"],
            }
        ]
        answer = self.api.post("/full-mkt-quote", body)
        token = wanted["exchange_token"]
        expect(
            answer.get("status") == "success" and token in answer.get("data", {}),
            f"a quote of {token}",
            answer,
        )
        found: dict[str, Any] = answer["data"][token]
        return found

    def eventually(
        self,
        what: str,
        ask: Callable[[], Any],
        wanted: Callable[[Any], bool],
        seconds: float,
    ) -> Any:
        """Ask until the answer is ``wanted``, and return it.

        Raises:
            Failed: it was not, within ``seconds``.
        """
        until = time.monotonic() + seconds
        while not wanted(found := ask()):
            expect(time.monotonic() < until, f"{what} within {seconds:.0f} s", found)
            time.sleep(0.25)
        return found

    def place(self, *, key: str | None = None, **order: Any) -> dict[str, Any]:
        """Place an order, each time a new one unless a ``key`` is given; return it as accepted."""
        body = {"symbol": self.symbol, **order}
        headers = {"Idempotency-Key": key or f"demo-{secrets.token_hex(8)}"}
        placed: dict[str, Any] = self.api.post("/orders", body, headers=headers, status=201)
        for name, value in body.items():
            expect(placed[name] == value, f"{name} {value} in the order", placed[name])
        return placed

    def close(self) -> None:
        if self.live is not None:
            self.live.close()
        self.api.close()


Step = Callable[[Run], str]
