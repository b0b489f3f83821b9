"""What an entry says, and that it is written with what it speaks of."""

import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from django.db import InternalError, ProgrammingError, connection, transaction
from django.test import Client, RequestFactory
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from audit import canonical, context
from audit.context import ActorKind
from audit.ids import uuid7
from audit.middleware import AuditContextMiddleware, client_ip
from audit.models import AuditEntry
from audit.sealing import CONTENT_SQL, content_of, mac_is_valid
from audit.services import ENTRY_INSERT, Actor, entry_params, record, record_many
from brokerages.types import Side
from tests.audit.conftest import sql

ALICE = UUID("01900000-0000-7000-8000-00000000a11c")


def note(**fields: Any) -> AuditEntry:
    """Record one entry and read it back."""
    entry = {"action": "order.placed", "object_type": "order", "object_id": "1", "user_id": ALICE}
    record(**{**entry, **fields})
    return AuditEntry.objects.latest("id")


@pytest.mark.django_db
def test_entry_has_everything_of_its_context() -> None:
    session = uuid7()
    with context.scope(
        actor_kind=ActorKind.USER,
        actor_id=ALICE,
        session_id=session,
        ip="192.0.2.7",
        request_id="r-1",
    ):
        entry = note(changes={"quantity": 10}, reason="because")

    assert (entry.user_id, entry.actor_kind, entry.actor_id) == (ALICE, "user", ALICE)
    assert (entry.session_id, entry.ip, entry.request_id) == (session, "192.0.2.7", "r-1")
    assert (entry.object_type, entry.object_id, entry.reason) == ("order", "1", "because")
    assert (entry.changes, entry.app_version) == ({"quantity": 10}, "1.0.0")
    assert abs(entry.at - datetime.now(UTC)) < timedelta(seconds=5)
    assert isinstance(entry.xact, int)


@pytest.mark.django_db
def test_without_a_request_the_system_acts() -> None:
    assert (note().actor_kind, note().actor_id) == ("system", None)


@pytest.mark.django_db
def test_a_named_actor_goes_before_the_context() -> None:
    with context.scope(actor_kind=ActorKind.USER, actor_id=ALICE):
        entry = note(actor=Actor(ActorKind.BROKER))

    assert (entry.actor_kind, entry.actor_id) == ("broker", None)


@pytest.mark.django_db(transaction=True)
def test_what_is_undone_is_not_logged() -> None:
    with transaction.atomic():
        note()
        transaction.set_rollback(True)

    assert not AuditEntry.objects.exists()


@pytest.mark.django_db
def test_several_entries_at_once() -> None:
    entry = {"object_type": "order", "user_id": ALICE}
    record_many({**entry, "action": "order.placed", "object_id": n} for n in range(3))

    assert list(AuditEntry.objects.order_by("id").values_list("object_id", flat=True)) == [
        "0",
        "1",
        "2",
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(("changed", "written"), [(True, 1), (False, 0)])
def test_entry_inside_a_statement_of_the_callers(changed: bool, written: int) -> None:
    """The hot path's way: the entry is written by the statement that makes the change, or not at
    all.
    """
    parameters = entry_params("order.placed", object_type="order", object_id="7", user_id=ALICE)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH changed AS (SELECT 1 WHERE %(changed)s) {ENTRY_INSERT} FROM changed",
            {**parameters, "changed": changed},
        )

    assert AuditEntry.objects.count() == written


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name",
    [
        "password", "new_password", "apiSecret", "api_secret", "access_token", "otp", "pin",
        "api_key",
        "key", "Authorization", "TOTP", "refresh-token", "mpin",
    ],
)  # fmt: skip
def test_secrets_are_masked_by_name(name: str) -> None:
    entry = note(changes={name: "s3cr3t-value", "deep": [{name: ["s3cr3t-value"]}]})

    assert "s3cr3t-value" not in str(entry.changes)
    assert entry.changes[name] == canonical.MASK


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name",
    ["instrument_token", "exchange_token", "idempotency_key", "spinning", "keyboard", "name"],
)
def test_names_that_only_sound_secret_are_kept(name: str) -> None:
    assert note(changes={name: "12345"}).changes == {name: "12345"}


