"""A session that a broker hands over after its user approved it there."""

from __future__ import annotations

from dataclasses import replace

from brokerages.errors import Refused
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.services.adapters import adapter_without_session
from brokerages.services.sessions import store_token


def notice_take(*, connection: BrokerConnection, body: bytes) -> BrokerSession:
    """Prove the token of a notice at the broker, and keep it as the connection's session.

    Nobody signs a notice, and whoever knows its address can send one. So the token has to work, and
    to be of the account that the connection had before: a stranger's would trade in theirs.

    Raises:
        ValueError: not a notice of this broker, or one for another app.
        BrokerError: the broker does not take the token, or knows it as another account's.
    """
    adapter = adapter_without_session(connection)
    token = adapter.parse_session_notice(body, adapter.credentials)
    adapter.token = token
    adapter.check_session()
    account = adapter.fetch_profile().broker_user_id
    before = BrokerSession.objects.filter(connection=connection).first()
    known = {token.broker_user_id, before.broker_user_id if before else ""} - {""}
    if known - {account}:
        raise Refused(
            "The session is of another account at the broker.",
            broker=connection.broker,
            code="other_account",
        )
    return store_token(connection, replace(token, broker_user_id=account))
