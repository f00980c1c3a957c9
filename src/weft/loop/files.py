"""``sendfile`` and ``sock_sendfile``: a file to a transport or socket, by the kernel where that is possible.

Invariant: however a transfer ends, the file's position stands behind the last byte that was sent, and a transport has
its own protocol, its reading and its writing back.
Called by programs (aiohttp's file responses among them).
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
from asyncio.constants import _SendfileMode
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from weft.loop._host import Host
from weft.loop.addresses import check_not_tls
from weft.versions import SENDFILE_ALWAYS_SEEKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import BinaryIO

SOCKET_CHUNK = 256 * 1024
TRANSPORT_CHUNK = 16 * 1024
"""Bytes read at a time where the kernel cannot send the file: as in asyncio; a TLS record holds 16 KiB."""

LARGEST_CALL = 0x7FFF_F000
"""Bytes that one sendfile(2) transfers at most."""


class Files(Host):
    """Sending files."""

    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send *file* over *transport*; returns the bytes sent.

        Args:
            transport: a stream transport, plain or TLS.
            file: a regular file, opened in binary mode.
            offset: where in the file to begin, in bytes.
            count: how many bytes; None for all to the end.
            fallback: read and write where sendfile(2) does not work (TLS, files that are not regular).

        Raises:
            RuntimeError: the transport is closing, or does not support this.
            asyncio.SendfileNotAvailableError: sendfile(2) does not work and *fallback* is false.
            ConnectionError: the connection ended; ``file.tell()`` says how much was sent.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", _SendfileMode.UNSUPPORTED)
        if mode is _SendfileMode.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is _SendfileMode.TRY_NATIVE:
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(f"fallback is disabled and native sendfile is not supported for transport {transport!r}")
        return await self._sendfile_fallback(cast("asyncio.Transport", transport), file, offset, count)

    async def sock_sendfile(
        self, sock: socket.socket, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool | None = True
    ) -> int:
        """Send *file* over a connected socket; returns the bytes sent.

        Arguments and errors are those of ``sendfile``.
        """
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        check_not_tls(sock)
        _check_arguments(sock, file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sock_sendfile_fallback(sock, file, offset, count)

    # By the kernel

    async def _sock_sendfile_native(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        return await _send_by_kernel(sock, file, offset, count, self._until_writable)

    async def _sendfile_native(
        self, transport: asyncio.WriteTransport, file: Any, offset: int, count: int | None
    ) -> int:
        stream = cast("Any", transport)
        _check_arguments(stream.get_extra_info("socket"), file, offset, count)
        flushed = stream._make_empty_waiter()  # from here on write() refuses
        try:
            guard = _Guard(self, stream)
            try:
                await guard.wait(flushed)  # what was written before goes first
                # A duplicate: the transport's own descriptor is its to watch, and to close at any moment.
                with stream.get_extra_info("socket").dup() as sock:
                    return await _send_by_kernel(sock, file, offset, count, guard.until_writable)
            finally:
                guard.give_back()
        finally:
            stream._reset_empty_waiter()

    # By reading and writing

    async def _sock_sendfile_fallback(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        async def send(chunk: bytes) -> None:
            await self.sock_sendall(sock, chunk)

        return await self._send_by_hand(file, offset, count, SOCKET_CHUNK, send)

    async def _sendfile_fallback(self, transport: asyncio.Transport, file: Any, offset: int, count: int | None) -> int:
        guard = _Guard(self, transport)

        async def send(chunk: bytes) -> None:
            await guard.drain()  # before, not after: a chunk counts from write() on, whatever happens then
            transport.write(chunk)

        try:
            return await self._send_by_hand(file, offset, count, TRANSPORT_CHUNK, send)
        finally:
            guard.give_back()

    async def _send_by_hand(
        self, file: Any, offset: int, count: int | None, size: int, send: Callable[[bytes], Awaitable[None]]
    ) -> int:
        """Read the file in the executor, chunk by chunk, and *send* each."""
        seekable = _is_seekable(file)
        if offset or (SENDFILE_ALWAYS_SEEKS and seekable):
            file.seek(offset)
        total = 0
        try:
            while not count or total < count:
                wanted = min(size, count - total) if count else size
                chunk = await self.run_in_executor(None, file.read, wanted)
                if not chunk:
                    break
                await send(chunk)
                total += len(chunk)
            return total
        finally:
            if total and seekable:
                file.seek(offset + total)


class _Guard(asyncio.Protocol):
    """Stands in for a transport's protocol during a transfer: reading pauses, and the transfer learns what happens.

    The program's protocol hears of pauses only if they last beyond the transfer, and of the connection's end at once.
    """

    def __init__(self, loop: Host, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._protocol: asyncio.Protocol = transport.get_protocol()
        self._was_reading: bool = transport.is_reading()
        self._was_paused: bool = transport._protocol_paused
        self._paused = self._was_paused
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None  # whatever is being waited for
        self._room: asyncio.Future[None] | None = None  # for drain() alone
        transport.pause_reading()
        transport.set_protocol(self)

    def check_open(self) -> None:
        if self._lost or self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")

    async def drain(self) -> None:
        """Wait until the transport has room."""
        self.check_open()
        if self._paused:
            self._room = self._loop.create_future()
            await self.wait(self._room)
            self.check_open()

    async def until_writable(self, sock: socket.socket) -> None:
        """Wait until *sock* has room, or the connection is lost."""
        self.check_open()
        ready = self._loop.create_future()
        self._loop._watch_writer(sock.fileno(), _complete, ready)
        try:
            await self.wait(ready)
        finally:
            self._loop._unwatch_writer(sock.fileno())

    async def wait(self, waiter: asyncio.Future[None]) -> None:
        """Wait for *waiter*, which the end of the connection ends too."""
        self._waiter = waiter
        try:
            await waiter
        finally:
            self._waiter = None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._room is not None:
            _complete(self._room)

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> bool | None:
        raise RuntimeError("Invalid state: reading should be paused")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("Connection is closed by peer"))
        self._protocol.connection_lost(exc)

    def give_back(self) -> None:
        """Restore protocol, reading and writing."""
        if self._lost:
            return
        self._transport.set_protocol(self._protocol)
        if self._was_reading:
            self._transport.resume_reading()
        if self._paused and not self._was_paused:
            self._protocol.pause_writing()
        elif self._was_paused and not self._paused:
            self._protocol.resume_writing()


def _complete(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _send_by_kernel(
    sock: socket.socket,
    file: Any,
    offset: int,
    count: int | None,
    until_writable: Callable[[socket.socket], Awaitable[None]],
) -> int:
    """Send by sendfile(2), and set the file's position.

    Raises:
        asyncio.SendfileNotAvailableError: *file* has no file descriptor, or the kernel refuses it; nothing was sent.
    """
    try:
        source = file.fileno()
        size = os.fstat(source).st_size
    except (AttributeError, io.UnsupportedOperation, OSError):
        raise asyncio.SendfileNotAvailableError("not a regular file") from None
    if not (count or size):
        return 0
    total = 0
    try:
        while not count or total < count:
            try:
                sent = os.sendfile(
                    sock.fileno(), source, offset + total, min(count - total if count else size, LARGEST_CALL)
                )
            except BlockingIOError:
                sent = -1
            except OSError as error:
                if not total:
                    raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from error
                if error.errno == errno.ENOTCONN:
                    # As all other ends of the connection that come in mid-transfer are reported.
                    raise ConnectionError(errno.ENOTCONN, "socket is not connected") from error
                raise
            if not sent:
                break  # the file's end
            total += max(sent, 0)
            if sent < 0:
                await until_writable(sock)
            elif total < count if count else offset + total < size:
                await asyncio.sleep(0)  # a fast peer must not keep the loop to itself
        return total
    finally:
        if total:
            os.lseek(source, offset + total, os.SEEK_SET)
        elif SENDFILE_ALWAYS_SEEKS:
            with suppress(OSError):  # a pipe, say; what has gone wrong is under way already
                os.lseek(source, offset, os.SEEK_SET)


def _is_seekable(file: Any) -> bool:
    """Whether *file* can seek; what does not say so by ``seekable()`` can if it has a ``seek``."""
    return bool(file.seekable()) if hasattr(file, "seekable") else hasattr(file, "seek")


def _check_arguments(sock: Any, file: BinaryIO, offset: int, count: int | None) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")
