"""Whatever a database superuser does to the log, `verify_audit` says so and names the row."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.utils import timezone

from audit import canonical
from audit.anchors import anchor_write
from audit.selectors import entry_proof
from audit.verification import Break, first_broken, verify
from tests.audit.conftest import ids, intruder, seal_ended, sql, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log() -> list[int]:
    """Ten sealed entries and their anchor."""
    entries = write(10)
    seal_ended()
    anchor_write()
    return entries


def broken() -> tuple[Break, int | None, int | None]:
    """What the first finding is: kind, seal, entry."""
    finding = first_broken()
    assert finding is not None, "nothing was noticed"
    assert str(finding.entry_id or finding.seq) in finding.message
    return finding.kind, finding.seq, finding.entry_id


def test_an_untouched_log_is_whole(log: list[int]) -> None:
    assert first_broken() is None


EDITS = [
    "changes = jsonb_set(changes, '{quantity}', '999')", "at = at + interval '1 second'",
    "user_id = gen_random_uuid()", "actor_kind = 'admin'", "actor_id = gen_random_uuid()",
    "action = 'order.cancelled'", "object_id = 'other'", "object_type = 'x'", "ip = '192.0.2.1'",
    "reason = 'x'", "request_id = 'x'", "app_version = '9'", "uid = gen_random_uuid()",
    "session_id = gen_random_uuid()",
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_field(log: list[int], edit: str) -> None:
    with intruder():
        sql(f"UPDATE audit_auditentry SET {edit} WHERE id = %s", log[4])

    assert broken() == (Break.EDITED, 5, log[4])
    assert entry_proof(log[4]).recomputed_ok is False
    assert entry_proof(log[3]).recomputed_ok is True


def test_an_edit_of_the_transaction_id(log: list[int]) -> None:
    with intruder():
        sql("UPDATE audit_auditentry SET xact = '3' WHERE id = %s", log[4])

    assert broken() == (Break.REWRITTEN, 5, log[4])


SEAL_EDITS = [
    "xact = '3'", "era = 1", "sealed_at = sealed_at + interval '1 second'", "hash = sha256('x')",
    "prev_hash = sha256('x')", "key_id = 'ffffffff'", "entry_id = -entry_id",
]  # fmt: skip


@pytest.mark.parametrize("edit", SEAL_EDITS)
def test_an_edited_seal(log: list[int], edit: str) -> None:
    with intruder():
        sql(f"UPDATE audit_auditseal SET {edit} WHERE seq = 5")

    kind, seq, _ = broken()
    assert (kind, seq) == (Break.DELETED if "entry_id" in edit else Break.REWRITTEN, 5)


def test_a_deleted_row(log: list[int]) -> None:
    with intruder():
        sql("DELETE FROM audit_auditentry WHERE id = %s", log[6])

    assert broken() == (Break.DELETED, 7, log[6])


def test_a_row_deleted_with_its_seal(log: list[int]) -> None:
    with intruder():
        sql("DELETE FROM audit_auditentry WHERE id = %s", log[6])
        sql("DELETE FROM audit_auditseal WHERE seq = 7")

    assert broken() == (Break.MISSING, 7, None)


def test_a_row_deleted_and_the_chain_closed_over_it(log: list[int]) -> None:
    with intruder():
        sql("DELETE FROM audit_auditentry WHERE id = %s", log[6])
        sql("DELETE FROM audit_auditseal WHERE seq = 7")
        for seq in (8, 9, 10):
            sql("UPDATE audit_auditseal SET seq = %s WHERE seq = %s", seq - 1, seq)

    assert broken() == (Break.REWRITTEN, 7, log[7])


def test_two_rows_that_changed_places(log: list[int]) -> None:
    with intruder():
        sql("UPDATE audit_auditentry SET id = -1 WHERE id = %s", log[2])
        sql("UPDATE audit_auditentry SET id = %s WHERE id = %s", log[2], log[5])
        sql("UPDATE audit_auditentry SET id = %s WHERE id = -1", log[5])

    assert broken() == (Break.REWRITTEN, 3, log[2])
    assert [f.entry_id for f in verify().findings] == [log[2], log[5]]


def test_two_seals_that_changed_places(log: list[int]) -> None:
    with intruder():
        sql("UPDATE audit_auditseal SET seq = -1 WHERE seq = 3")
        sql("UPDATE audit_auditseal SET seq = 3 WHERE seq = 6")
        sql("UPDATE audit_auditseal SET seq = 6 WHERE seq = -1")

    assert broken() == (Break.REWRITTEN, 3, log[5])


FORGED = """
    INSERT INTO audit_auditentry (id, xact, uid, at, user_id, actor_kind, action, object_type,
                                  object_id, changes, reason, request_id, app_version, mac)
    OVERRIDING SYSTEM VALUE
    SELECT {id}, {xact}, {uid}, at, user_id, actor_kind, action, object_type, object_id, changes,
           reason, request_id, app_version, mac FROM audit_auditentry WHERE id = %s
