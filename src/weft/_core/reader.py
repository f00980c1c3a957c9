"""The reading end of a stream: asyncio's ``StreamReader``, where each read is an operation over the unread bytes.

Bytes come in by ``feed`` (from a transport of ours, through the protocol) or ``feed_data``. The invariant: they are
taken in the step that returns them to the program, so whoever is cancelled has taken none; at most one read waits at a
time. Whoever waits for so many bytes is woken when they are there; where nobody waits, the transport is stopped at
twice the limit, and goes on at the limit.
"""

import asyncio
from asyncio.exceptions import IncompleteReadError, LimitOverrunError

import cython
from cython.cimports.weft._core.unread import Unread
from cython.cimports.weft._core.waiter import WAITING

DEFAULT_LIMIT = cython.declare(cython.Py_ssize_t, 64 * 1024)  # asyncio's
MOST = cython.declare(cython.Py_ssize_t, 2**63 - 1)
NEWLINES = cython.declare(list, [b"\n"])
# What an attempt returns when there is not enough.
NOT_YET = cython.declare(object, object())


class StreamReader:
    """The reading end of a stream; see :class:`asyncio.StreamReader`.

    Args:
        limit: the longest line that ``readline`` and ``readuntil`` give, in bytes. The peer is stopped when twice as
            much is unread.
        loop: the event loop; the current one if left out.

    Raises:
        ValueError: *limit* is not positive.

    ``isinstance(reader, asyncio.StreamReader)`` holds.
    """

    def __init__(self, limit=DEFAULT_LIMIT, loop=None):
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        self.limit = MOST // 2 if limit >= MOST // 2 else int(limit)
        self._loop = asyncio.get_event_loop() if loop is None else loop
        self.unread = Unread()
        self.wanted = 1

    @property
    def __class__(self):
        return asyncio.StreamReader

    def __repr__(self):
        parts = [
            "StreamReader",
            f"{self.unread.size} bytes" if self.unread.size else "",
            "eof" if self.is_eof else "",
            f"limit={self.limit}" if self.limit != DEFAULT_LIMIT else "",
            f"waiter={self.waiter!r}" if self.waiter is not None else "",
            f"exception={self.error!r}" if self.error is not None else "",
            f"transport={self._transport!r}" if self._transport is not None else "",
            "paused" if self.is_paused else "",
        ]
        return f"<{' '.join([part for part in parts if part])}>"

    # What people look at who look into asyncio's; none of it can be set.

    @property
    def _buffer(self):
        return self.unread.copy()

    @property
    def _eof(self):
        return self.is_eof

    @property
    def _exception(self):
        return self.error

    @property
    def _limit(self):
        return self.limit

    @property
    def _paused(self):
        return self.is_paused

    @property
    def _waiter(self):
        return self.waiter

    # -- what comes in -------------------------------------------------------------------------------------------------

    def feed(self, source, data, size):
        """``size`` bytes have come to the transport ``source``, at ``data``."""
        if self.is_eof:
            raise AssertionError("feed_data after feed_eof")
        if self.unread.size == 0 and size >= self.wanted:
            self.unread.hold(source.take_received(data, size))
        else:
            self.unread.append(data, size, self.wanted)
        return self.arrived()

    def feed_data(self, data):
        """*data* (bytes, or whatever a ``bytearray`` can be extended by) has come.

        Raises:
            AssertionError: after :meth:`feed_eof`.
            TypeError: *data* is nothing of the kind.
        """
        if self.is_eof:
            raise AssertionError("feed_data after feed_eof")
        given: bytes = data if type(data) is bytes else as_bytes(data)
        if not given:
            return
        if self.unread.size == 0:
            self.unread.hold(given)
        else:
            text: cython.p_char = given
            self.unread.append(text, len(given), self.wanted)
        self.arrived()

    def arrived(self):
        if self.waiter is not None and self.waiter.state == WAITING:
            if self.unread.size < self.wanted:
                return 0  # nor is the peer stopped: somebody waits for what it has yet to send
            self.wake()
        if not self.is_paused and self.unread.size > 2 * self.limit and self._transport is not None:
            self.pause()
        return 0

    def feed_eof(self):
        """Nothing more will come."""
        self.end()

    def end(self):
        self.is_eof = True
        return self.wake()

    def set_exception(self, exc):
        """Nothing more will come because of *exc*, which every read raises from now on."""
        self.fail(exc)

    def fail(self, error):
        self.error = error
        return self.wake()

    def exception(self):
        """What :meth:`set_exception` was given, or None."""
        return self.error

    def at_eof(self):
        """Whether the end has come and everything was read."""
        return self.is_eof and self.unread.size == 0

    def wake(self):
        waiter: object = self.waiter
        if waiter is not None:
            self.waiter = None
            self.wanted = 1
            cython.cast(Waiter, waiter).wake()  # SAFETY: the field holds nothing else
        return 0

    # -- the transport -------------------------------------------------------------------------------------------------

    def set_transport(self, transport):
        """What to stop when too much is unread."""
        if self._transport is not None:
            raise AssertionError("Transport already set")
        self._transport = transport

    def _replace_transport(self, transport):
        """The stream goes on over another transport, as after ``start_tls``."""
        if self._transport is None:
            raise AssertionError("Transport not set")
        self._transport = transport

    def pause(self):
        try:
            self._transport.pause_reading()
        except NotImplementedError:
            self._transport = None  # it cannot be stopped, so it is not asked again
        else:
            self.is_paused = True
        return 0

    def resume(self):
        if self.is_paused:
            self.is_paused = False
            self._transport.resume_reading()
        return 0

    # -- what goes out -------------------------------------------------------------------------------------------------

    def take(self, size):
        data: bytes = self.unread.take(size)
        self.taken += 1
        if self.is_paused and self.unread.size <= self.limit:
            self.resume()
        return data

    def take_over(self):
        """All that is unread, for whoever reads in our place from now on; the transport is left as it is."""
        self.is_paused = False
        self.taken += 1
        return self.unread.take(self.unread.size)

    def read(self, n=-1):
        """Read what there is, up to *n* bytes, and wait only where that is nothing.

        Args:
            n: how many bytes at the most; -1 for everything up to the end of the stream.

        Returns:
            The bytes; ``b""`` at the end of the stream.

        Raises:
            RuntimeError: another read of this stream waits.
            OSError: the connection was lost; whatever :meth:`set_exception` was given.
        """
        call: Read = Read.__new__(Read)
        call.reader = self
        call.given = n
        return call

    def readexactly(self, n):
        """Read exactly *n* bytes.

        Raises:
            RuntimeError, OSError: as :meth:`read`.
            ValueError: *n* is negative.
            asyncio.IncompleteReadError: the stream ended before; its ``partial`` are the bytes that came.
        """
        call: ReadExactly = ReadExactly.__new__(ReadExactly)
        call.reader = self
        call.given = n
        return call

    def readuntil(self, separator=b"\n"):
        """Read up to and including *separator*.

        Args:
            separator: bytes, or a tuple of some: then the shortest piece that ends in one of them.

        Raises:
            RuntimeError, OSError: as :meth:`read`.
            ValueError: *separator* is empty.
            asyncio.IncompleteReadError: the stream ended before; its ``partial`` are the bytes that came.
            asyncio.LimitOverrunError: more than the limit came without it; the bytes can still be read.
        """
        call: ReadUntil = ReadUntil.__new__(ReadUntil)
        call.reader = self
        call.given = separator
        return call

    def readline(self):
        r"""Read up to and including the next ``b"\n"``; what is left at the end of the stream; then ``b""``.

        Raises:
            RuntimeError, OSError: as :meth:`read`.
            ValueError: the line is longer than the limit; it is dropped, as far as it came.
        """
        call: ReadLine = ReadLine.__new__(ReadLine)
        call.reader = self
        return call

    def __aiter__(self):
        return self

    def __anext__(self):
        call: NextLine = NextLine.__new__(NextLine)
        call.reader = self
        return call


