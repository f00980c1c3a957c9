"""A dial that is cancelled, at each of its awaits and in every way, leaves no socket and no task behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.http.dialkit import CancelledAt, client_tls, echo, names_of, server_tls, serving, until_sockets
from tests.http.proxykit import ConnectProxy, Socks
from tests.loop.kit import Recorder, Run, open_sockets, unreachable
from weft.http import tls
from weft.http.dial import Dialer, Route
from weft.http.proxies import Proxy

Setting: TypeAlias = Callable[[Path], AbstractAsyncContextManager[tuple[Dialer, Route]]]


@contextlib.asynccontextmanager
async def tcp(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    async with serving(echo) as port:
        yield Dialer(), Route("http", "127.0.0.1", port)


@contextlib.asynccontextmanager
async def resolving(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    async with serving(echo) as port:
        yield Dialer(), Route("http", "localhost", port)


@contextlib.asynccontextmanager
async def racing(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    with unreachable() as (_, port), socket.create_server(("127.0.0.4", port)):
        addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]  # hangs, refuses, refuses, answers
        yield Dialer(names_of(a__test=addresses), happy_eyeballs_delay=0.001), Route("http", "a.test", port)


@contextlib.asynccontextmanager
async def secure(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    async with serving(echo, tls=server_tls()) as port:
        yield Dialer(), Route("https", "127.0.0.1", port, tls=client_tls())


@contextlib.asynccontextmanager
async def secure_by_a_new_context(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    async with serving(echo, tls=server_tls()) as port:
        tls._shared.clear()
        yield Dialer(), Route("https", "127.0.0.1", port, tls=False)


@contextlib.asynccontextmanager
async def unix(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    path = str(folder / "server")
    with contextlib.suppress(FileNotFoundError):
        (folder / "server").unlink()
    async with serving(echo, path=path):
        yield Dialer(), Route("http", "a.test", 80, unix=path)


@contextlib.asynccontextmanager
async def crowded_unix(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    path = folder / "server"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        freeing = asyncio.get_running_loop().call_later(0.02, lambda: listener.accept()[0].close())
        yield Dialer(), Route("http", "a.test", 80, unix=str(path))
        freeing.cancel()


@contextlib.asynccontextmanager
async def http_proxy(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    async with serving(echo, tls=server_tls()) as port, serving(ConnectProxy(piecewise=True)) as its:
        yield Dialer(), Route("https", "127.0.0.1", port, Proxy(f"http://127.0.0.1:{its}"), tls=client_tls())


@contextlib.asynccontextmanager
async def https_proxy(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    async with serving(echo, tls=server_tls()) as port, serving(ConnectProxy(), tls=server_tls()) as its:
        through = Proxy(f"https://127.0.0.1:{its}", tls=client_tls())
        yield Dialer(), Route("https", "127.0.0.1", port, through, tls=client_tls())


@contextlib.asynccontextmanager
async def socks_proxy(folder: Path) -> AsyncIterator[tuple[Dialer, Route]]:
    async with serving(echo) as port, serving(Socks((b"user", b"pass"), replies=[3])) as its:
        names = names_of(a__test=["2001:db8::1", "127.0.0.1"])
        yield Dialer(names), Route("http", "a.test", port, Proxy(f"socks5://user:pass@127.0.0.1:{its}"))


SETTINGS: list[Setting] = [
    tcp,
    resolving,
    racing,
    secure,
    secure_by_a_new_context,
    unix,
    crowded_unix,
    http_proxy,
    https_proxy,
    socks_proxy,
]


def dial_tasks() -> list[str]:
    """What a dial has started besides itself: attempts at addresses, and look-ups."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith(("Dialer.", "Names."))]


@pytest.mark.parametrize("how", CancelledAt.HOW)
@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_is_left(run: Run, tmp_path: Path, setting: Setting, how: str) -> None:
    async def attempt(number: int) -> bool:
        """Cancel a dial at that await; whether it had so many."""
        async with setting(tmp_path) as (dialer, route):
            before = open_sockets()
            dial = CancelledAt(dialer.dial(route, Recorder), number, how)
            task = asyncio.ensure_future(dial)
            await asyncio.wait([task])
            if task.cancelled():
                assert dial.reached
            else:
                # Not reached; or the cancellation came after the last await, when the connection was there.
                transport, protocol = task.result()
                transport.abort()
                await protocol.lost
            await until_sockets(before)
            async with asyncio.timeout(10):
                while dial_tasks():
                    await asyncio.sleep(0.001)
            return dial.reached

    async def main() -> None:
        number = 0
        while await attempt(number):
            number += 1
            assert number < 200
        assert number >= (0 if setting is unix else 1)

    run(main())
