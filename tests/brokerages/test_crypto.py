"""Secrets at rest: bound to their place, rotated without loss."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection as database

from brokerages import crypto
from brokerages.crypto import DecryptionError, Place, Sealed
from brokerages.models import BrokerCredential, BrokerSession
from brokerages.services.adapters import SESSION_FIELD, place_of
from brokerages.services.rotation import credentials_remaining

HERE = Place("user-1", "connection-1", "zerodha", "api_secret")
SECRET = "canary-7d1f0a9be2c84f55"


def test_secret_comes_back_at_its_place():
    assert crypto.open_secret(HERE, crypto.seal_secret(HERE, SECRET)) == SECRET


@pytest.mark.parametrize("part", ["user", "connection", "broker", "field"])
def test_moved_ciphertext_is_refused(part):
    sealed = crypto.seal_secret(HERE, SECRET)
    with pytest.raises(DecryptionError) as raised:
        crypto.open_secret(replace(HERE, **{part: "other"}), sealed)
    assert SECRET not in str(raised.value)


def test_altered_ciphertext_other_key_id_and_other_version(settings):
    sealed = crypto.seal_secret(HERE, SECRET)
    flipped = sealed.ciphertext[:40] + ("A" if sealed.ciphertext[40] != "A" else "B")
    for bad in (
        Sealed(flipped + sealed.ciphertext[41:], sealed.key_id),
        Sealed(sealed.ciphertext, "00000000"),
        Sealed("", sealed.key_id),
    ):
        with pytest.raises(DecryptionError):
            crypto.open_secret(HERE, bad)
    key = settings.CREDENTIAL_KEYS[0]
    text = json.dumps({"v": 2, "user": "user-1", "secret": SECRET})
    with pytest.raises(DecryptionError):
        crypto.open_secret(
            HERE, Sealed(Fernet(key).encrypt(text.encode()).decode(), crypto.key_id(key))
        )


def test_first_key_encrypts_all_decrypt_and_a_removed_one_is_missed(settings):
    old, new = settings.CREDENTIAL_KEYS[0], Fernet.generate_key().decode()
    sealed = crypto.seal_secret(HERE, SECRET)

    settings.CREDENTIAL_KEYS = [new, old]
    assert crypto.open_secret(HERE, sealed) == SECRET
    moved = crypto.reseal_secret(HERE, sealed)
    assert moved.key_id == crypto.key_id(new) != sealed.key_id

    settings.CREDENTIAL_KEYS = [new]
    assert crypto.open_secret(HERE, moved) == SECRET
    with pytest.raises(DecryptionError):
        crypto.open_secret(HERE, sealed)


def test_display_shows_little():
    assert crypto.last_four("abcdefghijkl") == "ijkl"
    assert crypto.last_four("short") == ""
    assert crypto.fingerprint("a") != crypto.fingerprint("b")
    assert len(crypto.fingerprint("a")) == 8


@pytest.fixture
def stored(db, make_connection) -> list[BrokerCredential]:
    """Six credentials and two session tokens under the first key."""
    rows = []
    for number in range(3):
        connection = make_connection()
        for field in ("api_key", "api_secret"):
            sealed = crypto.seal_secret(place_of(connection, field), f"{SECRET}{number}{field}")
            rows.append(
                BrokerCredential.objects.create(
                    connection=connection,
                    field=field,
                    ciphertext=sealed.ciphertext,
                    key_id=sealed.key_id,
                    fingerprint="f",
                )
            )
        if number:
            sealed = crypto.seal_secret(place_of(connection, SESSION_FIELD), "{}")
            BrokerSession.objects.filter(connection=connection).update(
                ciphertext=sealed.ciphertext, key_id=sealed.key_id
            )
    return rows


def rotate(**options) -> str:
    out = StringIO()
    call_command("rotate_credentials", stdout=out, **options)
    return out.getvalue().strip()


def test_rotation_moves_all_and_can_be_repeated(stored, settings):
    new = Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [new, *settings.CREDENTIAL_KEYS]
    assert credentials_remaining() == 8

    assert rotate(batch=4) == "8 moved, 0 unreadable, 0 on older keys"
    assert rotate() == "0 moved, 0 unreadable, 0 on older keys"

    settings.CREDENTIAL_KEYS = [new]
    for row in BrokerCredential.objects.select_related("connection"):
        secret = crypto.open_secret(
            place_of(row.connection, row.field), Sealed(row.ciphertext, row.key_id)
        )
        assert secret.startswith(SECRET)
        assert secret.endswith(row.field)


def test_rotation_leaves_what_it_cannot_read(stored, settings):
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *settings.CREDENTIAL_KEYS]
    one, other = stored[0], stored[2]
    BrokerCredential.objects.filter(pk=one.pk).update(ciphertext=other.ciphertext)

    with pytest.raises(CommandError, match="older key"):
        rotate(batch=2)

    assert list(credentials_left()) == [one.pk]


def credentials_left():
    current = crypto.current_key_id()
    return BrokerCredential.objects.exclude(key_id=current).values_list("pk", flat=True)


def test_swapped_rows_are_refused_by_the_adapter(stored):
    from brokerages.errors import Refused
    from brokerages.services import adapter_for

    a, b = stored[0], stored[2]
    BrokerCredential.objects.filter(pk=a.pk).update(ciphertext=b.ciphertext)
    with pytest.raises(Refused) as raised:
        adapter_for(a.connection)
    assert raised.value.code == "credentials_unreadable"
    assert SECRET not in str(raised.value)
    assert adapter_for(b.connection).credentials["api_key"].startswith(SECRET)


def test_database_holds_no_secret(stored):
    with database.cursor() as cursor:
        for table in ("brokercredential", "brokersession"):
            cursor.execute(f"SELECT t::text FROM brokerages_{table} t")
            assert not any(SECRET in row[0] for row in cursor.fetchall())
