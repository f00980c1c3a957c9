"""What stands between a transport and the two ends of a stream: bytes to the reader, flow control to the writer.

Owns who waits for room to write, and who waits for the end of the connection. The invariant: a waiter is in ``waiting``
exactly as long as its operation waits. It is fed by a transport of ours (``feed``), or gets ``data_received`` like any
protocol: from TLS, a pipe, another loop. ``weft.streams`` derives from it what a server needs.
"""

import asyncio
from asyncio.log import logger

from cython.cimports.weft._core.channel import OPEN
from cython.cimports.weft._core.reader import StreamReader
from cython.cimports.weft._core.waiter import Waiter


class StreamProtocol:
    def __init__(self, stream_reader, loop):
        if stream_reader is not None and not isinstance(stream_reader, StreamReader):
            raise TypeError(f"a stream of weft reads through a weft.StreamReader, not {type(stream_reader).__name__}")
        self.reader = stream_reader
        self._loop = loop
        self.waiting = []

    @property
    def __class__(self):
        # What asyncio's TLS and other libraries look for; see decision 6.
        return asyncio.StreamReaderProtocol

    # What people look at who look into asyncio's.

    @property
    def _stream_reader(self):
        return self.reader

    @property
    def _transport(self):
        return self.transport

    @property
    def _over_ssl(self):
        return self.is_over_tls

    @property
    def _paused(self):
        return self.is_paused

    @property
    def _connection_lost(self):
        return self.is_lost

    # -- for transports ------------------------------------------------------------------------------------------------

    def connection_made(self, transport):
        """See :meth:`asyncio.BaseProtocol.connection_made`."""
        self.transport = transport
        self.is_over_tls = transport.get_extra_info("sslcontext") is not None
        if self.reader is not None:
            self.reader.set_transport(transport)

    def _replace_transport(self, transport):
        """The stream goes on over another transport, as after ``start_tls``."""
        self.transport = transport
        self.is_over_tls = transport.get_extra_info("sslcontext") is not None
        if self.reader is not None:
            self.reader._replace_transport(transport)

    def _take_unread(self):
        """What came and was not read, for the protocol that takes our place, as in ``start_tls``."""
        return self.reader.take_over() if self.reader is not None else b""

    def feed(self, source, data, size):
        if self.reader is not None:
            self.reader.feed(source, data, size)
        return 0

    def data_received(self, data):
        """See :meth:`asyncio.Protocol.data_received`."""
        if self.reader is not None:
            self.reader.feed_data(data)

    def eof_received(self):
        """See :meth:`asyncio.Protocol.eof_received`: writing goes on, but over TLS, which ends both ways at once."""
        if self.reader is not None:
            self.reader.end()
        return not self.is_over_tls

    def connection_lost(self, exc):
        """See :meth:`asyncio.BaseProtocol.connection_lost`."""
        reader: StreamReader = self.reader
        self.is_lost = True
        self.error = exc
        self.reader = self.transport = None
        if reader is not None:
            if exc is None:
                reader.end()
            else:
                reader.fail(exc)
        self.wake_all()

    def pause_writing(self):
        """See :meth:`asyncio.BaseProtocol.pause_writing`."""
        self.is_paused = True
        if self._loop.get_debug():
            logger.debug("%r pauses writing", self)

    def resume_writing(self):
        """See :meth:`asyncio.BaseProtocol.resume_writing`."""
        self.is_paused = False
        if self._loop.get_debug():
            logger.debug("%r resumes writing", self)
        self.wake_all()

    def wake_all(self):
        # Those who wait for something else look, and wait again.
        waiting: list = self.waiting
        self.waiting = []
        waiter: Waiter
        for waiter in waiting:
            waiter.wake()
        return 0

    # -- for writers ---------------------------------------------------------------------------------------------------

    def drain(self, transport, channel, reader):
        call: Drain = Drain.__new__(Drain)
        call.protocol = self
        call.reader = reader
        call.transport = transport
        call.channel = channel
        return call

    def closed(self):
        call: Closed = Closed.__new__(Closed)
        call.protocol = self
        return call

    def _drain_helper(self):
        return self.drain(None, None, None)

    def _get_close_waiter(self, stream):
        return self.closed()


class Ending(Operation):
    """What waits for the protocol."""

    def wait(self):
        self.park(self.protocol._loop)
        self.protocol.waiting.append(self.waiter)
        return self.waiter

    def give_up(self, error):
        if self.waiter in self.protocol.waiting:
            self.protocol.waiting.remove(self.waiter)
        raise error


class Drain(Ending):
    """``writer.drain()``: until what was written has left so far that more may be."""

    def name(self):
        return "StreamWriter.drain"

    def is_closing(self):
        if self.channel is not None:
            return self.channel.phase != OPEN
        return self.transport is not None and self.transport.is_closing()

    def begin(self):
        if self.reader is not None and self.reader.error is not None:
            raise self.reader.error
        if self.is_closing():
            return self.give_way()
        return self.resume()

    def give_way(self):
        """One turn, in which ``connection_lost`` may come: who writes and drains in a loop is to hear of it."""
        self.has_given_way = True
        waiter: Waiter = self.park(self.protocol._loop)
        waiter.wake()
        return waiter

    def resume(self):
        protocol: StreamProtocol = self.protocol
        if protocol.is_lost:
            if not self.has_waited:
                raise ConnectionResetError("Connection lost")
            if protocol.error is not None:
                raise protocol.error
            return None
        if self.has_waited or not protocol.is_paused:
            return None  # once woken is enough: who writes more than all others would always be the first again
        self.has_waited = True
        return self.wait()


class Closed(Ending):
    """``writer.wait_closed()``: until the connection has ended."""

    def name(self):
        return "StreamWriter.wait_closed"

    def begin(self):
        if not self.protocol.is_lost:
            return self.wait()
        if self.protocol.error is not None:
            raise self.protocol.error
        return None
