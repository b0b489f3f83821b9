from typing import Any

from django.core.checks import CheckMessage, Error, register

from accounts import limits


@register()
def throttles_are_understood(**_: Any) -> list[CheckMessage]:
    """Stop the start on a limit that would not be applied."""
    try:
        limits.overrides()
    except (ValueError, TypeError) as e:
        return [Error(f"ACCOUNTS_THROTTLES: {e}", id="accounts.E001")]
    return []
