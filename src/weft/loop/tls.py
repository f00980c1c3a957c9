"""TLS over a stream transport, by ``weft._core.tls`` and what is below it; the only module that knows it.

Invariant: whoever makes a TLS transport either gets a finished handshake through *waiter* or can give up at any moment
by ``close()``, and the socket below is closed then.
Called by ``connections`` and ``server``, and by programs through ``loop.start_tls``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from weft.loop._host import Host

try:
    import ssl
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import socket

    from weft._core.tls import TlsReceiver


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
        from weft._core.stream import StreamTransport  # here: see the note in weft.loop

        if sslcontext is None:
            sslcontext = _default_context(server_side, server_hostname)
        layer, transport = _layer(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        try:
            StreamTransport(self, rawsock, layer, None, extra, server)
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
        layer, upgraded = _layer(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            is_made=True,
        )
        # Paused until the handshake has begun: the TLS protocol must not see data before connection_made().
        raw.pause_reading()
        raw.set_protocol(layer)
        _hand_over_unread(protocol, layer)
        started = self.call_soon(layer.connection_made, raw)
        resumed = self.call_soon(raw.resume_reading)
        try:
            await waiter
        except BaseException:
            raw.close()
            started.cancel()
            resumed.cancel()
            raise
        return upgraded


def _layer(
    loop: Host,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    waiter: asyncio.Future[Any] | None,
    server_side: bool,
    server_hostname: str | None,
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
    *,
    is_made: bool = False,
) -> tuple[TlsReceiver, asyncio.Transport]:
    """A protocol for the transport below, and the TLS transport that it tells."""
    from weft._core.tls import TlsReceiver  # here: see the note in weft.loop
    from weft._core.tls_transport import TlsTransport

    transport = TlsTransport(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname or None,
        is_made,
        handshake_timeout,
        shutdown_timeout,
    )
    return TlsReceiver(transport), transport


def _default_context(server_side: bool, server_hostname: str | None) -> ssl.SSLContext:
    """The context of a program that has asked for TLS with ``ssl=True``: the standard library's default."""
    if ssl is None:
        raise RuntimeError("stdlib ssl module not available")
    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


def _hand_over_unread(protocol: asyncio.BaseProtocol, layer: TlsReceiver) -> None:
    """Move what a stream's reader has received, but nobody has read, from the reader to the TLS protocol.

    asyncio's streams keep it in ``StreamReader._buffer``, and offer no public way to take it back; ours give it.
    """
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return
    if take_unread := getattr(protocol, "_take_unread", None):
        layer.data_received(take_unread())
        return
    reader: Any = protocol._stream_reader  # type: ignore[attr-defined]  # None when the program has dropped the reader
    if reader is not None and reader._buffer:
        layer.data_received(reader._buffer)
        reader._buffer.clear()
        reader._paused = False  # there is nothing left to hold the transport back for
