import time

import pytest
from django.core.cache import cache

from config.cache import TolerantRedisCache


def test_value_is_kept():
    cache.set("price", "1450.05", 30)

    assert cache.get("price") == "1450.05"


def test_without_redis_everything_is_a_miss():
    away = TolerantRedisCache("redis://127.0.0.1:1/0", {})

    assert away.get("a", "default") == "default"
    assert away.set("a", 1) is None
    assert away.add("a", 1) is True
    assert away.get_many(["a"]) == {}
    assert away.get_or_set("a", lambda: 5) == 5
    assert away.incr("a") == 1
    assert away.delete("a") is False
    assert away.clear() is None


def test_outage_costs_no_timeout_per_call():
    away = TolerantRedisCache("redis://127.0.0.1:1/0", {})
    away.get("a")

    start = time.perf_counter()
    for _ in range(1000):
        away.get("a")
    assert time.perf_counter() - start < 0.2


def test_errors_other_than_absence_are_raised():
    cache.set("text", "not a number")

    with pytest.raises(Exception, match="not an integer"):
        cache.incr("text")
