"""A response while it comes: what a connection puts in at one end, and a reader takes out at the other.

Owns what has come and was not read yet. Its progress goes one way: WAITING (no head yet), RECEIVING, and then COMPLETE,
FAILED (``error`` says why) or DISCARDED (the reader went away). The connection calls ``answer_head`` or ``answer``,
``feed``, ``finish`` and ``fail``; the reader (``weft.http.Response``) awaits ``changed()`` and takes. A reader that is
slower than the peer stops it at HIGH_WATER, through ``source.pause()``.
"""

import cython
from cython.cimports.weft.http._wire.deadlines import Limited

from weft.http.errors import FirstByteTimeoutError, IdleTimeoutError, StreamConsumedError, TotalTimeoutError

# What may lie unread before the peer is stopped, in bytes; Go's HTTP/2 client takes 4 MiB, aiohttp 128 KiB.
HIGH_WATER = cython.declare(cython.Py_ssize_t, 512 * 1024)
LOW_WATER = cython.declare(cython.Py_ssize_t, 128 * 1024)


class Incoming(Limited):
    """One response.

    Args:
        request: what it answers; has ``url`` and ``timeout``.
        loop: the event loop.
        deadlines: who watches over the time, or None.
        total: when the exchange must have ended, as a time of the loop's clock in seconds.
    """

    def __init__(self, request, loop, deadlines=None, total=float("inf")):
        self.request = request
        self.loop = loop
        self.deadlines = deadlines
        self.progress = WAITING
        if deadlines is not None:
            self.deadlines.enter(self, request.timeout, total)

    # -- for connections -----------------------------------------------------------------------------------------------

    def answer_head(self, head, status, version, notes):
        """The head is there as it came; it is parsed when someone looks."""
        if self.progress != WAITING:
            return 0
        self.head = head
        self.status = status
        self.version = version
        self.notes = notes
        self.begin()
        return 0

    def answer(self, status, headers, version=20):
        """The head is there, parsed."""
        if self.progress != WAITING:
            return
        self.headers = headers
        self.status = status
        self.version = version
        for name in headers:
            self.notes |= NOTES.get(name.lower(), 0)
        self.begin()

    def answer_tunnel(self, tunnel):
        """After a 101, or a 2xx to CONNECT: the connection is the caller's from here on."""
        self.tunnel = tunnel
        self.finish()

    def begin(self):
        self.was_answered = True
        self.progress = RECEIVING
        if self.observer is not None:
            self.observer("first_byte")
        self.wake()
        return 0

    def streams(self):
        """The head is there and the body is not: from here on silence counts from byte to byte."""
        if self.progress == RECEIVING and self.deadlines is not None and not self.is_begun:
            self.deadlines.begin(self, self.request.timeout)

    def sent(self):
        """The request is sent, or as much of it as the peer takes: from here on its silence counts."""
        self.is_sending = False
        if self.progress <= RECEIVING and self.deadlines is not None:
            self.deadlines.restart(self)

    def feed(self, data):
        """A piece of the body."""
        self.has_moved = True
        if self.progress != RECEIVING:
            return 0
        if self.pieces is None:
            self.pieces = [data]
        else:
            self.pieces.append(data)
        self.size += len(data)
        if self.waiter is not None and not self.takes_all:
            self.wake()
        if self.size > HIGH_WATER and not self.is_held and not self.takes_all and self.source is not None:
            self.is_held = True
            self.source.pause()
        return 0

    def keep_trailer(self, trailer):
        """The fields behind a chunked body, as they came."""
        self.trailer = trailer

    def finish(self):
        """The body is complete."""
        if self.progress <= RECEIVING:
            self.progress = COMPLETE
        self.end()
        return 0

    def fail(self, error):
        """There will be no more, for the reason ``error``."""
        if self.progress <= RECEIVING:
            self.progress = FAILED
            self.error = error
        self.end()
        return 0

    def end(self):
        self.source = None
        if self.deadlines is not None:
            self.deadlines.leave(self)
        if self.observer is not None:
            self.observer("end")
            self.observer = None
        if self.waiter is not None:
            self.wake()
        return 0

    def expire(self, is_total):
        kind: object = FirstByteTimeoutError
        if is_total:
            kind = TotalTimeoutError
        elif self.is_begun or self.was_answered:
            kind = IdleTimeoutError
        error = kind.of(self.request)
        source = self.source
        self.fail(error)
        if source is not None:
            source.abandon()
        return 0

    # -- for readers ---------------------------------------------------------------------------------------------------

    @property
    def is_ended(self):
        """Whether nothing more will come."""
        return self.progress > RECEIVING

    @property
    def is_complete(self):
        """Whether all of it came."""
        return self.progress == COMPLETE

    def wake(self):
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)
        return 0

    def changed(self):
        """A future that is done when the head, more of the body, or the end has come. One reader at a time."""
        if self.waiter is not None and not self.waiter.done():
            raise RuntimeError(f"the response of {self.request.url} is read by another task: read it in one place")
        waiter = self.loop.create_future()
        if self.progress > RECEIVING:
            waiter.set_result(None)
        else:
            self.waiter = waiter
        return waiter

    def take(self):
        """What has come since the last time in one piece; None if that is nothing, b"" at the end.

        Raises:
            HTTPError: after everything that came before the failure was taken.
        """
        if self.size == 0:
            if self.progress == COMPLETE:
                return b""
            if self.progress == RECEIVING or self.progress == WAITING:
                return None
            raise self.reason()
        pieces = self.pieces
        self.pieces = None
        self.size = 0
        if self.is_held and self.source is not None:
            self.is_held = False
            self.has_moved = True
            self.source.resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def take_some(self, most):
        """As ``take``, at most ``most`` bytes."""
        if self.size <= most:
            return self.take()
        first: bytes = self.pieces[0]
        if len(first) <= most:
            del self.pieces[0]
        else:
            self.pieces[0] = first[most:]
            first = first[:most]
        self.size -= len(first)
        if self.is_held and self.size < LOW_WATER and self.source is not None:
            self.is_held = False
            self.has_moved = True
            self.source.resume()
        return first

    def want_all(self):
        """The reader takes the whole body at its end: do not stop the peer before that."""
        self.takes_all = True
        if self.is_held and self.source is not None:
            self.is_held = False
            self.has_moved = True
            self.source.resume()

    def reason(self):
        """Why there is nothing more."""
        return self.error if self.error is not None else StreamConsumedError(url=self.request.url)

    def release(self):
        """The reader takes no more: what still comes is thrown away, or the connection is closed."""
        if self.progress > RECEIVING:
            return 0
        source = self.source
        self.progress = DISCARDED
        self.pieces = None
        self.size = 0
        self.end()
        if source is not None:
            source.abandon()
        return 0


NOTES = cython.declare(
    dict,
    {
        "content-encoding": HAS_CODING,
        "set-cookie": HAS_COOKIES,
        "location": HAS_LOCATION,
        "www-authenticate": HAS_CHALLENGE,
        "proxy-authenticate": HAS_CHALLENGE,
    },
)
