"""What the account paths take and give."""

from typing import Any
from uuid import UUID

from rest_framework import serializers

from accounts.models import LoginSession, User
from accounts.passwords import LONGEST

MOBILE = r"^\+?[0-9][0-9 -]{5,18}$"


class TextField(serializers.CharField):
    """A string and nothing that could be made one: a number is a mistake of the caller."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class IdField(serializers.UUIDField):
    """A UUID as text; to DRF a number, even ``false``, would be one too."""

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        found: UUID = super().to_internal_value(data)
        return found


class AddressField(serializers.EmailField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data)).lower()


def password_field(**kwargs: Any) -> TextField:
    return TextField(
        max_length=LONGEST,
        trim_whitespace=False,
        write_only=True,
        style={"input_type": "password"},
        **kwargs,
    )


def code_field(**kwargs: Any) -> serializers.RegexField:
    return serializers.RegexField(
        r"^[0-9]{6}$", write_only=True, help_text="The six digits of the mail.", **kwargs
    )


def challenge_field() -> IdField:
    return IdField(
        required=False,
        default=None,
        help_text="The request the code was mailed for; without it, the latest one.",
    )


# --- In -------------------------------------------------------------------------------------------


class SignupInput(serializers.Serializer):
    email = AddressField()
    password = password_field(help_text="12 to 128 characters, none of the common ones.")
    name = TextField(max_length=150, required=False, default="", allow_blank=True)
    mobile = serializers.RegexField(MOBILE, required=False, default="", allow_blank=True)


class SigninInput(serializers.Serializer):
    username = TextField(max_length=254, help_text="The e-mail address.")
    password = password_field()


class LoginInput(serializers.Serializer):
    """As ``SigninInput``; JSON clients may write ``email`` for ``username``."""

    username = TextField(max_length=254, required=False, help_text="The e-mail address.")
    email = TextField(max_length=254, required=False, help_text="The same under its other name.")
    password = password_field()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs["username"] = attrs.get("username") or attrs.pop("email", "")
        if not attrs["username"]:
            raise serializers.ValidationError({"username": ["This field is required."]})
        return attrs


class OtpRequestInput(serializers.Serializer):
    email = AddressField()


class OtpLoginInput(serializers.Serializer):
    email = AddressField()
    otp = code_field()
    challenge_id = challenge_field()


class RefreshTokenInput(serializers.Serializer):
    refresh_token = TextField(max_length=2048)


class ProfileUpdateInput(serializers.Serializer):
    name = TextField(max_length=150, required=False, allow_blank=True)
    mobile = serializers.RegexField(MOBILE, required=False, allow_blank=True)


class PasswordChangeInput(serializers.Serializer):
    current_password = password_field()
    new_password = password_field()


class PasswordResetInput(serializers.Serializer):
    email = AddressField()


class CodeOrLinkInput(serializers.Serializer):
    """Either the code, with the address it was mailed to, or the token of the mailed link."""

    email = AddressField(required=False)
    otp = code_field(required=False)
    challenge_id = challenge_field()
    token = TextField(max_length=200, required=False, help_text="From the link in the mail.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("token"):
            missing = [name for name in ("email", "otp") if not attrs.get(name)]
            if missing:
                raise serializers.ValidationError(
                    {name: ["Give email and otp, or token."] for name in missing}
                )
        return attrs


class EmailVerifyConfirmInput(CodeOrLinkInput):
    pass


class PasswordResetConfirmInput(CodeOrLinkInput):
    new_password = password_field()


class SessionsRevokeInput(serializers.Serializer):
    include_current = serializers.BooleanField(
        default=False, help_text="End the session that makes this request too."
    )


# --- Out ------------------------------------------------------------------------------------------


class TokensOutput(serializers.Serializer):
    access_token = serializers.CharField()
    token_type = serializers.CharField(default="bearer")
    refresh_token = serializers.CharField()


class ChallengeOutput(serializers.Serializer):
    message = serializers.CharField()
    challenge_id = serializers.UUIDField(help_text="Binds the code to this request.")


class VerificationOutput(serializers.Serializer):
    message = serializers.CharField()
    challenge_id = serializers.UUIDField(allow_null=True, help_text="None: verified already.")


class ProfileOutput(serializers.ModelSerializer):
    email_verified = serializers.BooleanField(read_only=True)

    class Meta:
        model = User
        fields = ("id", "email", "name", "mobile", "email_verified", "is_staff", "created_at")
        read_only_fields = fields


class SessionOutput(serializers.ModelSerializer):
    current = serializers.SerializerMethodField(help_text="Whether it makes this request.")

    class Meta:
        model = LoginSession
        fields = (
            "id", "kind", "method", "user_agent", "ip", "created_at", "last_used_at", "expires_at",
            "current",
        )  # fmt: skip
        read_only_fields = fields

    def get_current(self, session: LoginSession) -> bool:
        return bool(session.pk == self.context["session_id"])


class SessionListOutput(serializers.Serializer):
    results = SessionOutput(many=True)
    next = serializers.CharField(allow_null=True)


class RevokedOutput(serializers.Serializer):
    revoked = serializers.IntegerField(help_text="How many sessions were ended.")
