"""The daily renewal: once for each session, in chunks, within its window, whatever fails."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import pytest
from django.core import mail
from django.db import connections

from accounts.models import OutgoingMail
from accounts.services.mail import mails_sweep
from audit.models import AuditEntry
from brokerages import registry
from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.base import SessionRenewal as Kind
from brokerages.errors import NotSent, OutcomeUnknown, Refused
from brokerages.models import BrokerConnection, BrokerSession, SessionRenewal
from brokerages.services import connection_create, renewals, session_close, session_open
from brokerages.types import SessionToken
from config.celery import app
from tests.brokerages.conftest import Market
from trading.models import Notification

pytestmark = pytest.mark.django_db

TODAY = datetime(2026, 11, 25, tzinfo=UTC).date()
START = datetime(2026, 11, 25, 0, 0, tzinfo=UTC)  # 05:30 in India
SIX = START + timedelta(minutes=30)  # 06:00: when yesterday's tokens end
END = START + timedelta(hours=3, minutes=15)  # 08:45


class RobotAdapter(PaperAdapter):
    """A broker whose sessions a job can renew."""

    name = label = "robot"
    capabilities = replace(PaperAdapter.capabilities, session_renewal=Kind.UNATTENDED)
    credential_fields = ()
    asked: ClassVar[Counter[str]] = Counter()
    fails: ClassVar[dict[str, Exception]] = {}
    ends: ClassVar[datetime] = SIX + timedelta(days=1)

    def open_session(self, grant: str | None) -> SessionToken:
        return SessionToken({"access_token": "first"}, SIX, "R1")

    def renew_session(self, token: SessionToken) -> SessionToken:
        self.asked[self.context.connection_id] += 1
        if (failure := self.fails.get(self.context.connection_id)) is not None:
            raise failure
        return SessionToken({"access_token": "next"}, self.ends, "R1")

    def check_session(self) -> None:
        self.asked["check"] += 1


class AskingAdapter(RobotAdapter):
    """A broker that asks its user to approve."""

    name = label = "asking"
    capabilities = replace(
        PaperAdapter.capabilities, session_renewal=Kind.INTERACTIVE, opens_by_approval=True
    )

    def request_session(self) -> datetime | None:
        self.asked[self.context.connection_id] += 1
        return None


@pytest.fixture(autouse=True)
def now(
    monkeypatch: pytest.MonkeyPatch, market: Market, settings: Any
) -> Iterator[Callable[[datetime], None]]:
    """A clock that the test sets; no spread, so that all is due at once."""
    settings.RENEWAL_SPREAD_SECONDS = 0
    moment = [START - timedelta(hours=12)]
    monkeypatch.setattr("django.utils.timezone.now", lambda: moment[0])
    for adapter in (RobotAdapter, AskingAdapter):
        path = f"{__name__}:{adapter.__name__}"
        monkeypatch.setitem(registry._ADAPTERS, adapter.name, path)
    monkeypatch.setattr(renewals, "BROKER_NAMES", ("paper", "robot", "asking"))
    monkeypatch.setattr(RobotAdapter, "asked", Counter())
    monkeypatch.setattr(RobotAdapter, "fails", {})
    monkeypatch.setattr(RobotAdapter, "ends", SIX + timedelta(days=1))
    yield lambda at: moment.__setitem__(0, at)
    registry.adapter_class.cache_clear()


@pytest.fixture
def make(make_user: Callable[[], Any]) -> Callable[..., BrokerConnection]:
    def one(broker: str = "robot") -> BrokerConnection:
        user = make_user()
        made = connection_create(user_id=user.pk, broker=broker)
        session_open(user_id=user.pk, connection_id=made.pk)
        return made

    return one


def run_all(at: datetime) -> None:
    renewals.renewals_plan(at)
    while renewals.renewals_run(at):
        pass


def states() -> dict[UUID, str]:
    return dict(SessionRenewal.objects.values_list("connection_id", "state"))


def test_a_session_is_renewed_once_after_its_end(make, now):
    mine = make()
    now(START)
    run_all(START)
    assert RobotAdapter.asked == {}  # the present one is good until six

    now(SIX)
    for _ in range(2):  # two beats
        run_all(SIX)

    assert RobotAdapter.asked == {str(mine.pk): 1}
    assert states() == {mine.pk: "DONE"}
    session = BrokerSession.objects.get()
    assert (session.state, session.expires_at) == ("ACTIVE", RobotAdapter.ends)
    assert AuditEntry.objects.filter(action="session.opened").count() == 2
    assert not OutgoingMail.objects.exists()


def test_nothing_is_asked_outside_of_the_window(make, now):
    make()
    for at in (START - timedelta(seconds=1), END, END + timedelta(hours=6)):
        now(at)
        run_all(at)
    assert RobotAdapter.asked == {}
    assert states() == {}


def test_sessions_that_end_another_day_or_were_closed_are_left_alone(make, now):
    later, closed, disabled, paper = make(), make(), make(), make("paper")
    BrokerSession.objects.filter(connection=later).update(expires_at=SIX + timedelta(days=1))
    BrokerSession.objects.filter(connection=closed).update(state="CLOSED")
    BrokerConnection.objects.filter(pk=disabled.pk).update(disabled_at=START)
    now(SIX)

    run_all(SIX)

    assert states() == {}
    assert BrokerSession.objects.get(connection=paper).state == "ACTIVE"


def test_a_token_that_ends_within_the_window_is_renewed_again(make, now, monkeypatch):
    mine = make()
    BrokerSession.objects.update(state="EXPIRED", expires_at=START - timedelta(hours=1))
    now(START)
    monkeypatch.setattr(RobotAdapter, "ends", SIX)  # minted before the broker's own hour
    run_all(START)
    assert states() == {mine.pk: "WAITING"}

    monkeypatch.setattr(RobotAdapter, "ends", SIX + timedelta(days=1))
    now(SIX)
    run_all(SIX)

    assert states() == {mine.pk: "DONE"}
    assert RobotAdapter.asked[str(mine.pk)] == 2


@pytest.mark.parametrize("failure", [NotSent, OutcomeUnknown, ZeroDivisionError])
def test_passing_trouble_is_tried_again_later(make, now, failure):
    mine, other = make(), make()
    words = {"broker": "robot"} if failure is not ZeroDivisionError else {}
    RobotAdapter.fails[str(mine.pk)] = failure("no answer", **words)
    now(SIX)
    run_all(SIX)
    assert states() == {mine.pk: "WAITING", other.pk: "DONE"}  # each for itself
    run_all(SIX)
    assert RobotAdapter.asked[str(mine.pk)] == 1  # not at once

    RobotAdapter.fails.clear()
    now(SIX + timedelta(minutes=2))
    run_all(SIX + timedelta(minutes=2))

    assert states()[mine.pk] == "DONE"
    row = SessionRenewal.objects.get(connection=mine)
    assert (row.attempts, row.last_error) == (2, "")
    assert not Notification.objects.exists()


def test_trouble_until_the_window_ends_is_told_once(make, now):
    mine = make()
    RobotAdapter.fails[str(mine.pk)] = OutcomeUnknown("gateway is away", broker="robot")
    at = SIX
    while at < END:
        now(at)
        run_all(at)
        at += timedelta(minutes=1)
    assert 5 < RobotAdapter.asked[str(mine.pk)] < 30  # it backs off

    for _ in range(2):
        now(END)
        renewals.renewals_close(END)

    assert states() == {mine.pk: "FAILED"}
    assert Notification.objects.filter(user_id=mine.user_id).count() == 1
    assert "gateway is away" in Notification.objects.get().body
    assert OutgoingMail.objects.count() == 1


def test_refused_credentials_are_not_tried_again(make, now):
    mine = make()
    RobotAdapter.fails[str(mine.pk)] = Refused("wrong code", broker="robot", code="totp")
    for minutes in range(0, 60, 5):
        now(SIX + timedelta(minutes=minutes))
        run_all(SIX + timedelta(minutes=minutes))

    assert RobotAdapter.asked == {str(mine.pk): 1}  # or the broker would lock the account
    assert states() == {mine.pk: "LOGIN_NEEDED"}
    session = BrokerSession.objects.get()
    assert (session.state, session.ciphertext, session.last_error) == (
        "LOGIN_NEEDED", "", "wrong code",
    )  # fmt: skip
    assert Notification.objects.get().kind == "broker_login_needed"
    mails_sweep()
    (sent,) = mail.outbox
    assert f"/connections/{mine.pk}/login/start" in sent.body


def test_a_dead_workers_rows_are_taken_over(make, now):
    mine = make()
    now(SIX)
    renewals.renewals_plan(SIX)
    assert len(renewals._claim(SIX, TODAY)) == 1  # and its worker dies
    run_all(SIX)
    assert RobotAdapter.asked == {}

    later = SIX + renewals.LEASE
    now(later)
    run_all(later)

    assert states() == {mine.pk: "DONE"}


def test_chunks(make, now, monkeypatch):
    made = [make() for _ in range(7)]
    monkeypatch.setattr(renewals, "CHUNK", 3)
    now(SIX)
    assert renewals.renewals_plan(SIX) == 7

    assert [renewals.renewals_run(SIX) for _ in range(4)] == [3, 3, 1, 0]

    assert RobotAdapter.asked == {str(one.pk): 1 for one in made}


@pytest.mark.django_db(transaction=True)
def test_two_schedules_and_many_workers_ask_once(make, now, monkeypatch):
    made = [make() for _ in range(30)]
    monkeypatch.setattr(renewals, "CHUNK", 4)
    now(SIX)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            run_all(SIX)
        except BaseException as e:
            failed.append(e)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert failed == []
    assert RobotAdapter.asked == {str(one.pk): 1 for one in made}
    assert set(states().values()) == {"DONE"}


def test_a_broker_that_asks_its_user(make, now):
    mine = make("asking")
    now(SIX)
    from brokerages.services import sessions_expire

    sessions_expire()
    assert BrokerSession.objects.get().state == "LOGIN_NEEDED"
    assert OutgoingMail.objects.count() == 1
    for _ in range(2):
        run_all(SIX)
    assert RobotAdapter.asked == {str(mine.pk): 1}
    assert states() == {mine.pk: "ASKED"}

    session_open(user_id=mine.user_id, connection_id=mine.pk)
    assert states() == {mine.pk: "DONE"}  # approved

    saturday = SIX + timedelta(days=3)
    now(saturday)
    run_all(saturday)
    assert RobotAdapter.asked == {str(mine.pk): 1}


def test_sessions_that_nothing_proves_are_checked_in_turn(make, now):
    make(), make("paper")
    at = START - timedelta(hours=12) + renewals.PROVED_FOR + timedelta(seconds=1)
    now(at)
    assert [renewals.sessions_probe(at) for _ in range(2)] == [1, 0]
    assert RobotAdapter.asked == {"check": 1}


def test_the_schedule_covers_the_window():
    minutes = app.conf.beat_schedule["brokerages.renew_sessions"]["schedule"]
    at, fired = START, 0
    while at < END:
        fired += at.hour in minutes.hour and at.minute in minutes.minute
        at += timedelta(minutes=1)
    assert fired == 195


def test_a_session_that_its_user_closed_is_not_opened_again(make, now):
    mine = make()
    now(START)
    run_all(START)
    session_close(user_id=mine.user_id, connection_id=mine.pk)

    now(SIX)
    run_all(SIX)

    assert RobotAdapter.asked == {}
    assert BrokerSession.objects.get().state == "CLOSED"
    assert SessionRenewal.objects.get().error_code == "session_closed"


def test_a_session_that_its_user_opened_meanwhile_is_left_alone(make, now, monkeypatch):
    mine = make()
    now(START)
    run_all(START)
    day = SessionToken({"access_token": "own"}, SIX + timedelta(days=1), "R1")
    monkeypatch.setattr(RobotAdapter, "open_session", lambda self, grant: day)
    now(SIX + timedelta(minutes=1))
    session_open(user_id=mine.user_id, connection_id=mine.pk)
    RobotAdapter.fails[str(mine.pk)] = Refused("wrong code", broker="robot")

    now(SIX + timedelta(minutes=2))
    run_all(SIX + timedelta(minutes=2))

    assert RobotAdapter.asked == {}
    assert BrokerSession.objects.get().state == "ACTIVE"


def test_a_login_while_the_broker_is_asked_wins(make, now, monkeypatch):
    mine = make()
    now(START)
    run_all(START)
    now(SIX)

    def refuse(self: RobotAdapter, token: SessionToken) -> SessionToken:
        # as if the user had logged in while the answer was on its way
        BrokerSession.objects.filter(connection_id=mine.pk).update(opened_at=SIX, state="ACTIVE")
        raise Refused("wrong code", broker="robot")

    monkeypatch.setattr(RobotAdapter, "renew_session", refuse)
    monkeypatch.setattr(renewals, "ThreadPoolExecutor", InThisThread)
    run_all(SIX)

    assert BrokerSession.objects.get().state == "ACTIVE"
    assert SessionRenewal.objects.get().error_code == "overtaken"


class InThisThread:
    """An executor that works at once, in the test's own transaction."""

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> InThisThread:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done
