"""HTTP: API, pages, admin."""

import os

from config.env import plain_errors

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

with plain_errors():
    from django.core.wsgi import get_wsgi_application
    from django.urls import get_resolver

    from config import garbage

    application = get_wsgi_application()
    assert get_resolver().url_patterns  # noqa: S101 - now, not in the first request
    garbage.settle()
