"""What the platform's paths are compared with: the same server and middleware, and little else."""

import json
import threading
from decimal import Decimal
from functools import cache
from typing import Any

import psycopg
from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from audit.ids import uuid7
from audit.services import entry_params
from trading.services import orders

_local = threading.local()

# The same rows as a placed order, in states that give the workers nothing to do.
_STATEMENT = orders._PLACE_TEXT.replace("'WAITING'", "'DROPPED'").replace(
    "'PENDING'", "'CANCELLED'"
)


def bare_json(request: HttpRequest) -> HttpResponse:
    """A trivial JSON view: the floor of every read."""
    return HttpResponse(b'{"status":"ok"}', content_type="application/json")


@csrf_exempt
def bare_place(request: HttpRequest) -> HttpResponse:
    """Write the rows of an order with one prepared statement; check nothing, look nothing up."""
    wanted = json.loads(request.body)
    values = _values() | {
        "id": uuid7(),
        "idempotency_key": request.headers["Idempotency-Key"],
        "tag": request.headers["Idempotency-Key"],
        "quantity": wanted["quantity"],
        "now": timezone.now(),
    }
    values |= entry_params(
        "bench.placed", object_type="order", object_id=values["id"], user_id=None, changes=wanted
    )
    _connection().execute(_STATEMENT, values, prepare=True)
    return HttpResponse(
        json.dumps({"id": str(values["id"])}), status=201, content_type="application/json"
    )


def bare_hash(request: HttpRequest) -> HttpResponse:
    """Check one password, which is what signing in cannot do without."""
    matches = check_password("bench password", _hash())
    return HttpResponse(json.dumps({"matches": matches}), content_type="application/json")


def _connection() -> psycopg.Connection[Any]:
    found: psycopg.Connection[Any] | None = getattr(_local, "connection", None)
    if found is None:
        entry = settings.DATABASES["default"]
        names = {
            "dbname": "NAME",
            "user": "USER",
            "password": "PASSWORD",
            "host": "HOST",
            "port": "PORT",
        }
        found = psycopg.connect(
            **{key: entry[name] or None for key, name in names.items()}, autocommit=True
        )
        _local.connection = found
    return found


@cache
def _hash() -> str:
    return make_password("bench password")


@cache
def _values() -> dict[str, Any]:
    with _connection().cursor() as cursor:
        cursor.execute(
            "SELECT user_id, id FROM brokerages_brokerconnection ORDER BY created_at LIMIT 1"
        )
        user_id, connection_id = cursor.fetchone() or (None, None)
        cursor.execute(
            "SELECT id FROM marketdata_instrument WHERE exchange = 'NSE' AND symbol = 'RELIANCE'"
        )
        (instrument_id,) = cursor.fetchone() or (None,)
    return {
        "user_id": user_id,
        "connection_id": connection_id,
        "instrument_id": instrument_id,
        "client_order_id": None,
        "fingerprint": b"0" * 32,
        "side": "BUY",
        "order_type": "LIMIT",
        "product": "CNC",
        "validity": "DAY",
        "price": Decimal("1000.00"),
        "trigger_price": None,
        "disclosed_quantity": 0,
        "source": "API",
        "lane": "bench",
    }
