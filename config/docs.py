"""The API description and its two readers, from installed packages: nothing is fetched."""

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from drf_spectacular.views import (
    SpectacularJSONAPIView,
    SpectacularRedocView,
    SpectacularSwaggerSplitView,
)

# Both readers set styles from their scripts, and ReDoc searches in a worker of its own making.
_readers = csp_update({"style-src": [SELF, UNSAFE_INLINE], "worker-src": [SELF, "blob:"]})

schema = SpectacularJSONAPIView.as_view()
swagger = _readers(SpectacularSwaggerSplitView.as_view(url_name="schema"))
redoc = _readers(SpectacularRedocView.as_view(url_name="schema"))
