"""Where variables come from: the environment, files of a container's secrets, AWS Secrets Manager.

``NAME`` is looked for as a variable of that name; as ``NAME_FILE``, the path of a file that holds
it; and in the one secret of AWS that ``AWS_SECRETS_MANAGER_SECRET`` names, a JSON object of names
and values. One place may give a variable, never two. AWS's own variables (``AWS_REGION``, ...) say
how it is reached.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

MOST_BYTES = 64 * 1024
AWS = "AWS_SECRETS_MANAGER_SECRET"
# Their files are read again whenever they change, by `brokerages.webhook_secrets`.
WATCHED = frozenset({"BROKER_WEBHOOK_SECRET", "BROKER_WEBHOOK_ADDITIONAL_SECRETS"})


class SourceError(Exception):
    """A source cannot be read. ``name`` is the variable to put right; no value is in the words."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.name, self.reason = name, reason


class Sources(Mapping[str, str]):
    """The variables of all sources, read when they are asked for, AWS once a process.

    Raises:
        SourceError: from every look-up that needs what cannot be read.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.environ = os.environ if environ is None else environ
        self._secret_id = self.environ.get("AWS_SECRETS_MANAGER_SECRET", "").strip()
        self._remote: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        found = {}
        if self.environ.get(name, "").strip():
            found[name] = self.environ[name]
        file = f"{name}_FILE"
        if name not in WATCHED and self.environ.get(file, "").strip():
            found[file] = _read(file, self.environ[file].strip())
        if self._secret_id and name in (remote := self._from_aws()):
            found[AWS] = remote[name]
        if len(found) > 1:
            raise SourceError(name, f"is set in {len(found)} places: {', '.join(found)}")
        for value in found.values():
            return value
        return self.environ[name]  # set to nothing, or a KeyError

    def __iter__(self) -> Iterator[str]:
        return iter(self.environ)

    def __len__(self) -> int:
        return len(self.environ)

    def _from_aws(self) -> dict[str, str]:
        if self._remote is None:
            self._remote = _fetch(self._secret_id)
        return self._remote


def _read(name: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise SourceError(name, "names a file that is too large for a secret")
        value = raw.decode().strip()
    except OSError as e:
        raise SourceError(name, f"names a file that cannot be read ({type(e).__name__})") from None
    except UnicodeDecodeError:
        raise SourceError(name, "names a file that is not text") from None
    if not value:
        raise SourceError(name, "names an empty file")
    return value


def _fetch(secret_id: str) -> dict[str, str]:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    patience = Config(
        connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 3, "mode": "standard"}
    )
    try:
        client = boto3.client("secretsmanager", config=patience)
        text = client.get_secret_value(SecretId=secret_id).get("SecretString", "")
    except ClientError as e:
        code = e.response.get("Error", {}).get("Code", "refused")
        raise SourceError(AWS, f"could not be read ({code})") from None
    except (BotoCoreError, ValueError) as e:
        raise SourceError(AWS, f"could not be read ({type(e).__name__})") from None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise SourceError(AWS, "is not a JSON object of names and texts")
    return found
