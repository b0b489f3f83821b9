"""The demo's own sums from the fills: average cost, exact, no code of the platform's in them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from config.demo.report import expect

# Amounts are shown to four decimals and each share of a cost is rounded there: a tenth of a paisa
# leaves room for twenty of them, and none for a paisa.
LEEWAY = Fraction(1, 1000)


@dataclass(slots=True)
class Holding:
    """One instrument and product at average cost: units, rupees paid for them, rupees realised."""

    quantity: int = 0
    cost: Fraction = field(default_factory=Fraction)
    realised: Fraction = field(default_factory=Fraction)

    def add(self, side: str, quantity: int, price: Fraction) -> None:
        """Apply one fill."""
        sign = 1 if side == "BUY" else -1
        closed = min(quantity, abs(self.quantity)) if self.quantity * sign < 0 else 0
        if closed:
            share = self.cost * closed / abs(self.quantity)
            self.realised += -sign * closed * price - share
            self.cost -= share
        self.cost += sign * (quantity - closed) * price
        self.quantity += sign * quantity

    def worth(self, last_price: str) -> Fraction:
        """Return what selling everything at ``last_price`` would gain."""
        return self.quantity * Fraction(last_price) - self.cost


def holdings(fills: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Holding]:
    """Return what the fills, oldest first, add up to by symbol and product."""
    found: dict[tuple[str, str], Holding] = {}
    for fill in fills:
        holding = found.setdefault((fill["symbol"], fill["product"]), Holding())
        holding.add(fill["side"], fill["quantity"], Fraction(fill["price"]))
    return found


def expect_rupees(what: str, expected: Fraction, received: str | None) -> None:
    """Compare an amount of the platform with ours.

    Raises:
        Failed: they differ by more than a tenth of a paisa.
    """
    near = received is not None and abs(Fraction(received) - expected) <= LEEWAY
    expect(near, f"{what} {shown(expected)}", received)


def shown(amount: Fraction | str) -> str:
    """Return rupees as people read them."""
    exact = Fraction(amount)
    return f"{'-' if exact < 0 else ''}₹{_decimal(abs(exact)):,.2f}"


def signed(amount: Fraction) -> str:
    """Return rupees with their sign, for a gain or a loss."""
    return f"{'-' if amount < 0 else '+'} ₹{_decimal(abs(amount)):,.2f}"


def _decimal(amount: Fraction) -> Decimal:
    return Decimal(amount.numerator) / Decimal(amount.denominator)
