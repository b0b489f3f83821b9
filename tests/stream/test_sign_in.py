"""Who may open a socket, and how long it stays open."""

from datetime import timedelta

import httpx
import pytest
from django.test import override_settings
from django.utils import timezone
from websockets.exceptions import InvalidStatus

from accounts import tokens
from accounts.models import LoginSession
from accounts.services.sessions import sessions_revoke_all
from accounts.services.users import user_deactivate
from config.sockets import origin_allowed
from config.stream import Questions
from tests.stream.server import client, wait_for

PAGE = "https://app.sauda.test"  # in ALLOWED_ORIGINS of the test settings


def test_a_token_lets_in(stream, asha):
    with client(stream().url) as socket:
        assert socket.ask(type="auth", token=asha.token()) == {"type": "ready"}
        assert socket.ask(type="ping") == {"type": "pong"}


@pytest.mark.parametrize(
    "first",
    [
        '{"type": "auth", "token": "no.such.token"}',
        '{"type": "auth"}',
        '{"type": "auth", "token": null}',
        '{"type": "auth", "token": "\\u0000"}',
        '{"type": "ping"}',
        "not json",
        b"\x00\xff",
    ],
)
def test_anything_else_does_not(stream, first):
    with client(stream().url) as socket:
        socket.connection.send(first)
        assert socket.close_code() == 4401


def test_a_refresh_token_does_not(stream, asha):
    now = timezone.now()
    session = LoginSession.objects.create(
        user=asha.user, kind="API", method="OTHER", fingerprint=b"", refresh_hash=b"",
        previous_hash=b"", expires_at=now + timedelta(days=1),
    )  # fmt: skip
    refresh = tokens.refresh_mint(asha.id, session.pk, "j", now, session.expires_at)
    with client(stream().url) as socket:
        socket.send(type="auth", token=refresh)
        assert socket.close_code() == 4401


def test_silence_is_too_slow(stream):
    with client(stream(auth_seconds=0.2).url) as socket:
        assert socket.close_code() == 4408


def test_a_token_in_the_address_counts_for_nothing(stream, asha):
    server = stream(auth_seconds=0.2)
    with client(f"{server.url}?token={asha.token()}") as socket:
        assert socket.close_code() == 4408


def test_a_session_cookie_lets_in_a_page_of_this_host(stream, asha):
    server = stream()
    with client(
        server.url,
        origin=f"http://127.0.0.1:{server.port}",
        additional_headers={"Cookie": asha.cookie()},
    ) as socket:
        assert socket.receive() == {"type": "ready"}


def test_a_session_cookie_lets_in_a_named_origin(stream, asha):
    cookie = {"Cookie": asha.cookie()}
    with client(stream().url, origin=PAGE, additional_headers=cookie) as socket:
        assert socket.receive() == {"type": "ready"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        f"{PAGE}.evil.example",
    ],
)
def test_pages_of_others_are_not_allowed(stream, asha, origin):
    cookie = {"Cookie": asha.cookie()}
    with client(stream().url, origin=origin, additional_headers=cookie) as socket:
        assert socket.close_code() == 4403


def test_pages_of_others_are_not_allowed_with_a_token_either(stream, asha):
    with client(stream().url, origin="https://evil.example") as socket:
        assert socket.close_code() == 4403


@override_settings(PUBLIC_URL="https://Sauda.test")
def test_our_public_address_is_allowed_behind_a_proxy_that_names_itself():
    assert origin_allowed({b"origin": ["https://sauda.test"], b"host": ["stream:8001"]})
    assert not origin_allowed({b"origin": ["http://sauda.test"], b"host": ["stream:8001"]})


def test_two_origins_or_hosts_are_not_allowed():
    good = {b"origin": [PAGE], b"host": ["127.0.0.1"]}
    assert origin_allowed(good)
    assert not origin_allowed(good | {b"origin": [PAGE, "https://evil.example"]})
    assert not origin_allowed(good | {b"host": ["127.0.0.1", "evil.example"]})


@override_settings(ALLOWED_HOSTS=["sauda.test"])
def test_a_host_that_is_not_ours_makes_no_origin_good(stream):
    server = stream()
    with client(server.url, origin=f"http://127.0.0.1:{server.port}") as socket:
        assert socket.close_code() == 4403


@override_settings(SESSION_COOKIE_SECURE=True)
def test_a_page_without_tls_is_not_allowed_where_cookies_need_it(stream):
    server = stream()
    with client(server.url, origin=f"http://127.0.0.1:{server.port}") as socket:
        assert socket.close_code() == 4403


