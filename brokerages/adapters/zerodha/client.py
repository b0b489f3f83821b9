"""The SDK, made to send once: what it lacks is set here, from outside.

The SDK itself is unmodified. Its HTTP session is replaced by one that never retries, follows no
redirect, takes no proxy from the environment, keeps time limits and reads numbers exactly; and a
failure is judged by the answer as it came over the wire, because the SDK's exceptions lose parts of
it. Importing this module imports the SDK.
"""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from decimal import Decimal
from functools import cache, partial
from typing import Any, TypeVar

import certifi
import requests
from kiteconnect import KiteConnect
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError
from urllib3.util.ssl_ import create_urllib3_context

from brokerages.adapters.zerodha import failures, market
from brokerages.adapters.zerodha.values import BROKER
from brokerages.errors import BrokerError, NotSent

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 3.0, 10.0, 15.0
CHUNK = 65536
LARGEST_ANSWER = 128 * 1024 * 1024  # an instrument list has some ten
HIDDEN = "[redacted]"


class _Watch:
    """The end of one request. The limits of `requests` hold for each piece of an answer: one that
    comes byte by byte could take for ever.
    """

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()

    def over_socket(self, one: socket.socket | None) -> None:
        """Watch the socket that the answer is to come from."""
        self._socket = one
        if self.over:  # since connecting took that long
            self._cut()

    def _cut(self) -> None:
        self.over = True
        if self._socket is not None:
            try:
                # that of the class: an encrypted socket's own would take its state from under
                # whoever reads
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return  # closed meanwhile


_watch: ContextVar[_Watch] = ContextVar("_watch")


class _Plain(HTTPConnection):
    def getresponse(self) -> Any:
        _watch.get().over_socket(self.sock)
        return super().getresponse()


class _Secure(HTTPSConnection):
    def getresponse(self) -> Any:
        _watch.get().over_socket(self.sock)
        return super().getresponse()


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class _Adapter(HTTPAdapter):
    """Connections that are watched, to servers that prove who they are, and no second try."""

    def __init__(self) -> None:
        super().__init__(max_retries=0)

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=_trusting(certifi.where()), **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"  # by the authorities of the shared context


@cache
def _trusting(path: str) -> ssl.SSLContext:
    """Return the context of all connections: reading the authorities for each costs more time than
    the request.
    """
    context = create_urllib3_context()
    context.load_verify_locations(path)
    return context


class OneTrySession(requests.Session):
    """Sends each request once. ``sent`` says whether the present one may have left us, ``answer``
    is what came back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter())
        self.begin()

    def begin(self, seconds: float | None = None) -> None:
        """Forget the last request; the next may take ``seconds`` in all."""
        self.seconds, self.sent = seconds or TOTAL_SECONDS, False
        self.answer: requests.Response | None = None

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        kwargs |= {
            "allow_redirects": False,
            "timeout": (CONNECT_SECONDS, READ_SECONDS),
            "stream": True,  # so that the whole body comes under the watch, here
        }
        watch = _Watch(self.seconds)
        before = _watch.set(watch)
        self.sent = True
        try:
            response = super().send(request, **kwargs)
            body = _body(response.raw)
        finally:
            watch.stop()
            _watch.reset(before)
        if watch.over:
            raise TimeoutError("the answer took too long")
        response.raw = io.BytesIO(body)
        exactly = partial(response.json, parse_float=Decimal, parse_constant=_no_number)
        response.json = exactly  # type: ignore[method-assign]
        self.answer = response
        return response


class Kite(KiteConnect):
    """The SDK's client, with instrument lists read without floats."""

    def _parse_instruments(self, data: bytes | str) -> Iterator[dict[str, str]]:
        return market.instrument_rows(data)


