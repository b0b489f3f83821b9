"""Markets for the tests of this app: the bundled instruments, loaded as the command does."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from marketdata import selectors
from marketdata.services import instruments_load

TODAY = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _fresh_tables() -> Iterator[None]:
    """Rows of a test are rolled back; what the process keeps of them must go too."""
    selectors.clear_tables()
    yield
    selectors.clear_tables()


@pytest.fixture
def market(db: None) -> None:
    """Every bundled instrument, and the contracts of today."""
    instruments_load()
