"""One HTTP/1.1 connection: the protocol between a transport and the responses it brings.

Owns its transport and, while one is under way, the exchange on it: one at a time, no pipelining. Its invariants: a
connection from which anything unexpected came (bytes that no request asked for, a response that cannot be parsed, a
body that nobody read to its end) is closed and never used again; and whoever waits for an exchange is told how it
ended, once. ``on_change(connection)`` is called when it has become free, and once when it takes no more requests, at
once: the pool listens, and must not hand out what has died while it was idle.

The pool calls ``exchange``; the transport calls the protocol's methods; ``Incoming`` calls ``pause``, ``resume`` and
``abandon`` for its reader.
"""

import cython
from cython.cimports.weft.http._wire.incoming import RECEIVING, Incoming
from cython.cimports.weft.http._wire.parser import DONE, LENGTH, SWITCHED, ResponseParser

from weft.http.errors import IncompleteBodyError, PeerClosedError, PeerProtocolError, SendError
from weft.http.tunnel import Tunnel
from weft.http.upload import send_body

# A body that is not wanted any more is read to its end if it is not longer than this (bytes) and comes soon (seconds):
# a new connection costs more.
MOST_DRAINED = cython.declare(cython.longlong, 64 * 1024)
DRAIN_TIME = cython.declare(object, 1.0)


