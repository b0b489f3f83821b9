import subprocess
import sys

import pytest

from config.env import Environment, InvalidVariable, MissingVariable, postgres_settings
from config.secretfile import fresh, secrets_in

STRONG = "q8Zt3mVb5Kx1Lr7Wd9Ns4Hc6Jf2Gy0Pu"


def test_all_problems_are_named_at_once():
    env = Environment({"PORT": "many", "SHORT": "abc"})
    env.text("ABSENT")
    env.integer("PORT")
    env.secret("SHORT")

    with pytest.raises(MissingVariable, match=r"ABSENT is not set; PORT must be .*; SHORT is weak"):
        env.finish()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("short", "weak"),
        ("change-me-" + STRONG, "placeholder"),
        ("django-insecure-" + STRONG, "placeholder"),
        ("a" * 40, "too simple"),
    ],
)
def test_weak_secret_is_refused_without_being_shown(value, reason):
    env = Environment({"OTP_KEY": value})
    env.secret("OTP_KEY")

    with pytest.raises(InvalidVariable, match=reason) as caught:
        env.finish()
    assert value not in str(caught.value)


def test_two_secrets_may_not_be_equal():
    env = Environment({"JWT_SIGNING_KEY": STRONG, "OTP_KEY": STRONG})
    env.secret("JWT_SIGNING_KEY")
    env.secret("OTP_KEY")

    with pytest.raises(InvalidVariable, match="OTP_KEY has the same value as JWT_SIGNING_KEY"):
        env.finish()


KEY = "YeGCNzHil-YrlsLF0q0MIpoMmTebkxZq7gtq4sexGic="


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("not base64!", "not a Fernet key"),
        (KEY[:-4], "not a Fernet key"),
        ("A" * 43 + "=", "too simple"),
        (f"{KEY},{KEY}", "repeats"),
        (f"{KEY},{STRONG}", r"\(entry 2\) is not a Fernet key"),
    ],
)
def test_unusable_fernet_key_is_refused(value, reason):
    env = Environment({"CREDENTIAL_KEYS": value})
    env.fernet_keys("CREDENTIAL_KEYS")

    with pytest.raises(InvalidVariable, match=reason):
        env.finish()


@pytest.mark.parametrize("value", ["", " , ,"])
def test_absent_fernet_keys_are_missing(value):
    env = Environment({"CREDENTIAL_KEYS": value})
    env.fernet_keys("CREDENTIAL_KEYS")

    with pytest.raises(MissingVariable, match="CREDENTIAL_KEYS is not set"):
        env.finish()


def test_lists_are_stripped_and_empty_parts_dropped():
    assert Environment({"HOSTS": " a, ,b,, "}).items("HOSTS") == ["a", "b"]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("postgresql://u:p%40ss@db:6432/sauda", ["db", "6432", "sauda", "u", "p@ss"]),
        ("postgresql://u@%2Ftmp%2FVar%2Frun/sauda", ["/tmp/Var/run", "", "sauda", "u", ""]),
        ("postgres://u@[::1]:5432/sauda", ["::1", "5432", "sauda", "u", ""]),
    ],
)
def test_database_address_is_read(url, parts):
    entry = postgres_settings(url)

    assert [entry[k] for k in ("HOST", "PORT", "NAME", "USER", "PASSWORD")] == parts


@pytest.mark.parametrize("url", ["mysql://u@h/n", "postgresql://u@h", "postgresql://u@h:x/n"])
def test_unusable_database_address_is_named(url):
    env = Environment({"DATABASE_URL": url})
    env.database("DATABASE_URL")

    with pytest.raises(InvalidVariable, match="DATABASE_URL"):
        env.finish()


@pytest.mark.parametrize("value", ["NaN", "-1", "1.1", "x"])
def test_number_outside_its_range_is_refused(value):
    env = Environment({"PAPER_REJECT_RATE": value})
    env.number("PAPER_REJECT_RATE", "0", high="1")

    with pytest.raises(InvalidVariable, match="PAPER_REJECT_RATE"):
        env.finish()


def production(**changes):
    """Start `manage.py check` under production settings with a sound environment, less changes."""
    env = {
        **fresh(),
        "DATABASE_URL": "postgresql://sauda@127.0.0.1/sauda",
        "REDIS_URL": "redis://127.0.0.1/0",
        "ALLOWED_HOSTS": "sauda.invalid",
        "PUBLIC_URL": "https://sauda.invalid",
        "EMAIL_HOST": "127.0.0.1",
        "DEFAULT_FROM_EMAIL": "no-reply@sauda.invalid",
        **changes,
    }
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--settings=config.settings.production"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_production_names_what_is_missing_without_a_traceback():
    done = production(DATABASE_URL="", OTP_KEY="", REDIS_URL="http://redis")

    assert done.returncode == 2
    assert done.stderr == (
        "Cannot start: OTP_KEY is not set; DATABASE_URL is not set; "
        "REDIS_URL must start with redis://, rediss:// or unix://. See .env.example.\n"
    )


def test_production_starts_with_a_sound_environment():
    assert production().stdout == "System check identified no issues (0 silenced).\n"


def test_embedded_secrets_are_made_once_and_private(tmp_path):
    path = tmp_path / "var" / "secrets.json"

    first, again = secrets_in(path), secrets_in(path)

    assert first == again
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["secrets.json"]


def test_damaged_secret_file_stops_the_start(tmp_path):
    path = tmp_path / "secrets.json"
    path.write_text('{"SECRET_KEY": "x"}')

    with pytest.raises(Exception, match="damaged"):
        secrets_in(path)
    assert path.read_text() == '{"SECRET_KEY": "x"}'
