"""The chain holds every entry exactly once, whatever the order in which transactions end."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections, transaction

from audit import sealing, tasks
from audit.models import AuditEntry, AuditSeal
from audit.sealing import seal
from audit.verification import Break, verify
from tests.audit.conftest import ids, intruder, seal_ended, sql, write

pytestmark = pytest.mark.django_db(transaction=True)


def sealed() -> list[int]:
    return list(AuditSeal.objects.order_by("seq").values_list("entry_id", flat=True))


def in_thread(work: Any, *arguments: Any) -> Any:
    """Run work on a connection of its own."""

    def run() -> Any:
        try:
            return work(*arguments)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(30)


def test_entries_are_chained_in_order() -> None:
    entries = write(5)

    assert seal_ended() == 5
    assert sealed() == entries
    links = list(AuditSeal.objects.order_by("seq"))
    assert bytes(links[0].prev_hash) == bytes(32)
    assert [bytes(a.hash) for a in links[:-1]] == [bytes(b.prev_hash) for b in links[1:]]
    assert seal() == 0
    result = verify()
    assert (result.ok, result.checked, result.unsealed) == (True, 5, 0)


def test_sealing_goes_on_where_it_stopped() -> None:
    entries = write(7)

    assert [seal_ended(3) for _ in range(4)] == [3, 3, 1, 0]
    assert sealed() == entries
    assert verify().ok


def test_an_entry_that_commits_late_is_not_skipped() -> None:
    """It has the smaller id and appears after a greater one was ready: the bug of sealing by id."""
    opened, finish = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            write(1, action="order.slow")
            opened.set()
            assert finish.wait(10)

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(lambda: (slow(), connections.close_all()))
        assert opened.wait(10)
        (quick,) = write(1)
        assert seal() == 0  # the slow one may still add rows before it
        finish.set()
        late.result(10)

    assert seal_ended() == 2
    assert sealed()[1] == quick
    assert verify().ok


def test_only_one_seals_at_a_time() -> None:
    write(3)
    with transaction.atomic():
        sql("SELECT pg_advisory_xact_lock(%s)", sealing.LOCK)
        assert in_thread(seal) == 0
    assert in_thread(seal_ended) == 3


def test_eight_writers_and_four_sealers_leave_no_gap() -> None:
    writing = threading.Event()
    writing.set()

    def writer(number: int) -> None:
        for turn in range(60):
            with transaction.atomic():
                write(1 + turn % 3)
                if turn % 5 == 0:
                    time.sleep(0.002)
                if turn % 7 == 3:
                    transaction.set_rollback(True)
        connections.close_all()

    def sealer() -> None:
        while writing.is_set():
            seal(50)
        connections.close_all()

    with ThreadPoolExecutor(12) as pool:
        sealers = [pool.submit(sealer) for _ in range(4)]
        for job in [pool.submit(writer, n) for n in range(8)]:
            job.result(60)
        writing.clear()
        for job in sealers:
            job.result(60)
    seal_ended()

    result = verify()
    assert result.findings == []
    assert result.checked == AuditEntry.objects.count() > 700
    assert (result.unsealed, sorted(sealed())) == (0, ids())


def test_killed_sealers_leave_a_whole_chain() -> None:
    """kill -9 in the middle of a batch: the transaction is undone, the next sealer goes on."""
    write(3000)
    database = connection.settings_dict["NAME"]
    script = (
        "import django; django.setup()\n"
        "from django.conf import settings\n"
        f"settings.DATABASES['default']['NAME'] = {database!r}\n"
        "from audit.sealing import seal\n"
        "print('ready', flush=True)\n"
        "while True: seal(100)\n"
    )
    for turn in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=settings.BASE_DIR
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.02 * (turn + 1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    wait_for_no_lock()
    seal_ended()

    result = verify()
    assert (result.findings, result.checked, result.unsealed) == ([], 3000, 0)


def wait_for_no_lock() -> None:
    """PostgreSQL notices a dead client a moment later."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"):
            return
        time.sleep(0.05)
    raise AssertionError("the lock of a killed sealer stays")


def test_an_entry_nobody_of_ours_wrote_is_not_sealed(caplog: Any) -> None:
    before = write(1)
    (forged,) = forge()
    after = write(1)

    assert seal_ended() == 2
    assert sealed() == [*before, *after]
    assert f"entry {forged} was not written by this application" in caplog.text
    finding = verify().findings[0]
    assert (finding.kind, finding.entry_id) == (Break.FORGED, forged)


def test_many_forged_entries_do_not_hold_up_the_true_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "BATCH", 5)
    forge(12)
    (true,) = write(1)

    seal_ended(5)

    assert sealed() == [true]


def forge(count: int = 1) -> list[int]:
    """Insert entries as anyone may who can insert but does not have the key."""
    before = set(ids())
    for _ in range(count):
        sql(
            "INSERT INTO audit_auditentry (uid, at, user_id, actor_kind, action, object_type,"
            " object_id, changes, reason, request_id, app_version, mac)"
            " VALUES (gen_random_uuid(), now(), NULL, 'user', 'order.placed', 'order', '1', '{}',"
            " '', '', '1.0.0', decode(%s, 'hex'))",
            "00" * 20,
        )
    return sorted(set(ids()) - before)


def test_a_restored_database_starts_a_new_era(caplog: Any) -> None:
    """A logical restore goes into a cluster whose transaction ids begin anew, below the sealed
    ones.
    """
    write(4)
    seal_ended(3)
    with intruder():  # as if these had come from a cluster that was far ahead
        sql("UPDATE audit_auditentry SET xact = (xact::text::bigint + 1000000000)::text::xid8")
        sql("DELETE FROM audit_auditseal")
        sql("UPDATE audit_auditentry SET mac = mac")
    restored_chain(3)
    new = write(2)

    assert seal_ended() == 2
    assert sealed()[-2:] == new
    assert len(sealed()) == 6  # what the old cluster had not sealed came before them
    assert "begin anew" in caplog.text
    result = verify()
    assert (result.findings, result.checked, result.unsealed) == ([], 6, 0)
    write(1)
    assert seal_ended() == 1
    assert verify().ok


def restored_chain(count: int) -> None:
    """Seal the first entries as the old cluster did, where their transactions had long ended."""
    with transaction.atomic(), connection.cursor() as cursor:
        sealing._extend(cursor, sealing.Tail(), count, ended=True)


def test_a_key_may_be_changed(settings: Any) -> None:
    write(2)
    seal_ended()
    old = settings.AUDIT_KEY
    settings.AUDIT_KEY = "a-new-audit-key-of-good-length-4f7a"
    settings.AUDIT_RETIRED_KEYS = [old]
    write(2)
    seal_ended()

    assert verify().ok
    settings.AUDIT_RETIRED_KEYS = []
    assert verify().findings[0].kind == Break.REWRITTEN


def test_the_task_seals_and_anchors(anchor_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "BATCH", 2)
    write(5)
    seal_ended(1)

    tasks.seal_entries()
    tasks.seal_entries()

    assert verify().checked == 5
    lines = "".join(path.read_text() for path in anchor_folder.iterdir()).splitlines()
    assert len(lines) == 1  # the next one is due in five minutes


def test_the_command_seals_everything(capsys: Any) -> None:
    write(3)
    seal_ended(1)
    call_command("seal_audit")

    assert capsys.readouterr().out == "sealed 2\n"
