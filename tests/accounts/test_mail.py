"""Mails: owed with what causes them, sent once, and silent about codes while they wait."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from threading import Barrier
from typing import Any

import pytest
import time_machine
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from celery import current_app
from cryptography.fernet import InvalidToken
from django.core import mail
from django.db import connection, connections, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts import tasks
from accounts.models import OutgoingMail
from accounts.services import mail as mails
from accounts.services.mail import RETRY_AFTER, SUBJECTS, mail_enqueue, mail_send, mails_sweep
from tests.accounts.conftest import Api
from tests.accounts.factories import UserFactory

EMAIL = "user@example.com"
State = OutgoingMail.State


def owe(**more: Any) -> OutgoingMail:
    values = {"code": "424242", "minutes": 5}
    return OutgoingMail.objects.get(pk=mail_enqueue("login_code", to=EMAIL, values=values, **more))


class Inbox(Message):
    def __init__(self) -> None:
        super().__init__()
        self.received: list[EmailMessage] = []

    def handle_message(self, message: Any) -> None:
        self.received.append(message_from_bytes(bytes(message), policy=policy.default))  # type: ignore[arg-type]


@pytest.fixture
def smtp(settings: Any) -> Iterator[Inbox]:
    """A real SMTP server on this machine, and Django's real SMTP backend to reach it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS = "127.0.0.1", port, False
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.DEFAULT_FROM_EMAIL = "Sauda <no-reply@example.com>"
    yield inbox
    controller.stop()


@pytest.mark.django_db
def test_the_code_arrives_over_smtp(api: Api, smtp: Inbox) -> None:
    UserFactory(email=EMAIL)
    api.say("request-otp", {"email": EMAIL})
    (owed,) = OutgoingMail.objects.all()
    tasks.send_mail(str(owed.pk))

    (message,) = smtp.received
    assert (message["To"], message["From"]) == (EMAIL, "Sauda <no-reply@example.com>")
    assert (message["Subject"], message["Auto-Submitted"]) == (
        "Your sign-in code",
        "auto-generated",
    )
    text = message.get_body(("plain",))
    html = message.get_body(("html",))
    assert text is not None
    assert html is not None
    found = re.search(r"\b(\d{6})\b", text.get_content())
    assert found
    assert found[1] in html.get_content()
    answer = api.say("otp-login", {"email": EMAIL, "otp": found[1]})
    assert answer.status_code == 200


@pytest.mark.django_db
def test_what_a_mail_says_is_encrypted_and_then_gone() -> None:
    owed = owe()
    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text, convert_from(body, 'UTF8') FROM accounts_outgoingmail t")
        row, body = cursor.fetchone()
    assert "424242" not in row + body
    assert body.startswith("gAAAA")
    assert mail_send(owed.pk)

    owed.refresh_from_db()
    assert (bytes(owed.body), owed.state, owed.sent_at is not None) == (b"", State.SENT, True)
    assert "424242" in mail.outbox[0].body


@pytest.mark.django_db
def test_a_mail_is_sent_once() -> None:
    owed = owe()

    assert [mail_send(owed.pk), mail_send(owed.pk)] == [True, False]
    assert mails_sweep() == 0
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_eight_workers_send_it_once() -> None:
    owed = owe()
    together = Barrier(8)

    def go(_: int) -> bool:
        try:
            together.wait(20)
            return mail_send(owed.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(go, range(8))) == 1
    assert len(mail.outbox) == 1


@pytest.mark.django_db
def test_a_mail_to_nobody_is_dropped_unsent() -> None:
    owed = owe(deliver=False)

    assert not mail_send(owed.pk)
    owed.refresh_from_db()
    assert (owed.state, bytes(owed.body), mail.outbox) == (State.DROPPED, b"", [])


@pytest.mark.django_db
def test_a_code_that_has_expired_is_not_sent() -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        owed = owe(expires_at=start + timedelta(minutes=5))
        clock.shift(timedelta(minutes=5))
        assert not mail_send(owed.pk)
    owed.refresh_from_db()
    assert owed.state == State.DROPPED


@pytest.fixture
def no_server(settings: Any) -> None:
    with socket.socket() as probe:  # a port where nobody listens
        probe.bind(("127.0.0.1", 0))
        settings.EMAIL_PORT = probe.getsockname()[1]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"


