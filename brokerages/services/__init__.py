"""Writing connections and sessions, and building the adapter that speaks for a connection."""

from brokerages.ports import provide_quotes, provide_sessions
from brokerages.services.activation import activate_brokerage
from brokerages.services.adapters import adapter_for
from brokerages.services.connections import (
    connection_create,
    connection_disable,
    connection_set_default,
    connection_update,
)
from brokerages.services.funds import funds_latest
from brokerages.services.sessions import session_check, session_close, session_open, sessions_expire

__all__ = [
    "activate_brokerage",
    "adapter_for",
    "connection_create",
    "connection_disable",
    "connection_set_default",
    "connection_update",
    "funds_latest",
    "provide_quotes",
    "provide_sessions",
    "session_check",
    "session_close",
    "session_open",
    "sessions_expire",
]
