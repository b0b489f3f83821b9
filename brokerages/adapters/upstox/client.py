"""One way to call the unmodified Upstox SDK so that a request is sent at most once.

What the SDK does by itself, and what is done about it here:

- it repeats modifications and cancels up to three times on a lost connection: repeats are off, and
  redirects are not followed;
- it has no timeout: connecting, each read, and the answer as a whole are bounded;
- it knows two hosts, for orders and for the rest: both are set, on a copy of its configuration;
- every client starts a pool of threads: the process makes one client, ends its threads at once (no
  call is asynchronous), and an adapter uses a shallow copy with a configuration of its own;
- its models refuse words that they do not know, and read numbers as floats: answers are taken raw
  and read by `values.read_json`.

Connections are kept and shared by the adapters of a process, but not for long, and not beyond a
pause: the other side may have closed them without our having heard of it.
"""

from __future__ import annotations

import copy
import logging
import os
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from typing import Any

from brokerages.adapters.upstox.refusals import BROKER, refusal
from brokerages.adapters.upstox.values import read_json, record
from brokerages.base import Pace
from brokerages.errors import BrokerError, NotSent, NotSupported, OutcomeUnknown

logger = logging.getLogger(__name__)

API = "https://api.upstox.com"
ORDERS = "https://api-hft.upstox.com"
ASSETS = "https://assets.upstox.com"
CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0
ANSWER_SECONDS = 15.0  # from the head of an answer to its last byte
ASSET_SECONDS = 120.0
# Kept connections are used again within this time of the last request, and of the first.
FRESH_SECONDS, KEPT_SECONDS = 20.0, 60.0
MOST_KEPT = 64  # to one host
MAX_ANSWER = 64 * 1024 * 1024
API_VERSION = "2.0"


class UpstoxClient:
    """The SDK with one user's token. ``endpoints`` as in `AdapterContext`; ``pace`` is asked before
    each request.
    """

    def __init__(
        self, endpoints: Mapping[str, str], pace: Callable[[Pace], None], access_token: str = ""
    ) -> None:
        self._pace, self._assets = pace, endpoints.get("assets", ASSETS)
        client, template = _sdk_parts(os.getpid())
        self._client = copy.copy(client)
        self._client.configuration = configuration = copy.copy(template)
        configuration.access_token = access_token
        configuration.host = endpoints.get("api", API)
        configuration.order_host = endpoints.get("api", ORDERS)

    def call(self, pace: Pace, api: str, method: str, *args: Any, **options: Any) -> Any:
        """Call ``method`` of the SDK's class ``api`` once; return what it answered under ``data``.

        Raises:
            BrokerError: whatever the failure proves.
        """
        answer = record_of(self.call_whole(pace, api, method, *args, **options))
        if answer.get("status") != "success" or "data" not in answer:
            raise OutcomeUnknown(
                "Upstox answered neither yes nor no.", broker=BROKER, code="answer"
            )
        return answer["data"]

    def call_whole(self, pace: Pace, api: str, method: str, *args: Any, **options: Any) -> Any:
        """Call as `call` does; return the whole answer, of which some calls have no envelope."""
        import upstox_client
        from upstox_client.rest import ApiException

        call = getattr(getattr(upstox_client, api)(self._client), method)
        arguments = [to_wire(value) for value in args]
        options = {name: to_wire(value) for name, value in options.items()}
        self._pace(pace)
        with _failures():
            try:
                response = call(
                    *arguments,
                    **options,
                    _preload_content=False,
                    _request_timeout=(CONNECT_SECONDS, READ_SECONDS),
                )
            except ApiException as e:
                raise refusal(int(e.status or 0), e.body or b"", e.headers) from None
        try:
            answer = read_json(response.data or b"")
        except ValueError:
            raise OutcomeUnknown(
                "Upstox's answer could not be read.", broker=BROKER, code="unreadable"
            ) from None
        if isinstance(answer, dict) and answer.get("status") == "error":
            raise refusal(response.status, response.data or b"", response.headers)
        return answer

    def download(self, path: str) -> bytes:
        """Return a public file of the broker, packed as it is."""
        self._pace(Pace.OTHER)
        with _failures():
            response = self._client.rest_client.pool_manager.request(
                "GET",
                self._assets + path,
                headers={"Accept-Encoding": "identity"},
                timeout=_timeout(),
                answer_seconds=ASSET_SECONDS,
            )
        if response.status != 200:
            raise refusal(response.status, response.data or b"", response.headers)
        return bytes(response.data or b"")


def record_of(answer: Any) -> Mapping[str, Any]:
    """Return an answer that must be an object."""
    with reading():
        return record(answer)


