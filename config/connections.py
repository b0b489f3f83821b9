"""Database connections that the server closed meanwhile, as a restart does, are dropped unasked."""

import select
from typing import Any

from django.db import connections


def drop_closed(**_: Any) -> None:
    """Close each idle connection of this thread on which something waits to be read.

    Nothing is sent on a connection that nobody uses, but the server's farewell. Seeing it costs a
    system call, where asking the server (CONN_HEALTH_CHECKS) costs a round trip a request.
    """
    for each in connections.all(initialized_only=True):
        raw = each.connection
        if raw is None or each.in_atomic_block:
            continue
        if raw.closed or _readable(raw.fileno()):
            each.close()


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))
