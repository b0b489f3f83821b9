"""The device at the other end of a request."""

import hmac
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest

from audit.middleware import client_ip

USER_AGENT_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Client:
    """Address and program of a caller; ``ip`` is None behind a unix socket."""

    ip: str | None = None
    user_agent: str = ""

    @property
    def fingerprint(self) -> bytes:
        """Tells devices apart, roughly; keyed, so that it reveals neither part."""
        message = f"client|{self.ip}|{self.user_agent}".encode()
        return hmac.digest(settings.JWT_SIGNING_KEY.encode(), message, "sha256")


def client_of(request: HttpRequest) -> Client:
    agent = request.META.get("HTTP_USER_AGENT", "").replace("\x00", "")[:USER_AGENT_LENGTH]
    return Client(client_ip(request), agent)
