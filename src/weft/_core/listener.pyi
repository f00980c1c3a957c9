"""Types of what accepts connections."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Self

from weft._core.driver import Sink

class Listener(Sink):
    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_connection: Callable[[socket.socket, Any], object],
        backlog: int = 100,
    ) -> Self: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
