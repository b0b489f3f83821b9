"""A small front for the smoke run: one address, `/ws` to the stream process, the rest to the web.

It does what the real proxy of docker-compose.yml does, for one request per connection, and is for
this machine only.
"""

import asyncio
import contextlib
import sys

HEAD_LIMIT = 64 * 1024
# A caller's own word for these would be believed behind us.
OURS = (b"x-forwarded-for:", b"x-forwarded-proto:", b"connection:", b"keep-alive:")


class Front:
    """A reverse proxy that ends TLS, as it were: upstreams are told the request came over https."""

    def __init__(self, web: int, stream: int) -> None:
        self.web, self.stream = web, stream

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", port, limit=HEAD_LIMIT)
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            request, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
            path = request.split(b" ")[1].partition(b"?")[0]
            socket = path == b"/ws"
            kept = [line for line in lines if not line.lower().startswith(OURS)]
            kept += [b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: https"]
            kept.append(b"Connection: Upgrade" if socket else b"Connection: close")
            port = self.stream if socket else self.web
            above, below = await asyncio.open_connection("127.0.0.1", port)
            below.write(b"\r\n".join([request, *kept]) + b"\r\n\r\n")
            up = asyncio.create_task(_pump(reader, below))
            await _pump(above, writer)
            up.cancel()
            below.close()
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes until one side ends, then end the other's direction."""
    with contextlib.suppress(OSError):
        while data := await reader.read(HEAD_LIMIT):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


if __name__ == "__main__":
    own, to_web, to_stream = (int(port) for port in sys.argv[1:4])
    asyncio.run(Front(to_web, to_stream).serve(own))