"""


def test_a_forged_row_between_others_without_a_seal(log: list[int]) -> None:
    with intruder():
        sql(FORGED.format(id=-5, xact="xact", uid="gen_random_uuid()"), log[2])

    assert broken() == (Break.FORGED, None, -5)


def test_a_forged_row_at_the_end_without_a_seal(log: list[int]) -> None:
    with intruder():
        sql(FORGED.format(id=10**9, xact="pg_current_xact_id()", uid="gen_random_uuid()"), log[2])

    assert broken() == (Break.FORGED, None, 10**9)


def test_a_forged_row_is_not_sealed_later(log: list[int]) -> None:
    with intruder():
        sql(FORGED.format(id=10**9, xact="pg_current_xact_id()", uid="gen_random_uuid()"), log[2])
    more = write(1)
    seal_ended()

    assert broken() == (Break.FORGED, None, 10**9)
    assert entry_proof(more[0]).recomputed_ok is True


def test_a_true_row_cannot_be_repeated(log: list[int]) -> None:
    with intruder(), pytest.raises(Exception, match="unique"):
        sql(FORGED.format(id=10**9, xact="pg_current_xact_id()", uid="uid"), log[2])


def test_a_forged_row_with_a_seal(log: list[int]) -> None:
    with intruder():
        sql(FORGED.format(id=10**9, xact="pg_current_xact_id()", uid="gen_random_uuid()"), log[2])
        sql(
            "INSERT INTO audit_auditseal"
            " SELECT 11, e.id, e.xact, 0, s.hash, sha256('x'), s.key_id, now()"
            " FROM audit_auditentry e, audit_auditseal s WHERE e.id = 1000000000 AND s.seq = 10"
        )

    assert broken() == (Break.EDITED, 11, 10**9)


def test_a_cut_off_tail(log: list[int]) -> None:
    with intruder():
        sql("DELETE FROM audit_auditseal WHERE seq > 7")
        sql("DELETE FROM audit_auditentry WHERE id > %s", log[6])

    assert broken() == (Break.TRUNCATED, 8, None)


def test_a_cut_off_tail_that_grew_again(log: list[int]) -> None:
    with intruder():
        sql("DELETE FROM audit_auditseal WHERE seq > 7")
        sql("DELETE FROM audit_auditentry WHERE id > %s", log[6])
    write(6)
    seal_ended()

    kind, seq, _ = broken()
    assert (kind, seq) == (Break.ANCHOR, 10)


def test_everything_gone(log: list[int]) -> None:
    with intruder():
        sql("DELETE FROM audit_auditseal")
        sql("DELETE FROM audit_auditentry")

    assert broken() == (Break.TRUNCATED, 1, None)


def rehash(first: int, key: str) -> None:
    """Recompute the chain from a seal on, as one would who knows the method but not the key."""
    from audit.sealing import CONTENT_SQL, content_of

    rows = sql(
        "SELECT s.seq, s.entry_id, e.xact::text, s.era,"
        " to_char(s.sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
        f"{CONTENT_SQL} FROM audit_auditseal s JOIN audit_auditentry e ON e.id = s.entry_id"
        " WHERE s.seq >= %s ORDER BY s.seq",
        first,
    )
    previous = sql("SELECT prev_hash FROM audit_auditseal WHERE seq = %s", first)[0][0]
    for seq, entry_id, xact, era, at, *columns in rows:
        place = canonical.position(seq, entry_id, int(xact), era, at)
        digest = canonical.seal_hash(key, previous, place, content_of(columns))
        sql(
            "UPDATE audit_auditseal SET prev_hash = %s, hash = %s WHERE seq = %s",
            previous,
            digest,
            seq,
        )
        previous = digest


def test_a_chain_hashed_anew_without_the_key(log: list[int]) -> None:
    with intruder():
        sql("UPDATE audit_auditentry SET reason = 'changed' WHERE id = %s", log[4])
        rehash(5, "a guess")

    assert broken() == (Break.EDITED, 5, log[4])
    assert len(verify().findings) >= 6  # and every link after it


def test_a_chain_hashed_anew_with_another_key_named(log: list[int]) -> None:
    with intruder():
        sql("UPDATE audit_auditentry SET reason = 'changed' WHERE id = %s", log[4])
        sql("UPDATE audit_auditseal SET key_id = %s WHERE seq >= 5", canonical.key_id("a guess"))
        rehash(5, "a guess")

    assert broken() == (Break.REWRITTEN, 5, log[4])


def test_a_chain_hashed_anew_with_the_key_contradicts_the_anchor(
    log: list[int], settings: Any
) -> None:
    with intruder():
        sql("UPDATE audit_auditentry SET reason = 'changed' WHERE id = %s", log[4])
        rehash(5, settings.AUDIT_KEY)

    assert broken() == (Break.ANCHOR, 10, log[9])


def test_a_clock_that_was_set_back() -> None:
    with time_machine.travel(timezone.now() + timedelta(hours=2), tick=True):
        write(2)
        seal_ended()
    (late,) = write(1)
    seal_ended()

    assert broken() == (Break.CLOCK, 3, late)
    assert len(verify().findings) == 1  # once, not at every row after it


@pytest.mark.parametrize(
    ("off", "named"),
    [
        (
            "ALTER TABLE audit_auditentry DISABLE TRIGGER audit_entry_no_change",
            "audit_entry_no_change",
        ),
        (
            "ALTER TABLE audit_auditentry DISABLE TRIGGER audit_entry_no_truncate",
            "audit_entry_no_truncate",
        ),
        ("ALTER TABLE audit_auditseal DISABLE TRIGGER ALL", "audit_seal_no_change"),
        (
            "ALTER TABLE audit_auditentry ENABLE REPLICA TRIGGER audit_entry_no_change",
            "audit_entry_no_change",
        ),
    ],
)
def test_a_guard_that_is_off(log: list[int], off: str, named: str) -> None:
    sql(off)
    try:
        finding = first_broken()
    finally:
        for table in ("audit_auditentry", "audit_auditseal"):
            sql(f"ALTER TABLE {table} ENABLE TRIGGER ALL")

    assert finding is not None
    assert finding.kind == Break.UNPROTECTED
    assert named in finding.message


# --- Anchors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"seq": 10', '"seq": 9'),
        lambda text: text.replace('"signature": "', '"signature": "0'),
        lambda text: text[:40],
        lambda text: '{"seq": 10}',
        lambda text: "[]",
    ],
)
def test_a_changed_anchor(
    log: list[int], anchor_folder: Path, change: Callable[[str], str]
) -> None:
    (path,) = anchor_folder.iterdir()
    path.write_text(change(path.read_text()) + "\n")

    finding = first_broken()
    assert finding is not None
    assert (finding.kind, path.name in finding.message) == (Break.ANCHOR, True)


def test_anchors_are_added_never_replaced(log: list[int], anchor_folder: Path, capsys: Any) -> None:
    write(1)
    seal_ended()
    call_command("anchor_audit")

    assert capsys.readouterr().out.startswith("seal 11 ")
    (path,) = anchor_folder.iterdir()
    assert len(path.read_text().splitlines()) == 2
    assert first_broken() is None


def test_no_anchor_before_the_first_seal(anchor_folder: Path, capsys: Any) -> None:
    call_command("anchor_audit")

    assert capsys.readouterr().out == "nothing is sealed yet\n"
    assert not anchor_folder.exists()


# --- The command ----------------------------------------------------------------------------------


def test_command_on_a_whole_log(log: list[int], capsys: Any) -> None:
    write(2)
    call_command("verify_audit")

    out = capsys.readouterr().out
    assert "checked 10 entries up to seal 10" in out
    assert "2 unsealed" in out
    assert out.endswith("ok\n")


def test_command_on_a_broken_log(log: list[int], capsys: Any) -> None:
    with intruder():
        sql("UPDATE audit_auditentry SET reason = 'x' WHERE id = %s", log[4])
    with pytest.raises(SystemExit) as end:
        call_command("verify_audit")

    assert end.value.code == 1
    assert (
        f"BROKEN edited: entry {log[4]} is not what was written (seal 5)" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("first", "last", "ok"), [(1, 4, True), (6, 10, True), (5, 5, False), (4, 6, False)]
)
def test_part_of_the_chain(log: list[int], first: int, last: int, ok: bool) -> None:
    with intruder():
        sql("UPDATE audit_auditentry SET reason = 'x' WHERE id = %s", log[4])
    result = verify(first, last)

    assert result.ok is ok
    assert result.checked == last - first + 1


def test_a_long_chain_is_walked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.verification.CHUNK", 3)
    write(10)
    seal_ended()

    assert (verify().findings, verify().checked) == ([], 10)


def test_work_stops_after_twenty_findings() -> None:
    write(30)
    seal_ended()
    with intruder():
        sql("UPDATE audit_auditentry SET reason = 'x'")

    assert len(verify().findings) == 20
    assert len(ids()) == 30
