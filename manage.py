#!/usr/bin/env python
"""Run a management command; without DJANGO_SETTINGS_MODULE on the embedded servers."""

import os
import sys

from config.env import ConfigurationError


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.embedded")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(sys.argv)
    except ConfigurationError as e:
        sys.stderr.write(f"{e}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except OperationalError as e:
        if not str(e).startswith("connection"):
            raise
        sys.stderr.write(f"The database does not answer. Is it running (make run)?\n{e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
