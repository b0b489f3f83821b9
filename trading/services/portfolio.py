"""What the user has, over all connections: our own positions and P&L beside the brokers' funds."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from django.utils import timezone

from brokerages.errors import BrokerError
from brokerages.models import BrokerConnection
from brokerages.registry import is_venue
from brokerages.selectors import ConnectionBrief, connection_list, session_of
from brokerages.services import adapter_for, funds_latest
from brokerages.types import ZERO, Funds
from marketdata.broker_prices import quotes_refresh
from marketdata.quotes import quote_latest
from trading import selectors
from trading.outputs import rupees
from trading.risk import OrderTerms
from trading.services.orders import new_tag, order_denial, order_request, terms_at_broker

logger = logging.getLogger(__name__)


def portfolio_overview(*, user_id: UUID) -> dict[str, Any]:
    """Return funds, positions, holdings, P&L, the latest orders and trades, and each connection's
    state.

    Funds come from the brokers; a broker that does not answer leaves its part out and is named in
    ``errors``.
    """
    connections, errors, available, used = [], [], ZERO, ZERO
    for connection in connection_list(user_id=user_id):
        funds = None
        try:
            funds = funds_latest(connection)
        except BrokerError as e:
            errors.append({"connection_id": connection.id, "code": e.code, "message": e.message})
        else:
            available += funds.available
            used += funds.used
        connections.append(_connection_output(connection, funds))
    quotes = selectors.quotes_held(user_id=user_id)
    orders, _ = selectors.order_list(user_id=user_id, limit=10)
    trades, _ = selectors.trade_list(user_id=user_id, limit=10)
    return {
        "funds": {
            "available": rupees(available),
            "used": rupees(used),
            "total": rupees(available + used),
        },
        **selectors.pnl_summary(user_id=user_id, quotes=quotes),
        "positions": selectors.position_list(user_id=user_id, quotes=quotes),
        "holdings": selectors.holding_list(user_id=user_id, quotes=quotes),
        "recent_orders": orders,
        "recent_trades": trades,
        "connections": connections,
        "errors": errors,
    }


def _connection_output(connection: BrokerConnection, funds: Funds | None) -> dict[str, Any]:
    session = session_of(connection)
    return {
        "id": connection.id,
        "broker": connection.broker,
        "label": connection.label,
        "is_default": connection.is_default,
        "session": {
            "state": session.state if session else "NONE",
            "expires_at": session.expires_at if session else None,
        },
        "available": rupees(funds.available) if funds else None,
    }


def order_preview(*, connection: ConnectionBrief, terms: OrderTerms) -> dict[str, Any]:
    """Return what an order would cost and why it would be denied, placing nothing.

    The estimate is the limit price, else the best price of the other side, as the broker quotes it;
    margin, charges and funds come from the broker and are null where it does not say.
    """
    ref, broker = terms.instrument, connection.broker
    if is_venue(broker):
        quote = quote_latest(ref)
    else:  # asked for before the check, which then knows the limits of the day
        quote = quotes_refresh(connection.id, broker, [ref.id]).get(ref.id)
    levels = () if quote is None else (quote.asks if terms.side == "BUY" else quote.bids)
    price = terms.price or (levels[0].price if levels else quote.last_price if quote else None)
    denial = order_denial(connection, terms, now=timezone.now())
    margin = charges = available = None
    try:
        adapter = adapter_for(connection.id)
        available = adapter.fetch_funds().available
        if denial is None:
            request = order_request(terms_at_broker(broker, terms), tag=new_tag())
            estimate = adapter.estimate_margin([request])
            margin, charges = estimate.required, estimate.charges
    except BrokerError as e:
        logger.info("no margin estimate from %s: %s", broker, e)
    reason = (
        None
        if denial is None
        else {"code": denial.code, "message": denial.message, "detail": denial.detail}
    )
    if reason is None and margin is not None and available is not None and margin > available:
        reason = {
            "code": "insufficient_funds",
            "message": f"This needs ₹{rupees(margin)}; ₹{rupees(available)} is available.",
            "detail": {},
        }
    return {
        "symbol": ref.key,
        "side": terms.side.value,
        "quantity": terms.quantity,
        "order_type": terms.order_type.value,
        "product": terms.product.value,
        "estimated_price": rupees(price),
        "estimated_value": rupees(price * terms.quantity) if price is not None else None,
        "margin_required": rupees(margin),
        "charges": rupees(charges),
        "available_funds": rupees(available),
        "source": quote.source if quote else None,
        "simulated": quote.simulated if quote else None,
        "denied": reason,
    }
