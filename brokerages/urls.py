"""Under ``/api/v1/``."""

from django.urls import path

from brokerages import api, live_api, login_api, postback_api, webhooks

ONE = "connections/<uuid:connection_id>"

app_name = "brokerages"
urlpatterns = [
    path("brokers", api.BrokersApi.as_view(), name="brokers"),
    path("connections", api.ConnectionsApi.as_view(), name="connections"),
    path(ONE, api.ConnectionApi.as_view(), name="connection"),
    path(f"{ONE}/default", api.ConnectionDefaultApi.as_view(), name="default"),
    path(f"{ONE}/session", api.ConnectionSessionApi.as_view(), name="session"),
    path(f"{ONE}/session/check", api.ConnectionSessionCheckApi.as_view(), name="session-check"),
    path(f"{ONE}/postback", postback_api.ConnectionPostbackApi.as_view(), name="postback"),
    path(
        f"{ONE}/session/request",
        login_api.ConnectionSessionRequestApi.as_view(),
        name="session-request",
    ),
    path(f"{ONE}/login-url", login_api.ConnectionLoginUrlApi.as_view(), name="login-url"),
    path(
        "connections/callback/<slug:broker>",
        login_api.LoginCallbackApi.as_view(),
        name="login-callback",
    ),
    path(f"{ONE}/profile", live_api.ConnectionProfileApi.as_view(), name="profile"),
    path(f"{ONE}/funds", live_api.ConnectionFundsApi.as_view(), name="funds"),
    path(f"{ONE}/holdings", live_api.ConnectionHoldingsApi.as_view(), name="holdings"),
    path(f"{ONE}/positions", live_api.ConnectionPositionsApi.as_view(), name="positions"),
    path(f"{ONE}/orders", live_api.ConnectionOrdersApi.as_view(), name="orders"),
    path(f"{ONE}/trades", live_api.ConnectionTradesApi.as_view(), name="trades"),
    path("webhooks/events", webhooks.events, name="webhook-events"),
    path("webhooks/<slug:broker>/<str:token>", webhooks.postback, name="webhook-postback"),
    path(
        "dashboard/activate-brokerage",
        api.BrokerageActivateApi.as_view(),
        name="activate-brokerage",
    ),
]
