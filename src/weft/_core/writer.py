"""The writing end of a stream: asyncio's ``StreamWriter``.

What is written goes to the transport at once. The invariant: the writer owns the connection: who drops the last
reference to it without ``close()`` gets the connection closed, and a warning. Made by ``weft.streams``.
"""

import asyncio
import warnings

import cython
from cython.cimports.weft._core.channel import Channel
from cython.cimports.weft._core.stream_protocol import StreamProtocol

from weft.errors import WrongThreadError

WARN = cython.declare(object, warnings.warn)  # kept: at the interpreter's end the module may be gone before a writer


class StreamWriter:
    """The writing end of a stream; see :class:`asyncio.StreamWriter`.

    Args:
        transport: where it writes to.
        protocol: the transport's protocol, a ``weft.streams.StreamReaderProtocol``.
        reader: the other end of the stream, or None.
        loop: the event loop.

    ``isinstance(writer, asyncio.StreamWriter)`` holds.
    """

    def __init__(self, transport, protocol, reader, loop):
        if not isinstance(protocol, StreamProtocol):
            raise TypeError(
                f"a weft.StreamWriter needs a weft.streams.StreamReaderProtocol, not {type(protocol).__name__}: "
                "use asyncio.StreamWriter with asyncio's protocols"
            )
        self._protocol = protocol
        self._reader = reader
        self._loop = loop
        self.use(transport)

    def use(self, transport):
        self._transport = transport
        self.transport_write = transport.write
        self.channel = transport if isinstance(transport, Channel) else None
        return 0

    @property
    def __class__(self):
        return asyncio.StreamWriter

    def __repr__(self):
        reader: str = "" if self._reader is None else f" reader={self._reader!r}"
        return f"<StreamWriter transport={self._transport!r}{reader}>"

    @property
    def transport(self):
        """The transport."""
        return self._transport

    def write(self, data):
        """Send *data* (bytes-like); :meth:`drain` waits where the peer is slower than that.

        Raises:
            TypeError: *data* is not bytes-like.
            RuntimeError: after :meth:`write_eof`, or from another thread.
        """
        self.transport_write(data)

    def writelines(self, data):
        """Send the bytes-like objects of *data* in order."""
        self._transport.writelines(data)

    def write_eof(self):
        """Nothing more will be written; reading goes on."""
        return self._transport.write_eof()

    def can_write_eof(self):
        """Whether :meth:`write_eof` works: not over TLS."""
        return self._transport.can_write_eof()

    def close(self):
        """Close the connection once everything written has left."""
        return self._transport.close()

    def is_closing(self):
        """Whether the connection is closed, or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name, default=None):
        """Information about the transport; see :meth:`asyncio.BaseTransport.get_extra_info`."""
        return self._transport.get_extra_info(name, default)

    def drain(self):
        """Wait until little enough is left to send to write more; any number of tasks may.

        Raises:
            ConnectionResetError: the connection was lost before.
            OSError: what the connection was lost by.
        """
        return self._protocol.drain(self._transport, self.channel, self._reader)

    def wait_closed(self):
        """Wait until the connection is closed.

        Raises:
            OSError: what the connection was lost by, unless that was :meth:`close`.
        """
        return self._protocol.closed()

    async def start_tls(
        self, sslcontext, *, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None
    ):
        """Go on over TLS on the same connection.

        Args:
            sslcontext: the parameters.
            server_hostname: the name to verify, for a client.
            ssl_handshake_timeout: seconds; None for 60.
            ssl_shutdown_timeout: seconds; None for 30.

        Raises:
            ssl.SSLError: the handshake failed.
            ConnectionError: the connection ended before the handshake did.
        """
        protocol = self._protocol
        await self.drain()
        transport = await self._loop.start_tls(
            self._transport,
            protocol,
            sslcontext,
            server_side=protocol._is_server,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        protocol._replace_transport(transport)
        self.use(transport)

    def __del__(self):
        if self._transport is None or self._transport.is_closing():
            return
        if self._loop.is_closed():
            WARN("loop is closed", ResourceWarning)
            return
        try:
            self._transport.close()
        except WrongThreadError:  # the garbage collector runs in any thread
            self._loop.call_soon_threadsafe(self._transport.close)
        WARN(f"unclosed {self!r}", ResourceWarning)
