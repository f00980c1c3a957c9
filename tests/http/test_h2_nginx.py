"""HTTP/2 against nginx, over TLS and with its own ideas of limits: what no server in memory would show.

Owns the fixture ``nginx``: one server for the module, on Unix sockets in a folder of its own. What it passes on goes to
``upstream``, a server of a few lines in the test's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.http.h2_kit import FakeBody, whole
from tests.loop.kit import CERTIFICATE
from weft.http._wire.incoming import Incoming
from weft.http.errors import PeerClosedError
from weft.http.h2 import H2Connection
from weft.http.headers import Headers
from weft.http.outgoing import Request
from weft.http.url import URL

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]

FILE = bytes(range(256)) * 4096 * 8  # 8 MiB

CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    client_max_body_size 0;
    proxy_request_buffering off;
    server {{
        listen unix:{folder}/main ssl http2;
        root {folder};
        location = /hello {{ return 200 "hello $http_x_name $request_method $http_cookie"; }}
        location = /empty {{ return 204; }}
        location = /headers {{ add_header X-Long {long}; return 200; }}
        location /up {{ proxy_pass http://unix:{folder}/upstream; proxy_http_version 1.1; proxy_buffering off; }}
    }}
    server {{
        listen unix:{folder}/brief ssl http2;
        keepalive_requests 3;
        location / {{ return 200 $request_uri; }}
    }}
    server {{
        listen unix:{folder}/narrow ssl http2;
        http2_max_concurrent_streams 2;
        location = /hello {{ return 200; }}
        location / {{ proxy_pass http://unix:{folder}/upstream; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def nginx() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="weft-nginx-"))
    try:
        (folder / "file").write_bytes(FILE)
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, certificate=CERTIFICATE, long="x" * 3000))
        with subprocess.Popen([str(NGINX), "-p", str(folder), "-c", str(config), "-e", "stderr"]) as server:
            try:
                wait_for(folder / "narrow", server)
                yield folder
            finally:
                server.terminate()
    finally:
        shutil.rmtree(folder)


def wait_for(path: Path, server: subprocess.Popen[bytes]) -> None:
    """Wait until something listens there."""
    while server.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return
        time.sleep(0.01)
    raise RuntimeError(f"nginx ended with {server.returncode}")


class Client:
    """A connection to one of the servers."""

    def __init__(self, connection: H2Connection) -> None:
        self.connection = connection

    def send(self, target: str, method: str = "GET", body: Any = None, **headers: str) -> Incoming:
        url = URL(f"https://localhost{target}")
        request = Request(method, url, Headers([(n.replace("_", "-"), v) for n, v in headers.items()]), body)
        incoming = Incoming(request, asyncio.get_running_loop())
        self.connection.exchange(request, incoming)
        return incoming

    async def get(self, target: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[Incoming, bytes]:
        incoming = self.send(target, method, body, **headers)
        return incoming, await read(incoming)


async def read(incoming: Incoming) -> bytes:
    """The whole body."""
    pieces = []
    while (piece := incoming.take()) != b"":
        if piece is None:
            await incoming.changed()
        else:
            pieces.append(piece)
    return b"".join(pieces)


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    transport, connection = await loop.create_unix_connection(
        lambda: H2Connection(loop, lambda one: None), str(path), ssl=context, server_hostname="localhost"
    )
    assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    connection.on_change = lambda one: gone.set() if one.transport is None or "lost" in repr(one) else None
    try:
        yield Client(connection)
    finally:
        connection.close()
        if connection.active:
            connection.abort()
        if "lost" not in repr(connection):
            await gone.wait()
        # The TLS transport lets go of its socket in a later turn.
        for _ in range(3):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def upstream(folder: Path, serve: Callable[..., Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """A server behind nginx: ``serve(reader, writer)`` answers one request."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    path = folder / "upstream"
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(handle, str(path))
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


