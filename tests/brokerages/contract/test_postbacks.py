"""Native postbacks: verified where the broker signs, and hints at most."""

from __future__ import annotations

import json

import pytest

from brokerages.types import OrderHint
from tests.brokerages.contract.conftest import limit, order, until


@pytest.fixture
def posted(bench, adapter, mailbox):
    """The postback of a filled order: its number, headers, body, and the app's secret."""
    if not adapter.capabilities.sends_postbacks:
        pytest.skip(f"{adapter.name} sends no postbacks (sends_postbacks)")
    secret = bench.postbacks_to(mailbox.url)
    number = adapter.place_order(order(bench)).broker_order_id
    headers, body = until(lambda: mailbox.posts and mailbox.posts[-1])
    return number, headers, body, secret


def test_postback_names_the_order(adapter, posted):
    number, _, body, _ = posted
    hints = adapter.parse_postback(body)
    assert [hint.broker_order_id for hint in hints] == [number]
    assert all(isinstance(hint, OrderHint) and hint.dedupe_key for hint in hints)


def test_signature(adapter, posted):
    """True with the app's secret; false with another, or for a broker that signs nothing."""
    _, headers, body, secret = posted
    signs = adapter.capabilities.signs_postbacks
    assert adapter.verify_postback(headers, body, secret) is signs
    assert adapter.verify_postback(headers, body, secret + "x") is False
    assert adapter.verify_postback(headers, body, "") is False


def test_forged_postback(adapter, posted):
    """Another order under the same signature is not genuine."""
    number, headers, body, secret = posted
    forged = body.replace(number.encode(), b"1926112300000099999")
    assert forged != body
    assert adapter.verify_postback(headers, forged, secret) is False


def test_same_delivery_twice_has_one_key(bench, adapter, posted, mailbox):
    _, _, body, _ = posted
    count = len(mailbox.posts)
    bench.server.faults.add("duplicate", "EVENT postback", times=None)
    adapter.cancel_order(
        adapter.place_order(limit(bench, "95")).broker_order_id, limit(bench, "95")
    )
    until(lambda: len(mailbox.posts) >= count + 2)
    keys = [adapter.parse_postback(b)[0].dedupe_key for _, b in list(mailbox.posts)[count:]]
    assert len(set(keys)) < len(keys)
    assert adapter.parse_postback(body)[0].dedupe_key not in keys


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"not json", b"\xff\xfe", b'{"order_id": null}', b"[" * 100_000],
    ids=["empty", "object", "list", "null", "text", "bytes", "no number", "deep"],
)
def test_what_is_no_postback(adapter, body):
    """Anybody can post: it is told by `ValueError`, and is never genuine."""
    with pytest.raises(ValueError):
        adapter.parse_postback(body)
    assert adapter.verify_postback({}, body, "secret") is False


def test_no_postbacks_no_parser(adapter):
    if adapter.capabilities.sends_postbacks:
        pytest.skip(f"{adapter.name} sends postbacks")
    with pytest.raises(ValueError):
        adapter.parse_postback(json.dumps({"order_id": "1", "status": "COMPLETE"}).encode())
