"""Emulators for tests of emulators."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.exchange import Exchange
from tests.emulators.core.server import EmulatorServer
from tests.emulators.zerodha import Zerodha

MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=IST)


@pytest.fixture
def exchange() -> Exchange:
    """An exchange whose clock starts on a Monday morning and runs."""
    return Exchange(clock=Clock(MONDAY))


@pytest.fixture
def zerodha(exchange: Exchange) -> Iterator[EmulatorServer]:
    with EmulatorServer(Zerodha(exchange, heartbeat=0.2)) as emulator:
        emulator.dialect.limiter.on = False
        yield emulator
