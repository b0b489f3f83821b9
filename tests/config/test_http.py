"""What every answer of the platform has in common, seen from outside."""

import json

import pytest
from django.http import Http404
from django.test import RequestFactory, override_settings
from django.urls import path
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import APIView

from config import urls
from config.information import home


class Echo(APIView):
    authentication_classes = ()
    permission_classes = ()

    def post(self, request):
        seen = request.data
        return Response({"seen": seen, "bytes": len(request.body)})


class Raise(APIView):
    authentication_classes = ()
    permission_classes = ()
    error: Exception

    def get(self, request, kind):
        raise {
            "missing": Http404(),
            "fields": exceptions.ValidationError({"price": ["Too fine."]}),
            "body": exceptions.ValidationError(["Odd."]),
            "slow": exceptions.Throttled(wait=1.2),
            "bug": RuntimeError("secret detail"),
        }[kind]


urlpatterns = [
    *urls.urlpatterns,
    path("echo", Echo.as_view()),
    path("raise/<kind>", Raise.as_view()),
]
handler404, handler500 = urls.handler404, urls.handler500

pytestmark = pytest.mark.urls(__name__)


def test_request_id_is_made_or_taken(client):
    made = client.get("/livez").headers["X-Request-ID"]
    taken = client.get("/livez", headers={"x-request-id": "abc-123456"}).headers["X-Request-ID"]
    refused = client.get("/livez", headers={"x-request-id": "a\tb{inject}"}).headers["X-Request-ID"]

    assert len(made) == 32
    assert taken == "abc-123456"
    assert "inject" not in refused


def test_json_may_not_be_stored_or_framed(client):
    headers = client.get("/").headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_pages_run_no_foreign_or_inline_script(client):
    policy = client.get("/docs").headers["Content-Security-Policy"]

    assert "script-src 'self'" in policy
    assert "'unsafe-eval'" not in policy
    assert "frame-ancestors 'none'" in policy


@override_settings(ALLOWED_ORIGINS=["https://app.sauda.test"])
def test_only_listed_origins_may_read(client):
    listed = client.get("/", headers={"origin": "https://app.sauda.test"}).headers
    other = client.get("/", headers={"origin": "https://app.sauda.test.evil.in"}).headers
    preflight = client.options(
        "/echo",
        headers={"origin": "https://app.sauda.test", "access-control-request-method": "POST"},
    )

    assert listed["Access-Control-Allow-Origin"] == "https://app.sauda.test"
    assert "Access-Control-Allow-Credentials" not in listed
    assert "Access-Control-Allow-Origin" not in other
    assert preflight.status_code == 204
    assert "idempotency-key" in preflight.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"price": 1450.10}', 200),
        (b"", 200),  # nothing was sent, which is not malformed
        (b"{", 400),
        (b'{"a": NaN}', 400),
        (b'{"a": "\xff"}', 400),
        (b'{"a": "' + b"x" * 70_000 + b'"}', 413),
    ],
)
def test_body_is_read_strictly(client, body, status):
    answer = client.post("/echo", body, content_type="application/json")

    assert answer.status_code == status
    if status == 200:
        assert answer.json()["bytes"] == len(body)
    else:
        assert set(answer.json()["error"]) == {"code", "message", "detail"}


def test_other_kind_of_body_is_refused(client):
    answer = client.post("/echo", b"a=1", content_type="application/x-www-form-urlencoded")

    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    ("kind", "status", "code", "detail"),
    [
        ("missing", 404, "not_found", {}),
        ("fields", 400, "validation_error", {"price": ["Too fine."]}),
        ("body", 400, "validation_error", {"non_field_errors": ["Odd."]}),
        ("slow", 429, "throttled", {}),
    ],
)
def test_errors_have_one_shape(client, kind, status, code, detail):
    answer = client.get(f"/raise/{kind}")

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["detail"] == detail


def test_throttled_caller_is_told_when_to_come_back(client):
    assert client.get("/raise/slow").headers["Retry-After"] == "2"


def test_bug_is_a_500_that_tells_nothing(client):
    client.raise_request_exception = False

    answer = client.get("/raise/bug")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "server_error"
    assert b"secret detail" not in answer.content


def test_unknown_address_has_the_same_shape(client):
    answer = client.get("/nowhere")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_front_door_is_json_unless_a_browser_asks():
    page = home(page=lambda request: Response("a page"))
    request = RequestFactory()

    api = page(request.get("/", headers={"accept": "*/*"}))
    browser = page(
        request.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    )

    assert json.loads(api.content)["docs"] == "/docs"
    assert browser.data == "a page"


@override_settings(ALLOWED_HOSTS=["sauda.example"], SECURE_SSL_REDIRECT=True)
def test_probes_need_no_host_name_and_no_tls(client):
    assert client.get("/livez", headers={"host": "10.1.2.3"}).status_code == 200
    assert client.get("/health", headers={"host": "10.1.2.3"}).status_code != 200
