from django.db import migrations, models
from django.utils import timezone


class Migration(migrations.Migration):

    dependencies = [("brokerages", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="paperbook",
            name="matched_at",
            field=models.DateTimeField(default=timezone.now),
            preserve_default=False,
        ),
    ]