@pytest.mark.django_db
@pytest.mark.usefixtures("no_server")
def test_an_unreachable_server_is_tried_again_later_and_later(caplog: Any) -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        owed = owe()
        for wait in RETRY_AFTER:
            assert mails_sweep() == 0
            owed.refresh_from_db()
            assert (owed.state, owed.not_before) == (
                State.WAITING, timezone.now() + timedelta(seconds=wait),
            )  # fmt: skip
            clock.shift(timedelta(seconds=wait))
        assert not mail_send(owed.pk)
    owed.refresh_from_db()
    assert (owed.state, bytes(owed.body)) == (State.FAILED, b"")
    assert owed.last_error.startswith("ConnectionRefusedError")
    assert "424242" not in caplog.text
    assert EMAIL not in caplog.text


@pytest.mark.django_db
def test_a_worker_that_died_while_sending_is_replaced_after_a_minute() -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        owed = owe()
        OutgoingMail.objects.update(state=State.SENDING, not_before=start + OutgoingMail.LEASE)
        assert mails_sweep() == 0
        clock.shift(timedelta(seconds=61))
        assert mails_sweep() == 1
    owed.refresh_from_db()
    assert owed.state == State.SENT


@pytest.mark.django_db
def test_one_bad_mail_does_not_hold_up_the_others() -> None:
    bad = owe()
    OutgoingMail.objects.filter(pk=bad.pk).update(body=b"not ours")
    owe()

    assert mails_sweep() == 1
    bad.refresh_from_db()
    assert bad.state == State.WAITING


@pytest.mark.django_db(transaction=True)
def test_the_worker_is_woken_after_the_commit_with_the_id_only(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WAKE_WORKERS = True
    sent: list[Any] = []
    monkeypatch.setattr(current_app, "send_task", lambda *a, **k: sent.append((a, k)))
    with transaction.atomic():
        owed = owe()
        assert sent == []

    assert sent == [(("accounts.send_mail",), {"args": [str(owed.pk)], "retry": False})]


@pytest.mark.django_db(transaction=True)
def test_a_queue_that_is_away_loses_no_mail(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WAKE_WORKERS = True

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("no Redis")

    monkeypatch.setattr(current_app, "send_task", away)
    UserFactory(email=EMAIL)
    assert Api().say("request-otp", {"email": EMAIL}).status_code == 202

    tasks.sweep_mail()
    assert [m.to for m in mail.outbox] == [[EMAIL]]


@pytest.mark.django_db(transaction=True)
def test_what_is_undone_owes_no_mail() -> None:
    with transaction.atomic():
        owe()
        transaction.set_rollback(True)

    assert not OutgoingMail.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("template", SUBJECTS)
@pytest.mark.parametrize("link", ["", "https://trade.example.com/x?token=abc"])
def test_every_mail_has_a_good_text_and_html_form(template: str, link: str) -> None:
    values = {
        "code": "424242", "minutes": 5, "link": link, "link_minutes": 30, "ip": "192.0.2.1",
        "user_agent": "<b>Agent & Co</b>", "at": "23 Nov 2026 10:00 UTC",
    }  # fmt: skip
    mail_send(mail_enqueue(template, to=EMAIL, values=values))

    (message,) = mail.outbox
    html = str(message.alternatives[0][0])
    assert message.subject == SUBJECTS[template]
    assert "<title>" + message.subject in html
    for form in (str(message.body), html):
        assert "{%" not in form
        assert "{{" not in form
        assert "http://127.0.0.1:8000" in form
    assert "<b>Agent" not in html
    assert ("https://trade.example.com" in html) == bool(
        link and template in ("verify_email", "reset_password")
    )
    assert not re.search(r"\n{4}", str(message.body))


@pytest.mark.django_db
def test_the_key_of_one_thing_opens_no_other() -> None:
    owed = owe()

    assert b"424242" in mails._fernet("tests-only-otp-3Fj6kPw8Rb1Yd5Gh7Nv2").decrypt(
        bytes(owed.body)
    )
    with pytest.raises(InvalidToken):
        mails._fernet("another key").decrypt(bytes(owed.body))
