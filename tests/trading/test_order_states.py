import itertools

import pytest

from brokerages.types import ReportedStatus
from trading.order_states import (
    CANCELLABLE,
    CLOSED,
    LIVE,
    MODIFIABLE,
    REPORTED,
    TRANSITIONS,
    OrderStatus,
    OrderTrigger,
    next_status,
    resting_status,
)

FILLS = {OrderTrigger.FILL_PART, OrderTrigger.FILL_ALL}


def test_every_status_can_be_reached():
    reached = {OrderStatus.PENDING}
    while (
        more := {after for (before, _), after in TRANSITIONS.items() if before in reached} - reached
    ):
        reached |= more
    assert reached == set(OrderStatus)


@pytest.mark.parametrize("status", sorted(CLOSED - {OrderStatus.NOT_PLACED}))
@pytest.mark.parametrize("trigger", sorted(set(OrderTrigger) - FILLS))
def test_only_a_fill_moves_a_closed_order(status, trigger):
    assert next_status(status, trigger) is None


@pytest.mark.parametrize("status", list(OrderStatus))
def test_a_fill_is_never_lost(status):
    assert next_status(status, OrderTrigger.FILL_ALL) is OrderStatus.FILLED
    assert next_status(status, OrderTrigger.FILL_PART) is not None


@pytest.mark.parametrize("status", [OrderStatus.CANCELLED, OrderStatus.EXPIRED])
def test_a_late_part_fill_does_not_reopen_an_end(status):
    assert next_status(status, OrderTrigger.FILL_PART) is status


@pytest.mark.parametrize(
    "status", [OrderStatus.REJECTED, OrderStatus.NOT_PLACED, OrderStatus.DENIED]
)
def test_a_fill_revives_what_was_believed_absent(status):
    assert next_status(status, OrderTrigger.FILL_PART) is OrderStatus.PARTIALLY_FILLED


def test_only_a_proof_returns_an_order_to_pending():
    back = {pair for pair, after in TRANSITIONS.items() if after is OrderStatus.PENDING}
    assert back == {(OrderStatus.SUBMITTED, OrderTrigger.NOT_SENT)}


def test_every_pair_is_named_or_changes_nothing():
    named = set(TRANSITIONS)
    for pair in itertools.product(OrderStatus, OrderTrigger):
        assert (next_status(*pair) is not None) == (pair in named)


def test_every_word_of_a_broker_has_a_meaning():
    assert set(REPORTED) == set(ReportedStatus)


def test_groups_do_not_overlap():
    assert set(OrderStatus) == LIVE | CLOSED
    assert not LIVE & CLOSED
    assert MODIFIABLE <= LIVE
    assert CANCELLABLE <= LIVE


@pytest.mark.parametrize(
    ("filled", "waits", "status"),
    [
        (0, False, OrderStatus.OPEN),
        (0, True, OrderStatus.TRIGGER_PENDING),
        (5, True, OrderStatus.PARTIALLY_FILLED),
        (5, False, OrderStatus.PARTIALLY_FILLED),
    ],
)
def test_resting_status_follows_facts(filled, waits, status):
    assert resting_status(filled=filled, waits_for_trigger=waits) is status
