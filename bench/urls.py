"""The platform's URLs and the bare references beside them. Only `bench.settings` uses this map."""

from django.urls import path

from bench import views
from config.urls import handler400, handler403, handler404, handler500
from config.urls import urlpatterns as platform

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]

urlpatterns = [
    path("bench/json", views.bare_json),
    path("bench/place", views.bare_place),
    path("bench/hash", views.bare_hash),
    *platform,
]
