"""The daily renewal of broker sessions, between their end and the opening of the market.

What has to be renewed on a trade date stands in rows, one for each connection, so that a second
schedule, a lost message or a worker that died changes nothing: rows are claimed in chunks under a
lease, and due until they are settled. The network is asked by threads of the chunk; the database is
used by the caller's thread alone.
"""

from __future__ import annotations

import logging
import random
import time as clock
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from brokerages.base import IST, BrokerAdapter, SessionRenewal
from brokerages.errors import BrokerError, NotSent, OutcomeUnknown, RateLimited
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.models import SessionRenewal as Renewal
from brokerages.problems import NotFound
from brokerages.registry import BROKER_NAMES, adapter_class
from brokerages.services.adapters import adapter_for, adapter_to_renew
from brokerages.services.endings import OVER, session_expired, tell_login_needed
from brokerages.services.sessions import store_token
from brokerages.types import SessionToken

logger = logging.getLogger(__name__)

OPENS, CLOSES = time(5, 30), time(8, 45)  # in India
CHUNK = 100
THREADS = 25  # of one chunk: it spends its time waiting for the broker
LEASE = timedelta(seconds=120)
CHUNK_SECONDS = 30  # what a chunk has not begun by then is left to another
BACK_OFF = (15, 30, 60, 120, 240, 480, 900)  # seconds, each up to half more or less
APPROVAL_DAYS = 4  # after its session ended, a broker's user is asked for so long
State = Renewal.State


@dataclass(frozen=True, slots=True)
class _Outcome:
    token: SessionToken | None = None
    error: BrokerError | None = None
    begun: bool = True


def window(day: date) -> tuple[datetime, datetime]:
    """Return when renewals of a trade date begin and end."""
    return datetime.combine(day, OPENS, IST), datetime.combine(day, CLOSES, IST)


def renewals_plan(now: datetime | None = None) -> int:
    """Put down what is to be renewed today, and return how many rows are due now; outside of the
    window nothing is.
    """
    now = now or timezone.now()
    today = now.astimezone(IST).date()
    opens, closes = window(today)
    if not opens <= now < closes:
        return 0
    midnight = datetime.combine(today + timedelta(days=1), time(), IST)
    spread = min(settings.RENEWAL_SPREAD_SECONDS, (closes - now).total_seconds() / 2)
    with database.cursor() as cursor:
        for names, condition, values in (
            (
                _brokers(lambda able: able.session_renewal is SessionRenewal.UNATTENDED),
                "s.state IN ('ACTIVE', 'EXPIRED') AND COALESCE(s.expires_at, %s) < %s",
                [now, midnight],
            ),
            (
                _brokers(lambda able: able.opens_by_approval) if today.weekday() < 5 else [],
                "s.state = 'LOGIN_NEEDED' AND s.closed_at > %s",
                [now - timedelta(days=APPROVAL_DAYS)],
            ),
        ):
            cursor.execute(
                f"""
                INSERT INTO brokerages_sessionrenewal
                    (connection_id, trade_date, state, attempts, not_before, error_code,
                     last_error, created_at)
                SELECT c.id, %s, 'WAITING', 0,
                    -- a session that still stands is renewed when it has ended, if that is soon
                    CASE WHEN s.state = 'ACTIVE' AND s.expires_at < %s
                         THEN GREATEST(s.expires_at, %s) ELSE %s END
                    + random() * make_interval(secs => %s), '', '', %s
                FROM brokerages_brokerconnection c
                JOIN brokerages_brokersession s ON s.connection_id = c.id
                WHERE c.disabled_at IS NULL AND c.broker = ANY(%s) AND {condition}
                ON CONFLICT (connection_id, trade_date) DO NOTHING
                """,  # noqa: S608 - one of two constants
                [today, closes, now, now, spread, now, names, *values],
            )
    return _due(now, today).count()


