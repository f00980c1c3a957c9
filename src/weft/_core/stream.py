"""The transport of TCP and Unix stream sockets.

From the driver: bytes, end of file, errors; to the protocol: ``data_received`` (or the buffer methods of a
``BufferedProtocol``), ``eof_received``. What is written in one turn leaves in one system call at its end; from 16 KiB
on it goes at once. The phases and the way down are those of ``Channel``.
"""

import asyncio
import socket
from asyncio import trsock

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.weft._core.buffers import WriteQueue, freeze
from cython.cimports.weft._core.channel import CLOSING, LOST, OPEN, FlowChannel
from cython.cimports.weft._core.driver import IN_SOCKET, OUT_SOCKET
from cython.cimports.weft._core.plain_sockets import own_address, set_no_delay
from cython.cimports.weft._core.receiver import Receiver
from cython.cimports.weft._core.stock_streams import receiver_for
from cython.cimports.weft._core.sys.linux import weft_shutdown_write
from cython.cimports.weft._core.sys.python import Py_XDECREF, PyBytes_NewBlock, PyBytes_START, weft_cut_bytes

from weft import versions

IPPROTO_TCP = cython.declare(object, socket.IPPROTO_TCP)
# From so many bytes at once on, a connection is taken to bring more of the kind, and what comes next is received into
# the object that the protocol gets: one copy less, for a block of memory per such connection.
BULK = cython.declare(cython.Py_ssize_t, 64 * 1024)
BLOCK_SIZE = cython.declare(cython.Py_ssize_t, 256 * 1024)
HAS_ONE_CONTEXT = cython.declare(cython.bint, versions.STREAM_HAS_ONE_CONTEXT)


