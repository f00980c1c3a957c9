"""The transport of UDP and Unix datagram sockets.

The first datagram of a turn goes to the kernel at once, those behind it at the end of the turn in one call; what the
kernel does not take waits in ``packets``: datagrams never overtake each other. An error of one datagram is told to
``error_received`` and ends nothing, as in asyncio; nor does a protocol that raises.
"""

import asyncio
import socket
from asyncio import trsock

import cython
from cython.cimports.weft._core.buffers import freeze
from cython.cimports.weft._core.channel import CLOSING, LOST, OPEN, FlowChannel
from cython.cimports.weft._core.driver import IN_DATAGRAM, OUT_DATAGRAM
from cython.cimports.weft._core.packets import BY_METHODS, PacketQueue
from cython.cimports.weft._core.stream import fill_names
from cython.cimports.weft._core.sys.datagram import WEFT_BATCH

SOCKET = cython.declare(object, socket.socket)
# Whose addresses are read and written in C.
KNOWN_FAMILIES = cython.declare(tuple, (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX))


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
        self.packets = PacketQueue()
        is_plain: cython.bint = type(sock) is SOCKET and sock.family in KNOWN_FAMILIES
        self.packets.family = sock.family if is_plain else BY_METHODS
        self.peer = address
        self.attach(loop, sock, protocol, extra, None)
        self.extra["socket"] = trsock.TransportSocket(sock)
        fill_names(self.extra, sock)
        self.packets.is_connected = self.extra["peername"] is not None
        self.begin(waiter)

    @property
    def __class__(self):
        return DatagramFace

    @property
    def _address(self):
        return self.peer

    def __repr__(self):
        return f"<weft.DatagramTransport {self.phase_name()} fd={self.fd} bufsize={self.unsent()}>"

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

    def keep_datagrams(self, rest):
        for data, address in rest:
            self.loop.call_soon(self._deliver_kept, data, address)
        return 0

    def _deliver_kept(self, data, address):
        if self.phase == OPEN:
            self.on_datagram(data, address)

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
        return self.packets.size if self.packets is not None else 0  # None: it was never made

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
        self.packets.push(data, addr)
        self.start_sending()

    def start_sending(self):
        # What stands alone leaves at once; what follows in the same turn leaves at its end, or when it is enough for a
        # call. The protocol is asked to pause only for what the kernel did not take.
        if self.loop.thread_id == 0 or self.packets.count >= WEFT_BATCH or self.unsent() > self.high:
            self.driver.send_now(self)
        elif not self.is_flushing and not self.is_sending:
            self.driver.send(self)
            self.driver.send_now(self)
        return self.after_write()

    def on_datagram_failed(self, error):
        if isinstance(error, OSError):
            return self.tell_error(error)
        return self.fatal(error, "Fatal write error on datagram transport")

    def on_send_failed(self, code):
        return self.fatal(self.os_error(code), "Fatal error: the transport cannot be watched")

    def on_sent(self):
        if self.phase >= LOST or (self.phase == OPEN and not self.is_protocol_paused):
            return 0
        entered: cython.bint = self.enter_if_driven()
        try:
            self.after_sent()
            if self.packets.count == 0 and self.phase == CLOSING:
                self.lose(None)
        finally:
            if entered:
                self.leave()
        return 0

    def _force_close(self, error):
        if self.phase < LOST:
            self.packets.clear()
            self.lose(error)
