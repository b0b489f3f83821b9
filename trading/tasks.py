"""Ways in for workers: ids only, one service each. Waking is a hint; the rows are the truth."""

from uuid import UUID

from celery import shared_task

from trading.services import books, execution, inbound, reconciliation


@shared_task(name="trading.dispatch_lane")
def dispatch_lane(lane: str) -> None:
    """Send what waits in a lane. Safe to run twice: each command is claimed by one run."""
    execution.lane_drain(lane)


@shared_task(name="trading.sweep_commands")
def sweep_commands() -> None:
    """Wake workers for commands whose wake-up was lost."""
    reconciliation.commands_sweep()


@shared_task(name="trading.deny_stale_commands")
def deny_stale_commands() -> None:
    """End orders that waited too long to be sent."""
    reconciliation.stale_commands_deny()


@shared_task(name="trading.match_paper")
def match_paper() -> None:
    """Move the paper market on and apply what came of it."""
    reconciliation.venues_advance()


@shared_task(name="trading.reconcile_commands")
def reconcile_commands() -> None:
    """Settle commands whose outcome is not known."""
    reconciliation.commands_reconcile()


@shared_task(name="trading.reconcile_connections")
def reconcile_connections() -> None:
    """Compare live orders with the brokers' books."""
    books.connections_reconcile()


@shared_task(name="trading.reconcile_connection")
def reconcile_connection(connection_id: str) -> None:
    """Compare the live orders of one connection with its broker's books."""
    books.connection_poll(UUID(connection_id))


@shared_task(name="trading.reconcile_connection_commands")
def reconcile_connection_commands(connection_id: str) -> None:
    """Settle the commands of one connection whose outcome is not known."""
    reconciliation.commands_reconcile(UUID(connection_id))


@shared_task(name="trading.apply_inbound_event")
def apply_inbound_event(event_id: int) -> None:
    """Apply one webhook of the inbox. Safe to run twice: each try is claimed by one run."""
    inbound.event_process(event_id)


@shared_task(name="trading.sweep_inbound_events")
def sweep_inbound_events() -> None:
    """Wake workers for webhooks that are due for their next try."""
    inbound.events_sweep()