class Reading(Operation):
    """One read: ``prepare`` checks what was asked for, ``attempt`` takes it, or says NOT_YET and what is ``wanted``."""

    def prepare(self):
        raise NotImplementedError

    def attempt(self):
        raise NotImplementedError

    def method(self):
        raise NotImplementedError

    def name(self):
        return f"StreamReader.{self.method()}"

    def begin(self):
        self.prepare()
        if self.reader.error is not None:
            raise self.reader.error
        return self.resume()

    def resume(self):
        result: object = self.attempt()
        if result is not NOT_YET:
            return result
        reader: StreamReader = self.reader
        if reader.error is not None:
            raise reader.error
        if reader.waiter is not None and reader.waiter.state == WAITING:
            raise RuntimeError(f"{self.method()}() called while another coroutine is already waiting for incoming data")
        reader.resume()  # whoever waits while the peer is stopped would wait for ever
        self.park(reader._loop)
        reader.waiter = self.waiter
        reader.wanted = self.wanted
        return self.waiter

    def give_up(self, error):
        if self.reader.waiter is self.waiter:
            self.reader.waiter = None
            self.reader.wanted = 1
        raise error


class Read(Reading):
    def method(self):
        return "read"

    def prepare(self):
        self.most = length(self.given)
        self.wanted = MOST if self.most < 0 else 1
        return 0

    def attempt(self):
        reader: StreamReader = self.reader
        there: cython.Py_ssize_t = reader.unread.size
        if self.most < 0:
            return reader.take(there) if reader.is_eof else NOT_YET
        if self.most == 0:
            return b""
        if there > 0:
            return reader.take(min(there, self.most))
        return b"" if reader.is_eof else NOT_YET


