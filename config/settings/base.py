"""What is the same everywhere. The modules beside this one add the servers and the secrets."""

from pathlib import Path
from typing import Any

from csp.constants import NONCE, NONE, SELF

from config.env import Environment

env = Environment()

BASE_DIR = Path(__file__).resolve().parent.parent.parent
VAR_DIR = Path(env.text("VAR_DIR", str(BASE_DIR / "var"))).absolute()

DEBUG = False
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "config",  # before Django's own: its `migrate` command runs as the owner of the tables
    "audit",
    "accounts",
    "brokerages",
    "marketdata",
    "trading",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "django_htmx",
]

# The order path goes through all of these, so each one earns its place.
MIDDLEWARE = [
    "config.middleware.RequestIdMiddleware",
    "config.middleware.ProbesMiddleware",
    "audit.middleware.AuditContextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.ApiHeadersMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.BrowserSessionMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.middleware.ContentPolicyMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
USE_I18N = False

STATIC_URL = "/static/"
STATICFILES_DIRS = [folder for folder in [BASE_DIR / "static"] if folder.is_dir()]

# --- Who may ask, and from where -----------------------------------------------------------------

ALLOWED_HOSTS = env.items("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
PUBLIC_URL = env.text("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
# Other origins whose pages may call the API and open the socket. Never a wildcard, never reflected.
ALLOWED_ORIGINS = [origin.rstrip("/") for origin in env.items("ALLOWED_ORIGINS")]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL, *ALLOWED_ORIGINS]
# How many proxies of ours stand in front and append to X-Forwarded-For; 0 ignores the header.
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", 0)

DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200
APPEND_SLASH = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 7 * 24 * 3600
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True  # forms and htmx take the token from the page
CSRF_FAILURE_VIEW = "config.exceptions.csrf_failure"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# For pages; JSON gets the closed policy of config.middleware. No eval: htmx has allowEval off.
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = ["accounts.passwords.Argon2idHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("email", "name")},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "accounts.passwords.ContextWordValidator"},
    {"NAME": "accounts.passwords.MaximumLengthValidator"},
]

# Changes to the limits of accounts/limits.py: signup_ip=1000/60,signin_ip=off
ACCOUNTS_THROTTLES = env.items("ACCOUNTS_THROTTLES")
RATELIMIT_FAIL_OPEN = True  # without Redis the exact limits in PostgreSQL hold alone
ACCESS_TOKEN_MINUTES = env.integer("ACCESS_TOKEN_MINUTES", 10, low=1)
REFRESH_TOKEN_DAYS = env.integer("REFRESH_TOKEN_DAYS", 7, low=1)
REFRESH_IDLE_HOURS = env.integer("REFRESH_IDLE_HOURS", 24, low=1)

# Files with the secrets of signed webhooks, instead of the variables. A change counts at once.
BROKER_WEBHOOK_SECRET_FILE = env.text("BROKER_WEBHOOK_SECRET_FILE", "")
BROKER_WEBHOOK_ADDITIONAL_SECRETS_FILE = env.text("BROKER_WEBHOOK_ADDITIONAL_SECRETS_FILE", "")

# Threads of the embedded web server.
WEB_THREADS = env.integer("WEB_THREADS", 16, low=1)

# --- API -----------------------------------------------------------------------------------------

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.AccessTokenAuthentication",
        "accounts.authentication.BrowserSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["config.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.negotiation.Negotiation",
    "DEFAULT_PARSER_CLASSES": ["config.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.exceptions.handle",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "COERCE_DECIMAL_TO_STRING": True,
    "NUM_PROXIES": TRUSTED_PROXIES,
    "URL_FORMAT_OVERRIDE": None,  # a `?format=` of a caller's own must not choose the renderer
}

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Sauda",
    "DESCRIPTION": "Multi-user, multi-broker trading platform for Indian markets.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "PREPROCESSING_HOOKS": ["brokerages.webhook_docs.add_paths"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.openapi.fill_examples",
    ],
    # Closed vocabularies that stand under several field names, or share one with another.
    "ENUM_NAME_OVERRIDES": {
        "Exchange": "brokerages.types.Exchange",
        "OrderType": ["MARKET", "LIMIT", "SL", "SL-M"],
        "Product": "brokerages.types.Product",
        "Validity": "brokerages.types.Validity",
        "OrderStatus": "trading.order_states.OrderStatus",
        "ReportedStatus": "brokerages.types.ReportedStatus",
        "DataSource": ["broker", "simulated", "yfinance", "replay"],
    },
}

# --- Database, Redis, Celery ---------------------------------------------------------------------

# Threads of the web server and of the worker keep their connection: a new one costs 1.6 ms of CPU.
CONN_MAX_AGE = 600
# A statement or a transaction that forgot to end must not hold up the others.
STATEMENT_LIMITS = (
    "-c statement_timeout=30s -c idle_in_transaction_session_timeout=30s"
    # No statement of ours is long enough for compiling it to pay; and with the price of a spinning
    # disk the planner reads everybody's orders backwards instead of one user's through an index.
    " -c jit=off -c random_page_cost=1.1"
)
# Whether services wake a worker after their commit. Tests drive tasks by hand instead.
WAKE_WORKERS = True
# What a stopping worker leaves running tasks before it hands them back to the queue.
WORKER_SOFT_SHUTDOWN_SECONDS = env.integer("WORKER_SOFT_SHUTDOWN_SECONDS", 30)
SESSION_ENGINE = "accounts.browser_sessions"