class StreamTransport(FlowChannel):
    """A connected stream socket; see :class:`asyncio.Transport`.

    Args:
        loop: the event loop.
        sock: a connected, non-blocking socket, which the transport owns and closes.
        protocol: what to tell.
        waiter: a future to complete once the connection stands and is read from.
        extra: more answers for ``get_extra_info``.
        server: what to tell of the connection's beginning and end, by ``_attach`` and ``_detach``.
        at_once: call ``connection_made`` before this returns, and not in the next turn of the loop.
    """

    def __init__(self, loop, sock, protocol, waiter=None, extra=None, server=None, at_once: cython.bint = False):
        self.sock = sock
        self.incoming = IN_SOCKET
        self.outgoing = OUT_SOCKET
        self.queue = WriteQueue()
        send_without_delay(sock)
        self.attach(loop, sock, protocol, extra, server)
        self.extra["socket"] = trsock.TransportSocket(sock)
        fill_names(self.extra, sock)
        if at_once:
            self.begin_at_once()
        else:
            self.begin(waiter)

    # What asyncio looks for before start_tls() and sendfile().
    @property
    def _start_tls_compatible(self):
        return True

    @property
    def _sendfile_compatible(self):
        return asyncio.constants._SendfileMode.TRY_NATIVE

    @property
    def __class__(self):
        # isinstance(transport, asyncio.Transport) holds without deriving from a class that has no C layout.
        return asyncio.Transport

    def __repr__(self):
        return (
            f"<weft.StreamTransport {self.phase_name()} fd={self.fd} read={'polling' if self.is_receiving else 'idle'} "
            f"write=<{'polling' if self.is_sending else 'idle'}, bufsize={self.unsent()}>>"
        )

    def context_of_life(self):
        return self.context if HAS_ONE_CONTEXT else None

    # -- receiving -----------------------------------------------------------------------------------------------------

    def adopt(self, protocol):
        self.protocol = protocol
        self.receiver = self.data_received = self.get_buffer = self.buffer_updated = None
        if isinstance(protocol, Receiver):
            self.receiver = protocol
        elif isinstance(protocol, asyncio.BufferedProtocol):
            self.get_buffer = protocol.get_buffer
            self.buffer_updated = protocol.buffer_updated
        elif protocol is not None:
            self.receiver = receiver_for(protocol)
            self.data_received = getattr(protocol, "data_received", None)
        return 0

    def is_reading(self):
        """Whether data is being received."""
        return self.phase == OPEN and not self.is_paused

    def pause_reading(self):
        """Receive nothing until :meth:`resume_reading`."""
        self.check_thread()
        self.pause()

    def resume_reading(self):
        """Receive again after :meth:`pause_reading`."""
        self.check_thread()
        self.resume()

    def offer_buffer(self, where, size):
        if self.get_buffer is None:
            if self.is_bulk:
                if self.block == cython.NULL:
                    self.block = PyBytes_NewBlock(cython.NULL, BLOCK_SIZE)
                # SAFETY: `block` is not given up before the driver has called on_received().
                where[0] = PyBytes_START(self.block)
                size[0] = BLOCK_SIZE
            return 0
        self.enter()
        try:
            buffer = self.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            PyObject_GetBuffer(buffer, cython.address(self.offered), PyBUF_SIMPLE | PyBUF_WRITABLE)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal(error, "Fatal error: protocol.get_buffer() call failed.")
            return 0
        finally:
            self.leave()
        # SAFETY: the memory is held by `offered` until withdraw_buffer().
        where[0] = cython.cast(cython.p_char, self.offered.buf)
        size[0] = self.offered.len
        return 0

    def withdraw_buffer(self):
        PyBuffer_Release(cython.address(self.offered))
        return 0

    def on_received(self, data, size):
        self.enter()
        try:
            if self.receiver is not None:
                self.receiver.feed(self, data, size)
            elif self.get_buffer is not None:
                self.buffer_updated(size)
            else:
                self.data_received(self.take_received(data, size))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            method = "data_received" if self.get_buffer is None else "buffer_updated"
            self.fatal(error, f"Fatal error: protocol.{method}() call failed.")
        finally:
            self.leave()
        return 0

    def take_received(self, data, size):
        """The bytes at ``data`` as an object: a copy, or the block itself if it was received into."""
        received: object
        if self.block != cython.NULL and data == PyBytes_START(self.block):
            # SAFETY: the reference to the block goes over to `received`.
            received = weft_cut_bytes(self.block, size)
            self.block = cython.NULL
            self.is_bulk = size >= BULK
            return received
        if size >= BULK:
            self.is_bulk = True
        return PyBytes_FromStringAndSize(data, size)

    def __dealloc__(self):
        # SAFETY: what is there is ours alone.
        Py_XDECREF(self.block)

    def on_eof(self):
        self.enter()
        try:
            if self.protocol.eof_received():
                # The peer may still listen: only reading ends.
                self.driver.unreceive(self)
            else:
                self.close()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal(error, "Fatal error: protocol.eof_received() call failed.")
        finally:
            self.leave()
        return 0

    def on_receive_failed(self, code):
        return self.fatal(self.os_error(code), "Fatal read error on socket transport")

    # -- sending -------------------------------------------------------------------------------------------------------

    def write(self, data):
        """Send ``data`` (bytes-like) without waiting; see :meth:`asyncio.WriteTransport.write`.

        Raises:
            TypeError: when ``data`` is not bytes-like.
            RuntimeError: after :meth:`write_eof`, during ``loop.sendfile``, or from another thread.
        """
        data = freeze(data)
        self.check_writable()
        if self.push(data):
            self.start_sending()

    def writelines(self, list_of_data):
        """Send the bytes-like objects of ``list_of_data`` in order, as by one :meth:`write`."""
        parts: list = [freeze(data) for data in list_of_data]
        self.check_writable()
        pushed: cython.bint = False
        for data in parts:
            if self.push(data):
                pushed = True
        if pushed:
            self.start_sending()

    def check_writable(self):
        self.check_thread()
        if self.is_eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        return 0

    def push(self, data):
        """Queue ``data``; returns whether there is something to send."""
        if not data:
            return 0
        if self.phase >= LOST:
            self.warn_lost()
            return 0
        self.queue.push(data, 0)
        return 1

    def on_sent(self):
        if self.phase == OPEN and not self.is_protocol_paused and not self.is_eof_written and self.empty_waiter is None:
            return 0
        entered: cython.bint = self.enter_if_driven()
        try:
            self.after_sent()
            if self.queue.size == 0 and self.phase < LOST:
                self.on_empty()
        finally:
            if entered:
                self.leave()
        return 0

    def on_empty(self):
        """Everything queued has left: go on with what waited for it."""
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.phase == CLOSING:
            self.lose(None)
        elif self.is_eof_written:
            self.shut_down()
        return 0

    def on_send_failed(self, code):
        return self.fatal(self.os_error(code), "Fatal write error on socket transport")

    def can_write_eof(self):
        """True: a stream socket can be shut down for writing."""
        return True

    def write_eof(self):
        """Shut the socket down for writing once everything queued has left; reading goes on."""
        self.check_thread()
        if self.phase == OPEN and not self.is_eof_written:
            self.is_eof_written = True
            if self.queue.size == 0:
                self.shut_down()

    def shut_down(self):
        code: cython.int = -weft_shutdown_write(self.fd)
        if code != 0:
            self.fatal(self.os_error(code), "Fatal error: shutdown() of a socket transport failed")
        return 0

    # -- for loop.sendfile() -------------------------------------------------------------------------------------------

    def _make_empty_waiter(self):
        """A future that is done once the queue is empty; until :meth:`_reset_empty_waiter` nobody can write."""
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.driver.send_now(self)
        self.empty_waiter = self.loop.create_future()
        if self.queue.size == 0:
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None


def send_without_delay(sock):
    """Switch off Nagle's algorithm, as asyncio does, for the same sockets.

    It holds the second of two small writes back until the peer has acknowledged the first, and the peer takes its time
    to do that (40 ms) when it has nothing to send: a head and a body that are written in two turns.
    """
    if sock.proto == IPPROTO_TCP:  # only internet stream sockets have that
        set_no_delay(sock)
    return 0


def fill_names(extra: dict, sock):
    """The two addresses, taken now: neither can be asked for once the connection has gone."""
    if "sockname" not in extra:
        try:
            extra["sockname"] = own_address(sock)
        except OSError:
            extra["sockname"] = None
    if "peername" not in extra:
        try:
            extra["peername"] = sock.getpeername()
        except OSError:
            extra["peername"] = None
