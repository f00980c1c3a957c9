"""TLS over a stream transport, by the standard library's ``asyncio.sslproto``; the only module that knows it.

Invariant: whoever makes a TLS transport either gets a finished handshake through *waiter* or can give up at any moment
by ``close()``, and the socket below is closed then. A compiled TLS transport replaces this module alone.
Called by ``connections`` and ``server``, and by programs through ``loop.start_tls``.
"""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING, Any, cast

from weft.loop._host import Host

try:
    import ssl
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class TlsProtocol(SSLProtocol):
    """The protocol below a TLS transport, with repairs to the standard one."""

    max_size = 64 * 1024
    """Bytes of receive buffer per connection: four full records (RFC 8446, 5.1). The standard one takes 256 KiB."""

    # What the standard protocol has, but its stub does not know.
    _app_protocol_get_buffer: Callable[[int], Any]
    _app_protocol_buffer_updated: Callable[[int], None]
    _get_read_buffer_size: Callable[[], int]
    _call_eof_received: Callable[[], None]
    _do_read: Callable[[], None]
    _sslobj: ssl.SSLObject
    _incoming: ssl.MemoryBIO

    def _do_read__buffered(self) -> None:
        """Fill the buffer of a ``BufferedProtocol`` with decrypted data, and tell it once.

        The standard protocol reads into ``buffer[offset:]``: of a ``bytearray`` that is a copy, and the data was lost.
        """
        filled, closed = 0, False
        # The view must be gone when buffer_updated() runs: nobody may resize a bytearray that has views.
        with memoryview(self._app_protocol_get_buffer(self._get_read_buffer_size())) as view:
            room = len(view)
            if not room:
                raise RuntimeError("get_buffer() returned an empty buffer")
            try:
                while filled < room and not closed:
                    count = cast("int", self._sslobj.read(room - filled, view[filled:]))  # into a buffer: a length
                    filled += count
                    closed = not count
            except (ssl.SSLWantReadError, ssl.SSLSyscallError):
                pass
        if filled == room:
            self._loop.call_soon(self._do_read)  # there may be more than fitted
        if filled:
            self._app_protocol_buffer_updated(filled)
        if closed:  # the peer's close_notify
            self._call_eof_received()
            self._start_shutdown()


class Tls(Host):
    """``start_tls``, and TLS transports for connections and servers."""

    def _make_tls_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | None,
        waiter: asyncio.Future[Any] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Make a TLS transport over a connected socket; *waiter* is told when the handshake is over.

        Args:
            rawsock: a connected non-blocking socket, owned by the transport as soon as this returns.
            protocol: the program's protocol; gets ``connection_made`` after the handshake.
            sslcontext: None for the default context.
            waiter: gets None or the exception that ended the handshake.
            server_side: play the server's part.
            server_hostname: the name to verify (client only); empty for none.
            extra: what ``get_extra_info`` knows beyond the socket's own.
            server: told of the transport below by ``_attach`` and ``_detach``.
            ssl_handshake_timeout: seconds; None for 60.
            ssl_shutdown_timeout: seconds; None for 30.

        Raises:
            ValueError: a timeout is not positive.
        """
        tls = TlsProtocol(
            self,
            protocol,
            cast("ssl.SSLContext", sslcontext),  # None is allowed
            cast("asyncio.Future[Any]", waiter),
            server_side,
            server_hostname,
            ssl_handshake_timeout=cast("int | None", ssl_handshake_timeout),
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        from weft._core.stream import StreamTransport  # here: see the note in weft.loop

        transport = tls._app_transport
        try:
            StreamTransport(self, rawsock, tls, None, extra, server)
        except BaseException:
            transport.close()
            raise
        return transport

    async def start_tls(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Upgrade a connection to TLS; the program uses the transport that this returns from now on.

        Bytes that a ``StreamReader`` has already taken from the plain connection belong to the handshake (a proxy's
        header and the ClientHello often come in one packet), and go there.

        Args:
            transport: a stream transport, plain or TLS, that this loop made.
            protocol: gets the decrypted data; its ``connection_made`` is not called again.
            sslcontext: the TLS parameters.
            server_side: play the server's part.
            server_hostname: the name to verify (client only).
            ssl_handshake_timeout: seconds; None for 60.
            ssl_shutdown_timeout: seconds; None for 30.

        Raises:
            TypeError: *sslcontext* or *transport* is of the wrong kind.
            ssl.SSLError: the handshake failed.
            ConnectionError: the connection ended before the handshake did.
        """
        if ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        raw = cast("asyncio.Transport", transport)
        waiter = self.create_future()
        tls = TlsProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            call_connection_made=False,
            ssl_handshake_timeout=cast("int | None", ssl_handshake_timeout),
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        upgraded = tls._app_transport
        # Paused until the handshake has begun: the TLS protocol must not see data before connection_made().
        raw.pause_reading()
        raw.set_protocol(tls)
        _hand_over_unread(protocol, tls)
        started = self.call_soon(tls.connection_made, raw)
        resumed = self.call_soon(raw.resume_reading)
        try:
            await waiter
            if upgraded.get_extra_info("ssl_object") is None:
                raise ConnectionAbortedError(f"{raw!r} was closed during the TLS handshake")
        except BaseException:
            raw.close()
            started.cancel()
            resumed.cancel()
            raise
        return upgraded


def _hand_over_unread(protocol: asyncio.BaseProtocol, tls: TlsProtocol) -> None:
    """Move what a stream's reader has received, but nobody has read, from the reader to the TLS protocol.

    asyncio's streams keep it in ``StreamReader._buffer``, and offer no public way to take it back; ours give it.
    """
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return
    if take_unread := getattr(protocol, "_take_unread", None):
        tls._incoming.write(take_unread())
        return
    reader: Any = protocol._stream_reader  # type: ignore[attr-defined]  # None when the program has dropped the reader
    if reader is not None and reader._buffer:
        tls._incoming.write(reader._buffer)
        reader._buffer.clear()
        reader._paused = False  # there is nothing left to hold the transport back for
