"""Under ``/api/v1/``."""

from django.urls import path, register_converter
from django.urls.converters import IntConverter

from audit import api


class EntryIdConverter(IntConverter):
    regex = "[0-9]{1,18}"  # what a bigint holds


register_converter(EntryIdConverter, "entry_id")

app_name = "audit"
urlpatterns = [
    path("audit", api.AuditListApi.as_view(), name="list"),
    path("audit/<entry_id:entry_id>", api.AuditEntryApi.as_view(), name="entry"),
]
