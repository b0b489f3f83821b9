"""The user's own log over the API; staff see every log."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit import selectors
from audit.openapi import errors
from audit.serializers import (
    AuditEntryOutput,
    AuditEntryProofOutput,
    AuditListInput,
    AuditListOutput,
)

TAG = ["audit"]


def whose(request: Request) -> dict[str, Any]:
    """Return whose entries the caller may see, as the selectors take it."""
    user: Any = request.user
    return {"user_id": user.pk, "everyone": user.is_staff}


class AuditListApi(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="audit_list",
        tags=TAG,
        summary="What happened, newest first",
        parameters=[AuditListInput],
        responses={200: AuditListOutput, **errors(400, 401)},
    )
    def get(self, request: Request) -> Response:
        form = AuditListInput(data=request.query_params.dict())
        form.is_valid(raise_exception=True)
        query = dict(form.validated_data)
        limit, cursor = query.pop("limit"), query.pop("cursor")
        entries = selectors.entry_list(**whose(request), **query)
        if cursor is not None:
            entries = entries.filter(pk__lt=int(cursor))
        page = list(entries[: limit + 1])
        results = AuditEntryOutput(page[:limit], many=True).data
        following = str(page[limit - 1].pk) if len(page) > limit else None
        return Response({"results": results, "next": following})


class AuditEntryApi(APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="audit_entry",
        tags=TAG,
        summary="One entry, and whether it is part of the chain",
        responses={200: AuditEntryProofOutput, **errors(401, 404)},
    )
    def get(self, request: Request, entry_id: int) -> Response:
        """`proof` is recomputed from the entry as it stands now."""
        entry = selectors.entry_get(entry_id=entry_id, **whose(request))
        if entry is None:
            raise NotFound
        body = dict(AuditEntryOutput(entry).data)
        body["proof"] = asdict(selectors.entry_proof(entry.pk))
        return Response(body)
