"""For the tests: servers that tests/conftest.py starts, fixed secrets, nothing sent."""

import os
import tempfile
from pathlib import Path

from config import servers
from config.settings.base import *  # noqa: F403
from config.settings.base import caches, database, env, logging_settings

# One folder per test run. Worker processes and commands started by tests inherit it.
RUN_DIR = Path(
    os.environ.setdefault("SAUDA_TEST_DIR", f"{tempfile.gettempdir()}/sauda-test-{os.getpid()}")
)
# pytest-xdist: servers for each worker. Publishing does not stay inside one Redis database, nor a
# transaction's age inside one PostgreSQL database.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
_number = int(_worker.removeprefix("gw") or 0)
VAR_DIR = RUN_DIR / (_worker or "main")

SECRET_KEY = "tests-only-9Kq2vX7mB4tR8wZ1yN6c"  # noqa: S105
JWT_SIGNING_KEY = "tests-only-jwt-5Hd8sLq3Tn7Vb2Xc9Mz4"
CREDENTIAL_KEYS = ["dGVzdHMtb25seS1mZXJuZXQta2V5LW9mLTMyLWJ5dGU="]
OTP_KEY = "tests-only-otp-3Fj6kPw8Rb1Yd5Gh7Nv2"
AUDIT_KEY = "tests-only-audit-8Cx4zQm6Wt9Ls2Kb5Jp7"
BROKER_WEBHOOK_SECRET = "tests-only-hook-6Ty1uIo4Pa7Sd3Fg8Hj5"  # noqa: S105
BROKER_WEBHOOK_ADDITIONAL_SECRETS = ["tests-only-hook-2Zx7cVb5Nm9Qw4Er1Ty6"]

DATABASES = {"default": database("DATABASE_URL", servers.postgres_url(VAR_DIR, servers.SUPERUSER))}
DATABASES["default"]["CONN_MAX_AGE"] = 0
# On a server that was given, worker n uses the Redis databases 2n and 2n+1 after the address's.
_given = env.redis("REDIS_URL", "")
REDIS_URL = servers.redis_database(_given, 2 * _number) if _given else servers.redis_url(VAR_DIR)
CACHES = caches(servers.redis_database(REDIS_URL, 1))

WAKE_WORKERS = False
LIVE_TRADING_ENABLED = True  # at brokers that tests play; no connection leaves this machine
RATELIMIT_ENABLE = False  # counts in Redis would outlive a test; theirs switch it on
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher",  # factories make many users
    "accounts.passwords.Argon2idHasher",
]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
MAIL_FOLDER = VAR_DIR / "mail"
ALLOWED_ORIGINS = ["https://app.sauda.test"]
SIMULATED_SESSION = "always"
METRICS_PUBLIC = True
WHITENOISE_USE_FINDERS = True
LOGGING = logging_settings("plain")

env.finish()
