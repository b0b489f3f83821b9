"""Every page. The API is in config/urls.py; paths of pages never begin with one of its."""

from django.urls import path

from accounts import views as accounts
from audit import views as audit
from brokerages import postback_pages
from brokerages import views as brokerages
from marketdata import views as marketdata
from trading import views as trading

app_name = "pages"

urlpatterns = [
    # who is there
    path("signup", accounts.signup, name="signup"),
    path("signin", accounts.signin, name="signin"),
    path("signin/code", accounts.signin_code, name="signin-code"),
    path("signin/code/enter", accounts.signin_code_enter, name="signin-code-enter"),
    path("signout", accounts.signout, name="signout"),
    path("forgot-password", accounts.forgot, name="forgot"),
    path("reset-password", accounts.reset, name="reset-password"),
    path("verify-email", accounts.verify_email, name="verify-email"),
    path("verify-email/resend", accounts.verify_email_resend, name="verify-email-resend"),
    path("account", accounts.account, name="account"),
    path("account/password", accounts.account_password, name="account-password"),
    path("account/sessions", accounts.account_sessions, name="account-sessions"),
    path("account/sessions/<uuid:session_id>", accounts.account_session, name="account-session"),
    # where they trade
    path("start", brokerages.start, name="start"),
    path("start/paper", trading.start_paper, name="start-paper"),
    path("connections", brokerages.connections, name="connections"),
    path("connections/new/<slug:broker>", brokerages.connection_new, name="connection-new"),
    path("connections/<uuid:connection_id>/default", brokerages.default, name="connection-default"),
    path("connections/<uuid:connection_id>/disable", brokerages.disable, name="connection-disable"),
    path("connections/<uuid:connection_id>/login", brokerages.login, name="connection-login"),
    path(
        "connections/<uuid:connection_id>/login/start",
        brokerages.login_start,
        name="connection-login-start",
    ),
    path(
        "connections/<uuid:connection_id>/login/request",
        brokerages.login_request,
        name="connection-login-request",
    ),
    path(
        "connections/<uuid:connection_id>/postback",
        postback_pages.postback,
        name="connection-postback",
    ),
    # what they look at
    path("watchlist", marketdata.watchlist, name="watchlist"),
    path("watchlist/add", marketdata.watchlist_add, name="watchlist-add"),
    path("watchlist/remove", marketdata.watchlist_remove, name="watchlist-remove"),
    path("watchlist/starter", marketdata.watchlist_starter, name="watchlist-starter"),
    path("instruments/search", marketdata.search, name="instrument-search"),
    path("instruments/<str:symbol>", marketdata.instrument, name="instrument"),
    path("instruments/<str:symbol>/depth", marketdata.depth, name="instrument-depth"),
    # what they do
    path("portfolio", trading.portfolio, name="portfolio"),
    path("orders", trading.orders, name="orders"),
    path("orders/new", trading.order_new, name="order-new"),
    path("orders/cancel-all", trading.orders_cancel, name="orders-cancel-all"),
    path("orders/<uuid:order_id>/change", trading.order_change, name="order-modify"),
    path("orders/<uuid:order_id>/cancel", trading.order_cancel, name="order-cancel"),
    path("positions", trading.positions, name="positions"),
    path("positions/exit-all", trading.positions_exit, name="positions-exit-all"),
    path("positions/<uuid:position_id>/exit", trading.position_exit, name="position-exit"),
    path("holdings", trading.holdings, name="holdings"),
    path("trades", trading.trades, name="trades"),
    path("notifications", trading.notifications, name="notifications"),
    path("audit", audit.trail, name="audit-trail"),
]
