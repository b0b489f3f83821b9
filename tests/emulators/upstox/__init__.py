"""The Upstox API on loopback: login, REST of both hosts, protobuf feed, order stream, postbacks."""

from tests.emulators.upstox.dialect import App, Upstox

__all__ = ["App", "Upstox"]
