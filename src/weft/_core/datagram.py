"""The transport of UDP and Unix datagram sockets.

A datagram goes to the kernel at once, or waits in ``packets`` until the socket is writable: datagrams never overtake
each other. An error of one datagram is told to ``error_received`` and ends nothing, as in asyncio; nor does
a protocol that raises.
"""

import asyncio
from asyncio import trsock
from collections import deque

import cython
from cython.cimports.weft._core.buffers import freeze
from cython.cimports.weft._core.channel import CLOSING, LOST, FlowChannel
from cython.cimports.weft._core.driver import IN_DATAGRAM, OUT_DATAGRAM
from cython.cimports.weft._core.stream import fill_names

# What the kernel keeps beside each datagram, so that empty ones count too (asyncio: 8 bytes from 3.12 on).
HEADER_SIZE = cython.declare(cython.Py_ssize_t, 8)


class DatagramFace(asyncio.Transport, asyncio.DatagramTransport):
    """What ``isinstance`` sees: asyncio's own datagram transport is both."""


class DatagramTransport(FlowChannel):
    """A datagram socket; see :class:`asyncio.DatagramTransport`.

    Args:
        loop: the event loop.
        sock: a non-blocking datagram socket, which the transport owns and closes.
        protocol: what to tell.
        address: the only address to send to, for a socket made with a remote address.
        waiter: a future to complete once the socket is read from.
        extra: more answers for ``get_extra_info``.
    """

    def __init__(self, loop, sock, protocol, address=None, waiter=None, extra=None):
        self.sock = sock
        self.incoming = IN_DATAGRAM
        self.outgoing = OUT_DATAGRAM
        self.packets = deque()
        self.peer = address
        self.attach(loop, sock, protocol, extra, None)
        self.extra["socket"] = trsock.TransportSocket(sock)
        fill_names(self.extra, sock)
        self.is_connected = self.extra["peername"] is not None
        self.begin(waiter)

    @property
    def __class__(self):
        return DatagramFace

    @property
    def _address(self):
        return self.peer

    def __repr__(self):
        return f"<weft.DatagramTransport {self.phase_name()} fd={self.fd} bufsize={self.packets_size}>"

    def adopt(self, protocol):
        self.protocol = protocol
        self.datagram_received = None if protocol is None else getattr(protocol, "datagram_received", None)
        return 0

    # -- receiving -----------------------------------------------------------------------------------------------------

    def on_datagram(self, data, address):
        self.enter()
        try:
            self.datagram_received(data, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report(error, "protocol.datagram_received() failed")
        finally:
            self.leave()
        return 0

    def on_receive_failed(self, code):
        return self.tell_error(self.os_error(code))

    def tell_error(self, error):
        entered: cython.bint = self.enter_if_driven()
        try:
            self.protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            self.report(failure, "protocol.error_received() failed")
        finally:
            if entered:
                self.leave()
        return 0

    # -- sending -------------------------------------------------------------------------------------------------------

    def unsent(self):
        return self.packets_size

    def sendto(self, data, addr=None):
        """Send one datagram; see :meth:`asyncio.DatagramTransport.sendto`.

        Raises:
            TypeError: when ``data`` is not bytes-like.
            ValueError: when ``addr`` is not the address that the socket was made for.
        """
        data = freeze(data)
        self.check_thread()
        if self.peer is not None:
            if addr is not None and addr != self.peer:
                raise ValueError(f"Invalid address: must be None or {self.peer}")
            if self.phase >= LOST:
                self.warn_lost()
                return
            addr = self.peer
        if self.phase >= LOST:
            return
        if not self.packets and self.send_one(data, addr):
            return
        self.packets.append((data, addr))
        self.packets_size += len(data) + HEADER_SIZE
        self.driver.await_writable(self)
        self.after_write()

    def send_one(self, data, address):
        """Hand one datagram to the kernel; False when it has to wait. Errors are told to the protocol."""
        try:
            if self.is_connected:
                self.sock.send(data)
            else:
                self.sock.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.tell_error(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal(error, "Fatal write error on datagram transport")
        return True

    def on_writable(self):
        entered: cython.bint = self.enter_if_driven()
        try:
            self.send_waiting()
        finally:
            if entered:
                self.leave()
        return 0

    def send_waiting(self):
        while self.packets and self.phase < LOST:
            data, address = self.packets[0]
            if not self.send_one(data, address):
                break
            if self.packets:
                self.packets.popleft()
                self.packets_size -= len(data) + HEADER_SIZE
        self.after_sent()
        if not self.packets and self.phase < LOST:
            self.driver.unsend(self)
            if self.phase == CLOSING:
                self.lose(None)
        return 0

    def _force_close(self, error):
        if self.phase < LOST:
            self.packets.clear()
            self.packets_size = 0
            self.lose(error)
