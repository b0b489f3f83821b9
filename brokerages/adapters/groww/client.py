"""The SDK's client on a wire of our own. Importing this module imports the SDK (and pandas).

Addresses, parameters and bodies are the SDK's. Ours are the transport (timeouts, a deadline for the
whole answer, no proxies from the environment, no redirects, nothing sent twice) and the reading of
answers, since the SDK looks at the envelope before the HTTP status and reads prices as floats. Its
constructor is not run: it calls Groww without a timeout and prints.
"""

from __future__ import annotations

import csv
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from growwapi import GrowwAPI
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    SSLError,
)

from brokerages.adapters.groww.answers import BROKER, payload_of
from brokerages.errors import NotSent, OutcomeUnknown

API = "https://api.groww.in"
ASSETS = "https://growwapi-assets.groww.in"
SOCKET_TOKEN = "/v1/api/apex/v1/socket/token/create/"  # noqa: S105 - a path
MINT = "/v1/token/api/access"
CREATE = "/v1/order/create"
INSTRUMENTS = "/instruments/instrument.csv"

CONNECT_TIMEOUT = 3.05
READ_TIMEOUT = 10.0  # between two pieces of an answer
DEADLINE = 15.0  # for the whole answer
DOWNLOAD_DEADLINE = 300.0
LARGEST_ANSWER = 32 * 1024 * 1024

NEVER_SENT = (NewConnectionError, ConnectTimeoutError)


