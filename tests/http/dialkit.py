"""What the tests of dialling share: servers on loopback that clean up after themselves, certificates, names that the
tests give, and cancelling at a chosen await.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tests.loop.kit import Recorder, open_sockets
from weft.http.dial import Dialer, Route
from weft.http.names import Names

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CERTS = Path(__file__).with_name("certs")
AUTHORITY = CERTS / "authority.pem"


def server_tls(name: str = "server", *, alpn: Sequence[str] = (), wants_client: bool = False) -> ssl.SSLContext:
    """TLS of a server that shows ``certs/NAME.pem``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / f"{name}.pem")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(AUTHORITY)
    return context


def client_tls() -> ssl.SSLContext:
    """TLS of a client that trusts the authority of ``certs``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(AUTHORITY)
    return context


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", path: str | None = None
) -> AsyncIterator[int]:
    """A server on a free port of loopback, which is given, or at *path*; an error in *handler* fails the test."""
    tasks: set[asyncio.Task[None]] = set()
    errors: list[Exception] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone, as it may
        except asyncio.CancelledError:
            pass  # the test is over; some versions of asyncio would report it as an error
        except Exception as error:
            errors.append(error)
        finally:
            writer.transport.abort()

    if path is None:
        server = await asyncio.start_server(handle, host, 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
    else:
        server = await asyncio.start_unix_server(handle, path, ssl=tls)
        port = 0
    try:
        yield port
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
    if errors:
        raise errors[0]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until the other side has had enough."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything, and say nothing."""
    while await reader.read(65536):
        pass


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, then its end."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Be a tunnel between a client and a server, until both have ended."""
    try:
        there, back = await asyncio.open_connection(host, port)
    except OSError:
        return
    try:
        await asyncio.gather(pipe(reader, back), pipe(there, writer))
    finally:
        back.transport.abort()


def names_of(**hosts: str | Sequence[str]) -> Names:
    """Names that know only *hosts*, where a double underscore stands for a dot."""
    table = {name.replace("__", "."): [to] if isinstance(to, str) else to for name, to in hosts.items()}

    async def resolver(host: str) -> tuple[Sequence[str], float]:
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return table[host], 60.0

    return Names(resolver=resolver)


async def talk(transport: asyncio.Transport, protocol: Recorder, data: bytes = b"hello") -> bytes:
    """Send over a connection to an echo server and give what comes back."""
    protocol.data.clear()
    transport.write(data)
    return await protocol.receive(len(data))


async def check_echo(dialer: Dialer, route: Route) -> Recorder:
    """Dial, see that it works, and close; gives the protocol, for its transport's extra info."""
    transport, protocol = await dialer.dial(route, Recorder)
    assert protocol.transport is transport
    assert await talk(transport, protocol) == b"hello"
    transport.close()
    await protocol.lost
    return protocol


async def until_sockets(count: int) -> None:
    """Wait until the process has no more than *count* sockets."""
    async with asyncio.timeout(10):
        while open_sockets() > count:
            await asyncio.sleep(0.001)


class CancelledAt:
    """Awaits *awaitable*, and has the task cancelled at its await number *number*, from 0 on.

    How: ``"at once"``, before it waits; ``"later"``, while it waits; ``"when done"``, when what it waits for is there
    but the task has not seen it. ``reached`` says whether there were so many awaits.
    """

    HOW = ("at once", "later", "when done")

    def __init__(self, awaitable: Awaitable[Any], number: int, how: str) -> None:
        self.awaitable = awaitable
        self.number = number
        self.how = how
        self.reached = False

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self.awaitable.__await__()
        error: BaseException | None = None
        while True:
            try:
                future = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            if self.number == 0:
                self.reached = True
                self._cancel(future)
            self.number -= 1
            try:
                yield future
            except BaseException as thrown:
                error = thrown

    def _cancel(self, future: asyncio.Future[Any] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.how == "at once":
            task.cancel()
        elif self.how == "later" or future is None:
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            future.add_done_callback(lambda _: task.cancel())
