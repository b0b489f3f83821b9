"""Mail without a mail server: each message is a file in a folder and a line on the console."""

import logging
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

logger = logging.getLogger(__name__)


class EmailBackend(BaseEmailBackend):
    """Writes each message whole to ``MAIL_FOLDER/<time>-<random>.eml``; names sort by time."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        folder = Path(settings.MAIL_FOLDER)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            name = f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.eml"
            draft = (
                folder / f".{name}"
            )  # renamed when whole: a reader of *.eml never sees half a mail
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(message.message().as_bytes())
            draft.rename(folder / name)
            logger.info(
                "mail to %s: %s (%s)",
                ", ".join(message.recipients()),
                message.subject,
                folder / name,
            )
        return len(email_messages)
