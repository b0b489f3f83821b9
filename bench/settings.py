"""Production's settings, with the bare reference views added and the limits per caller lifted."""

from accounts.limits import DEFAULTS
from config.settings.production import *  # noqa: F403

ROOT_URLCONF = "bench.urls"
# All load comes from one address, and one user signs in again and again.
ACCOUNTS_THROTTLES = dict.fromkeys(DEFAULTS)
