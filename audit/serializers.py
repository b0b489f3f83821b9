from rest_framework import serializers

from audit.models import AuditEntry


class AuditEntryOutput(serializers.ModelSerializer):
    class Meta:
        model = AuditEntry
        fields: tuple[str, ...] = (
            "id", "at", "user_id", "actor_kind", "actor_id", "session_id", "ip", "action",
            "object_type", "object_id", "changes", "reason", "request_id", "app_version",
        )  # fmt: skip
        read_only_fields: tuple[str, ...] = fields


class AuditProofOutput(serializers.Serializer):
    sealed = serializers.BooleanField(help_text="False: written less than a moment ago.")
    seq = serializers.IntegerField(allow_null=True, help_text="Place in the chain.")
    hash = serializers.CharField(allow_null=True)
    prev_hash = serializers.CharField(allow_null=True)
    key_id = serializers.CharField(allow_null=True)
    sealed_at = serializers.DateTimeField(allow_null=True)
    recomputed_ok = serializers.BooleanField(
        allow_null=True, help_text="Whether the entry as it is now gives the sealed hash."
    )


class AuditEntryProofOutput(AuditEntryOutput):
    proof = AuditProofOutput()

    class Meta(AuditEntryOutput.Meta):
        fields = (*AuditEntryOutput.Meta.fields, "proof")
        read_only_fields = fields


class AuditListOutput(serializers.Serializer):
    results = AuditEntryOutput(many=True)
    next = serializers.CharField(allow_null=True, help_text="The cursor of the next page.")


class AuditListInput(serializers.Serializer):
    limit = serializers.IntegerField(min_value=1, max_value=200, default=50)
    cursor = serializers.RegexField(
        r"^[0-9]{1,18}$", default=None, help_text="`next` of the page before."
    )
    action = serializers.CharField(
        max_length=64, default="", help_text="`auth.signin`, or a family: `auth.`"
    )
    object_type = serializers.CharField(max_length=64, default="")
    object_id = serializers.CharField(max_length=64, default="")
