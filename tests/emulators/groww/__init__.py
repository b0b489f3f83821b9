"""Groww's trading API on loopback: token mint, REST, instrument file, and the feed over NATS."""

from tests.emulators.groww.dialect import Groww

__all__ = ["Groww"]