@pytest.mark.django_db
def test_tokens_are_masked_by_shape_wherever_they_are() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    fernet = "gAAAAABlZmVuY2VkLXNlY3JldC12YWx1ZS1oZXJl"
    entry = note(changes={"note": f"sent {jwt}"}, reason=f"with {fernet}", object_id=jwt)

    assert jwt not in f"{entry.changes}{entry.object_id}"
    assert fernet not in entry.reason


@pytest.mark.django_db
def test_values_are_made_plain_and_exact() -> None:
    at = datetime(2026, 1, 31, 14, 45, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    values = {
        "price": Decimal("1450.0500"), "tiny": Decimal("1E-7"), "at": at, "side": Side.BUY,
        "id": ALICE, "ratio": 0.1, "set": {"b", "a"}, "none": None, "yes": True, "big": 10**30,
        "nul": "a\x00b", "half": "\ud800",
    }  # fmt: skip

    assert note(changes=values).changes == {
        "price": "1450.0500", "tiny": "0.0000001", "at": "2026-01-31T09:15:00.000000Z",
        "side": Side.BUY.value, "id": str(ALICE), "ratio": "0.1", "set": ["a", "b"], "none": None,
        "yes": True, "big": str(10**30), "nul": "a\ufffdb", "half": "\ufffd",
    }  # fmt: skip


def test_a_time_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        canonical.plain({"at": datetime(2026, 1, 1)})


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False)
    | st.floats(allow_nan=False) | st.text() | st.datetimes(timezones=st.just(UTC)) | st.uuids(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.django_db
@hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.dictionaries(st.text(), plain_values, max_size=5), reason=st.text(max_size=50))
def test_any_entry_reads_back_as_it_was_signed(changes: dict[str, Any], reason: str) -> None:
    note(changes=changes, reason=reason)
    (row,) = sql(f"SELECT e.mac, {CONTENT_SQL} FROM audit_auditentry e ORDER BY e.id DESC LIMIT 1")

    assert mac_is_valid(row[0], content_of(row[1:]))


def test_the_signed_bytes_have_not_changed() -> None:
    """Entries of years ago must verify: if this fails, a new canonical.VERSION is due."""
    values = {
        "uid": ALICE, "at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), "user_id": None,
        "actor_kind": "system", "actor_id": None, "session_id": None, "ip": "::1",
        "action": "order.placed", "object_type": "order", "object_id": "7",
        "changes": {"b": 1, "a": ["x", None]}, "reason": "é", "request_id": "", "app_version": "1",
    }  # fmt: skip
    content = canonical.content_bytes(values)

    assert content.decode() == (
        '[1,"01900000-0000-7000-8000-00000000a11c","2026-01-02T03:04:05.000678Z",null,"system",null,null,'
        '"::1","order.placed","order","7",{"a":["x",null],"b":1},"é","","1"]'
    )
    assert (
        canonical.entry_mac("k" * 32, content).hex() == "5e318f8ce68654b355dfd0e53516a3bb06a88967"
    )
    assert msgspec.json.decode(content)[0] == canonical.VERSION


# --- The context of a request ---------------------------------------------------------------------


def test_bindings_end_with_their_request() -> None:
    """Servers reuse their threads: nothing of one request may reach the next one on its thread."""
    seen: list[context.AuditContext] = []

    def view(request: Any) -> Any:
        seen.append(context.current())
        context.bind(actor_id=ALICE, session_id=uuid7())
        if request.path == "/boom":
            raise ZeroDivisionError
        return "answer"

    middleware = AuditContextMiddleware(view)
    requests = RequestFactory(REMOTE_ADDR="192.0.2.9")
    done = threading.Event()

    def serve() -> None:
        with pytest.raises(ZeroDivisionError):
            middleware(requests.get("/boom"))
        middleware(requests.get("/next"))
        seen.append(context.current())
        done.set()

    threading.Thread(target=serve).start()

    assert done.wait(5)
    assert [c.actor_id for c in seen] == [None, None, None]
    assert [c.actor_kind for c in seen] == ["user", "user", "system"]
    assert (seen[1].ip, seen[2].ip) == ("192.0.2.9", None)
    assert context.current().actor_id is None