@dataclass(frozen=True, slots=True)
class Answer:
    """``order``: the request was one to place, change or cancel an order; ``places``: to place."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    order: bool = False
    places: bool = False
    enveloped: bool = True


class Client(GrowwAPI):
    """``pace`` is asked before each request. ``timeout`` and ``deadline`` are seconds."""

    def __init__(
        self,
        token: str,
        *,
        api: str = "",
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> None:
        self.origin = (api or API).rstrip("/")
        self.domain, self.token, self.instruments = f"{self.origin}/v1", token, None
        self._GROWW_GENERATE_SOCKET_TOKEN_URL = self.origin + SOCKET_TOKEN
        self._timeout, self._deadline = timeout or READ_TIMEOUT, deadline or DEADLINE
        self._session = _session(self._deadline)

    def close(self) -> None:
        self._session.close()

    def mint(self, key: str, request: Mapping[str, Any]) -> Answer:
        """Ask for an access token and return the answer unread: the SDK's own call drops all of it
        but the token.
        """
        return self._send(
            "POST", self.origin + MINT, headers=self._build_headers(key), json=request,
            enveloped=False,
        )  # fmt: skip

    def order_page(self, segment: str, page: int, page_size: int) -> dict[str, Any]:
        """Return a page of the day's orders. The SDK's own call leaves the page size out."""
        answer = self._request_get(
            url=f"{self.domain}/order/list",
            params={"segment": segment, "page": page, "page_size": page_size},
            headers=self._build_headers(self.token),
        )
        return self._parse_response(answer)

    # --- What the SDK's methods call --------------------------------------------------------------

    def _request_get(
        self, url: str, params: Any = None, headers: Any = None, timeout: Any = None, **kwargs: Any
    ) -> Answer:
        return self._send("GET", url, params=params, headers=headers)

    def _request_post(
        self, url: str, json: Any = None, headers: Any = None, timeout: Any = None, **kwargs: Any
    ) -> Answer:
        return self._send(
            "POST", url, params=kwargs.get("params"), headers=headers, json=json,
            enveloped=not url.endswith(SOCKET_TOKEN),
        )  # fmt: skip

    def _request_put(self, *args: Any, **kwargs: Any) -> Answer:
        raise NotImplementedError("nothing that we use is a PUT")

    def _parse_response(self, response: Answer) -> dict[str, Any]:
        return payload_of(
            response.status,
            response.content,
            response.headers,
            order=response.order,
            places=response.places,
            enveloped=response.enveloped,
        )

    # --- The wire ---------------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        params: Any = None,
        json: Any = None,
        enveloped: bool = True,
    ) -> Answer:
        """Send once.

        Raises:
            NotSent: no connection was made.
            OutcomeUnknown: it was sent and the answer did not come, or not whole.
        """
        path = urlsplit(url).path if method == "POST" else ""
        order, places = path.startswith("/v1/order/"), path == CREATE
        if method == "POST":
            self._session.close()  # an order does not go out on a connection that may be half dead
        answer = self._exchange(method, url, headers, params, json)
        if answer.status in (307, 308) and url.endswith(SOCKET_TOKEN):
            # Groww has been seen to send the request for a socket token on to itself.
            target = urljoin(url, answer.headers.get("Location", ""))
            if urlsplit(target)[:2] == urlsplit(url)[:2]:
                answer = self._exchange(method, target, headers, params, json)
        return Answer(answer.status, answer.headers, answer.content, order, places, enveloped)

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], params: Any, json: Any
    ) -> Answer:
        ends = time.monotonic() + self._deadline
        try:
            with self._session.request(
                method,
                url,
                params=params,
                json=json,
                headers=dict(headers),
                timeout=(CONNECT_TIMEOUT, self._timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _content(response, ends)
                return Answer(response.status_code, response.headers, content)
        except (requests.RequestException, HTTPError, OSError) as e:
            raise failure_of(e) from e


def download_rows(
    assets: str, pace: Callable[[], None], deadline: float = DOWNLOAD_DEADLINE
) -> Iterator[dict[str, str]]:
    """Yield the rows of the instrument file as they arrive. The SDK would keep all of it in memory
    and write it into its own folder.
    """
    pace()
    ends = time.monotonic() + deadline
    with _session(DEADLINE) as session:
        try:
            with session.get(
                (assets or ASSETS).rstrip("/") + INSTRUMENTS,
                timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code != 200:
                    raise _broken(f"the instrument list came with HTTP {response.status_code}")
                yield from _rows(response, ends)
        except (requests.RequestException, HTTPError, OSError, csv.Error, UnicodeError) as e:
            raise failure_of(e) from e


def failure_of(error: Exception) -> NotSent | OutcomeUnknown:
    """Return what a broken exchange proves: only where no connection was made, nothing was sent."""
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, NEVER_SENT):
        return NotSent("Groww cannot be reached.", broker=BROKER, code="unreachable")
    if isinstance(reason, SSLError) and isinstance(reason.args[0], ssl.SSLCertVerificationError):
        return NotSent("Groww's certificate is not valid.", broker=BROKER, code="certificate")
    if isinstance(error, requests.Timeout):
        return _broken("no answer in time", "timeout")
    return _broken("the connection broke")


def _content(response: requests.Response, ends: float) -> bytes:
    parts, size = [], 0
    while part := response.raw.read1(65536, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER or time.monotonic() > ends:
            raise _broken("no whole answer in time", "timeout")
    content, expected = b"".join(parts), response.headers.get("Content-Length")
    plain = "Content-Encoding" not in response.headers
    if plain and expected is not None and expected.isdigit() and int(expected) != size:
        raise _broken("the answer broke off")
    return content


def _rows(response: requests.Response, ends: float) -> Iterator[dict[str, str]]:
    def lines() -> Iterator[str]:
        for line in response.iter_lines(chunk_size=65536):
            if time.monotonic() > ends:
                raise _broken("the instrument list took too long", "timeout")
            yield line.decode("utf-8-sig")

    reader = csv.DictReader(lines())
    if "trading_symbol" not in (reader.fieldnames or ()):
        raise _broken("the instrument list is none", "unreadable")
    yield from reader


def _broken(what: str, code: str = "broken") -> OutcomeUnknown:
    return OutcomeUnknown(f"Groww: {what}.", broker=BROKER, code=code)


# --- A deadline for the head of an answer ---------------------------------------------------------


class _Patient:
    """A connection that is cut when the head of an answer does not come within ``patience``
    seconds, however slowly it drips.
    """

    patience = DEADLINE

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        timer = threading.Timer(self.patience, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse(*args, **kwargs)  # type: ignore[misc]
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        if (sock := getattr(self, "sock", None)) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _Plain(_Patient, HTTPConnection):
    pass


class _Secure(_Patient, HTTPSConnection):
    pass


class _Adapter(HTTPAdapter):
    """Retries nothing."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        super().__init__(max_retries=0, pool_connections=2, pool_maxsize=2)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: PoolManager = self.poolmanager
        fields = {"patience": self._patience}
        manager.pool_classes_by_scheme = {
            "http": type(
                "Pool", (HTTPConnectionPool,), {"ConnectionCls": type("Plain", (_Plain,), fields)}
            ),
            "https": type(
                "Pool",
                (HTTPSConnectionPool,),
                {"ConnectionCls": type("Secure", (_Secure,), fields)},
            ),
        }


def _session(patience: float) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxies and no passwords from the environment
    session.mount("https://", _Adapter(patience))
    session.mount("http://", _Adapter(patience))
    return session
