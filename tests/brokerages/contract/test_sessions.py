"""Sessions: how they open, how they end, and that a dead one is told apart from everything else."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import pytest

from brokerages.base import SessionRenewal
from brokerages.errors import (
    BrokerError,
    NotSupported,
    OutcomeUnknown,
    Refused,
    SessionExpired,
)
from brokerages.types import SessionToken
from tests.brokerages.contract.conftest import limit, order, refusal_of


def need_session(bench, adapter):
    if adapter.capabilities.session_renewal is SessionRenewal.NONE:
        pytest.skip(f"sessions of {bench.name} do not end (session_renewal NONE)")


def need_login(bench, adapter):
    if adapter.capabilities.session_renewal is not SessionRenewal.INTERACTIVE:
        pytest.skip(f"{bench.name} has no login page (session_renewal is not INTERACTIVE)")


def test_session_opens(bench, adapter):
    adapter.check_session()
    assert adapter.token is not None
    assert adapter.token.broker_user_id
    profile = adapter.fetch_profile()
    if bench.has_wire:
        assert profile.broker_user_id == adapter.token.broker_user_id


def test_end_of_the_session_is_known(bench, adapter):
    need_session(bench, adapter)
    now = adapter.context.now()
    assert adapter.token.expires_at is not None
    assert now < adapter.token.expires_at <= now + timedelta(days=1)
    assert adapter.token.expires_at.tzinfo is not None


def test_session_lives_until_the_end_that_was_told(bench, adapter):
    need_session(bench, adapter)
    bench.venue.clock.set(adapter.token.expires_at - timedelta(seconds=30))
    adapter.check_session()
    bench.venue.clock.set(adapter.token.expires_at + timedelta(seconds=1))
    with pytest.raises(SessionExpired):
        adapter.check_session()


def test_health_check_is_one_cheap_call(bench, adapter):
    need_session(bench, adapter)
    adapter.check_session()
    assert bench.server.recorder.count() == bench.sent("session") == 1


def test_wrong_credentials_are_refused(bench, adapter):
    need_session(bench, adapter)
    user_id = bench.new_user()
    known = bench.enroll(user_id)
    secret = next(name for name in known if "secret" in name)
    wrong = {**known, secret: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXQ"}
    other = bench.closed_adapter(user_id, wrong)
    refusal = refusal_of(lambda: other.open_session(bench.grant(other, user_id)))
    assert isinstance(refusal, Refused)
    assert not isinstance(refusal, OutcomeUnknown)
    assert other.credentials[secret] not in str(refusal)


def test_missing_credentials_are_told_without_a_request(bench, adapter):
    need_session(bench, adapter)
    other = bench.closed_adapter(bench.new_user(), {})
    bench.server.recorder.clear()
    refusal = refusal_of(lambda: other.open_session("grant"))
    assert isinstance(refusal, Refused), refusal
    assert bench.server.recorder.count() == 0


def test_no_session_no_request(bench, adapter):
    need_session(bench, adapter)
    other = bench.closed_adapter()
    bench.server.recorder.clear()
    with pytest.raises(SessionExpired):
        other.place_order(order(bench))
    assert bench.server.recorder.count() == 0


def test_login_page_brings_the_state_back(bench, adapter):
    need_login(bench, adapter)
    user_id = bench.new_user()
    fresh = bench.closed_adapter(user_id)
    state = "a.signed-state_with:odd&signs=1 2"
    back = bench.log_in(fresh.login_url(state), user_id)
    assert back["state"] == state
    (grant,) = (back[name] for name in ("request_token", "code") if name in back)
    fresh.token = fresh.open_session(grant)
    assert fresh.fetch_profile().broker_user_id == user_id


def test_login_url_shows_no_secret(bench, adapter):
    need_login(bench, adapter)
    url = adapter.login_url("state")
    secret = adapter.credentials["api_secret"]
    assert secret not in url
    assert quote(adapter.credentials["api_key"]) in url


def test_grant_is_good_once(bench, adapter):
    need_login(bench, adapter)
    user_id = bench.new_user()
    fresh = bench.closed_adapter(user_id)
    grant = bench.grant(fresh, user_id)
    fresh.open_session(grant)
    refusal = refusal_of(lambda: fresh.open_session(grant))
    assert isinstance(refusal, Refused)


def test_login_needs_a_grant(bench, adapter):
    need_login(bench, adapter)
    bench.server.recorder.clear()
    with pytest.raises(SessionExpired):
        bench.closed_adapter().open_session(None)
    assert bench.server.recorder.count() == 0


def test_renewal_without_the_user(bench, adapter):
    if adapter.capabilities.session_renewal is not SessionRenewal.UNATTENDED:
        with pytest.raises(NotSupported):
            adapter.renew_session(adapter.token or SessionToken({}))
        return
    renewed = adapter.renew_session(adapter.token)
    assert renewed.secrets != adapter.token.secrets
    assert renewed.broker_user_id == adapter.token.broker_user_id
    bench.with_token(adapter, renewed).check_session()


CALLS = {
    "check": lambda adapter, bench: adapter.check_session(),
    "place": lambda adapter, bench: adapter.place_order(order(bench)),
    "cancel": lambda adapter, bench: adapter.cancel_order("1926112300000000001", limit(bench, 95)),
    "orders": lambda adapter, bench: adapter.fetch_orders(),
    "find": lambda adapter, bench: adapter.find_order(order(bench)),
    "fills": lambda adapter, bench: adapter.fetch_fills(),
    "positions": lambda adapter, bench: adapter.fetch_positions(),
    "holdings": lambda adapter, bench: adapter.fetch_holdings(),
    "funds": lambda adapter, bench: adapter.fetch_funds(),
    "profile": lambda adapter, bench: adapter.fetch_profile(),
}


@pytest.mark.parametrize("call", list(CALLS))
def test_session_that_ended_at_the_broker(bench, adapter, call):
    """Logged out elsewhere, in the middle of the day: told as such, once, and nothing is done."""
    need_session(bench, adapter)
    bench.end_session(adapter)
    with pytest.raises(SessionExpired) as raised:
        CALLS[call](adapter, bench)
    assert raised.value.advice
    assert bench.server.recorder.count() <= 2  # the call, and a read that makes sure
    assert {bench.sent(what) for what in ("place", "cancel")} <= {0, 1}
    assert bench.account(adapter).orders == {}


def test_closing_a_session(bench, adapter):
    adapter.close_session()
    adapter.close_session()


@pytest.mark.parametrize("kind", ["status", "drop_after", "garbage"])
def test_failed_opening_is_no_open_session(bench, adapter, kind):
    need_session(bench, adapter)
    user_id = bench.new_user()
    fresh = bench.closed_adapter(user_id)
    grant = bench.grant(fresh, user_id)
    bench.fault(kind, "mint")
    bench.server.recorder.clear()
    with pytest.raises(BrokerError):
        fresh.open_session(grant)
    assert bench.sent("mint") == 1


def test_failures_keep_secrets(bench, adapter, caplog):
    """Neither the errors nor the log hold what opens a session."""
    need_session(bench, adapter)
    said = []
    for kind in ("expired", "status", "drop_after", "garbage"):
        bench.fault(kind, "place", **({"body": "{"} if kind == "garbage" else {}))
        refusal = refusal_of(lambda: adapter.place_order(order(bench)))
        said += [repr(refusal), str(refusal), str(refusal.__cause__), str(refusal.__context__)]
    said.append(caplog.text)
    secrets = [*adapter.token.secrets.values()]
    secrets += [value for name, value in adapter.credentials.items() if name != "api_key"]
    for secret in filter(None, secrets):
        assert not any(secret in text for text in said)
