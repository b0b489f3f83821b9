"""What the platform's own database role may do: rows, not tables; and the audit log only grows."""

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import connections
from psycopg import sql

APPEND_ONLY = ("AuditEntry", "AuditSeal")


class Command(BaseCommand):
    help = (
        "Grant the role of DATABASE_URL its rights, as the owner of DATABASE_OWNER_URL. "
        "`migrate` does this by itself; run it alone after restoring a backup. Safe to repeat."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if "owner" not in connections:
            self.stdout.write("No DATABASE_OWNER_URL: the platform's role owns the tables itself.")
            return
        role = connections.settings["default"]["USER"]
        if role == connections.settings["owner"]["USER"]:
            return
        kept = [apps.get_model("audit", name)._meta.db_table for name in APPEND_ONLY]
        statement = sql.SQL(
            "GRANT USAGE ON SCHEMA public TO {role};"
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
            "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};"
            "REVOKE UPDATE, DELETE, TRUNCATE ON {kept} FROM {role};"
            "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON django_migrations FROM {role}"
        ).format(
            role=sql.Identifier(role),
            kept=sql.SQL(", ").join(sql.Identifier(table) for table in kept),
        )
        with connections["owner"].cursor() as cursor:
            cursor.execute(statement)
        connections["owner"].close()