def test_scopes_nest_and_undo() -> None:
    with context.scope(actor_id=ALICE):
        with context.scope(actor_kind=ActorKind.ADMIN):
            context.bind(ip="::1")
            assert context.current() == context.AuditContext("admin", ALICE, None, "::1", "")
        assert context.current().ip is None
    assert context.current().actor_id is None


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (
            0,
            "203.0.113.5",
            "10.0.0.1",
        ),  # nobody of ours adds the header: it is the caller's invention
        (1, "203.0.113.5", "203.0.113.5"),
        (1, "1.2.3.4, 203.0.113.5", "203.0.113.5"),  # the first was there when it came to us
        (2, "1.2.3.4, 203.0.113.5, 10.0.0.2", "203.0.113.5"),
        (2, "203.0.113.5", "10.0.0.1"),  # it did not pass both of ours
        (1, "", None),
        (1, "not an address", None),
        (1, "::ffff:203.0.113.5", "203.0.113.5"),
    ],
)
def test_whose_address_is_believed(
    settings: Any, proxies: int, forwarded: str, expected: str | None
) -> None:
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory(REMOTE_ADDR="10.0.0.1").get(
        "/", headers={"X-Forwarded-For": forwarded}
    )

    assert client_ip(request) == expected


@pytest.mark.django_db
def test_request_id_and_address_reach_the_log(client: Client) -> None:
    client.post(
        "/api/v1/auth/signin",
        {"username": "nobody@example.com", "password": "wrong"},
        content_type="application/json",
        headers={"X-Request-ID": "trace-12345678"},
        REMOTE_ADDR="192.0.2.44",
    )
    entry = AuditEntry.objects.get(action="auth.signin_failed")

    assert (entry.request_id, entry.ip) == ("trace-12345678", "192.0.2.44")


# --- The tables' guards ---------------------------------------------------------------------------

ATTACKS = [
    "UPDATE {table} SET {column} = {column}",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
]
TABLES = [("audit_auditentry", "action", "entry"), ("audit_auditseal", "key_id", "seal")]


@pytest.mark.django_db
@pytest.mark.parametrize(("table", "column", "short"), TABLES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_even_the_owner_cannot_change_the_log(
    attack: str, table: str, column: str, short: str
) -> None:
    note()
    sql(
        "INSERT INTO audit_auditseal (seq, entry_id, xact, era, prev_hash, hash, key_id, sealed_at)"
        " VALUES (1, 1, '1', 0, '', '', '', now())"
    )
    with pytest.raises((ProgrammingError, InternalError), match="only grows"):
        sql(attack.format(table=table, column=column))


@pytest.mark.django_db
@pytest.mark.parametrize(("table", "column", "short"), TABLES)
@pytest.mark.parametrize(
    "attack", [*ATTACKS, "DROP TRIGGER audit_{short}_no_change ON {table}", "DROP TABLE {table}",
               "ALTER TABLE {table} DISABLE TRIGGER ALL", "SET session_replication_role = replica"],
)  # fmt: skip
def test_the_platforms_role_may_not_even_try(
    attack: str, table: str, column: str, short: str
) -> None:
    sql("CREATE ROLE audit_app NOLOGIN")
    sql(f"GRANT SELECT, INSERT ON {table} TO audit_app")
    sql("SET LOCAL ROLE audit_app")

    with pytest.raises(ProgrammingError) as refused:
        sql(attack.format(table=table, column=column, short=short))
    assert isinstance(refused.value.__cause__, psycopg.errors.InsufficientPrivilege)
    assert "only grows" not in str(refused.value)
