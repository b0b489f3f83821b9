"""Broker name → adapter class. The only module that names `brokerages.adapters`; imports lazily."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from brokerages.base import BrokerAdapter, VenueEngine

_ADAPTERS = {
    "paper": "brokerages.adapters.paper.adapter:PaperAdapter",
    "zerodha": "brokerages.adapters.zerodha.adapter:ZerodhaAdapter",
    "upstox": "brokerages.adapters.upstox.adapter:UpstoxAdapter",
    "groww": "brokerages.adapters.groww.adapter:GrowwAdapter",
}

_VENUES = {
    "paper": "brokerages.adapters.paper.engine:PaperEngine",
}

BROKER_NAMES = tuple(_ADAPTERS)


class UnknownBroker(LookupError):
    """No broker of that name."""


@cache
def adapter_class(broker: str) -> type[BrokerAdapter]:
    """Return the adapter class of ``broker``.

    Raises:
        UnknownBroker: the name is not in the registry.
    """
    try:
        path = _ADAPTERS[broker]
    except KeyError:
        raise UnknownBroker(broker) from None
    adapter: type[BrokerAdapter] = _load(path)
    return adapter


def is_venue(broker: str) -> bool:
    """Whether the broker's market runs inside the platform, on the platform's own prices."""
    return broker in _VENUES


@cache
def venue_engines() -> tuple[VenueEngine, ...]:
    """Return the engines of the brokers whose market runs inside the platform."""
    return tuple(_load(path)() for path in _VENUES.values())


def _load(path: str) -> Any:
    module_name, name = path.split(":")
    return getattr(import_module(module_name), name)