class H1Connection:
    """One connection. Made by the pool, and given its transport by ``connection_made``.

    Args:
        loop: the event loop.
        on_change: called with the connection when it has become free, and, once, when it takes no more requests: that
            it is being closed is enough. After a switch to a tunnel that is when the tunnel has ended.

    Attributes:
        has_waited: nobody wanted it when it stood, so that it may have died before its first exchange.
    """

    def __init__(self, loop, on_change=None):
        self.loop = loop
        self.on_change = on_change
        self.parser = ResponseParser()
        self.fd = -1

    def __repr__(self):
        state = "closed" if not self.is_open else "idle" if self.incoming is None else "busy"
        return f"<weft.http.H1Connection {state} uses={self.uses} {self.transport!r}>"

    is_multiplexed = False

    @property
    def room(self):
        """How many exchanges it takes now: 1 or 0."""
        return 1 if self.is_open and self.incoming is None else 0

    # -- for the pool --------------------------------------------------------------------------------------------------

    def peer_has_closed(self):
        """Whether the peer sends nothing more, or is gone, which the loop need not have seen yet (poll(2))."""
        entry: pollfd
        entry.fd = self.fd
        entry.events = POLLRDHUP  # POLLHUP and POLLERR come without being asked for
        entry.revents = 0
        # SAFETY: `entry` lives on this function's stack, and the kernel is done with it when the call returns.
        return poll(cython.address(entry), 1, 0) > 0

    def exchange(self, request, incoming: Incoming):
        """Send ``request``; what comes back goes to ``incoming``."""
        if self.incoming is not None or not self.is_open:
            raise RuntimeError(f"{self!r} takes no request now")
        self.incoming = incoming
        incoming.source = self
        self.uses += 1
        self.has_answered = False
        method: str = request.method
        self.parser.start(incoming, method == "HEAD", request.may_switch, method == "CONNECT")
        self.transport_write(request.wire)
        if request.streams_body:
            incoming.is_sending = True
            upload = self.loop.create_task(send_body(self, request, incoming))
            if not upload.done():  # with eager tasks it may be
                self.upload = upload

    def close(self):
        """Close the connection when what was written has left."""
        self.shut()

    def abort(self):
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()
        self.gone()

    def shut(self):
        if self.transport is not None:
            self.transport.close()
        self.gone()
        return 0

    def gone(self):
        """It takes no more requests. The transport may say so a turn of the loop later, which would be too late."""
        self.is_open = False
        on_change = self.on_change
        if on_change is not None:
            self.on_change = None
            on_change(self)
        return 0

    # -- for the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        self.transport_write = transport.write
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self.fd = sock.fileno()
        self.is_open = True

    def data_received(self, data: bytes):
        incoming: Incoming = self.incoming
        if incoming is None:
            # Nobody asked: what it is must not become the answer to the next request.
            if self.is_open:
                self.abort()
            return
        self.has_answered = True
        try:
            taken: cython.Py_ssize_t = self.parser.feed(data)
        except PeerProtocolError as error:
            self.broken(error)
            return
        if self.parser.step == SWITCHED:
            self.switch(data[taken:])
        elif self.parser.step == DONE:
            self.complete(taken < len(data))
        elif incoming.progress == RECEIVING and not incoming.is_begun:
            incoming.streams()

    def eof_received(self):
        if self.incoming is None:
            self.gone()
        elif self.parser.end():
            self.complete(True)
        return False

    def connection_lost(self, error):
        self.is_lost = True
        incoming: Incoming = self.incoming
        if incoming is not None:
            # A body that ends with the connection is complete if the peer has closed that, not if this side has.
            if error is None and self.is_open and self.parser.end():
                self.complete(True)
            else:
                self.broken(self.loss(error, incoming))
        if self.drain_waiter is not None and not self.drain_waiter.done():
            self.drain_waiter.set_result(None)
        self.transport_write = None
        self.gone()
        if self.on_lost is not None:
            self.on_lost(self)

    def pause_writing(self):
        if self.drain_waiter is None:
            self.drain_waiter = self.loop.create_future()

    def resume_writing(self):
        waiter = self.drain_waiter
        self.drain_waiter = None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
            if self.upload is not None:
                self.incoming.is_sending = True

    # -- for the reader of the response, and for its time limits -------------------------------------------------------

    def pause(self):
        """Read no more for now."""
        if not self.is_reading_paused and not self.is_lost:
            self.is_reading_paused = True
            self.transport.pause_reading()

    def resume(self):
        """Read on."""
        if self.is_reading_paused and not self.is_lost:
            self.is_reading_paused = False
            self.transport.resume_reading()

    def abandon(self):
        """Nobody wants the rest of the response."""
        if self.incoming is None:
            return
        parser = self.parser
        is_short: cython.bint = parser.step == LENGTH and parser.left <= MOST_DRAINED
        if is_short and parser.is_reusable and self.upload is None and self.is_open:
            self.resume()
            self.drain_timer = self.loop.call_later(DRAIN_TIME, self.abort)
        else:
            self.stop_upload()
            self.abort()

    # -- for the sending of a body -------------------------------------------------------------------------------------

    def write(self, data):
        """Send ``data``, a piece of a body."""
        if self.transport_write is not None:
            self.transport_write(data)

    def drained(self):
        """A future to await before more is written, or None."""
        if self.drain_waiter is not None and self.incoming is not None:
            self.incoming.sent()  # it is the peer who is slow now
        return self.drain_waiter

    def upload_failed(self, incoming: Incoming, error):
        """The request's body ended with ``error``: the request cannot be completed."""
        if self.incoming is incoming:
            incoming.fail(error)
            self.upload = None
            self.abort()

    def upload_done(self, incoming: Incoming):
        """The request's body is sent."""
        if self.incoming is incoming:
            self.upload = None
            incoming.sent()

    # -- the ends of an exchange ---------------------------------------------------------------------------------------

    def complete(self, has_surplus):
        """The response is complete."""
        incoming: Incoming = self.incoming
        self.incoming = None
        if self.drain_timer is not None:
            self.drain_timer.cancel()
            self.drain_timer = None
        was_uploading: cython.bint = self.upload is not None
        self.stop_upload()
        incoming.finish()
        if was_uploading:
            self.abort()  # what was written of the body is of no use any more
        elif has_surplus or not self.parser.is_reusable:
            self.shut()
        else:
            if self.is_reading_paused:
                self.resume()
            if self.is_open and self.on_change is not None:
                self.on_change(self)
        return 0

    def switch(self, rest):
        """The connection is not HTTP's any more: it becomes a tunnel, and ends with it."""
        incoming: Incoming = self.incoming
        self.incoming = None
        self.is_open = False
        self.stop_upload()
        tunnel = Tunnel(self.loop, self.transport, rest, self.connection_lost)
        self.transport.set_protocol(tunnel)
        incoming.answer_tunnel(tunnel)
        return 0

    def broken(self, error):
        """The exchange under way has failed."""
        incoming: Incoming = self.incoming
        self.incoming = None
        if self.drain_timer is not None:
            self.drain_timer.cancel()
            self.drain_timer = None
        self.stop_upload()
        incoming.fail(error)
        if not self.is_lost:
            self.abort()
        return 0

    def loss(self, error, incoming):
        """What the loss of the connection means to the exchange."""
        url = incoming.request.url
        if not self.has_answered:
            if error is None or isinstance(error, ConnectionResetError):
                found = PeerClosedError(url=url)
            else:
                found = SendError(f"{SendError.message}: {error}", url=url)
            found.was_reused = self.uses > 1 or self.has_waited
        elif incoming.was_answered:
            found = IncompleteBodyError(url=url)
        else:
            found = IncompleteBodyError("the connection ended in the middle of the response's head", url=url)
        found.__cause__ = error
        return found

    def stop_upload(self):
        if self.upload is not None:
            self.upload.cancel()
            self.upload = None
        return 0
