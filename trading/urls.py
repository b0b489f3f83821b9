"""Everything under ``/api/v1`` that trades. No trailing slashes: the paths are a contract."""

from django.urls import path

from trading import api, live_api, portfolio_api, source_api

urlpatterns = [
    path("orders", api.OrdersApi.as_view(), name="orders"),
    path("orders/preview", api.OrderPreviewApi.as_view(), name="order-preview"),
    path("orders/cancel-all", api.OrdersCancelAllApi.as_view(), name="orders-cancel-all"),
    path("orders/<uuid:order_id>", api.OrderApi.as_view(), name="order"),
    path("orders/<uuid:order_id>/events", api.OrderEventsApi.as_view(), name="order-events"),
    path("positions", api.PositionsApi.as_view(), name="positions"),
    path("positions/exit-all", api.PositionsExitAllApi.as_view(), name="positions-exit-all"),
    path("positions/<uuid:position_id>", api.PositionApi.as_view(), name="position"),
    path("positions/<uuid:position_id>/exit", api.PositionExitApi.as_view(), name="position-exit"),
    path("holdings", portfolio_api.HoldingsApi.as_view(), name="holdings"),
    path("fills", portfolio_api.FillsApi.as_view(), name="fills"),
    path("trades", portfolio_api.TradesApi.as_view(), name="trades"),
    path("trades/<uuid:trade_id>", portfolio_api.TradeApi.as_view(), name="trade"),
    path("portfolio", portfolio_api.PortfolioApi.as_view(), name="portfolio"),
    path("pnl", portfolio_api.PnlApi.as_view(), name="pnl"),
    path("notifications", portfolio_api.NotificationsApi.as_view(), name="notifications"),
    path(
        "notifications/read",
        portfolio_api.NotificationsReadApi.as_view(),
        name="notifications-read",
    ),
    path(
        "notifications/<uuid:notification_id>/read",
        portfolio_api.NotificationReadApi.as_view(),
        name="notification-read",
    ),
    path(
        "connections/<uuid:connection_id>/margins",
        live_api.ConnectionMarginsApi.as_view(),
        name="connection-margins",
    ),
    path(
        "connections/<uuid:connection_id>/convert-position",
        live_api.ConvertPositionApi.as_view(),
        name="connection-convert-position",
    ),
    # the source systems' own paths
    path("dashboard/dashboard", source_api.DashboardApi.as_view(), name="dashboard-overview"),
    path("dashboard/order/buy", source_api.TickerBuyApi.as_view(), name="dashboard-buy"),
    path("dashboard/order/sell", source_api.TickerSellApi.as_view(), name="dashboard-sell"),
    path("dashboard/orders", source_api.DashboardOrdersApi.as_view(), name="dashboard-orders"),
    path("dashboard/trades", source_api.DashboardTradesApi.as_view(), name="dashboard-trades"),
    path("trade/trade", source_api.JournalTradesApi.as_view(), name="trade-create"),
    path("trade/trades", source_api.JournalTradeListApi.as_view(), name="trade-trades"),
    path("trade/trade/<uuid:trade_id>", source_api.JournalTradeApi.as_view(), name="trade-edit"),
]