class KiteClient:
    """Calls of one user's session, each of which raises `BrokerError` and nothing else."""

    def __init__(self, api_key: str, access_token: str | None, root: str | None) -> None:
        self._session = OneTrySession()
        self._kite = Kite(api_key=api_key, access_token=access_token, root=root, debug=False)
        self._kite.reqsession = self._session
        self._hidden = [text for text in (api_key, access_token) if text]

    def call(
        self,
        ask: Callable[[Any], T],
        *,
        of_order: bool = False,
        seconds: float | None = None,
    ) -> T:
        """Return what ``ask`` makes of one request, which may take ``seconds`` in all.
        ``of_order``: it names an order.

        Raises:
            BrokerError: by what is proved of the request.
        """
        self._session.begin(seconds)
        try:
            result = ask(self._kite)
        except BrokerError:
            raise  # our own check, before anything was sent
        except Exception as e:
            failure = self._proof(e, of_order)
        else:
            answer = self._session.answer
            if answer is None or 200 <= answer.status_code < 300:
                return result
            failure = failures.unreadable(answer.status_code)  # a success that is none
        # Raised outside of `except`: an exception's text can hold the address with its tokens.
        raise failure

    def exchange(self, request_token: str, api_secret: str) -> Mapping[str, Any]:
        """Return the session that a login opens, as it came over the wire."""

        def ask(kite: KiteConnect) -> Mapping[str, Any]:
            try:
                kite.generate_session(request_token, api_secret)
            except (KeyError, TypeError, ValueError):
                # the SDK wants a login time; the session is open without one, too
                if not self._answered().get("access_token"):
                    raise
            return self._answered()

        self._hidden.append(request_token)
        return self.call(ask)

    def _answered(self) -> Mapping[str, Any]:
        """Return ``data`` of the last answer."""
        body = _json(self._session.answer)
        data = body.get("data") if isinstance(body, Mapping) else None
        return data if isinstance(data, Mapping) else {}

    def _proof(self, error: Exception, of_order: bool) -> BrokerError:
        answer = self._session.answer
        if answer is None:
            if not self._session.sent or _never_connected(error):
                return NotSent("Zerodha could not be reached.", broker=BROKER, code="not_connected")
            return failures.unknown("Zerodha did not answer.", type(error).__name__)
        if 200 <= answer.status_code < 300 and not _is_error(answer):
            # the place and kind alone: the text may hold what the broker sent
            place = traceback.extract_tb(error.__traceback__)[-1]
            logger.warning(
                "an answer of Zerodha could not be read: %s at %s:%s",
                type(error).__name__,
                place.name,
                place.lineno,
            )
            return failures.unreadable(answer.status_code)
        failure = failures.failure_of(
            answer.status_code,
            _json(answer),
            retry_after=answer.headers.get("retry-after"),
            of_order=of_order,
        )
        for text in self._hidden:
            failure.message = failure.message.replace(text, HIDDEN)
        failure.args = (failure.message,)
        return failure


def wire_number(number: Decimal) -> float | int:
    """Return a Decimal as JSON writes it: the shortest text of its float names the same number."""
    return int(number) if number == number.to_integral_value() else float(number)


def _body(raw: Any) -> bytes:
    """Read an answer to its end.

    Raises:
        ValueError: too long to be one.
    """
    body = bytearray()
    while chunk := raw.read1(CHUNK, decode_content=True):
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raw.close()
            raise ValueError("the answer is too long")
    return bytes(body)


def _never_connected(error: Exception) -> bool:
    """Return whether the error proves that no byte of the request left us."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    if not isinstance(error, requests.ConnectionError):
        return False
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(cause, SSLError):  # a certificate that is not trusted ends the handshake
        return bool(cause.args) and isinstance(cause.args[0], ssl.SSLCertVerificationError)
    return isinstance(cause, NewConnectionError | ConnectTimeoutError)


def _is_error(answer: requests.Response) -> bool:
    body = _json(answer)
    return isinstance(body, Mapping) and (body.get("status") == "error" or "error_type" in body)


def _json(answer: requests.Response | None) -> Any:
    try:
        return None if answer is None else answer.json()
    except (ValueError, RecursionError):
        return None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")