async def echo(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends the request's body back, as it comes."""
    lowered = head.lower()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Had: %b\r\n\r\n" % (head.split()[0]))
    if b"transfer-encoding: chunked" in lowered:
        while size := int(await reader.readline(), 16):
            writer.write((await reader.readexactly(size + 2))[:-2])
            await writer.drain()
    elif b"content-length:" in lowered:
        left = int(lowered.partition(b"content-length:")[2].split()[0])
        while left:
            piece = await reader.read(min(left, 65536))
            left -= len(piece)
            writer.write(piece)
            await writer.drain()


class TestNginx:
    def test_get(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with connected(nginx / "main") as client:
                incoming, body = await client.get("/hello", X_Name="weft", Cookie="a=1; b=2")
                assert (incoming.status, incoming.version) == (200, 20)
                assert body == b"hello weft GET a=1; b=2"
                assert incoming.headers is not None
                assert incoming.headers["server"].startswith("nginx")
                assert int(incoming.headers["Content-Length"]) == len(body)

        run(main())

    def test_many_at_once(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with connected(nginx / "main") as client:
                for _ in range(3):
                    results = await asyncio.gather(*(client.get("/hello", X_Name=str(n)) for n in range(100)))
                    assert [body for _, body in results] == [b"hello %d GET " % n for n in range(100)]
                assert client.connection.room == 128

        run(main())

    @pytest.mark.parametrize(("target", "method", "status"), [("/empty", "GET", 204), ("/file", "HEAD", 200)])
    def test_no_content(self, run: Run, nginx: Path, target: str, method: str, status: int) -> None:
        async def main() -> None:
            async with connected(nginx / "main") as client:
                incoming, body = await client.get(target, method)
                assert incoming.status == status
                assert incoming.is_complete
                assert body == b""
                assert (await client.get("/hello"))[0].status == 200

        run(main())

    def test_a_long_field(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with connected(nginx / "main") as client:
                incoming, _ = await client.get("/headers")
                assert incoming.headers is not None
                assert incoming.headers["x-long"] == "x" * 3000

        run(main())

    def test_a_file(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with connected(nginx / "main") as client:
                bodies = await asyncio.gather(client.get("/file"), client.get("/file"), client.get("/hello"))
                assert bodies[0][1] == bodies[1][1] == FILE
                assert bodies[2][1].startswith(b"hello")

        run(main())

    def test_a_reader_that_sleeps_and_another_that_does_not(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with connected(nginx / "main") as client:
                asleep = client.send("/file")
                await asleep.changed()
                assert (await client.get("/file"))[1] == FILE
                assert not asleep.is_ended
                assert await read(asleep) == FILE

        run(main())

    def test_an_abandoned_download(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with connected(nginx / "main") as client:
                for _ in range(20):
                    incoming = client.send("/file")
                    await incoming.changed()
                    incoming.release()
                assert client.connection.active == 0
                assert (await client.get("/file"))[1] == FILE

        run(main())

    @pytest.mark.parametrize("kind", ["whole", "chunked", "with a length"])
    def test_a_body_goes_up_and_comes_back(self, run: Run, nginx: Path, kind: str) -> None:
        content = FILE[: 3 * 1024 * 1024 + 5]
        pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]

        async def main() -> None:
            body: Any = whole(content)
            if kind != "whole":
                body = FakeBody(None, len(content) if kind == "with a length" else None, pieces)
            async with upstream(nginx, echo), connected(nginx / "main") as client:
                incoming, back = await client.get("/up", "PUT", body)
                assert incoming.headers is not None
                assert incoming.headers["x-had"] == "PUT"
                assert back == content

        run(main())

    def test_an_answer_without_the_body(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            answered = asyncio.Event()

            async def early(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
                await writer.drain()
                # To close with the body unread would reset the connection, and nginx might see that first.
                await answered.wait()

            async with upstream(nginx, early), connected(nginx / "main") as client:
                incoming, body = await client.get("/up", "PUT", whole(bytes(20_000_000)))
                answered.set()
                assert (incoming.status, body) == (403, b"no")
                assert (await client.get("/hello"))[0].status == 200

        run(main())

    def test_going_away_after_some_requests(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            async with connected(nginx / "brief") as client:
                exchanges = [client.send(f"/{n}") for n in range(6)]
                bodies = [await outcome(exchange) for exchange in exchanges]
                assert bodies[:3] == [b"/0", b"/1", b"/2"]
                assert bodies[3:] == ["again"] * 3
                assert client.connection.room == 0
                with pytest.raises(RuntimeError):
                    client.send("/")

        run(main())

    def test_the_limit_on_streams(self, run: Run, nginx: Path) -> None:
        async def main() -> None:
            release = asyncio.Event()

            async def late(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await release.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nlate")

            async with upstream(nginx, late), connected(nginx / "narrow") as client:
                assert (await client.get("/hello"))[0].status == 200
                assert client.connection.room == 2
                early = [client.send("/") for _ in range(2)]
                assert client.connection.room == 0
                release.set()
                assert [await outcome(exchange) for exchange in early] == [b"late"] * 2
                assert client.connection.room == 2

        run(main())

    def test_a_server_that_breaks_off(self, run: Run, nginx: Path) -> None:
        async def broken(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            await writer.drain()

        async def main() -> None:
            async with upstream(nginx, broken), connected(nginx / "main") as client:
                incoming = client.send("/up")
                with pytest.raises(ConnectionError):
                    await read(incoming)
                assert incoming.status == 200
                assert (await client.get("/hello"))[0].status == 200

        run(main())


async def outcome(exchange: Incoming) -> bytes | str:
    """The body, or that the request can be sent again."""
    try:
        return await read(exchange)
    except PeerClosedError as error:
        assert error.unprocessed
        return "again"
