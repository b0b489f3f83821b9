"""Secrets that are found wherever they leak: unique ones of every kind, and a search for all the
forms in which one may lie about.
"""

from __future__ import annotations

import base64
import html
import json
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import quote

LENGTH = 40
ALPHABETS = {
    "text": string.ascii_letters + string.digits,
    "base32": string.ascii_uppercase + "234567",
    "digits": string.digits,
    "awkward": string.ascii_letters + "+/=%& <>\"'\\",
}


def forms(value: str) -> set[bytes]:
    """Return what to look for: the value as it is, and as programs write it."""
    raw = value.encode()
    found = {
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        raw.hex(":").encode(),
        quote(value, safe="").encode(),
        quote(value).encode(),
        "".join(f"%{byte:02x}" for byte in raw).encode(),
        "".join(f"%{byte:02X}" for byte in raw).encode(),
        "".join(f"\\u{ord(sign):04x}" for sign in value).encode(),
        json.dumps(value)[1:-1].encode(),
        html.escape(value).encode(),
        "".join(f"&#{ord(sign)};" for sign in value).encode(),
        value.encode("utf-16-le"),
        base64.b32encode(raw).rstrip(b"="),
    }
    for shift in range(3):  # inside of something longer it may begin at any of three places
        text = base64.b64encode(b"\0" * shift + raw)
        inner = text[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


_forms = cache(forms)


@dataclass
class Canaries:
    """Named secrets. ``issued`` ones were made by the platform and are learnt on the way."""

    values: dict[str, str] = field(default_factory=dict)

    def new(self, name: str, kind: str = "text") -> str:
        """Make a secret that nothing else can contain by chance."""
        letters = ALPHABETS[kind]
        self.values[name] = "".join(secrets.choice(letters) for _ in range(LENGTH))
        return self.values[name]

    def learn(self, name: str, value: str) -> str:
        assert len(value) >= 20, name
        self.values[name] = value
        return value

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def found_in(self, hay: bytes, *, allowed: tuple[str, ...] = ()) -> Iterator[str]:
        """Yield the names of those that ``hay`` holds in any form, but for ``allowed`` ones."""
        for name, value in self.values.items():
            if not name.startswith(allowed or ("\0",)) and any(f in hay for f in _forms(value)):
                yield name