def test_a_cookie_without_an_origin_counts_for_nothing(stream, asha):
    cookie = {"Cookie": asha.cookie()}
    with client(stream(auth_seconds=0.2).url, additional_headers=cookie) as socket:
        assert socket.close_code() == 4408


def test_an_ended_session_cookie_asks_for_a_sign_in(stream, asha):
    cookie = {"Cookie": asha.cookie()}
    sessions_revoke_all(user_id=asha.id)
    server = stream(auth_seconds=0.3)
    with client(server.url, origin=PAGE, additional_headers=cookie) as socket:
        assert socket.close_code() == 4401
    with client(server.url, origin=PAGE, additional_headers=cookie) as socket:
        assert socket.ask(type="auth", token=asha.token()) == {"type": "ready"}


@pytest.mark.parametrize("end", [sessions_revoke_all, user_deactivate])
def test_the_end_of_the_session_ends_the_socket(stream, asha, bina, end):
    server = stream(check_seconds=0.3)
    with asha.connected(server) as socket, bina.connected(server) as other:
        end(user_id=asha.id)
        assert socket.close_code() == 4401
        assert other.ask(type="ping") == {"type": "pong"}


def test_the_end_of_the_token_ends_the_socket_unless_a_new_one_comes(stream, asha, monkeypatch):
    monkeypatch.setattr(tokens.AccessToken, "lifetime", timedelta(seconds=1))
    monkeypatch.setattr(tokens, "LEEWAY_SECONDS", 0)
    tokens._backend.cache_clear()
    server = stream(check_seconds=0.3)
    with asha.connected(server) as expiring, asha.connected(server) as renewed:
        monkeypatch.setattr(tokens.AccessToken, "lifetime", timedelta(minutes=10))
        assert renewed.ask(type="auth", token=asha.token()) == {"type": "ready"}
        assert expiring.close_code() == 4401
        assert renewed.ask(type="ping") == {"type": "pong"}
    tokens._backend.cache_clear()


def test_a_socket_does_not_change_hands(stream, asha, bina):
    with asha.connected(stream()) as socket:
        socket.send(type="auth", token=bina.token())
        assert socket.close_code() == 4401


def test_sockets_of_one_user_are_counted(stream, asha, bina):
    server = stream(sockets_per_user=2)
    with asha.connected(server), asha.connected(server) as second:
        with client(server.url) as third:
            third.send(type="auth", token=asha.token())
            assert third.close_code() == 4429
        with bina.connected(server):
            second.connection.close()
            wait_for(lambda: server.app.sockets[str(asha.id)] == 1)
            with asha.connected(server):
                pass
    wait_for(lambda: not server.app.sockets)


def test_sockets_that_have_not_signed_in_are_counted(stream, asha):
    server = stream(waiting_sockets=1)
    with client(server.url):
        wait_for(lambda: server.app.waiting == 1)
        with client(server.url) as second:
            assert second.close_code() == 1013
    wait_for(lambda: server.app.waiting == 0)


class Away(Questions):
    """A database that can be switched off."""

    away = False

    def principal(self, kind, value):
        if self.away:
            raise ConnectionError
        return super().principal(kind, value)


def test_without_the_database_a_sign_in_comes_later(stream, asha):
    questions = Away()
    questions.away = True
    with client(stream(questions).url) as socket:
        socket.send(type="auth", token="any")
        assert socket.close_code() == 1013


def test_a_short_outage_of_the_database_ends_no_socket(stream, asha):
    questions = Away()
    server = stream(questions, check_seconds=0.2, failed_checks=100)
    with asha.connected(server) as socket:
        questions.away = True
        assert socket.drain(1.0) == []
        questions.away = False
        assert socket.ask(type="ping") == {"type": "pong"}


def test_a_long_outage_of_the_database_does(stream, asha):
    questions = Away()
    with asha.connected(stream(questions, check_seconds=0.2)) as socket:
        questions.away = True
        assert socket.close_code() == 1013


def test_other_addresses_are_not_found(stream):
    server = stream()
    with pytest.raises(InvalidStatus) as refused, client(f"{server.url}/other"):
        pass
    assert refused.value.response.status_code == 404
    for path in ("/ws", "/", "/api/v1/orders"):
        answer = httpx.get(f"http://127.0.0.1:{server.port}{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
