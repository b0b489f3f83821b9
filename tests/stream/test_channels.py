import pytest

from marketdata.channels import channel_name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://127.0.0.1:6379", "ticks"),
        ("redis://127.0.0.1:6379/0", "ticks"),
        ("redis://127.0.0.1:6379/3", "ticks:3"),
        ("unix:///run/redis.sock", "ticks"),
        ("unix:///run/redis.sock?db=2", "ticks:2"),
    ],
)
def test_two_databases_of_one_server_do_not_hear_each_other(url, name):
    assert channel_name("ticks", url) == name
