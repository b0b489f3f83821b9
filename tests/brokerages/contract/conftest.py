"""The broker on the bench, and short words for what checks do."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from brokerages.base import BrokerAdapter, BrokerStream
from brokerages.errors import BrokerError
from brokerages.registry import BROKER_NAMES
from brokerages.types import OrderRequest, OrderType, Product, Side, StreamEvent
from tests.brokerages.contract.benches import BENCHES, Bench

TAG, LIMIT_TAG = "ABCDEFGHJK0123456789", "LIMAT000000000000001"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The paper broker's wire is the database; the others need none."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec and callspec.params.get("bench") == "paper":
            item.add_marker(pytest.mark.django_db)


@pytest.fixture(params=[name for name in BENCHES if name in BROKER_NAMES])
def bench(request: pytest.FixtureRequest, record_property: Any) -> Bench:
    record_property("broker", request.param)
    record_property("check", check_name(request.node))
    made = BENCHES[request.param](request)
    made.show("100")
    return made


def check_name(node: Any) -> str:
    """Return the name of a check without its broker: what all brokers share."""
    others = [str(v) for k, v in sorted(node.callspec.params.items()) if k != "bench"]
    broker = node.callspec.params["bench"]
    variant = "-".join(part for part in node.callspec.id.split("-") if part != broker)
    name = node.originalname.removeprefix("test_").replace("_", " ")
    return f"{name} [{variant}]" if others else name


@pytest.fixture
def adapter(bench: Bench) -> BrokerAdapter:
    return bench.adapter()


def order(bench: Bench, tag: str = TAG, **terms: Any) -> OrderRequest:
    """Return a market order to buy 10 shares for delivery, or what ``terms`` make of it."""
    for name in ("price", "trigger_price"):
        if terms.get(name) is not None:
            terms[name] = Decimal(str(terms[name]))
    return OrderRequest(
        **{
            "client_order_id": tag,
            "instrument": bench.share,
            "side": Side.BUY,
            "quantity": 10,
            "order_type": OrderType.MARKET,
            "product": Product.CNC,
            **terms,
        }
    )


def limit(bench: Bench, price: Any, tag: str = LIMIT_TAG, **terms: Any) -> OrderRequest:
    return order(bench, tag, order_type=OrderType.LIMIT, price=price, **terms)


def refusal_of(call: Callable[[], Any]) -> BrokerError | None:
    """Return the broker error that a call raises, if it raises one."""
    try:
        call()
    except BrokerError as e:
        return e
    return None


def until(holds: Callable[[], Any], seconds: float = 10) -> Any:
    """Return what ``holds`` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come in time")


class Listener:
    """Reads a stream in a thread of its own."""

    def __init__(self, stream: BrokerStream) -> None:
        self.stream, self.events = stream, list[StreamEvent]()
        self.ended = threading.Event()
        self._failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for event in self.stream.events():
                self.events.append(event)
        except BaseException as e:
            self._failures.put(e)
        finally:
            self.ended.set()

    def of(self, kind: type) -> list[Any]:
        return [event for event in list(self.events) if isinstance(event, kind)]

    def wait(self, kind: type, count: int = 1, seconds: float = 15) -> list[Any]:
        """Wait for ``count`` events of a kind."""
        until(lambda: len(self.of(kind)) >= count or not self._failures.empty(), seconds)
        if not self._failures.empty():
            raise self._failures.get()
        return self.of(kind)

    def close(self) -> None:
        self.stream.close()
        assert self.ended.wait(10), "the stream did not end"


@pytest.fixture
def listen() -> Iterator[Callable[[BrokerStream], Listener]]:
    made: list[Listener] = []

    def start(stream: BrokerStream) -> Listener:
        made.append(Listener(stream))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


class Mailbox:
    """A loopback server that keeps what is posted to it."""

    def __init__(self) -> None:
        posts = self.posts = list[tuple[dict[str, str], bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posts.append((dict(self.headers.items()), body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/postbacks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.server.shutdown()
    made.server.server_close()
