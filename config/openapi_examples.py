"""Examples by component, of one story: ten shares of RELIANCE bought at 2,500.10, now at 2,512.40.

A component whose example a view shows already needs none here.
"""

from typing import Any

USER = "0198c0de-0000-7000-8000-0000000000a1"
SESSION = "0198c0de-0000-7000-8000-0000000000a2"
ORDER = "0198c0de-0000-7000-8000-000000000001"
CONNECTION = "0198c0de-0000-7000-8000-000000000002"
POSITION = "0198c0de-0000-7000-8000-000000000003"
TRADE = "0198c0de-0000-7000-8000-000000000004"
CHALLENGE = "0198c0de-0000-7000-8000-000000000005"
NOTICE = "0198c0de-0000-7000-8000-000000000006"
TAG = "7K2M9XQ4T8RWZB3C6D1E"
AT = "2026-11-23T04:00:00Z"
FILLED_AT = "2026-11-23T04:00:00.214000Z"

_MONEY = {
    "realised_pnl": "0.00",
    "unrealised_pnl": "123.00",
    "pnl": "123.00",
    "invested": "25001.00",
    "value": "25124.00",
    "unpriced": 0,
}

EXAMPLES: dict[str, Any] = {
    # accounts
    "ChallengeOutput": {
        "message": "If there is an account for this address, a mail is on its way.",
        "challenge_id": CHALLENGE,
    },
    "VerificationOutput": {"message": "A mail is on its way.", "challenge_id": CHALLENGE},
    "ProfileOutput": {
        "id": USER,
        "email": "user@example.com",
        "name": "Asha Rao",
        "mobile": "+91 98765 43210",
        "email_verified": True,
        "is_staff": False,
        "created_at": AT,
    },
    "SessionOutput": {
        "id": SESSION,
        "kind": "API",
        "method": "OTP",
        "user_agent": "python-httpx/0.28.1",
        "ip": "203.0.113.7",
        "created_at": AT,
        "last_used_at": AT,
        "expires_at": "2026-11-30T04:00:00Z",
        "current": True,
    },
    "SessionsRevokeInputRequest": {"include_current": False},
    "RevokedOutput": {"revoked": 2},
    # audit
    "AuditEntryOutput": {
        "id": 1207,
        "at": AT,
        "user_id": USER,
        "actor_kind": "USER",
        "actor_id": USER,
        "session_id": SESSION,
        "ip": "203.0.113.7",
        "action": "order.placed",
        "object_type": "order",
        "object_id": ORDER,
        "changes": {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 10},
        "reason": "",
        "request_id": "5f2b9c7e1d3a4f60a8b1c2d3e4f50617",
        "app_version": "1.0.0",
    },
    "AuditProofOutput": {
        "sealed": True,
        "seq": 1207,
        "hash": "9f2d6c1b8a7e4f30b5d2c9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8",
        "prev_hash": "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809",
        "key_id": "3e9a1c05",
        "sealed_at": "2026-11-23T04:00:01Z",
        "recomputed_ok": True,
    },
    # brokers
    "BrokerOutput": {
        "name": "paper",
        "label": "Paper trading",
        "capabilities": {
            "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
            "products": ["CNC", "MIS", "NRML", "MTF"],
            "validities": ["DAY", "IOC"],
            "exchanges": ["NSE", "BSE", "NFO", "BFO", "CDS", "MCX"],
            "session_renewal": "NONE",
            "can_modify": True,
            "after_market_orders": False,
            "iceberg_orders": False,
            "market_protection": False,
            "can_convert_position": False,
            "pushes_order_updates": False,
            "streams_ticks": False,
            "max_stream_instruments": 0,
            "orders_per_second": None,
            "find_by_client_order_id": True,
            "client_order_id_max_length": 40,
        },
        "credential_fields": [],
    },
    "BrokerProfileOutput": {
        "broker_user_id": "PAPER-1F2E3D4C",
        "name": "Paper account",
        "email": "",
        "exchanges": ["BSE", "NSE"],
    },
    "BrokerHoldingOutput": {
        "exchange": "NSE",
        "symbol": "RELIANCE",
        "isin": "INE002A01018",
        "quantity": 10,
        "t1_quantity": 10,
        "average_price": "2500.10",
        "last_price": "2512.40",
    },
    "BrokerPositionOutput": {
        "exchange": "NSE",
        "symbol": "RELIANCE",
        "product": "MIS",
        "quantity": 10,
        "average_price": "2500.10",
        "last_price": "2512.40",
        "realised": "0.00",
        "unrealised": "123.00",
    },
    "BrokerOrderOutput": {
        "broker_order_id": "P1",
        "client_order_id": TAG,
        "exchange_order_id": "P1",
        "status": "FILLED",
        "message": "",
        "quantity": 10,
        "filled_quantity": 10,
        "average_price": "2500.10",
        "price": None,
        "trigger_price": None,
        "reported_at": FILLED_AT,
    },
    "BrokerTradeOutput": {
        "fill_id": "P1-1",
        "broker_order_id": "P1",
        "client_order_id": TAG,
        "exchange": "NSE",
        "side": "BUY",
        "quantity": 10,
        "price": "2500.10",
        "filled_at": FILLED_AT,
    },
    # market data
    "CalendarOutput": {
        "at": AT,
        "always_open": False,
        "groups": [
            {
                "group": "EQUITY",
                "is_open": True,
                "phase": "NORMAL",
                "known_until": "2026-12-31",
                "next_session": {"opens": "2026-11-23T03:45:00Z", "closes": "2026-11-23T10:00:00Z"},
                "today": [
                    {
                        "phase": "NORMAL",
                        "start": "2026-11-23T03:45:00Z",
                        "end": "2026-11-23T10:00:00Z",
                    }
                ],
            }
        ],
        "holidays": [{"date": "2026-12-25", "name": "Christmas"}],
    },
    # trading
    "OrderPreviewOutput": {
        "symbol": "NSE:RELIANCE",
        "side": "BUY",
        "quantity": 10,
        "order_type": "MARKET",
        "product": "CNC",
        "estimated_price": "2500.10",
        "estimated_value": "25001.00",
        "margin_required": "25001.00",
        "charges": None,
        "available_funds": "1000000.00",
        "source": "simulated",
        "simulated": True,
        "denied": None,
    },
    "CancelAllOutput": {"cancelled": [ORDER], "failed": []},
    "ExitFailedOutput": {
        "position_id": POSITION,
        "code": "order_state_conflict",
        "message": "Orders that are on their way close this position already.",
    },
    "FillOutput": {
        "id": "731",
        "order_id": ORDER,
        "connection_id": CONNECTION,
        "symbol": "NSE:RELIANCE",
        "side": "BUY",
        "product": "CNC",
        "quantity": 10,
        "price": "2500.10",
        "value": "25001.00",
        "fill_id": "P1-1",
        "filled_at": FILLED_AT,
    },
    "PositionOutput": {
        "id": POSITION,
        "connection_id": CONNECTION,
        "broker": "paper",
        "symbol": "NSE:RELIANCE",
        "name": "Reliance Industries Ltd.",
        "product": "CNC",
        "quantity": 10,
        "average_price": "2500.10",
        "last_price": "2512.40",
        "open_cost": "25001.00",
        "realised_pnl": "0.00",
        "unrealised_pnl": "123.00",
        "pnl": "123.00",
        "buy_quantity": 10,
        "buy_average": "2500.10",
        "sell_quantity": 0,
        "sell_average": None,
        "value": "25124.00",
        "simulated": True,
        "quote_at": "2026-11-23T04:05:00Z",
        "updated_at": FILLED_AT,
        "version": 0,
    },
    "HoldingOutput": {
        "id": POSITION,
        "connection_id": CONNECTION,
        "broker": "paper",
        "symbol": "NSE:RELIANCE",
        "name": "Reliance Industries Ltd.",
        "isin": "INE002A01018",
        "product": "CNC",
        "quantity": 10,
        "average_price": "2500.10",
        "last_price": "2512.40",
        "invested": "25001.00",
        "value": "25124.00",
        "pnl": "123.00",
        "simulated": True,
    },
    "TradeOutput": {
        "id": TRADE,
        "origin": "BROKER",
        "stock_ticker": "RELIANCE",
        "type": "eq",
        "side": "BUY",
        "quantity": 10,
        "closed_quantity": 0,
        "buy_price": "2500.10",
        "sell_price": None,
        "capital_used": "25001.00",
        "status": "open",
        "brokerage_charge": "0.00",
        "mtf_charge": "0.00",
        "gross_pnl": None,
        "net_pnl": None,
        "order_id": ORDER,
        "order_executed_at": FILLED_AT,
        "closed_at": None,
    },
    "PnlOutput": _MONEY,
    "PortfolioConnectionOutput": {
        "id": CONNECTION,
        "broker": "paper",
        "label": "Paper trading",
        "is_default": True,
        "session": {"state": "ACTIVE", "expires_at": None},
        "available": "974999.00",
    },
    "PortfolioErrorOutput": {
        "connection_id": CONNECTION,
        "code": "session_expired",
        "message": "The broker session has ended.",
    },
    "NotificationOutput": {
        "id": NOTICE,
        "kind": "order_filled",
        "title": "Order filled: BUY 10 RELIANCE",
        "body": "10 at an average of ₹2500.10.",
        "data": {"order_id": ORDER},
        "created_at": FILLED_AT,
        "read_at": None,
    },
    "NotificationsMarked": {"marked": 1},
}

EXAMPLES["AuditEntryProofOutput"] = EXAMPLES["AuditEntryOutput"] | {
    "proof": EXAMPLES["AuditProofOutput"]
}
EXAMPLES["PortfolioOutput"] = _MONEY | {
    "funds": {"available": "974999.00", "used": "0.00", "total": "974999.00"},
    "positions": [EXAMPLES["PositionOutput"]],
    "holdings": [EXAMPLES["HoldingOutput"]],
    "recent_orders": [],
    "recent_trades": [EXAMPLES["TradeOutput"]],
    "connections": [EXAMPLES["PortfolioConnectionOutput"]],
    "errors": [],
}
