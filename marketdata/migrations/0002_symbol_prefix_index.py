"""An index for "symbols that start with": prefix search in upper case, under any collation."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("marketdata", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="CREATE INDEX instrument_symbol_prefix ON marketdata_instrument (upper(symbol) text_pattern_ops)",
            reverse_sql="DROP INDEX instrument_symbol_prefix",
        ),
    ]
