"""What docker-compose.yml starts, exists. `make production-smoke` runs these very commands."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands

from config.celery import app

COMPOSE = yaml.safe_load(Path(settings.BASE_DIR, "docker-compose.yml").read_text())
OURS = {name: each for name, each in COMPOSE["services"].items() if each.get("image") == "sauda"}


@pytest.mark.parametrize("name", OURS)
def test_command_names_what_exists(name):
    program, *words = OURS[name]["command"]

    assert Path(sys.executable).with_name(program).exists()
    for word in words:
        if application := re.fullmatch(r"(config\.\w+):(\w+)", word):
            importlib.import_module(application[1])
    if program == "python":
        assert words[0] == "manage.py"
        assert words[1] in get_commands()
    if program == "celery":
        assert words[words.index("-A") + 1] == "config.celery"


def test_every_queue_has_a_worker():
    workers = [each["command"] for name, each in OURS.items() if name.startswith("worker")]
    served = [queue for words in workers for queue in words[words.index("-Q") + 1].split(",")]

    assert sorted(served) == sorted(queue.name for queue in app.conf.task_queues)


def test_every_process_is_there_and_none_is_privileged():
    assert set(OURS) == {
        "web", "stream", "worker-io", "worker-cpu", "beat", "feed", "order-stream", "migrate",
    }  # fmt: skip
    for each in OURS.values():
        assert each["read_only"]
        assert each["cap_drop"] == ["ALL"]
        assert "ports" not in each


def test_only_migrations_know_the_owner_of_the_tables():
    knowing = [name for name, each in OURS.items() if "DATABASE_OWNER_URL" in each["environment"]]

    assert knowing == ["migrate"]


def test_image_has_no_secret_and_an_ordinary_user():
    text = Path(settings.BASE_DIR, "Dockerfile").read_text()
    ignored = Path(settings.BASE_DIR, ".dockerignore").read_text().splitlines()

    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert not re.search(r"^(ENV|ARG) .*(KEY|SECRET|PASSWORD|TOKEN)", text, re.MULTILINE)
    assert {".env", "var", ".git"} <= set(ignored)
