"""The transports of pipes, and of the other descriptors that asyncio treats as such: sockets, FIFOs, terminals.

A read pipe only receives. A write pipe only sends, and watches for one thing besides: that nobody reads any more, which
closes it.
"""

import asyncio
import os
import stat
from asyncio.log import logger

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.weft._core.buffers import WriteQueue, freeze
from cython.cimports.weft._core.channel import CLOSING, OPEN, Channel, FlowChannel
from cython.cimports.weft._core.driver import IN_PIPE, IN_READY, OUT_PIPE


def check_pipe(fd):
    """The mode of ``fd``, made non-blocking.

    Raises:
        ValueError: when it is no pipe, socket or character device; a file is always ready, so it cannot be waited for.
    """
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is only for pipes, sockets and character devices")
    os.set_blocking(fd, False)
    return mode


class ReadPipeTransport(Channel):
    """The reading end of a pipe; see :class:`asyncio.ReadTransport`.

    Args:
        loop: the event loop.
        pipe: a file object with ``fileno()`` and ``close()``, which the transport owns and closes.
        protocol: what to tell.
        waiter: a future to complete once the pipe is read from.
        extra: more answers for ``get_extra_info``.

    Raises:
        ValueError: when ``pipe`` is no pipe, socket or character device.
    """

    def __init__(self, loop, pipe, protocol, waiter=None, extra=None):
        check_pipe(pipe.fileno())
        self.incoming = IN_PIPE
        self.attach(loop, pipe, protocol, extra, None)
        self.extra["pipe"] = pipe
        self.begin(waiter)

    @property
    def __class__(self):
        return asyncio.ReadTransport

    def __repr__(self):
        return f"<weft.ReadPipeTransport {self.phase_name()} fd={self.fd} {'polling' if self.is_receiving else 'idle'}>"

    def adopt(self, protocol):
        self.protocol = protocol
        self.data_received = None if protocol is None else getattr(protocol, "data_received", None)
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

    def on_received(self, data, size):
        self.enter()
        try:
            self.data_received(PyBytes_FromStringAndSize(data, size))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal(error, "Fatal error: protocol.data_received() call failed.")
        finally:
            self.leave()
        return 0

    def on_eof(self):
        if self.loop.debug:
            logger.info("%r was closed by peer", self)
        self.phase = CLOSING
        self.driver.unreceive(self)
        self.enter()
        try:
            self.loop.call_soon(self.protocol.eof_received)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # a protocol that has no such method
            self.report(error, "Fatal error: protocol.eof_received() call failed.")
        finally:
            self.lose(None)
            self.leave()
        return 0

    def on_receive_failed(self, code):
        # EIO is how a terminal's other side says that it has gone: the same OSError rule as for any peer.
        return self.fatal(self.os_error(code), "Fatal read error on pipe transport")


class WritePipeTransport(FlowChannel):
    """The writing end of a pipe; see :class:`asyncio.WriteTransport`.

    Args:
        loop: the event loop.
        pipe: a file object with ``fileno()`` and ``close()``, which the transport owns and closes.
        protocol: what to tell.
        waiter: a future to complete once the pipe stands.
        extra: more answers for ``get_extra_info``.

    Raises:
        ValueError: when ``pipe`` is no pipe, socket or character device.
    """

    def __init__(self, loop, pipe, protocol, waiter=None, extra=None):
        mode = check_pipe(pipe.fileno())
        self.incoming = IN_READY
        self.outgoing = OUT_PIPE
        self.queue = WriteQueue()
        # A terminal that is readable says that somebody typed, not that nobody reads.
        self.is_watched = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self.attach(loop, pipe, protocol, extra, None)
        self.extra["pipe"] = pipe
        self.begin(waiter)

    @property
    def __class__(self):
        return asyncio.WriteTransport

    def __repr__(self):
        return (
            f"<weft.WritePipeTransport {self.phase_name()} fd={self.fd} {'polling' if self.is_sending else 'idle'} "
            f"bufsize={self.unsent()}>"
        )

    def _start(self):
        self.is_started = True
        if self.phase == OPEN and self.is_watched:
            self.driver.receive(self)

    def on_readable(self):
        """Nobody reads any more; for a socket, the other side has spoken or gone, which is the same to a write pipe."""
        if self.loop.debug:
            logger.info("%r was closed by peer", self)
        self.enter()
        try:
            self._force_close(BrokenPipeError() if self.queue.size > 0 else None)
        finally:
            self.leave()
        return 0

    def write(self, data):
        """Send ``data`` (bytes-like) without waiting; after the pipe has closed, it goes nowhere."""
        data = freeze(data)
        self.check_thread()
        if not data:
            return
        if self.phase != OPEN:
            self.warn_lost()
            return
        self.queue.push(data, 0)
        self.start_sending()

    def writelines(self, list_of_data):
        """Send the bytes-like objects of ``list_of_data`` in order."""
        self.write(b"".join(list_of_data))

    def on_sent(self):
        entered: cython.bint = self.enter_if_driven()
        try:
            self.after_sent()
            if self.queue.size == 0 and self.phase == CLOSING:
                self.lose(None)
        finally:
            if entered:
                self.leave()
        return 0

    def on_send_failed(self, code):
        return self.fatal(self.os_error(code), "Fatal write error on pipe transport")

    def can_write_eof(self):
        """True: closing a pipe is its end of file."""
        return True

    def write_eof(self):
        """Close the pipe once everything queued has left."""
        self.close()