def renewals_run(now: datetime | None = None) -> int:
    """Renew one chunk of what is due; return how many rows it took."""
    now = now or timezone.now()
    today = now.astimezone(IST).date()
    opens, closes = window(today)
    if not opens <= now < closes:
        return 0
    rows = _claim(now, today)
    prepared: list[tuple[Renewal, BrokerAdapter | None, BrokerError | None]] = []
    before: dict[int, datetime | None] = {}  # when the session that a row renews was opened
    for row in rows:
        session = BrokerSession.objects.filter(connection=row.connection_id).first()
        if _needless(row, session, now, closes):
            continue
        before[row.pk] = session.opened_at if session else None
        try:
            prepared.append((row, adapter_to_renew(row.connection_id), None))
        except BrokerError as e:
            prepared.append((row, None, e))
    until = clock.monotonic() + CHUNK_SECONDS
    with ThreadPoolExecutor(max(1, min(THREADS, len(rows))), "renewal") as pool:
        outcomes = [
            (row, pool.submit(_ask, adapter, until) if adapter else None, error)
            for row, adapter, error in prepared
        ]
        for row, asked, error in outcomes:
            outcome = asked.result() if asked else _Outcome(error=error)
            try:
                _settle(row, outcome, closes, before[row.pk])
            except Exception:  # whatever it is, the others must be settled; this one's lease ends
                logger.exception("the renewal of connection %s was not settled", row.connection_id)
    return len(rows)


def renewals_close(now: datetime | None = None) -> int:
    """Give up what the window did not suffice for, and tell its users; return how many."""
    now = now or timezone.now()
    today = now.astimezone(IST).date()
    before = today + timedelta(days=1) if now >= window(today)[1] else today
    late = Renewal.objects.filter(
        state__in=[State.WAITING, State.RUNNING], trade_date__lt=before
    ).filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now))
    closed = 0
    for pk in list(late.values_list("pk", flat=True)):
        with transaction.atomic():
            row = (
                late.select_for_update(of=("self",), no_key=True)
                .select_related("connection")
                .filter(pk=pk)
                .first()
            )
            if row is None:
                continue
            _end(row, State.FAILED, row.error_code, row.last_error)
            session_expired(row.connection_id, message=OVER, foreseen=True)
            session = BrokerSession.objects.filter(connection=row.connection).first()
            if session and session.state == BrokerSession.State.EXPIRED:
                _tell(row.connection, row.last_error)
            closed += 1
    return closed


def _brokers(wanted: Any) -> list[str]:
    return [name for name in BROKER_NAMES if wanted(adapter_class(name).capabilities)]


def _due(now: datetime, today: date) -> QuerySet[Renewal]:
    return Renewal.objects.filter(trade_date=today).filter(
        Q(state=State.WAITING, not_before__lte=now) | Q(state=State.RUNNING, lease_until__lte=now)
    )


def _claim(now: datetime, today: date) -> list[Renewal]:
    """Take a chunk for this worker; other workers take others at the same time."""
    with transaction.atomic():
        rows = list(
            _due(now, today)
            .select_for_update(of=("self",), no_key=True, skip_locked=True)
            .select_related("connection")
            .order_by("not_before")[:CHUNK]
        )
        Renewal.objects.filter(pk__in=[row.pk for row in rows]).update(
            state=State.RUNNING, lease_until=now + LEASE
        )
    return rows


def _ask(adapter: BrokerAdapter, until: float) -> _Outcome:
    """Ask the broker once. Runs in a thread of the chunk: no database here."""
    if clock.monotonic() > until:
        return _Outcome(begun=False)
    try:
        if adapter.capabilities.session_renewal is SessionRenewal.UNATTENDED:
            return _Outcome(adapter.renew_session(adapter.token or SessionToken({})))
        adapter.request_session()
        return _Outcome()
    except BrokerError as e:
        return _Outcome(error=e)
    except Exception:
        logger.exception("the renewal of connection %s failed", adapter.context.connection_id)
        unknown = "An internal error hid the broker's answer."
        return _Outcome(error=OutcomeUnknown(unknown, broker=adapter.name, code="internal"))


def _needless(row: Renewal, session: BrokerSession | None, now: datetime, closes: datetime) -> bool:
    """Settle a row whose user has signed out, or has logged in since it was planned."""
    if session is None or session.state == BrokerSession.State.CLOSED:
        _end(row, State.DONE, "session_closed")
        return True
    opened, ends = session.opened_at, session.expires_at
    if (
        session.state != BrokerSession.State.ACTIVE
        or opened is None
        or opened <= row.created_at
        or (ends is not None and ends <= now)
    ):
        return False
    if ends is not None and ends < closes:
        _later(row, ends, "", "")
    else:
        _end(row, State.DONE)
    return True


def _overtaken(row: Renewal, opened_at: datetime | None) -> bool:
    """Whether the user signed out, or opened another session, while the broker was asked. Locks
    the session.
    """
    session = (
        BrokerSession.objects.select_for_update(of=("self",), no_key=True)
        .filter(connection=row.connection_id)
        .first()
    )
    if session is None:
        return opened_at is not None
    return session.state == BrokerSession.State.CLOSED or session.opened_at != opened_at