# --- Mail ----------------------------------------------------------------------------------------

MAIL_FOLDER = Path(env.text("MAIL_FOLDER", str(VAR_DIR / "mail"))).absolute()
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "Sauda <no-reply@localhost>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
EMAIL_TIMEOUT = 10

# --- Trading -------------------------------------------------------------------------------------

# A PLACE that could not be sent for so long is not sent any more: its market is gone.
STALE_COMMAND_SECONDS = 30
# How old a waiting command is before the sweeper takes its wake-up for lost.
SWEEP_AFTER_SECONDS = 1
# How long a broker's book is watched before an order that it does not have counts as not placed.
SETTLE_SECONDS = 60
# How many processes send orders to brokers: while Redis is away each keeps to its part of a cap.
BROKER_SENDERS = env.integer("BROKER_SENDERS", 1, low=1)
# How much longer than a broker's window ours is: by so much the ways to it may differ.
BROKER_PACE_SLACK_MS = env.integer("BROKER_PACE_SLACK_MS", 250, low=0)
# Names the public address that brokers see; platforms behind one address share its limits.
BROKER_EGRESS = env.text("BROKER_EGRESS", "default")
# Emulated brokers on this machine, by broker: what is named here is asked instead of the broker.
BROKER_ENDPOINTS = env.endpoints("BROKER_ENDPOINTS")
# Over how long the daily renewals of broker sessions are spread.
RENEWAL_SPREAD_SECONDS = 600
LIVE_TRADING_ENABLED = env.flag("LIVE_TRADING_ENABLED", False)
DATA_SOURCE = env.choice("DATA_SOURCE", ("simulated", "replay"), "simulated")
# Of the replay: recorded one-minute candles, and how many times as fast they are played.
REPLAY_FILE = env.text("REPLAY_FILE", "")
REPLAY_SPEED = env.number("REPLAY_SPEED", "1", low="0.01")
SIMULATED_SEED = env.integer("SIMULATED_SEED", 1)
SIMULATED_SESSION = env.choice("SIMULATED_SESSION", ("always", "exchange"), "exchange")
PAPER_LATENCY_MS = env.integer("PAPER_LATENCY_MS", 0)
PAPER_REJECT_RATE = env.number("PAPER_REJECT_RATE", "0", high="1")
PAPER_SLIPPAGE_BPS = env.number("PAPER_SLIPPAGE_BPS", "0", high="10000")
PAPER_STARTING_CASH = env.number("PAPER_STARTING_CASH", "1000000")

# --- Watching ------------------------------------------------------------------------------------

METRICS_PUBLIC = False
METRICS_TOKEN = env.secret("METRICS_TOKEN", "")
LOG_LEVEL = env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")


def database(name: str, default: str | None = None) -> dict[str, Any]:
    """Return the database entry of an address, with what every connection of ours has."""
    entry = env.database(name, default)
    if entry:
        entry["CONN_MAX_AGE"] = CONN_MAX_AGE
        entry["OPTIONS"].setdefault("connect_timeout", "5")
        if name == "DATABASE_URL":  # not for migrations, which may take their time
            entry["OPTIONS"].setdefault("options", STATEMENT_LIMITS)
        # Planned once per connection: the orders' statements cost more to plan than to run. A
        # pooler that hands out connections by transaction has to know prepared statements.
        entry["OPTIONS"] |= {"server_side_binding": True, "prepare_threshold": 2}
    return entry


def caches(url: str) -> dict[str, Any]:
    """Return a cache that a lost Redis turns into misses; ``url`` is its own Redis database."""
    return {
        "default": {
            "BACKEND": "config.cache.TolerantRedisCache",
            "LOCATION": url,
            "KEY_PREFIX": "sauda",
            "TIMEOUT": 300,
        }
    }


def logging_settings(formatter: str) -> dict[str, Any]:
    """Return the logging set-up, redaction included; ``formatter`` is ``json`` or ``plain``."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "request_id": {"()": "config.logs.RequestIdFilter"},
            "redact": {"()": "config.redaction.RedactionFilter"},
        },
        "formatters": {
            "json": {"()": "config.logs.JSONFormatter"},
            "plain": {"()": "config.logs.PlainFormatter"},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": formatter,
                "filters": ["request_id", "redact"],
            }
        },
        "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
        "loggers": {
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
            # Addresses and headers that these log at INFO and DEBUG may carry tokens.
            **{name: {"level": "WARNING"} for name in ("httpx", "httpcore", "urllib3", "requests")},
            # Each firing of the schedule and each task done, several a second.
            **{
                name: {"level": "WARNING"}
                for name in ("celery.beat", "celery.app.trace", "celery.worker.strategy")
            },
        },
    }
