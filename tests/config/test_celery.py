from config.celery import app
from config.servers import celery_url, redis_database

APPS = {"config", "audit", "accounts", "brokerages", "marketdata", "trading"}


def test_every_scheduled_task_exists():
    app.loader.import_default_modules()

    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)


def test_every_task_of_ours_has_a_queue_and_a_name():
    app.loader.import_default_modules()
    ours = [name for name in app.tasks if not name.startswith("celery.")]
    queues = {queue.name for queue in app.conf.task_queues}

    assert ours
    for name in ours:
        assert name.partition(".")[0] in APPS
        assert app.amqp.router.route({}, name)["queue"].name in queues


def test_redelivery_is_longer_than_any_task():
    seconds = app.conf.broker_transport_options["visibility_timeout"]

    assert app.conf.task_time_limit < seconds
    assert app.conf.visibility_timeout == seconds
    assert app.conf.result_backend_transport_options["visibility_timeout"] == seconds
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost


def test_redis_addresses():
    assert redis_database("redis://:pw@host:6379/0", 1) == "redis://:pw@host:6379/1"
    assert redis_database("redis://host", 3) == "redis://host/3"
    assert redis_database("rediss://host/2?ssl_cert_reqs=none", 1) == (
        "rediss://host/3?ssl_cert_reqs=none"
    )
    assert redis_database("unix:///run/redis.sock?db=2", 1) == "unix:///run/redis.sock?db=3"
    assert (
        celery_url("unix:///run/redis.sock?db=2") == "redis+socket:///run/redis.sock?virtual_host=2"
    )
    assert celery_url("redis://host/2") == "redis://host/2"
