"""New secrets, and the embedded platform's own: made once, in a file that only its owner reads.

``python -m config.secretfile`` prints a fresh set as lines for a ``.env`` file.
"""

import json
import os
import secrets
import sys
from pathlib import Path

from cryptography.fernet import Fernet

from config.env import ConfigurationError
from config.processes import make_folder

NAMES = ("SECRET_KEY", "JWT_SIGNING_KEY", "OTP_KEY", "AUDIT_KEY", "BROKER_WEBHOOK_SECRET")


def secrets_in(path: Path) -> dict[str, str]:
    """Return the secrets of ``path``; the first caller on an empty folder makes them.

    Losing the file makes stored broker credentials unreadable and audit seals uncheckable, so a
    damaged one is never replaced.

    Raises:
        ConfigurationError: the file exists and cannot be read as ours.
    """
    if not path.exists():
        _make(path)
    try:
        found = json.loads(path.read_text())
        return {name: str(found[name]) for name in (*NAMES, "CREDENTIAL_KEYS")}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigurationError(
            f"Cannot start: {path} is damaged or unreadable ({type(e).__name__}). Restore it "
            "from a backup; without it stored broker credentials cannot be decrypted."
        ) from e


def fresh() -> dict[str, str]:
    """Return a new random value for every secret that a production start asks for."""
    values = {name: secrets.token_urlsafe(48) for name in NAMES}
    values["CREDENTIAL_KEYS"] = Fernet.generate_key().decode()
    return values


def _make(path: Path) -> None:
    """Write a whole new file, or leave the one that another process made meanwhile."""
    make_folder(path.parent)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(fresh(), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # fails if the file exists by now: the first one wins
    except FileExistsError:
        pass
    finally:
        draft.unlink()


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}={value}\n" for name, value in fresh().items())
