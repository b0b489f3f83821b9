from uuid import UUID

from celery import shared_task

from accounts.services import cleaning, mail


@shared_task(name="accounts.send_mail", ignore_result=True)
def send_mail(mail_id: str) -> None:
    """Send one owed mail. Safe to run twice: the claim lets one run send."""
    mail.mail_send(UUID(mail_id))


@shared_task(name="accounts.sweep_mail", ignore_result=True)
def sweep_mail() -> None:
    mail.mails_sweep()


@shared_task(name="accounts.delete_expired", ignore_result=True)
def delete_expired() -> None:
    cleaning.expired_delete()
