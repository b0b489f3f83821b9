"""Everything under ``/api/v1`` of market data. No trailing slashes: the paths are a contract."""

from django.urls import path

from marketdata import api, broker_api, quote_api, watchlist_api

urlpatterns = [
    path("ltp-quote", quote_api.LtpQuoteApi.as_view(), name="quotes-ltp"),
    path("ohlc-quote", quote_api.OhlcQuoteApi.as_view(), name="quotes-ohlc"),
    path("full-mkt-quote", quote_api.FullQuoteApi.as_view(), name="quotes-full"),
    path("master-data", broker_api.MasterDataApi.as_view(), name="master-data"),
    path("historical-data", broker_api.HistoricalDataApi.as_view(), name="historical-data"),
    path("quotes", quote_api.QuotesApi.as_view(), name="quotes"),
    path("instruments", api.InstrumentsApi.as_view(), name="instruments"),
    path("instruments/<str:key>", api.InstrumentApi.as_view(), name="instrument"),
    path("instruments/<str:key>/candles", api.CandlesApi.as_view(), name="instrument-candles"),
    path("instruments/<str:key>/expiries", api.ExpiriesApi.as_view(), name="instrument-expiries"),
    path(
        "instruments/<str:key>/option-chain",
        api.OptionChainApi.as_view(),
        name="instrument-option-chain",
    ),
    path("calendar", api.CalendarApi.as_view(), name="calendar"),
    path("watchlists", watchlist_api.WatchlistsApi.as_view(), name="watchlists"),
    path("watchlists/<uuid:watchlist_id>", watchlist_api.WatchlistApi.as_view(), name="watchlist"),
    path(
        "watchlists/<uuid:watchlist_id>/items/<str:symbol>",
        watchlist_api.WatchlistItemApi.as_view(),
        name="watchlist-item",
    ),
]
