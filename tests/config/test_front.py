import asyncio

import pytest

from config.front import Front


async def upstream(seen, name):
    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(5) if b"Content-Length: 5" in head else b""
        seen.append((name, head + body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)  # the rest comes later
        writer.write(b"ok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def ask(request):
    seen = []
    web, web_port = await upstream(seen, "web")
    stream, stream_port = await upstream(seen, "stream")
    front = await asyncio.start_server(Front(web_port, stream_port)._client, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    for server in (web, stream, front):
        server.close()
    return answer, seen


@pytest.mark.parametrize(
    ("path", "to"), [("/ws", "stream"), ("/ws?a=1", "stream"), ("/wsx", "web"), ("/", "web")]
)
def test_path_decides_who_answers(path, to):
    request = f"GET {path} HTTP/1.1\r\nHost: sauda\r\n\r\n".encode()

    answer, seen = asyncio.run(ask(request))

    assert answer.endswith(b"ok")
    assert [name for name, _ in seen] == [to]


def test_callers_word_for_its_address_is_not_passed_on():
    request = (
        b"POST /x HTTP/1.1\r\nHost: sauda\r\nX-Forwarded-For: 8.8.8.8\r\n"
        b"x-forwarded-proto: http\r\nContent-Length: 5\r\n\r\nhello"
    )

    _, [(_, head)] = asyncio.run(ask(request))

    assert b"8.8.8.8" not in head
    assert head.lower().count(b"x-forwarded-proto: https") == 1
    assert head.endswith(b"\r\n\r\nhello")
