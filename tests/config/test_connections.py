"""A restart of PostgreSQL costs no request: the first one after it already has a new connection."""

import psycopg
import pytest
from django.db import connection
from django.test import Client

from config.connections import drop_closed


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def end(number: int) -> None:
    """End our session as a restart of the server does."""
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [number])


@pytest.mark.django_db(transaction=True)
def test_a_request_after_a_restart_is_answered() -> None:
    end(before := backend())

    answer = Client().get("/readyz")

    assert answer.status_code == 200, answer.content
    assert backend() != before


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_lives_is_kept() -> None:
    before = backend()
    drop_closed()
    assert backend() == before


@pytest.mark.django_db(transaction=True)
def test_without_it_the_request_fails() -> None:
    """What the others prove is not something that would happen anyway."""
    from django.db import OperationalError

    end(backend())
    with pytest.raises(OperationalError):
        backend()
    connection.close()
