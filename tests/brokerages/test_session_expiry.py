from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from audit.models import AuditEntry
from brokerages.models import BrokerSession
from brokerages.services import connection_create
from brokerages.tasks import check_sessions


@pytest.mark.django_db
def test_sessions_whose_time_is_over_end_once():
    user = User.objects.create_user(email="asha@example.com", password="a-long-pass-phrase-1")
    over, alive, endless = (connection_create(user_id=user.pk, broker="paper") for _ in range(3))
    now = timezone.now()
    BrokerSession.objects.filter(connection=over).update(expires_at=now - timedelta(seconds=1))
    BrokerSession.objects.filter(connection=alive).update(expires_at=now + timedelta(hours=1))

    check_sessions()
    check_sessions()

    states = dict(BrokerSession.objects.values_list("connection_id", "state"))
    assert states == {over.pk: "EXPIRED", alive.pk: "ACTIVE", endless.pk: "ACTIVE"}
    assert AuditEntry.objects.filter(action="session.expired").count() == 1
