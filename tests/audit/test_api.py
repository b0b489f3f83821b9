"""Who may read which entries, over the API and in the admin site."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from audit.models import AuditEntry
from audit.services import record
from tests.accounts.factories import UserFactory
from tests.audit.conftest import intruder, seal_ended, sql


def api(user: User | None = None) -> APIClient:
    """Return a client signed in as a browser session of the user."""
    client = APIClient()
    if user:
        client.force_login(user)
    return client


def note(user: User, action: str = "order.placed", object_id: str = "1") -> int:
    record(
        action, object_type="order", object_id=object_id, user_id=user.pk, changes={"quantity": 1}
    )
    return AuditEntry.objects.latest("id").pk


@pytest.mark.django_db
def test_users_see_their_own_entries_only() -> None:
    alice, bob = UserFactory(), UserFactory()
    mine, theirs = note(alice), note(bob)
    client = api(alice)

    shown = [row["id"] for row in client.get("/api/v1/audit").json()["results"]]
    assert mine in shown
    assert theirs not in shown
    assert client.get(f"/api/v1/audit/{mine}").status_code == 200
    hidden, missing = client.get(f"/api/v1/audit/{theirs}"), client.get("/api/v1/audit/999999999")
    assert (hidden.status_code, hidden.json()) == (404, missing.json())


@pytest.mark.django_db
def test_staff_see_every_entry() -> None:
    bob = UserFactory()
    entry = note(bob)
    client = api(UserFactory(is_staff=True))

    assert entry in [row["id"] for row in client.get("/api/v1/audit").json()["results"]]
    assert client.get(f"/api/v1/audit/{entry}").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/v1/audit", "/api/v1/audit/1"])
def test_nobody_sees_anything_without_signing_in(path: str) -> None:
    answer = api().get(path)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.django_db
def test_an_entry_as_it_is_shown() -> None:
    alice = UserFactory()
    entry = note(alice, object_id="o-1")

    body = api(alice).get(f"/api/v1/audit/{entry}").json()
    assert set(body) == {
        "id", "at", "user_id", "actor_kind", "actor_id", "session_id", "ip", "action",
        "object_type", "object_id", "changes", "reason", "request_id", "app_version", "proof",
    }  # fmt: skip
    assert (body["action"], body["object_id"], body["changes"]) == (
        "order.placed",
        "o-1",
        {"quantity": 1},
    )
    assert body["proof"] == {
        "sealed": False, "seq": None, "hash": None, "prev_hash": None, "key_id": None,
        "sealed_at": None, "recomputed_ok": None,
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_the_proof_of_an_entry() -> None:
    alice = UserFactory()
    first, second = note(alice), note(alice)
    client = api(alice)
    seal_ended()

    proof = client.get(f"/api/v1/audit/{second}").json()["proof"]
    assert (proof["sealed"], proof["recomputed_ok"], proof["seq"]) == (True, True, 2)
    assert proof["prev_hash"] == client.get(f"/api/v1/audit/{first}").json()["proof"]["hash"]
    with intruder():
        sql("UPDATE audit_auditentry SET changes = '{}' WHERE id = %s", second)
    assert client.get(f"/api/v1/audit/{second}").json()["proof"]["recomputed_ok"] is False


@pytest.mark.django_db
def test_pages() -> None:
    alice = UserFactory()
    client = api(alice)
    for number in range(5):
        note(alice, object_id=str(number))

    seen, cursor = [], ""
    for _ in range(3):
        page = client.get(f"/api/v1/audit?limit=2&object_type=order{cursor}").json()
        note(alice, object_id="later")  # newer entries do not shift the pages
        seen += [row["object_id"] for row in page["results"]]
        cursor = f"&cursor={page['next']}"
    assert seen == ["4", "3", "2", "1", "0"]
    assert page["next"] is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("action=order.placed", {"1", "2"}),
        ("action=order.", {"1", "2", "3"}),
        ("action=order", set()),
        ("object_id=3", {"3"}),
        ("object_type=order&action=order.cancelled", {"3"}),
        ("object_type=position", set()),
    ],
)
def test_filters(query: str, found: set[str]) -> None:
    alice = UserFactory()
    note(alice, "order.placed", "1")
    note(alice, "order.placed", "2")
    note(alice, "order.cancelled", "3")

    results = api(alice).get(f"/api/v1/audit?{query}").json()["results"]
    assert {row["object_id"] for row in results} == found


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=x", "cursor=-1", "cursor=" + "9" * 19,
              "action=" + "x" * 65, "object_id=a%00b"],
)  # fmt: skip
def test_a_wrong_query_is_refused(query: str) -> None:
    answer = api(UserFactory()).get(f"/api/v1/audit?{query}")

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "validation_error"
    assert list(answer.json()["error"]["detail"]) == [query.split("=", 1)[0]]


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_the_log_cannot_be_written_over_the_api(method: str) -> None:
    alice = UserFactory()
    entry = note(alice)
    client = api(alice)

    assert getattr(client, method)("/api/v1/audit").status_code == 405
    assert getattr(client, method)(f"/api/v1/audit/{entry}").status_code == 405


# --- Admin ----------------------------------------------------------------------------------------


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    return client


@pytest.mark.django_db
def test_admin_reads_and_cannot_write(admin: Client) -> None:
    entry = note(UserFactory())
    address = f"/admin/audit/auditentry/{entry}"

    assert b"order.placed" in admin.get("/admin/audit/auditentry/").content
    page = admin.get(f"{address}/change/")
    assert page.status_code == 200
    assert b"not sealed yet" in page.content
    assert admin.post(f"{address}/change/", {"action": "x"}).status_code == 403
    assert admin.post(f"{address}/delete/", {"post": "yes"}).status_code == 403
    assert admin.get("/admin/audit/auditentry/add/").status_code == 403
    assert AuditEntry.objects.get(pk=entry).action == "order.placed"


@pytest.mark.django_db(transaction=True)
def test_admin_verifies_the_chain(admin: Client) -> None:
    entry = note(UserFactory())
    seal_ended()

    whole = admin.post("/admin/audit/auditentry/verify/", follow=True)
    assert b"entries are intact" in whole.content
    with intruder():
        sql("UPDATE audit_auditentry SET reason = 'x' WHERE id = %s", entry)
    broken = admin.post("/admin/audit/auditentry/verify/", follow=True)
    assert f"entry {entry} is not what was written" in broken.content.decode()
    assert b"BROKEN" in admin.get(f"/admin/audit/auditentry/{entry}/change/").content


@pytest.mark.django_db
def test_admin_is_for_staff(client: Client) -> None:
    client.force_login(UserFactory())

    assert client.get("/admin/audit/auditentry/").status_code == 302
    assert client.post("/admin/audit/auditentry/verify/").status_code == 302


def test_schema_describes_the_paths(db: Any) -> None:
    paths = APIClient().get("/openapi.json").json()["paths"]

    assert set(paths["/api/v1/audit"]["get"]["responses"]) == {"200", "400", "401"}
    names = {p["name"] for p in paths["/api/v1/audit"]["get"]["parameters"]}
    assert names == {"limit", "cursor", "action", "object_type", "object_id"}
    assert set(paths["/api/v1/audit/{entry_id}"]["get"]["responses"]) == {"200", "401", "404"}
