"""The whole URL map on one screen."""

from django.contrib import admin
from django.urls import include, path

from accounts.views import landing
from config import docs, health, information

urlpatterns = [
    # Django tries one after the other: what programs ask for all the time comes first.
    path("api/v1/", include("trading.urls")),
    path("api/v1/", include("marketdata.urls")),
    path("api/v1/auth/", include("accounts.urls")),
    path("api/v1/", include("brokerages.urls")),
    path("api/v1/", include("audit.urls")),
    path("", information.home(landing), name="home"),
    path("health", health.health, name="health"),
    *(path(name, probe, name=name) for name, probe in health.PROBES.items()),
    path("openapi.json", docs.schema, name="schema"),
    path("docs", docs.swagger, name="docs"),
    path("redoc", docs.redoc, name="redoc"),
    path("admin/", admin.site.urls),
    path("", include("config.pages")),
]

handler400 = "config.exceptions.bad_request"
handler403 = "config.exceptions.permission_denied"
handler404 = "config.exceptions.page_not_found"
handler500 = "config.exceptions.server_error"
