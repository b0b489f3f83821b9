"""Under ``/api/v1/auth/``, without slashes at the end."""

from django.urls import path

from accounts import api

app_name = "auth"
urlpatterns = [
    path("signup", api.SignupApi.as_view(), name="signup"),
    path("signin", api.SigninApi.as_view(), name="signin"),
    path("request-otp", api.OtpRequestApi.as_view(), name="request-otp"),
    path("otp-login", api.OtpLoginApi.as_view(), name="otp-login"),
    path("refresh", api.RefreshApi.as_view(), name="refresh"),
    path("logout", api.LogoutApi.as_view(), name="logout"),
    path("register", api.RegisterApi.as_view(), name="register"),
    path("login", api.LoginApi.as_view(), name="login"),
    path("me", api.MeApi.as_view(), name="me"),
    path("password/change", api.PasswordChangeApi.as_view(), name="password-change"),
    path("password/reset", api.PasswordResetApi.as_view(), name="password-reset"),
    path(
        "password/reset/confirm",
        api.PasswordResetConfirmApi.as_view(),
        name="password-reset-confirm",
    ),
    path("email/verify", api.EmailVerifyApi.as_view(), name="email-verify"),
    path("email/verify/confirm", api.EmailVerifyConfirmApi.as_view(), name="email-verify-confirm"),
    path("sessions", api.SessionListApi.as_view(), name="sessions"),
    path("sessions/revoke-all", api.SessionsRevokeAllApi.as_view(), name="sessions-revoke-all"),
    path("sessions/<uuid:session_id>", api.SessionApi.as_view(), name="session"),
]
