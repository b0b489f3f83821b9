"""One address for everything: `/ws` to the stream application, the rest to WSGI in threads."""

import os
from typing import Any

from a2wsgi import WSGIMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.embedded")

from django.conf import settings

from config.stream import application as stream
from config.wsgi import application as wsgi

django_application: Any = wsgi  # its type says less than WSGI promises
http: Any = WSGIMiddleware(django_application, workers=settings.WEB_THREADS)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer one request or serve one socket (ASGI)."""
    if scope["type"] == "http":
        await http(scope, receive, send)
    else:
        await stream(scope, receive, send)
