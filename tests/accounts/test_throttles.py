"""How often what may be tried; exact, and without Redis too."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.core.checks import run_checks
from django.db import connections
from django.utils import timezone

from accounts import limits, throttles
from accounts.errors import Throttled
from accounts.models import ThrottleCounter
from tests.accounts.conftest import AUTH, Api, error
from tests.accounts.factories import PASSWORD, UserFactory

EMAIL = "user@example.com"


def fail(api: Api, email: str = EMAIL) -> Any:
    return api.say("login", {"email": email, "password": "wrong wrong wrong"})


# --- Counting -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_limit_holds_over_any_span_not_per_calendar_hour(settings: Any) -> None:
    settings.ACCOUNTS_THROTTLES = {"signup_ip": (3, 60)}
    start = timezone.now()
    admitted, waits = [], []
    with time_machine.travel(start, tick=False) as clock:
        for second in range(0, 200, 10):
            clock.move_to(start + timedelta(seconds=second))
            try:
                throttles.hit("signup_ip", "x")
            except Throttled as e:
                waits.append(e.retry_after == admitted[-3] + 60 - second)
            else:
                admitted.append(second)

    assert all(waits)
    assert admitted == [0, 10, 20, 60, 70, 80, 120, 130, 140, 180, 190]


@pytest.mark.django_db
def test_limits_and_subjects_are_counted_apart(settings: Any) -> None:
    settings.ACCOUNTS_THROTTLES = {"signup_ip": (1, 60), "signin_ip": (1, 60)}
    for name in ("signup_ip", "signin_ip"):
        for subject in ("a", "b", None):
            throttles.hit(name, subject)

    with pytest.raises(Throttled):
        throttles.hit("signup_ip", "a")


@pytest.mark.django_db
def test_a_limit_can_be_switched_off(settings: Any) -> None:
    settings.ACCOUNTS_THROTTLES = {"signup_ip": None}
    for _ in range(100):
        throttles.hit("signup_ip", "x")

    assert not ThrottleCounter.objects.exists()


@pytest.mark.parametrize("given", [{"signup_ip": (9, 60)}, ["signup_ip=9/60"]])
def test_limits_come_from_a_setting_or_the_environment(settings: Any, given: Any) -> None:
    settings.ACCOUNTS_THROTTLES = given

    assert limits.limit("signup_ip") == limits.Limit(9, 60)
    assert limits.limit("signin_ip") == limits.DEFAULTS["signin_ip"]
    assert run_checks() == []


def test_the_environment_can_switch_a_limit_off(settings: Any) -> None:
    settings.ACCOUNTS_THROTTLES = ["signup_ip=off", "signin_ip=5/1"]

    assert (limits.limit("signup_ip"), limits.limit("signin_ip")) == (None, limits.Limit(5, 1))


@pytest.mark.parametrize(
    "given",
    [["signup=9/60"], ["signup_ip"], ["signup_ip=0/60"], ["signup_ip=9/0"], ["signup_ip=-1/5"],
     ["signup_ip=none"], {"signup": (9, 60)}, {"signup_ip": (9,)}],
)  # fmt: skip
def test_a_limit_that_is_not_understood_stops_the_start(settings: Any, given: Any) -> None:
    settings.ACCOUNTS_THROTTLES = given

    assert [found.id for found in run_checks()] == ["accounts.E001"]


def test_an_unknown_limit_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        limits.limit("no_such_limit")


@pytest.mark.django_db(transaction=True)
def test_exactly_as_many_as_allowed_at_the_same_instant(settings: Any) -> None:
    settings.ACCOUNTS_THROTTLES = {"signup_ip": (7, 60)}
    together = Barrier(40)

    def go(_: int) -> bool:
        try:
            together.wait(20)
            throttles.hit("signup_ip", "x")
        except Throttled:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(40) as pool:
        assert sum(pool.map(go, range(40))) == 7


@pytest.mark.django_db
def test_no_address_stands_in_the_table() -> None:
    throttles.hit("code_request_account", EMAIL)
    throttles.backoff_begin(EMAIL)

    assert all(len(c.key) == 64 and "@" not in c.key for c in ThrottleCounter.objects.all())


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        (None, "none"),
        ("", "none"),
    ],
)
def test_what_an_address_is_counted_as(ip: str | None, network: str) -> None:
    assert throttles.network_of(ip) == network


# --- Signing in -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_failures_are_followed_by_longer_and_longer_waits(api: Api) -> None:
    UserFactory(email=EMAIL)
    start = timezone.now()
    waits = []
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(5):
            assert fail(api).status_code == 401
        for _ in range(13):
            answer = fail(api)
            assert (answer.status_code, error(answer)) == (429, "throttled")
            wait = int(answer.headers["Retry-After"])
            waits.append(wait)
            clock.shift(timedelta(seconds=wait))
            assert fail(api).status_code == 401

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


@pytest.mark.django_db
def test_the_right_password_has_to_wait_too_and_then_clears_the_count(api: Api) -> None:
    UserFactory(email=EMAIL)
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(5):
            fail(api)
        good = {"email": EMAIL, "password": PASSWORD}
        assert api.say("login", good).status_code == 429
        clock.shift(timedelta(seconds=1))
        assert api.say("login", good).status_code == 200
        assert [fail(api).status_code for _ in range(5)] == [401] * 5


@pytest.mark.django_db
def test_failures_are_forgotten_after_a_day(api: Api) -> None:
    UserFactory(email=EMAIL)
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(5):
            fail(api)
        clock.shift(timedelta(days=1, seconds=1))
        assert [fail(api).status_code for _ in range(5)] == [401] * 5


@pytest.mark.django_db
def test_unknown_addresses_are_slowed_down_the_same(api: Api) -> None:
    UserFactory(email=EMAIL)
    seen = [[(a.status_code, a.content) for a in (fail(api, e) for _ in range(7))]
            for e in (EMAIL, "nobody@example.com")]  # fmt: skip

    assert seen[0] == seen[1]


@pytest.mark.django_db
def test_case_and_spaces_of_an_address_count_as_one(api: Api) -> None:
    names = [EMAIL, "USER@example.com", " user@example.com ", "User@Example.Com", EMAIL, EMAIL]

    assert [fail(api, n).status_code for n in names] == [401] * 5 + [429]


@pytest.mark.django_db
def test_one_accounts_failures_do_not_hold_up_another(api: Api) -> None:
    UserFactory(email="bob@example.com")
    for _ in range(6):
        fail(api)

    assert api.signin("bob@example.com")


@pytest.mark.django_db
def test_a_mailed_code_lets_the_owner_in_while_the_password_waits(
    api: Api, code: Callable[[str], str]
) -> None:
    UserFactory(email=EMAIL)
    for _ in range(6):
        fail(api)
    api.say("request-otp", {"email": EMAIL})

    assert api.say("otp-login", {"email": EMAIL, "otp": code(EMAIL)}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_forty_guesses_at_the_same_instant_get_five_looks(api: Api) -> None:
    UserFactory(email=EMAIL)
    together = Barrier(40)

    def go(_: int) -> int:
        try:
            client = Api()
            together.wait(20)
            return int(fail(client).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(go, range(40)))

    # The wait after the fifth is one second: a slow machine may allow one more look.
    assert 5 <= statuses.count(401) <= 6
    assert statuses.count(429) == 40 - statuses.count(401)


# --- By address -----------------------------------------------------------------------------------

PATHS = {
    "signup_ip": ("signup", lambda n: {"email": f"u{n}@example.com", "password": PASSWORD}),
    "signin_ip": ("login", lambda n: {"email": f"u{n}@example.com", "password": PASSWORD}),
    "refresh_ip": ("refresh", lambda n: {"refresh_token": "x"}),
    "code_request_ip": ("request-otp", lambda n: {"email": f"u{n}@example.com"}),
    "code_verify_ip": ("otp-login", lambda n: {"email": f"u{n}@example.com", "otp": "000000"}),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", PATHS)
def test_each_path_is_counted_by_address(api: Api, settings: Any, name: str) -> None:
    settings.ACCOUNTS_THROTTLES = {name: (3, 60)}
    path, body = PATHS[name]
    statuses = [api.say(path, body(n)).status_code for n in range(5)]

    assert 429 not in statuses[:3]
    assert statuses[3:] == [429, 429]
    elsewhere = Api(REMOTE_ADDR="198.51.100.3").say(path, body(9))
    assert elsewhere.status_code != 429


@pytest.mark.django_db
def test_an_invented_forwarding_header_is_the_same_caller(api: Api, settings: Any) -> None:
    settings.ACCOUNTS_THROTTLES = {"signin_ip": (20, 60)}
    statuses = [
        api.say(
            "login",
            {"email": f"u{n}@example.com", "password": PASSWORD},
            headers={"X-Forwarded-For": f"10.1.{n // 250}.{n % 250}", "X-Real-IP": f"10.2.0.{n}"},
        ).status_code
        for n in range(40)
    ]

    assert statuses == [401] * 20 + [429] * 20


@pytest.mark.django_db
def test_behind_a_proxy_of_ours_callers_are_told_apart(api: Api, settings: Any) -> None:
    settings.ACCOUNTS_THROTTLES, settings.TRUSTED_PROXIES = {"signin_ip": (1, 60)}, 1
    body = {"email": EMAIL, "password": PASSWORD}

    def status(forwarded: str) -> int:
        return int(api.say("login", body, headers={"X-Forwarded-For": forwarded}).status_code)

    assert [status("1.1.1.1, 203.0.113.1"), status("2.2.2.2, 203.0.113.1")] == [401, 429]
    assert status("1.1.1.1, 203.0.113.2") == 401


# --- Mailed codes ---------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["request-otp", "password/reset"])
@pytest.mark.parametrize("known", [True, False])
def test_a_code_is_mailed_again_after_thirty_seconds(api: Api, path: str, known: bool) -> None:
    if known:
        UserFactory(email=EMAIL)
    start = timezone.now()
    statuses = []
    with time_machine.travel(start, tick=False) as clock:
        for second in (0, 1, 29, 30, 45):
            clock.move_to(start + timedelta(seconds=second))
            statuses.append(api.say(path, {"email": EMAIL}).status_code)

    assert statuses == [202, 429, 429, 202, 429]


@pytest.mark.django_db
def test_five_codes_an_hour_for_an_account(api: Api) -> None:
    start = timezone.now()
    statuses = []
    with time_machine.travel(start, tick=False) as clock:
        for minute in range(8):
            clock.move_to(start + timedelta(minutes=minute))
            client = Api(REMOTE_ADDR=f"198.51.100.{minute}")
            statuses.append(client.say("request-otp", {"email": EMAIL}).status_code)
        clock.move_to(start + timedelta(hours=1, seconds=1))
        assert api.say("request-otp", {"email": EMAIL}).status_code == 202

    assert statuses == [202] * 5 + [429] * 3


@pytest.mark.django_db
def test_thirty_tries_of_codes_a_day_for_an_account() -> None:
    """Spread over addresses and challenges, as a patient guesser would."""
    start = timezone.now()
    statuses = []
    with time_machine.travel(start, tick=False) as clock:
        for hour in range(12):
            client = Api(REMOTE_ADDR=f"198.51.100.{hour}")
            clock.move_to(start + timedelta(hours=hour))
            client.say("request-otp", {"email": EMAIL})
            for _ in range(4):
                body = {"email": EMAIL, "otp": "000000"}
                statuses.append(client.say("otp-login", body).status_code)

    assert statuses == [401] * 30 + [429] * 18


# --- Redis ----------------------------------------------------------------------------------------


@pytest.fixture
def no_redis(settings: Any, tmp_path: Any) -> None:
    location = f"unix://{tmp_path}/nobody-listens-here.sock"
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": location}}
    settings.RATELIMIT_ENABLE = True


@pytest.mark.django_db
@pytest.mark.usefixtures("no_redis")
@pytest.mark.parametrize("name", PATHS)
def test_limits_hold_while_redis_is_away(api: Api, settings: Any, name: str) -> None:
    cache.set("probe", 1)
    assert cache.get("probe") is None
    settings.ACCOUNTS_THROTTLES = {name: (3, 60)}
    path, body = PATHS[name]
    statuses = [api.say(path, body(n)).status_code for n in range(5)]

    assert 429 not in statuses[:3]
    assert not any(status >= 500 for status in statuses)
    assert statuses[3:] == [429, 429]


@pytest.mark.django_db
@pytest.mark.usefixtures("no_redis")
def test_guessing_is_slowed_down_while_redis_is_away(api: Api) -> None:
    assert [fail(api).status_code for _ in range(7)] == [401] * 5 + [429] * 2


@pytest.mark.django_db
def test_floods_are_turned_away_before_the_database(
    api: Api, settings: Any, django_assert_num_queries: Any
) -> None:
    cache.clear()
    settings.RATELIMIT_ENABLE = True
    settings.ACCOUNTS_THROTTLES = {"auth_ip": (3, 3600)}
    bodies = [api.say("otp-login", {}) for _ in range(3)]
    assert [b.status_code for b in bodies] == [400] * 3
    with django_assert_num_queries(0):
        answer = api.say("login", {"email": EMAIL, "password": PASSWORD})

    assert (answer.status_code, error(answer)) == (429, "throttled")
    assert 1 <= int(answer.headers["Retry-After"]) <= 3600
    assert Api(REMOTE_ADDR="198.51.100.9").say("otp-login", {}).status_code == 400
    cache.clear()


def test_every_path_without_a_login_has_the_gate() -> None:
    from django.urls import get_resolver

    from accounts import urls
    from accounts.api import OpenApi, OwnApi

    views = {p.name: p.callback.view_class for p in urls.urlpatterns}
    assert {n for n, v in views.items() if not issubclass(v, OpenApi | OwnApi)} == set()
    for view in views.values():
        gated = throttles.AuthFloodThrottle in view.throttle_classes
        assert gated == issubclass(view, OpenApi)
    assert get_resolver().resolve(AUTH + "signin").url_name == "signin"
