"""What this app tells those above it, which it may not import."""

from django.dispatch import Signal

inbound_event_stored = Signal()
"""A webhook was put into the inbox: ``event``, an `InboundEvent`. Sent inside the transaction that
stored it, so that a receiver can apply it there and set its state; what it raises undoes both.
"""

session_opened = Signal()
"""A broker session was opened or renewed, and that is committed: ``broker``, its name, and
``connection_id``. What a receiver raises is logged and disturbs nobody.
"""
