"""The account paths: each reads its input, calls one service and shapes the answer."""

from dataclasses import asdict
from typing import Any, cast
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from accounts import selectors
from accounts import serializers as shapes
from accounts.authentication import AccessTokenAuthentication
from accounts.clients import Client, client_of
from accounts.parsers import FormParser
from accounts.principals import Principal
from accounts.services import passwords, sessions, sign_in, users
from accounts.throttles import AuthFloodThrottle
from accounts.tokens import TokenPair
from audit.openapi import errors

TAG = ["auth"]
MAILED = "If there is an account for this address, a mail is on its way."
TOKENS = OpenApiExample(
    "Tokens",
    {
        "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...",
        "token_type": "bearer",
        "refresh_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...",
    },
    response_only=True,
)
SIGNUP = OpenApiExample(
    "Sign-up", {"email": "user@example.com", "password": "securepassword"}, request_only=True
)
SIGNIN = OpenApiExample(
    "Sign-in", {"username": "user@example.com", "password": "securepassword"}, request_only=True
)


def read(kind: type[serializers.Serializer], request: Request) -> dict[str, Any]:
    """Return the checked body of a request.

    Raises:
        ValidationError: with the reasons by field.
    """
    form = kind(data=request.data)
    form.is_valid(raise_exception=True)
    return cast(dict[str, Any], form.validated_data)


def tokens(pair: TokenPair, status: int = 200) -> Response:
    return Response(asdict(pair), status=status)


def client(request: Request) -> Client:
    return client_of(request._request)


# Comments, not docstrings: those would become the description of every operation without its own.
class OpenApi(APIView):
    # Needs no login, and is throttled before the database is asked.
    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (AuthFloodThrottle,)

    def get_authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class OwnApi(APIView):
    # Belongs to the signed-in user.
    permission_classes = (IsAuthenticated,)

    def principal(self, request: Request) -> Principal:
        return cast(Principal, request.user)


class SignupApi(OpenApi):
    @extend_schema(
        operation_id="auth_signup",
        tags=TAG,
        summary="Sign up",
        request=shapes.SignupInput,
        responses={
            201: shapes.TokensOutput,
            **errors(400, 413, 415, 429, 503, s409="`email_taken`: there is an account already."),
        },
        examples=[SIGNUP, TOKENS],
    )
    def post(self, request: Request) -> Response:
        """Make an account and sign in at once. A mail asks to confirm the address."""
        form = read(shapes.SignupInput, request)
        return tokens(sign_in.user_signup(**form, client=client(request)), 201)


class RegisterApi(SignupApi):
    @extend_schema(
        operation_id="auth_register",
        tags=TAG,
        summary="Sign up (alias)",
        description="The same as `/auth/signup`.",
        request=shapes.SignupInput,
        responses={
            201: shapes.TokensOutput,
            **errors(400, 413, 415, 429, 503, s409="`email_taken`: there is an account already."),
        },
        examples=[SIGNUP, TOKENS],
    )
    def post(self, request: Request) -> Response:
        return super().post(request)


class SigninApi(OpenApi):
    parser_classes = (FormParser, *cast(Any, api_settings.DEFAULT_PARSER_CLASSES))

    @extend_schema(
        operation_id="auth_signin",
        tags=TAG,
        summary="Sign in with a password",
        request={
            "application/x-www-form-urlencoded": shapes.SigninInput,
            "application/json": shapes.SigninInput,
        },
        responses={200: shapes.TokensOutput, **errors(400, 401, 413, 415, 429, 503)},
        examples=[SIGNIN, TOKENS],
    )
    def post(self, request: Request) -> Response:
        """Five failures in a row make each further try wait: a second, doubled up to 15 minutes."""
        form = read(shapes.SigninInput, request)
        return self.signin(request, form)

    def signin(self, request: Request, form: dict[str, Any]) -> Response:
        return tokens(
            sign_in.user_signin(
                email=form["username"], password=form["password"], client=client(request)
            )
        )


class LoginApi(SigninApi):
    @extend_schema(
        operation_id="auth_login",
        tags=TAG,
        summary="Sign in with a password (alias)",
        description="The same as `/auth/signin`; takes `email` for `username` too.",
        request={
            "application/json": shapes.LoginInput,
            "application/x-www-form-urlencoded": shapes.LoginInput,
        },
        responses={200: shapes.TokensOutput, **errors(400, 401, 413, 415, 429, 503)},
        examples=[SIGNIN, TOKENS],
    )
    def post(self, request: Request) -> Response:
        return self.signin(request, read(shapes.LoginInput, request))


