"""The operator's own PostgreSQL and Redis. A missing or weak secret stops the start."""

import resource
from pathlib import Path

from config import servers
from config.settings.base import *  # noqa: F403
from config.settings.base import (
    BASE_DIR,
    BROKER_WEBHOOK_SECRET_FILE,
    caches,
    database,
    env,
    logging_settings,
)

SECRET_KEY = env.secret("SECRET_KEY")
JWT_SIGNING_KEY = env.secret("JWT_SIGNING_KEY")
CREDENTIAL_KEYS = env.fernet_keys("CREDENTIAL_KEYS")
OTP_KEY = env.secret("OTP_KEY")
AUDIT_KEY = env.secret("AUDIT_KEY")
AUDIT_RETIRED_KEYS = env.secrets("AUDIT_RETIRED_KEYS")
BROKER_WEBHOOK_SECRET = env.secret(
    "BROKER_WEBHOOK_SECRET", "" if BROKER_WEBHOOK_SECRET_FILE else None
)
BROKER_WEBHOOK_ADDITIONAL_SECRETS = env.secrets("BROKER_WEBHOOK_ADDITIONAL_SECRETS")

DATABASES = {"default": database("DATABASE_URL")}
if _owner_entry := database("DATABASE_OWNER_URL", ""):
    DATABASES["owner"] = _owner_entry  # may change tables; only `migrate` uses it

REDIS_URL = env.redis("REDIS_URL")
CACHES = caches(env.redis("CACHE_URL", servers.redis_database(REDIS_URL, 1)))

ALLOWED_HOSTS = env.items("ALLOWED_HOSTS", None)
PUBLIC_URL = env.text("PUBLIC_URL").rstrip("/")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL, *env.items("ALLOWED_ORIGINS")]

EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_PORT = env.integer("EMAIL_PORT", 587, low=1)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS", True)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("DEFAULT_FROM_EMAIL")

# The proxy in front ends TLS, and overwrites this header on every request.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 365 * 24 * 3600
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SESSION_COOKIE_NAME = "__Host-sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken"

STATIC_ROOT = Path(env.text("STATIC_ROOT", str(BASE_DIR / "staticfiles")))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
LOGGING = logging_settings("json")

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold decrypted credentials

env.finish()
