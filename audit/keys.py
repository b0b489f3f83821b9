"""The audit keys of this deployment: one that signs, and retired ones that still verify."""

from django.conf import settings

from audit.canonical import key_id


def signing_key() -> str:
    key: str = settings.AUDIT_KEY
    return key


def find_key(wanted: str) -> str | None:
    """Return the key of this id, or None if it is not among ours."""
    for key in (settings.AUDIT_KEY, *getattr(settings, "AUDIT_RETIRED_KEYS", ())):
        if key_id(key) == wanted:
            return str(key)
    return None