class ReadExactly(Reading):
    def method(self):
        return "readexactly"

    def prepare(self):
        self.wanted = length(self.given)
        if self.wanted < 0:
            raise ValueError("readexactly size can not be less than zero")
        return 0

    def attempt(self):
        reader: StreamReader = self.reader
        if reader.unread.size >= self.wanted:
            return reader.take(self.wanted)
        if reader.is_eof:
            raise IncompleteReadError(reader.take(reader.unread.size), self.wanted)
        return NOT_YET


class ReadUntil(Reading):
    def method(self):
        return "readuntil"

    def prepare(self):
        separators: list = sorted(self.given, key=len) if isinstance(self.given, tuple) else [self.given]
        if not separators:
            raise ValueError("Separator should contain at least one element")
        if not len(separators[0]):
            raise ValueError("Separator should be at least one-byte string")
        self.separators = [one if type(one) is bytes else as_bytes(one) for one in separators]
        self.longest = len(separators[-1])
        return 0

    def attempt(self):
        reader: StreamReader = self.reader
        there: cython.Py_ssize_t = reader.unread.size
        start: cython.Py_ssize_t
        first: cython.Py_ssize_t = -1
        end: cython.Py_ssize_t = MOST
        if self.taken != reader.taken:  # somebody has read in between
            self.taken = reader.taken
            self.searched = 0
        for separator in self.separators:  # the shortest first: among those that end together it counts
            start = reader.unread.find(separator, self.searched)
            if start >= 0 and start + len(separator) < end:
                first = start
                end = start + len(separator)
        if first >= 0:
            return self.found(first, end)
        if there - self.searched >= len(self.separators[0]):
            # What may still be the beginning of a separator is searched again.
            self.searched = max(0, there + 1 - self.longest)
            if self.searched > reader.limit:
                return self.overrun("Separator is not found, and chunk exceed the limit", self.searched)
        if reader.is_eof:
            return self.ended()
        self.wanted = there + 1
        return NOT_YET

    def found(self, start, end):
        if start > self.reader.limit:
            return self.overrun("Separator is found, but chunk is longer than limit", start)
        return self.reader.take(end)

    def ended(self):
        raise IncompleteReadError(self.reader.take(self.reader.unread.size), None)

    def overrun(self, message, consumed):
        raise LimitOverrunError(message, consumed)


class ReadLine(ReadUntil):
    def name(self):
        return "StreamReader.readline"

    def prepare(self):
        self.separators = NEWLINES
        self.longest = 1
        return 0

    def ended(self):
        return self.reader.take(self.reader.unread.size)

    def overrun(self, message, consumed):
        there: cython.Py_ssize_t = self.reader.unread.size
        self.reader.take(min(there, consumed + 1))  # with its end, where that has come
        raise ValueError(message)


class NextLine(ReadLine):
    def name(self):
        return "StreamReader.__anext__"

    def ended(self):
        if self.reader.unread.size == 0:
            raise StopAsyncIteration
        return self.reader.take(self.reader.unread.size)


@cython.cfunc
def as_bytes(data: object) -> bytes:
    collected: bytearray = bytearray()
    collected.extend(data)
    return bytes(collected)


@cython.cfunc
@cython.exceptval(-2, check=True)
def length(given: object) -> cython.Py_ssize_t:
    """A number of bytes that somebody asks for; what is larger than memory is as large as memory, negative is -1."""
    number: cython.Py_ssize_t
    try:
        number = given
    except OverflowError:
        return MOST if given > 0 else -1
    return max(number, -1)
