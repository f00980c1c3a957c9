"""Types of the transport of datagram sockets."""

import asyncio
import socket
from collections.abc import Mapping
from socket import _Address
from typing import Any, Self

from weft._core.channel import FlowChannel

class DatagramTransport(FlowChannel, asyncio.DatagramTransport):
    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: _Address | None = None,
        waiter: asyncio.Future[Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Self: ...
    def sendto(self, data: bytes | bytearray | memoryview[Any], addr: _Address | None = None) -> None: ...