class OtpRequestApi(OpenApi):
    @extend_schema(
        operation_id="auth_request_otp",
        tags=TAG,
        summary="Ask for a sign-in code by mail",
        request=shapes.OtpRequestInput,
        responses={202: shapes.ChallengeOutput, **errors(400, 413, 415, 429)},
        examples=[OpenApiExample("Address", {"email": "user@example.com"}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """The answer is the same whether there is an account or not. The code is good for 5
        minutes.
        """
        form = read(shapes.OtpRequestInput, request)
        challenge = sign_in.otp_request(email=form["email"], client=client(request))
        return Response({"message": MAILED, "challenge_id": challenge}, status=202)


class OtpLoginApi(OpenApi):
    @extend_schema(
        operation_id="auth_otp_login",
        tags=TAG,
        summary="Sign in with a mailed code",
        request=shapes.OtpLoginInput,
        responses={200: shapes.TokensOutput, **errors(400, 401, 413, 415, 429)},
        examples=[
            OpenApiExample(
                "Code", {"email": "user@example.com", "otp": "123456"}, request_only=True
            ),
            TOKENS,
        ],
    )
    def post(self, request: Request) -> Response:
        """A code works once, and is dead after five wrong tries. It proves the address too."""
        form = read(shapes.OtpLoginInput, request)
        form["code"] = form.pop("otp")
        return tokens(sign_in.otp_login(**form, client=client(request)))


class RefreshApi(OpenApi):
    @extend_schema(
        operation_id="auth_refresh",
        tags=TAG,
        summary="Exchange a refresh token",
        request=shapes.RefreshTokenInput,
        responses={
            200: shapes.TokensOutput,
            **errors(
                400, 413, 415, 429,
                s401="`invalid_token`, or `token_reused`: used before, so the session is ended.",
            ),
        },
        examples=[
            OpenApiExample("Token", {"refresh_token": "your-refresh-token"}, request_only=True),
            TOKENS,
        ],
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """Each refresh token works once. A second use ends the session for every holder."""
        form = read(shapes.RefreshTokenInput, request)
        return tokens(sessions.session_refresh(**form, client=client(request)))


class LogoutApi(OpenApi):
    @extend_schema(
        operation_id="auth_logout",
        tags=TAG,
        summary="Sign out",
        request=shapes.RefreshTokenInput,
        responses={204: OpenApiResponse(description="Done."), **errors(400, 401, 413, 415, 429)},
        examples=[
            OpenApiExample("Token", {"refresh_token": "your-refresh-token"}, request_only=True)
        ],
    )
    def post(self, request: Request) -> Response:
        """End the session; its access tokens stop working at once."""
        sessions.session_logout(**read(shapes.RefreshTokenInput, request))
        return Response(status=204)


class MeApi(OwnApi):
    @extend_schema(
        operation_id="auth_me",
        tags=TAG,
        summary="The signed-in user",
        responses={200: shapes.ProfileOutput, **errors(401)},
    )
    def get(self, request: Request) -> Response:
        user = selectors.user_get(user_id=self.principal(request).id)
        return Response(shapes.ProfileOutput(user).data)

    @extend_schema(
        operation_id="auth_me_update",
        tags=TAG,
        summary="Change name or mobile number",
        request=shapes.ProfileUpdateInput,
        responses={200: shapes.ProfileOutput, **errors(400, 401, 413, 415)},
        examples=[OpenApiExample("Name", {"name": "Asha Rao"}, request_only=True)],
    )
    def patch(self, request: Request) -> Response:
        form = read(shapes.ProfileUpdateInput, request)
        user = users.profile_update(user_id=self.principal(request).id, **form)
        return Response(shapes.ProfileOutput(user).data)


class PasswordChangeApi(OwnApi):
    # A browser changes its password on the account page, which also renews its cookie.
    authentication_classes = (AccessTokenAuthentication,)

    @extend_schema(
        operation_id="auth_password_change",
        tags=TAG,
        summary="Change the password",
        request=shapes.PasswordChangeInput,
        responses={200: shapes.TokensOutput, **errors(400, 401, 403, 413, 415, 429, 503)},
        examples=[
            OpenApiExample(
                "Passwords",
                {"current_password": "securepassword", "new_password": "a much longer sentence"},
                request_only=True,
            ),
            TOKENS,
        ],
    )
    def post(self, request: Request) -> Response:
        """Ends every session, this one too, and returns the tokens of a new one."""
        form = read(shapes.PasswordChangeInput, request)
        return tokens(
            passwords.password_change(
                user_id=self.principal(request).id,
                current=form["current_password"],
                new=form["new_password"],
                client=client(request),
            )
        )


class PasswordResetApi(OpenApi):
    @extend_schema(
        operation_id="auth_password_reset",
        tags=TAG,
        summary="Ask for a mail to reset the password",
        request=shapes.PasswordResetInput,
        responses={202: shapes.ChallengeOutput, **errors(400, 413, 415, 429)},
        examples=[OpenApiExample("Address", {"email": "user@example.com"}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """The answer is the same whether there is an account or not."""
        form = read(shapes.PasswordResetInput, request)
        challenge = passwords.password_reset_request(email=form["email"], client=client(request))
        return Response({"message": MAILED, "challenge_id": challenge}, status=202)


class PasswordResetConfirmApi(OpenApi):
    @extend_schema(
        operation_id="auth_password_reset_confirm",
        tags=TAG,
        summary="Set a new password with the mailed code or link",
        request=shapes.PasswordResetConfirmInput,
        responses={204: OpenApiResponse(description="Done."), **errors(400, 413, 415, 429, 503)},
        examples=[
            OpenApiExample(
                "Code",
                {
                    "email": "user@example.com",
                    "otp": "123456",
                    "new_password": "a much longer sentence",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Ends every session of the user. `invalid_code` if the code or link is not good."""
        form = read(shapes.PasswordResetConfirmInput, request)
        if token := form.get("token"):
            passwords.password_reset_by_link(
                token=token, new=form["new_password"], client=client(request)
            )
        else:
            passwords.password_reset_confirm(
                email=form["email"],
                code=form["otp"],
                challenge_id=form["challenge_id"],
                new=form["new_password"],
                client=client(request),
            )
        return Response(status=204)


class EmailVerifyApi(OwnApi):
    @extend_schema(
        operation_id="auth_email_verify",
        tags=TAG,
        summary="Ask for a mail that confirms the address",
        request=None,
        responses={202: shapes.VerificationOutput, **errors(401, 429)},
    )
    def post(self, request: Request) -> Response:
        challenge = users.email_verify_request(
            user_id=self.principal(request).id, client=client(request)
        )
        message = "A mail is on its way." if challenge else "The address is confirmed already."
        return Response({"message": message, "challenge_id": challenge}, status=202)


class EmailVerifyConfirmApi(OpenApi):
    @extend_schema(
        operation_id="auth_email_verify_confirm",
        tags=TAG,
        summary="Confirm the address with the mailed code or link",
        request=shapes.EmailVerifyConfirmInput,
        responses={204: OpenApiResponse(description="Done."), **errors(400, 413, 415, 429)},
        examples=[
            OpenApiExample(
                "Code", {"email": "user@example.com", "otp": "123456"}, request_only=True
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Needs no login: the mail shows whose mailbox it is. `invalid_code` if it is not good."""
        form = read(shapes.EmailVerifyConfirmInput, request)
        if token := form.get("token"):
            users.email_verify_by_link(token=token, client=client(request))
        else:
            users.email_verify_confirm(
                email=form["email"],
                code=form["otp"],
                challenge_id=form["challenge_id"],
                client=client(request),
            )
        return Response(status=204)


class SessionListApi(OwnApi):
    @extend_schema(
        operation_id="auth_sessions",
        tags=TAG,
        summary="Where the user is signed in",
        responses={200: shapes.SessionListOutput, **errors(401)},
    )
    def get(self, request: Request) -> Response:
        """Every session that still stands, the most recently used first, at most 200."""
        principal = self.principal(request)
        found = selectors.session_list(user_id=principal.id)[:200]
        context = {"session_id": principal.session_id}
        results = shapes.SessionOutput(found, many=True, context=context).data
        return Response({"results": results, "next": None})


class SessionApi(OwnApi):
    @extend_schema(
        operation_id="auth_session_revoke",
        tags=TAG,
        summary="Sign one device out",
        responses={204: OpenApiResponse(description="Done."), **errors(401, 404)},
    )
    def delete(self, request: Request, session_id: UUID) -> Response:
        sessions.session_revoke(user_id=self.principal(request).id, session_id=session_id)
        return Response(status=204)


class SessionsRevokeAllApi(OwnApi):
    @extend_schema(
        operation_id="auth_sessions_revoke_all",
        tags=TAG,
        summary="Sign every other device out",
        request=shapes.SessionsRevokeInput,
        responses={200: shapes.RevokedOutput, **errors(400, 401, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """With `include_current`, this one too."""
        principal = self.principal(request)
        form = read(shapes.SessionsRevokeInput, request)
        keep = None if form["include_current"] else principal.session_id
        count = sessions.sessions_revoke_all(user_id=principal.id, keep=keep)
        return Response({"revoked": count})
