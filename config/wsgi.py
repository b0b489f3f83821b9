"""HTTP: API, pages, admin."""

import os

from config.env import plain_errors

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

with plain_errors():
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()