def _settle(row: Renewal, outcome: _Outcome, closes: datetime, opened_at: datetime | None) -> None:
    now = timezone.now()
    if not outcome.begun:
        Renewal.objects.filter(pk=row.pk).update(state=State.WAITING, lease_until=None)
        return
    row.attempts += 1
    if outcome.error is None and outcome.token is None:
        _end(row, State.ASKED)
        return
    if outcome.token is not None:
        with transaction.atomic():
            if _overtaken(row, opened_at):
                _end(row, State.DONE, "overtaken")
                return
            try:
                store_token(row.connection, outcome.token)
            except NotFound:  # disabled meanwhile
                _end(row, State.FAILED, "connection_disabled")
                return
            again = outcome.token.expires_at
            if again is not None and again < closes:  # minted before the broker's own hour
                _later(row, max(again, now), "", "")
            else:
                _end(row, State.DONE)
        return
    error = outcome.error
    assert error is not None  # noqa: S101 - one of the two is there
    if isinstance(error, NotSent | OutcomeUnknown):
        wait = BACK_OFF[min(row.attempts, len(BACK_OFF)) - 1] * random.uniform(0.5, 1.5)  # noqa: S311
        if isinstance(error, RateLimited):
            wait = max(wait, error.retry_after)
        _later(row, now + timedelta(seconds=wait), error.code, error.message)
        return
    # Refused: asking again with the same credentials could lock the account.
    with transaction.atomic():
        if _overtaken(row, opened_at):
            _end(row, State.DONE, "overtaken")
            return
        _end(row, State.LOGIN_NEEDED, error.code, error.message)
        if adapter_class(row.connection.broker).capabilities.opens_by_approval:
            return  # the user was told when the session ended
        ended = (
            BrokerSession.objects.filter(connection=row.connection)
            .exclude(state=BrokerSession.State.CLOSED)
            .update(
                state=BrokerSession.State.LOGIN_NEEDED,
                ciphertext="",
                key_id="",
                closed_at=now,
                last_error=error.message,
            )
        )
        if ended:
            _tell(row.connection, error.message)


def _later(row: Renewal, not_before: datetime, code: str, message: str) -> None:
    Renewal.objects.filter(pk=row.pk).update(
        state=State.WAITING,
        lease_until=None,
        not_before=not_before,
        attempts=row.attempts,
        error_code=code[:64],
        last_error=message,
    )


def _end(row: Renewal, state: str, code: str = "", message: str = "") -> None:
    Renewal.objects.filter(pk=row.pk).update(
        state=state,
        lease_until=None,
        finished_at=timezone.now(),
        attempts=row.attempts,
        error_code=code[:64],
        last_error=message,
    )


def _tell(connection: BrokerConnection, why: str) -> None:
    text = f"The session at {connection.label} could not be renewed"
    tell_login_needed(connection, f"{text}: {why}" if why else f"{text}.")


# --- Health ---------------------------------------------------------------------------------------

PROVED_FOR = timedelta(minutes=30)
PROBES = 200


def sessions_probe(now: datetime | None = None) -> int:
    """Ask the brokers about sessions that nothing has proved for a while, oldest first: one cheap
    call each. A session that is over ends here, before an order finds out. Returns how many were
    asked.
    """
    now = now or timezone.now()
    names = _brokers(lambda able: able.session_renewal is not SessionRenewal.NONE)
    stale = BrokerSession.objects.filter(
        state=BrokerSession.State.ACTIVE,
        connection__broker__in=names,
        connection__disabled_at__isnull=True,
        checked_at__lt=now - PROVED_FOR,
    )
    with transaction.atomic():
        rows = stale.select_for_update(of=("self",), no_key=True, skip_locked=True)
        ids: Sequence[UUID] = list(
            rows.order_by("checked_at").values_list("connection_id", flat=True)[:PROBES]
        )
        # before the call, so that a second schedule does not ask too
        BrokerSession.objects.filter(pk__in=ids).update(checked_at=now)
    for connection_id in ids:
        try:
            adapter_for(connection_id).check_session()
        except BrokerError as e:  # the guard has ended the session, if it was over
            logger.info("session of connection %s: %s", connection_id, e.message)
        except Exception:
            logger.exception("the session of connection %s could not be checked", connection_id)
    return len(ids)
