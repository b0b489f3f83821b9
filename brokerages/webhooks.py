"""Webhooks in: prove, keep, answer. Plain views: nothing reads the body before its signature was
checked, and nothing here speaks to a broker.

``events`` takes what is signed with one of our own secrets, and is believed. ``postback`` takes
what a broker posts to a connection's own address: a hint to read the order, never a fact.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from audit import context
from brokerages import webhook_secrets, webhook_throttles
from brokerages.base import BrokerAdapter
from brokerages.crypto import DecryptionError
from brokerages.metrics import DELIVERIES, SECONDS, SIGNED_WITH
from brokerages.models import BrokerConnection, InboundEvent
from brokerages.platform_events import ORDER, InvalidEvent, parse_event
from brokerages.registry import BROKER_NAMES, adapter_class
from brokerages.services.inbox import EVENTS, Delivery, Kind, event_receive
from brokerages.services.postbacks import connection_of_token, connection_secrets

logger = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024
KEPT_HEADERS = ("Content-Type", "User-Agent")
DUPLICATE = "This delivery was received before."
# What a sender is told of the row's state.
WORDS = {InboundEvent.State.NEW: "QUEUED"}

Inner = Callable[..., tuple[HttpResponse, str]]
"""Gives its answer, and a word for the metrics."""


class Refusal(Exception):
    """An answer that says no."""

    def __init__(
        self, status: int, code: str, message: str, detail: Any = None, *, wait: int = 0
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message
        self.detail, self.wait = detail or {}, wait

    def answer(self) -> HttpResponse:
        error = {"code": self.code, "message": self.message, "detail": self.detail}
        response = _json({"error": error}, self.status)
        if self.wait:
            response["Retry-After"] = str(self.wait)
        if self.status == 405:
            response["Allow"] = "POST"
        return response


def _webhook(view: Inner) -> Callable[..., HttpResponse]:
    """Wrap what both have in common: only POST, the limits, one shape of answers, the numbers."""

    @csrf_exempt
    @wraps(view)
    def wrapped(request: HttpRequest, **named: str) -> HttpResponse:
        started = time.perf_counter()
        source = named.get("broker", EVENTS)
        try:
            if request.method != "POST":
                raise Refusal(405, "method_not_allowed", "Only POST is taken here.")
            if wait := webhook_throttles.is_flooding(request):
                raise _throttled(wait)
            # nobody signs in here, and what is done is the broker's doing
            with context.scope(actor_kind=context.ActorKind.BROKER, actor_id=None, session_id=None):
                response, outcome = view(request, **named)
        except Refusal as e:
            response, outcome = e.answer(), e.code
        except (OperationalError, InterfaceError) as e:
            logger.error("a webhook could not be stored: %s", type(e).__name__)
            down = Refusal(503, "unavailable", "Not possible at the moment. Send it again.", wait=1)
            response, outcome = down.answer(), down.code
        known = source in BROKER_NAMES or source == EVENTS
        DELIVERIES.labels(source if known else "unknown", outcome).inc()
        SECONDS.observe(time.perf_counter() - started)
        return response

    return wrapped


@_webhook
def events(request: HttpRequest) -> tuple[HttpResponse, str]:
    """Take one signed event: stored and applied in one transaction."""
    body = _body(request)
    secret = webhook_secrets.signer(body, request.headers)
    if secret is None:
        raise _not_signed(request, "The signature is missing or not valid.")
    SIGNED_WITH.labels(secret.label).inc()
    if wait := webhook_throttles.valid(request):
        raise _throttled(wait)
    now = timezone.now()
    try:
        event = parse_event(body, now)
    except InvalidEvent as e:
        code = "validation_error" if e.fields else "parse_error"
        raise Refusal(400, code, e.message, e.fields) from None
    stored = event_receive(
        Delivery(
            source=EVENTS,
            kind=Kind.EVENT,
            dedupe_key=event.dedupe_key or _digest(body),
            body=body,
            signed=True,
            event_at=event.occurred_at if event.type == ORDER else None,
            headers=_headers(request) | {"Signed-With": secret.label},
        )
    )
    return _told(stored, event.event_id)


@_webhook
def postback(request: HttpRequest, broker: str, token: str) -> tuple[HttpResponse, str]:
    """Take one postback of a broker: kept, answered, and looked into by a worker."""
    body = _body(request)
    connection = connection_of_token(broker, token) if broker in BROKER_NAMES else None
    if connection is None:
        raise _not_signed(request, "This address belongs to no connection.")
    adapter = adapter_class(broker)
    if adapter.capabilities.signs_postbacks and not _is_signed(adapter, connection, request, body):
        raise _not_signed(request, "The checksum is missing or not valid.")
    if wait := webhook_throttles.valid(request, str(connection.pk)):
        raise _throttled(wait)
    kind, subject, key, ignored = _looked_at(adapter, connection, body)
    signed = adapter.capabilities.signs_postbacks
    stored = event_receive(
        Delivery(
            source=broker,
            kind=kind,
            # a forgery that nobody signed must not take the place of the real one
            dedupe_key=f"{connection.pk}:{'signed' if signed else 'hint'}:{key or _digest(body)}"[
                :200
            ],
            body=body,
            signed=signed,
            connection=connection,
            subject=subject,
            headers=_headers(request),
        ),
        ignored=ignored,
    )
    return _told(stored, None)


def _is_signed(
    adapter: type[BrokerAdapter], connection: BrokerConnection, request: HttpRequest, body: bytes
) -> bool:
    try:
        secret = connection_secrets(connection).get("api_secret", "")
        return bool(secret) and adapter.verify_postback(request.headers, body, secret)
    except DecryptionError as e:
        logger.error("a postback of connection %s cannot be checked: %s", connection.pk, e)
    except Exception:  # whatever a stranger sends must not become an error of ours
        logger.exception("the checksum of a postback of %s could not be checked", adapter.name)
    return False


_PRINTABLE = re.compile(r"[\x20-\x7e]*", re.ASCII)


def _looked_at(
    adapter: type[BrokerAdapter], connection: BrokerConnection, body: bytes
) -> tuple[str, str, str, str]:
    """Return kind, order, key of the delivery, and why it is ignored, if it is."""
    try:
        hints = adapter.parse_postback(body)
    except ValueError:
        hints = []
    except Exception:
        logger.exception("a postback of %s could not be read", adapter.name)
        hints = []
    if not all(_PRINTABLE.fullmatch(f"{h.broker_order_id}{h.client_order_id}") for h in hints):
        raise Refusal(400, "parse_error", "An order id has characters that no order id has.")
    if hints:
        only = hints[0] if len(hints) == 1 else None
        return (
            Kind.POSTBACK,
            only.broker_order_id if only else "",
            hashlib.sha256(only.dedupe_key.encode()).hexdigest()
            if only and only.dedupe_key
            else "",
            "",
        )
    if adapter.capabilities.opens_by_approval and _is_notice(adapter, connection, body):
        return Kind.APPROVAL, "", "", ""
    try:
        readable = isinstance(msgspec.json.decode(body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        readable = False
    if not readable:
        raise Refusal(400, "parse_error", "The body is not a JSON object.")
    return Kind.POSTBACK, "", "", "It is not about an order."


def _is_notice(adapter: type[BrokerAdapter], connection: BrokerConnection, body: bytes) -> bool:
    try:
        adapter.parse_session_notice(body, connection_secrets(connection))
    except (ValueError, DecryptionError):
        return False
    except Exception:
        logger.exception("a session notice of %s could not be read", adapter.name)
        return False
    return True


# --- Parts ----------------------------------------------------------------------------------------


def _body(request: HttpRequest) -> bytes:
    too_large = Refusal(413, "body_too_large", "The request body is too large.")
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_BYTES:
            raise too_large
        body = request.body
    except (RequestDataTooBig, ValueError):
        raise too_large from None
    except UnreadablePostError:
        raise Refusal(400, "parse_error", "The body ended too early.") from None
    if len(body) > MOST_BYTES:
        raise too_large
    return body


def _headers(request: HttpRequest) -> dict[str, str]:
    found = {name: request.headers.get(name, "")[:200] for name in KEPT_HEADERS}
    return {
        name: value.encode("ascii", "replace").decode().replace("\x00", "")
        for name, value in found.items()
        if value
    }


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _not_signed(request: HttpRequest, message: str) -> Refusal:
    if wait := webhook_throttles.invalid(request):
        return _throttled(wait)
    return Refusal(401, "invalid_signature", message)


def _throttled(wait: int) -> Refusal:
    return Refusal(429, "throttled", "Too many requests.", wait=wait)


def _told(stored: InboundEvent | None, event_id: str | None) -> tuple[HttpResponse, str]:
    """Answer what was received: 200 in every case, or the sender would send it again."""
    if stored is None:
        status, reason, outcome = "IGNORED", DUPLICATE, "duplicate"
    else:
        state = InboundEvent.State(stored.state)
        status, reason = WORDS.get(state, state.value), stored.error
        outcome = status.lower()
    return _json({"status": status, "event_id": event_id, "reason": reason}), outcome


def _json(body: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(json.dumps(body), status=status, content_type="application/json")
