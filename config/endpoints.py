"""Where emulated brokers stand: addresses that replace the brokers' own, on this machine only."""

import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

SCHEMES = {"api": "http", "login": "http", "assets": "http", "stream": "ws"}


def broker_endpoints(text: str) -> dict[str, dict[str, str]]:
    """Read ``{"zerodha": {"api": "http://127.0.0.1:9001", ...}}``; an empty text is none at all.

    Credentials are sent to these addresses, so none may lead off this machine.

    Raises:
        ValueError: what is wrong, as the end of a sentence that begins with the variable.
    """
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("must be JSON") from None
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        raise ValueError("must be an object of brokers, each an object of addresses")
    return {
        str(broker): {key: _origin(broker, key, value) for key, value in addresses.items()}
        for broker, addresses in found.items()
    }


def _origin(broker: str, key: str, value: Any) -> str:
    where = f"({broker}, {key}) "
    if key not in SCHEMES:
        raise ValueError(f"{where}has a key other than {', '.join(SCHEMES)}")
    if not isinstance(value, str):
        raise ValueError(f"{where}must be text")
    try:
        parts = urlsplit(value.rstrip("/"))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{where}is not an address") from None
    scheme = SCHEMES[key]
    bare = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{bare}" + (f":{port}" if port is not None else "")
    if parts.scheme not in (scheme, f"{scheme}s") or origin != value.rstrip("/"):
        raise ValueError(f"{where}must be an origin like {scheme}://127.0.0.1:9001")
    if not _is_loopback(host):
        raise ValueError(f"{where}must be on this machine: 127.0.0.1, [::1] or localhost")
    return origin


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
