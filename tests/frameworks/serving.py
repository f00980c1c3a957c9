"""uvicorn inside the test's own loop, for the tests of uvicorn and of httpx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from tests.frameworks.kit import within
from tests.frameworks.starlette_app import make_app
from tests.loop.kit import CERTIFICATE


@dataclass
class Serving:
    """A server that runs, and what its application has seen."""

    server: uvicorn.Server
    app: Any
    tls: bool
    running: asyncio.Task[None]

    @property
    def events(self) -> list[str]:
        events: list[str] = self.app.state.events
        return events

    @property
    def port(self) -> int:
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    def url(self, path: str, scheme: str = "http") -> str:
        where = f"s://localhost:{self.port}" if self.tls else f"://127.0.0.1:{self.port}"
        return f"{scheme}{where}/{path}"

    async def heard(self, *any_of: str) -> None:
        """Wait until the application has noted one of these."""

        async def wait() -> None:
            while not set(any_of) & set(self.events):
                await asyncio.sleep(0.001)

        await within(wait())

    async def stop(self) -> None:
        """Ask the server to stop, and wait until it has."""
        self.server.should_exit = True
        await within(self.running)


@asynccontextmanager
async def serving(tls: bool = False, **options: Any) -> AsyncIterator[Serving]:
    """Serves the application of the tests until the block ends."""
    app = make_app()
    files = {"ssl_certfile": str(CERTIFICATE), "ssl_keyfile": str(CERTIFICATE)} if tls else {}
    options = {"host": "127.0.0.1", "port": 0, "lifespan": "on", "log_config": None, **files, **options}
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="critical", **options))
    here = Serving(server, app, tls, asyncio.ensure_future(server.serve()))
    while not (server.started or here.running.done()):
        await asyncio.sleep(0.001)  # uvicorn has no event to wait for
    if here.running.done():
        here.running.result()  # says why it did not start
    try:
        yield here
    finally:
        await here.stop()
