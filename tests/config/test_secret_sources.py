"""Secrets from files and from AWS Secrets Manager, as from the environment; never shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from config.env import Environment, InvalidVariable, MissingVariable
from config.secretfile import fresh
from tests.config.test_env import STRONG, production

SECRET_ID = "sauda/production"


def test_a_container_secret_is_read(tmp_path):
    file = tmp_path / "otp_key"
    file.write_text(STRONG + "\n")
    env = Environment({"OTP_KEY_FILE": str(file)})

    assert env.secret("OTP_KEY") == STRONG
    env.finish()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"OTP_KEY_FILE names a file that cannot be read \(FileNotFoundError\)"),
        (b"", "OTP_KEY_FILE names an empty file"),
        (b"\xff\xfe\x00", "OTP_KEY_FILE names a file that is not text"),
        (b"q" * 70_000, "OTP_KEY_FILE names a file that is too large"),
        (b"canary-weak", "OTP_KEY is weak"),
        (b"change-me-canary-0123456789-0123456789", "OTP_KEY is a placeholder"),
    ],
)
def test_a_bad_file_stops_the_start_and_is_named(tmp_path, content, reason):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    env = Environment({"OTP_KEY_FILE": str(file)})
    env.secret("OTP_KEY")

    with pytest.raises(InvalidVariable, match=reason) as caught:
        env.finish()
    assert "canary" not in str(caught.value)


def test_an_unreadable_file_of_keys_is_named_once(tmp_path):
    env = Environment({"CREDENTIAL_KEYS_FILE": str(tmp_path)})
    env.fernet_keys("CREDENTIAL_KEYS")

    with pytest.raises(InvalidVariable, match=r"CREDENTIAL_KEYS_FILE names .* \(IsADirectory"):
        env.finish()


def test_what_is_given_twice_stops_the_start(tmp_path):
    file = tmp_path / "secret"
    file.write_text(STRONG)
    env = Environment({"OTP_KEY": STRONG[::-1], "OTP_KEY_FILE": str(file)})
    env.secret("OTP_KEY")

    with pytest.raises(InvalidVariable, match="OTP_KEY is set in 2 places: OTP_KEY, OTP_KEY_FILE"):
        env.finish()


# --- AWS Secrets Manager, on moto's server --------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def aws(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    variables = {
        "AWS_ENDPOINT_URL": server,
        "AWS_DEFAULT_REGION": "ap-south-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables | {"AWS_SECRETS_MANAGER_SECRET": SECRET_ID}


def keep(text: str) -> None:
    client = boto3.client("secretsmanager")
    try:
        client.put_secret_value(SecretId=SECRET_ID, SecretString=text)
    except client.exceptions.ResourceNotFoundException:
        client.create_secret(Name=SECRET_ID, SecretString=text)


def test_a_secret_of_aws_is_read_once(aws, monkeypatch):
    keep(json.dumps({"OTP_KEY": STRONG, "JWT_SIGNING_KEY": STRONG[::-1]}))
    env = Environment(aws)

    assert env.secret("OTP_KEY") == STRONG
    monkeypatch.setattr(boto3, "client", None)  # it is not asked again
    assert env.secret("JWT_SIGNING_KEY") == STRONG[::-1]
    assert env.text("LOG_LEVEL", "INFO") == "INFO"
    env.finish()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("canary", "is not a JSON object"),
        ('["canary"]', "is not a JSON object"),
        ('{"OTP_KEY": 5}', "is not a JSON object"),
    ],
)
def test_a_secret_of_another_shape_stops_the_start(aws, text, reason):
    keep(text)
    env = Environment(aws)
    env.secret("OTP_KEY")

    with pytest.raises(InvalidVariable, match=f"AWS_SECRETS_MANAGER_SECRET {reason}") as caught:
        env.finish()
    assert "canary" not in str(caught.value)


def test_an_absent_secret_stops_the_start(aws):
    env = Environment(aws | {"AWS_SECRETS_MANAGER_SECRET": "nowhere"})
    env.secret("OTP_KEY")
    env.fernet_keys("CREDENTIAL_KEYS")

    with pytest.raises(InvalidVariable, match="ResourceNotFoundException"):
        env.finish()


def test_what_aws_lacks_is_missing_and_what_is_weak_there_is_named(aws):
    keep(json.dumps({"OTP_KEY": "canary-weak"}))
    env = Environment(aws)
    env.secret("OTP_KEY")
    env.secret("AUDIT_KEY")

    with pytest.raises(MissingVariable, match="AUDIT_KEY is not set; OTP_KEY is weak") as caught:
        env.finish()
    assert "canary" not in str(caught.value)


def test_production_starts_on_secrets_of_files_and_of_aws(aws, tmp_path):
    values = fresh()
    nothing = dict.fromkeys(values, "")
    file = tmp_path / "credential_keys"
    file.write_text(values.pop("CREDENTIAL_KEYS"))
    keep(json.dumps(values))

    done: Any = production(**nothing, **aws, CREDENTIAL_KEYS_FILE=str(file))

    assert done.stdout == "System check identified no issues (0 silenced).\n", done.stderr


def test_production_names_a_source_that_is_away(aws, tmp_path):
    done: Any = production(**aws | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    assert done.returncode == 2
    assert "Cannot start: AWS_SECRETS_MANAGER_SECRET could not be read (Endpoint" in done.stderr
    assert "Traceback" not in done.stderr