@contextmanager
def reading() -> Iterator[None]:
    """Turn an answer that is not what the broker documents into `OutcomeUnknown`."""
    try:
        yield
    except BrokerError:
        raise
    except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError) as e:
        # The place and the kind alone: the text may hold what the broker sent.
        place = traceback.extract_tb(e.__traceback__)[-1]
        kind = type(e).__name__
        logger.warning("an answer of Upstox was not read: %s at %s", kind, place.name)
        raise OutcomeUnknown(
            f"Upstox's answer could not be read ({kind}).", broker=BROKER, code="unreadable"
        ) from None


def to_wire(value: Any) -> Any:
    """Return a value as the SDK can send it. A decimal becomes the JSON number of the same digits.

    Raises:
        NotSupported: a number with more digits than JSON's floats keep.
    """
    if isinstance(value, dict):
        return {name: to_wire(part) for name, part in value.items()}
    if isinstance(value, list):
        return [to_wire(part) for part in value]
    if not isinstance(value, Decimal):
        return value
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    if Decimal(repr(number)) != value:
        raise NotSupported(
            f"{value} has too many digits for Upstox.", broker=BROKER, code="too_many_digits"
        )
    return number


@contextmanager
def _failures() -> Iterator[None]:
    """Turn the failures of a connection into what they prove. Their own texts stay out: they may
    hold addresses with secrets.
    """
    from urllib3 import exceptions as wire

    try:
        yield
    except (wire.NewConnectionError, wire.ConnectTimeoutError, wire.LocationValueError) as e:
        raise NotSent(
            "Upstox could not be reached.", broker=BROKER, code=type(e).__name__
        ) from None
    except (wire.HTTPError, OSError) as e:
        raise OutcomeUnknown(
            "The connection to Upstox was lost before its answer.",
            broker=BROKER,
            code=type(e).__name__,
        ) from None


def _timeout() -> Any:
    import urllib3

    return urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)


class _NoThreads:
    """Stands in for the ended pool: the SDK ends it once more with each client, also when Python
    itself is ending.
    """

    def close(self) -> None:
        """Nothing to close."""

    def join(self) -> None:
        """Nothing to wait for."""


@cache
def _sdk_parts(process: int) -> tuple[Any, Any]:
    """Return the client and the configuration of this process (a fork makes its own)."""
    import upstox_client

    configuration = upstox_client.Configuration()
    # The SDK sets up handlers of its own; what it logs goes the way of everything else.
    for logger in configuration.logger.values():
        logger.removeHandler(configuration.logger_stream_handler)
    client = upstox_client.ApiClient(configuration)
    client.pool.close()
    client.pool.join()
    client.pool = _NoThreads()
    client.rest_client.pool_manager = _pool(client.rest_client.pool_manager)
    return client, configuration


def _pool(made: Any) -> Any:
    """Return a pool of connections with the TLS settings of ``made``, that sends once and reads in
    bounded time.
    """
    import urllib3
    from urllib3.exceptions import NewConnectionError, ReadTimeoutError, SSLError

    class Pool(urllib3.PoolManager):
        def __init__(self, **settings: Any) -> None:
            super().__init__(num_pools=8, **settings)
            self._lock = threading.Lock()
            self._made_at = self._used_at = time.monotonic()

        def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> Any:  # type: ignore[override]
            self._forget_stale()
            seconds = kw.pop("answer_seconds", ANSWER_SECONDS)
            kw |= {"retries": False, "preload_content": False}
            try:
                response = super().urlopen(method, url, redirect=False, **kw)
            except SSLError as e:
                if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in e.args):
                    raise NewConnectionError(None, "the certificate is not good") from e  # type: ignore[arg-type]
                raise
            body = self._read(response, time.monotonic() + seconds)
            return urllib3.HTTPResponse(
                body, response.headers, response.status, reason=response.reason
            )

        def _read(self, response: Any, deadline: float) -> bytes:
            pieces, size = [], 0
            try:
                while piece := response.read1(65_536):
                    size += len(piece)
                    if size > MAX_ANSWER or time.monotonic() > deadline:
                        raise ReadTimeoutError(None, "", "too long an answer")  # type: ignore[arg-type]
                    pieces.append(piece)
            except BaseException:
                response.close()
                raise
            response.release_conn()
            return b"".join(pieces)

        def _forget_stale(self) -> None:
            with self._lock:
                now = time.monotonic()
                paused = now - self._used_at > FRESH_SECONDS
                if stale := paused or now - self._made_at > KEPT_SECONDS:
                    self._made_at = now
                self._used_at = now
            if stale:
                self.clear()

    settings = dict(made.connection_pool_kw)
    settings["maxsize"] = MOST_KEPT
    return Pool(**settings)
