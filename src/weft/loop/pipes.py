"""``connect_read_pipe`` and ``connect_write_pipe``: a protocol on one end of a pipe, FIFO, socket or terminal.

Invariant: the pipe belongs to the caller until its transport exists, and to the transport from then on.
Called by programs, and by ``subprocesses`` for the standard streams of a child.
"""

from __future__ import annotations

import asyncio
from asyncio.log import logger
from typing import TYPE_CHECKING, Any, TypeVar

from weft.loop._host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


class Pipes(Host):
    """Pipes as transports."""

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], ProtocolT], pipe: Any
    ) -> tuple[asyncio.ReadTransport, ProtocolT]:
        """Read from *pipe*, a file object, which is made non-blocking and closed with its transport.

        Raises:
            ValueError: *pipe* is neither a pipe nor a socket nor a character device.
        """
        from weft._core.pipe import ReadPipeTransport  # here: see the note in weft.loop

        protocol = protocol_factory()
        waiter = self.create_future()
        transport = ReadPipeTransport(self, pipe, protocol, waiter)
        await _made(transport, waiter)
        if self.get_debug():
            logger.debug("Read pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
        return transport, protocol

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], ProtocolT], pipe: Any
    ) -> tuple[asyncio.WriteTransport, ProtocolT]:
        """Write to *pipe*, a file object, which is made non-blocking and closed with its transport.

        Raises:
            ValueError: *pipe* is neither a pipe nor a socket nor a character device.
        """
        from weft._core.pipe import WritePipeTransport

        protocol = protocol_factory()
        waiter = self.create_future()
        transport = WritePipeTransport(self, pipe, protocol, waiter)
        await _made(transport, waiter)
        if self.get_debug():
            logger.debug("Write pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
        return transport, protocol


async def _made(transport: asyncio.BaseTransport, waiter: asyncio.Future[None]) -> None:
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
