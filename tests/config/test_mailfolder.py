import email
from email import policy

from django.core.mail import send_mail


def test_mail_becomes_a_private_file(settings, tmp_path):
    settings.EMAIL_BACKEND = "config.mailfolder.EmailBackend"
    settings.MAIL_FOLDER = tmp_path / "mail"

    send_mail("Your code", "It is 123456.\n", None, ["asha@example.in"])

    (path,) = settings.MAIL_FOLDER.iterdir()
    message = email.message_from_bytes(path.read_bytes(), policy=policy.default)
    assert path.suffix == ".eml"
    assert path.stat().st_mode & 0o077 == 0
    assert message["To"] == "asha@example.in"
    assert message.get_content() == "It is 123456.\n"
