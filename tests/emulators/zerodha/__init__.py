"""Kite Connect on loopback: login page, REST, ticker and postbacks as the broker's wire is."""

from tests.emulators.zerodha.dialect import App, Zerodha

__all__ = ["App", "Zerodha"]
