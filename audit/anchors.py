"""Copies of the chain's end outside the database: against them a cut-off tail, or a chain rewritten
by someone who has the key, shows. One JSON line per anchor, one file per day, only ever appended
to. Ship the folder to a place that the database's administrator cannot write.
"""

import hmac
import json
import os
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.utils import timezone

from audit import canonical, keys


@dataclass(frozen=True, slots=True)
class Anchor:
    """The chain had this hash at this seq; ``genuine`` if a key of ours signed the line."""

    seq: int
    hash: str
    at: str
    key_id: str
    signature: str
    where: str
    genuine: bool


def folder() -> Path:
    return Path(settings.VAR_DIR) / "anchors"


def _signature(key: str, seq: int, digest: str, at: str) -> str:
    message = f"{canonical.VERSION}|{seq}|{digest}|{at}".encode()
    return hmac.digest(canonical.subkey(key, "anchor"), message, "sha256").hex()


def anchor_write() -> Anchor | None:
    """Append the chain's end to today's file, on disk before this returns; None if nothing is
    sealed yet.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq, hash FROM audit_auditseal ORDER BY seq DESC LIMIT 1")
        last = cursor.fetchone()
    if last is None:
        return None
    now, key = timezone.now(), keys.signing_key()
    seq, digest, at = last[0], bytes(last[1]).hex(), canonical.utc_text(now)
    line = {
        "seq": seq,
        "hash": digest,
        "at": at,
        "key_id": canonical.key_id(key),
        "signature": _signature(key, seq, digest, at),
    }
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder() / f"{now:%Y-%m-%d}.jsonl"
    with path.open("a") as file:
        file.write(
            json.dumps(line) + "\n"
        )  # one write in append mode: lines of two writers do not mix
        file.flush()
        os.fsync(file.fileno())
    return Anchor(**line, where=str(path), genuine=True)


def anchor_if_due(seconds: int) -> Anchor | None:
    """Write an anchor unless this machine wrote one less than ``seconds`` ago."""
    newest = max((path.stat().st_mtime for path in folder().glob("*.jsonl")), default=0.0)
    if timezone.now().timestamp() - newest < seconds:
        return None
    return anchor_write()


def anchors_read() -> list[Anchor]:
    """Return every anchor of the folder, oldest first. An unreadable line counts as one not
    genuine.
    """
    found = []
    for path in sorted(folder().glob("*.jsonl")):
        for number, text in enumerate(path.read_text().splitlines(), 1):
            found.append(_parse(text, f"{path.name}:{number}"))
    return found


def _parse(text: str, where: str) -> Anchor:
    try:
        line = json.loads(text)
        seq, digest, at = int(line["seq"]), str(line["hash"]), str(line["at"])
        key_id, signature = str(line["key_id"]), str(line["signature"])
    except (ValueError, KeyError, TypeError):
        return Anchor(0, "", "", "", "", where, genuine=False)
    key = keys.find_key(key_id)
    genuine = key is not None and hmac.compare_digest(
        _signature(key, seq, digest, at).encode(), signature.encode()
    )
    return Anchor(seq, digest, at, key_id, signature, where, genuine)
