import io
import json
import logging

import pytest

from config.logs import JSONFormatter, RequestIdFilter
from config.redaction import RedactionFilter, redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl"
FERNET = (
    "gAAAAABrA8uQA7jQHJu6-pmKmcAUB81DSjvKq03ihcpymA8jRL7Jzz9SvIcrZ72x"
    "FZr9olelxfXpnsyXOkiPXYqgn12Dx536Jg=="
)
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"answered with {JWT}", JWT),
        (f"stored {FERNET}", FERNET),
        (f"Authorization: Bearer {HEX}", HEX),
        ("Authorization: token kitekey:accesspart", "accesspart"),
        (f"the new secret is {HEX}", HEX),
        ("password=hunter2", "hunter2"),
        ("{'api_secret': 'abc123', 'user': 7}", "abc123"),
        ('{"otp": "123456", "email": "a@b.in"}', "123456"),
        ('{"password": "with \\" quote"}', "quote"),
        ("GET /callback?status=ok&request_token=AbC123xyz&action=login", "AbC123xyz"),
        ("GET /api/v1/connections/callback/upstox?code=mk404x7&state=s1", "mk404x7"),
        ("GET /api/v1/connections/callback/upstox?code=c1&state=n0nce.1vb.sig", "n0nce.1vb.sig"),
        ("mpin: 4321", "4321"),
        ("x-api-key: sk_live_0001", "sk_live_0001"),
        ("redis://:s3cr3tpass@cache:6379/0", "s3cr3tpass"),
        ("postgresql://sauda:pw12@db/sauda", "pw12"),
        ("Set-Cookie: sessionid=abcdef123", "abcdef123"),
        ("totp_secret=JBSWY3DPEHPK3PXP", "JBSWY3DPEHPK3PXP"),
    ],
)
def test_secret_is_masked(text, secret):
    assert secret not in redact(text)
    assert "[redacted]" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Order 0192f placed: RELIANCE 10 @ 1450.05",
        "token expired",
        "token: expired",
        "routing_key: 'orders'",
        "Idempotency-Key: order-1",
        "spinning up; shipping=done",
        "keyboard interrupt",
    ],
)
def test_harmless_text_is_left_alone(text):
    assert redact(text) == text


def test_every_part_of_a_record_is_redacted():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter())
    handler.addFilter(RequestIdFilter())
    handler.addFilter(RedactionFilter())
    log = logging.Logger("test")
    log.addHandler(handler)

    def fail(password):
        raise ValueError(f"login failed: password={password}")

    secret = "-".join(["canary", "exc"])  # the traceback shows the lines of this file
    try:
        fail(secret)
    except ValueError:
        log.exception(
            "for %s",
            "token=canary-arg",
            extra={"api_key": "canary-extra", "nested": {"pin": "canary-nested", "n": [1]}},
        )
    log.error("bad template %d otp=canary-template", "text")

    assert "canary" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert '"n": [1]' in stream.getvalue()


def test_quotes_may_be_escaped():
    """As in the repr of an error whose words hold the repr of a request."""
    for quote in ("'", '"'):
        inner = {"totp": "JBSWY3DPEHPK3PXP", "pin": "4711", "user": "asha"}
        text = repr(RuntimeError(f"sent {repr(inner).replace(chr(39), quote)} to 'them'"))
        for line in (text, json.dumps(text), repr(json.dumps(text))):
            assert "JBSWY3DPEHPK3PXP" not in redact(line), line
            assert "4711" not in redact(line), line
            assert "asha" in redact(line)
