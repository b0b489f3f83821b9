"""A broker that repeats what it was sent does not make us repeat it."""

from __future__ import annotations

import pytest

from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.base import AdapterContext
from brokerages.errors import OutcomeUnknown, Refused
from brokerages.services.scrubbing import MASK, scrubbed
from brokerages.types import SessionToken
from tests.brokerages.fake_broker import SigningBroker

KEY, SECRET, TOKEN, GRANT = "key-of-the-app", "secret-of-the-app", "token-of-today", "grant-1"


def adapter(error: Exception) -> SigningBroker:
    class Echo(SigningBroker):
        def check_session(self) -> None:
            raise error

        def open_session(self, grant: str | None) -> SessionToken:
            raise Refused(f"wrong grant {grant} for {KEY}", broker="echo", code=f"E-{SECRET}")

    context = AdapterContext("c", lambda _: None, lambda: None)  # type: ignore[arg-type,return-value]
    made = Echo(context, {"api_key": KEY, "api_secret": SECRET}, SessionToken({"t": TOKEN}))
    return scrubbed(made)  # type: ignore[return-value]


def test_words_of_the_broker_are_kept_without_the_secrets():
    error = OutcomeUnknown(f"bad token {KEY}:{TOKEN}", broker="echo", code="E1")

    with pytest.raises(OutcomeUnknown) as caught:
        adapter(error).check_session()

    assert caught.value.message == str(caught.value) == f"bad token {MASK}:{MASK}"
    assert caught.value.code == "E1"


def test_the_cause_is_cleaned_as_well():
    def fail() -> None:
        try:
            raise ConnectionError(f"GET /?api_key={KEY} with {SECRET}")
        except ConnectionError as e:
            raise OutcomeUnknown("no answer", broker="echo") from e

    made = adapter(Refused("", broker="echo"))
    made.fetch_orders = fail  # type: ignore[method-assign,assignment]
    scrubbed(made)

    with pytest.raises(OutcomeUnknown) as caught:
        made.fetch_orders()

    assert caught.value.__cause__ is not None
    assert not any(s in str(caught.value.__cause__) for s in (KEY, SECRET))


def test_a_grant_is_a_secret_too():
    with pytest.raises(Refused) as caught:
        adapter(Refused("", broker="echo")).open_session(GRANT)

    assert caught.value.message == f"wrong grant {MASK} for {MASK}"
    assert caught.value.code == f"E-{MASK}"


def test_an_adapter_without_secrets_costs_nothing():
    context = AdapterContext("c", lambda _: None, lambda: None)  # type: ignore[arg-type,return-value]
    paper = PaperAdapter(context, {})

    assert scrubbed(paper) is paper
    assert "place_order" not in vars(paper)
