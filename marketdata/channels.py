"""Names of Redis channels. Publish and subscribe ignore database numbers: the name carries it."""

from __future__ import annotations

from redis.connection import parse_url


def channel_name(name: str, redis_url: str) -> str:
    """Return the channel ``name`` of the platform at ``redis_url``.

    Two platforms in two databases of one Redis server must not hear each other.
    """
    database = int(parse_url(redis_url).get("db", 0))
    return f"{name}:{database}" if database else name
