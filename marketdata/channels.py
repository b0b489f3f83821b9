"""Names of Redis channels, and of prices in the live stream.

Publish and subscribe ignore database numbers: the name of a channel carries it. The platform's own
price of an instrument goes by its symbol; the price of a broker goes by the broker's name too.
"""

from __future__ import annotations

from redis.connection import parse_url


def channel_name(name: str, redis_url: str) -> str:
    """Return the channel ``name`` of the platform at ``redis_url``.

    Two platforms in two databases of one Redis server must not hear each other.
    """
    database = int(parse_url(redis_url).get("db", 0))
    return f"{name}:{database}" if database else name


SEPARATOR = "|"  # in no symbol and no broker's name


def broker_symbol(broker: str, symbol: str) -> str:
    """Return the name under which the live stream carries a broker's price of ``symbol``."""
    return f"{broker}{SEPARATOR}{symbol}"


def split_symbol(name: str) -> tuple[str, str]:
    """Return (broker, symbol) of such a name; the broker is empty for the platform's own prices."""
    broker, separator, symbol = name.partition(SEPARATOR)
    return (broker, symbol) if separator else ("", name)
