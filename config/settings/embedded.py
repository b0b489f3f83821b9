"""The platform on one machine with nothing to install: our own PostgreSQL and Valkey under var/."""

from config import servers
from config.secretfile import secrets_in
from config.settings.base import *  # noqa: F403
from config.settings.base import VAR_DIR, caches, database, env, logging_settings

_secret = secrets_in(VAR_DIR / "secrets.json")
SECRET_KEY = env.secret("SECRET_KEY", _secret["SECRET_KEY"])
JWT_SIGNING_KEY = env.secret("JWT_SIGNING_KEY", _secret["JWT_SIGNING_KEY"])
CREDENTIAL_KEYS = env.fernet_keys("CREDENTIAL_KEYS", _secret["CREDENTIAL_KEYS"])
OTP_KEY = env.secret("OTP_KEY", _secret["OTP_KEY"])
AUDIT_KEY = env.secret("AUDIT_KEY", _secret["AUDIT_KEY"])
AUDIT_RETIRED_KEYS = env.secrets("AUDIT_RETIRED_KEYS")
BROKER_WEBHOOK_SECRET = env.secret("BROKER_WEBHOOK_SECRET", _secret["BROKER_WEBHOOK_SECRET"])
BROKER_WEBHOOK_ADDITIONAL_SECRETS = env.secrets("BROKER_WEBHOOK_ADDITIONAL_SECRETS")

DATABASES = {"default": database("DATABASE_URL", servers.postgres_url(VAR_DIR, servers.APP_ROLE))}
# With an own DATABASE_URL there is no second role unless one is named.
_owner = "" if env.text("DATABASE_URL", "") else servers.postgres_url(VAR_DIR, servers.OWNER_ROLE)
if _owner_entry := database("DATABASE_OWNER_URL", _owner):
    DATABASES["owner"] = _owner_entry

REDIS_URL = env.redis("REDIS_URL", servers.redis_url(VAR_DIR))
CACHES = caches(env.redis("CACHE_URL", servers.redis_database(REDIS_URL, 1)))

EMAIL_BACKEND = "config.mailfolder.EmailBackend"  # mails land in MAIL_FOLDER and on the console
SIMULATED_SESSION = env.choice("SIMULATED_SESSION", ("always", "exchange"), "always")
METRICS_PUBLIC = True
WHITENOISE_USE_FINDERS = True  # no collectstatic before the first start
WHITENOISE_AUTOREFRESH = False
LOGGING = logging_settings("plain")
# The console is the user's: what is wrong, and which mails went out.
LOGGING["loggers"] |= {name: {"level": "WARNING"} for name in ("celery", "kombu", "uvicorn")}

env.finish()
