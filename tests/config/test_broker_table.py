"""The page of what brokers can do says what the code goes by."""

from brokerages.registry import BROKER_NAMES, adapter_class
from config import broker_table


def test_the_page_is_what_the_code_says() -> None:
    assert broker_table.PAGE.read_text() == broker_table.page(), (
        "run: python -m config.broker_table"
    )


def test_every_broker_that_needs_a_login_has_a_page() -> None:
    for name in BROKER_NAMES:
        if adapter_class(name).credential_fields:
            assert broker_table.PAGE.with_name(f"{name}.md").exists(), name
