"""Users with paper connections and tokens, and one user with a long history. Prints them as JSON.

`manage.py shell -c "from bench import seed; seed.main(32)"` with the settings of the running stack.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal

from django.contrib.auth.hashers import make_password
from django.utils import timezone

from accounts.clients import Client
from accounts.models import LoginSession, User
from accounts.services.sessions import session_open
from audit.ids import uuid7
from bench.paths import RESTING_SYMBOL, Caller
from brokerages.models import BrokerConnection
from brokerages.services import connection_create
from marketdata.quotes import quote_latest
from marketdata.selectors import listings_active, ref_by_key
from trading.models import Fill, Order, OrderEvent, Position
from trading.services.orders import new_tag

PASSWORD = "bench password 8Kq2"
ORDERS, POSITIONS = 2_000, 50


def main(users: int) -> None:
    hashed = make_password(PASSWORD)
    rich, connection, rich_token = user_make("rich", hashed)
    orders_make(rich, connection)
    positions_make(rich, connection)
    price = resting_price()
    callers = []
    for number in range(users):
        user, _, token = user_make(str(number), hashed)
        callers.append(asdict(Caller(user.email, PASSWORD, token, price, rich_token)))
    json.dump({"callers": callers}, sys.stdout)


def user_make(name: str, hashed: str) -> tuple[User, BrokerConnection, str]:
    """Make a user with a paper connection; return also an access token."""
    user = User(
        email=f"bench-{name}@example.invalid", password=hashed, email_verified_at=timezone.now()
    )
    user.save(force_insert=True)
    tokens = session_open(
        user=user, method=LoginSession.Method.PASSWORD, client=Client("127.0.0.1", "bench")
    )
    return user, connection_create(user_id=user.pk, broker="paper"), tokens.access_token


def resting_price() -> str:
    """Return a price that today's band allows and the market does not reach meanwhile."""
    ref = ref_by_key(RESTING_SYMBOL)
    quote = quote_latest(ref) if ref else None
    if ref is None or quote is None:
        raise SystemExit(f"no quote of {RESTING_SYMBOL}")
    low = quote.lower_circuit or quote.last_price / 2
    ticks = low // ref.tick_size + 2
    return f"{ticks * ref.tick_size:.2f}"


def orders_make(user: User, connection: BrokerConnection) -> None:
    """Fill the user's order list with filled orders, each with its timeline and fill."""
    instruments = [listing.ref for listing in listings_active() if listing.is_tradable][:POSITIONS]
    now, orders, events, fills = timezone.now() - timedelta(hours=3), [], [], []
    for number in range(ORDERS):
        ref, at = instruments[number % len(instruments)], now + timedelta(seconds=number)
        order = Order(
            id=uuid7(), user=user, connection=connection, instrument_id=ref.id,
            idempotency_key=f"s{number}", client_order_id=f"s{number}", fingerprint=b"0" * 32,
            tag=new_tag(), side="BUY", order_type="MARKET", product="CNC", validity="DAY",
            quantity=1, status="FILLED", filled_quantity=1, fill_value=Decimal(1000),
            broker_order_id=f"S{number}", version=4, created_at=at, updated_at=at, closed_at=at,
        )  # fmt: skip
        fill = Fill(
            order=order, user_id=user.pk, connection=connection, instrument_id=ref.id,
            exchange=ref.exchange.value, trade_date=at.date(), fill_id=f"S{number}", side="BUY",
            product="CNC", quantity=1, price=Decimal(1000), filled_at=at,
        )  # fmt: skip
        orders.append(order)
        fills.append(fill)
        events += [
            OrderEvent(order=order, user_id=user.pk, kind=kind, status=status, at=at)
            for kind, status in (("PLACED", "PENDING"), ("ACCEPTED", "OPEN"), ("FILL", "FILLED"))
        ]
    Order.objects.bulk_create(orders, batch_size=500)
    OrderEvent.objects.bulk_create(events, batch_size=1000)
    Fill.objects.bulk_create(fills, batch_size=1000)


def positions_make(user: User, connection: BrokerConnection) -> None:
    instruments = [listing.ref for listing in listings_active() if listing.is_tradable]
    positions = [
        Position(
            user=user, connection=connection, instrument_id=ref.id, product="CNC", quantity=40,
            buy_quantity=40, open_cost=Decimal(40_000), buy_value=Decimal(40_000),
            last_fill_at=timezone.now(),
        )
        for ref in instruments[:POSITIONS]
    ]  # fmt: skip
    Position.objects.bulk_create(positions)
