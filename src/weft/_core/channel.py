"""What all transports share: one descriptor, one protocol, one way from open to closed.

A ``Channel`` goes through four phases and never back: OPEN, CLOSING (``close()`` was called, queued data is still
leaving), LOST (``connection_lost`` is scheduled, nothing moves any more), CLOSED (it was called, and the descriptor is
closed). ``lose()`` is the only way to LOST, and ``_finish()`` the only place that closes the descriptor: once, after
the driver has released it. ``FlowChannel`` adds the flow control of everything that can be written to.

Protocol methods that answer I/O run in a context of the channel's own, a copy of the one it was made in.
"""

import os
import warnings
from asyncio.log import logger

import cython
from cython.cimports.cpython.contextvars import PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cython.cimports.weft._core.driver import Sink
from cython.cimports.weft._core.plain_sockets import close_owner
from cython.cimports.weft._core.sys.python import PyBytes_FromStringAndSize

# asyncio's defaults; a reader that is slower than the writer costs at most this much per connection.
HIGH_WATER = cython.declare(cython.Py_ssize_t, 64 * 1024)
# From here on one more system call costs less than holding the data until the end of the turn.
SEND_AT_ONCE = cython.declare(cython.Py_ssize_t, 16 * 1024)
PHASE_NAMES = cython.declare(tuple, ("open", "closing", "lost", "closed"))
# asyncio warns from the fifth write to a lost connection on.
WRITES_BEFORE_WARNING = cython.declare(cython.int, 5)


class Channel(Sink):
    def attach(self, loop, owner, protocol, extra, server):
        """Take over ``owner`` (a socket or a pipe's file object) and its descriptor."""
        self.loop = loop
        self.driver = loop._driver
        self.owner = owner
        self.fd = owner.fileno()
        self.extra = {} if extra is None else dict(extra)
        self.context = PyContext_CopyCurrent()
        self.server = server
        self.is_collectable = True
        self.driver.register(self)
        self.adopt(protocol)
        if server is not None:
            server._attach(self)
        return 0

    def begin_at_once(self):
        """Call ``connection_made`` and start reading before this returns, in the context of whoever calls."""
        try:
            self._connection_made(self.protocol.connection_made)
        except BaseException:
            self.give_up()
            raise
        self._start()
        return 0

    def begin(self, waiter):
        """Schedule ``connection_made``, then the start of reading, then the waiter, in this order."""
        try:
            self.loop.call_soon(self._connection_made, self.protocol.connection_made, context=self.context_of_life())
        except BaseException:  # what the factory made is no protocol
            self.give_up()
            raise
        self.loop.call_soon(self._start)
        if waiter is not None:
            self.loop.call_soon(wake_waiter, waiter)
        return 0

    def _connection_made(self, connection_made):
        self.is_made = True
        connection_made(self)

    def _start(self):
        """Begin to receive, unless ``connection_made`` has paused or closed the transport."""
        self.is_started = True
        if self.phase == OPEN and not self.is_paused:
            try:
                self.driver.receive(self)
            except OSError as error:
                self.fatal(error, "Fatal error: the transport cannot be watched")

    def adopt(self, protocol):
        self.protocol = protocol
        return 0

    def take_received(self, data, size):
        """The bytes at ``data``, which were just received, as an object."""
        return PyBytes_FromStringAndSize(data, size)

    # -- what every asyncio transport has ------------------------------------------------------------------------------

    @property
    def _loop(self):
        return self.loop

    @property
    def _extra(self):
        return self.extra

    @property
    def _paused(self):
        return self.is_paused

    @property
    def _protocol(self):
        return self.protocol

    def get_extra_info(self, name, default=None):
        """Information about the transport; see :meth:`asyncio.BaseTransport.get_extra_info`."""
        return self.extra.get(name, default)

    def get_protocol(self):
        """The protocol."""
        return self.protocol

    def set_protocol(self, protocol):
        """Let ``protocol`` hear of what happens from now on; ``connection_made`` is not called again."""
        self.adopt(protocol)

    def phase_name(self):
        return PHASE_NAMES[cython.cast(cython.int, self.phase)]

    def is_closing(self):
        """Whether the transport is closing or closed."""
        return self.phase != OPEN

    def close(self):
        """Stop receiving, let queued data leave, then call ``connection_lost(None)`` and close."""
        self.check_thread()
        if self.phase == OPEN:
            # asyncio hands each write to the kernel at once: what an earlier write of this turn queued goes now.
            if self.unsent() > 0:
                self.driver.send_now(self)
            if self.phase == OPEN:
                self.phase = CLOSING
                self.driver.unreceive(self)
                if self.unsent() == 0:
                    self.lose(None)

    def abort(self):
        """Close at once; queued data that the kernel does not take now is dropped."""
        self.check_thread()
        if self.phase < LOST:
            if self.unsent() > 0:
                self.driver.send_now(self)
            self._force_close(None)

    def _force_close(self, error):
        """Close at once because of ``error`` (or None), of which ``connection_lost`` will hear."""
        if self.phase < LOST:
            if self.queue is not None:
                self.queue.clear()
            self.lose(error)

    def __del__(self):
        if self.owner is None:
            return
        try:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        finally:
            self.give_up()

    def give_up(self):
        """Close the descriptor at once; the protocol hears nothing."""
        self.driver.release(self)
        self.let_go()
        return 0

    # -- the way down --------------------------------------------------------------------------------------------------

    def unsent(self):
        """How many bytes are queued."""
        return self.queue.size if self.queue is not None else 0

    def lose(self, error):
        """Nothing is sent or received any more; ``connection_lost(error)`` follows in the next turn."""
        if self.phase < LOST:
            self.phase = LOST
            self.driver.release(self)
            if self.loop.closed:
                self.let_go()  # nobody is left who could call the protocol
            else:
                self.loop.call_soon(self._finish, error, context=self.context_of_life())
        return 0

    def _finish(self, error):
        try:
            if self.is_made and self.phase == LOST:
                self.phase = CLOSED
                self.protocol.connection_lost(error)
        finally:
            self.let_go()

    def let_go(self):
        """Close the descriptor, once."""
        owner, server = self.owner, self.server
        self.phase = CLOSED
        self.fd = -1
        self.owner = self.server = None
        self.adopt(None)
        try:
            if owner is not None:
                close_owner(owner)
        finally:
            if server is not None:
                server._detach(self)
        return 0

    def fatal(self, error, message):
        """Close because of ``error``; an OSError is the peer's or the network's, all else is reported."""
        if isinstance(error, OSError):
            if self.loop.debug:
                logger.debug("%r: %s", self, message, exc_info=error)
        else:
            self.report(error, message)
        entered: cython.bint = self.enter_if_driven()
        try:
            self._force_close(error)
        finally:
            if entered:
                self.leave()
        return 0

    def report(self, error, message):
        """Tell the loop's exception handler; the channel stays as it is."""
        self.loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self.protocol}
        )
        return 0

    def _fatal_error(self, error, message="Fatal error on transport"):
        """As asyncio's transports have it; ``asyncio.sslproto`` calls it."""
        self.fatal(error, message)

    def os_error(self, code):
        return OSError(code, os.strerror(code))

    def check_thread(self):
        return self.loop.check_thread()

    # -- pausing, for those that receive -------------------------------------------------------------------------------

    def pause(self):
        if self.phase == OPEN and not self.is_paused:
            self.is_paused = True
            if self.loop.debug:
                logger.debug("%r pauses reading", self)
            self.driver.unreceive(self)
        return 0

    def resume(self):
        if self.phase == OPEN and self.is_paused:
            self.is_paused = False
            if self.loop.debug:
                logger.debug("%r resumes reading", self)
            if self.is_started:
                self.driver.receive(self)
        return 0

    # -- the channel's context -----------------------------------------------------------------------------------------

    def context_of_life(self):
        """The context for ``connection_made`` and ``connection_lost``; None for a copy of what is current then."""
        return None

    def enter(self):
        PyContext_Enter(self.context)
        self.is_entered = True
        return 0

    def enter_if_driven(self):
        """Enter, unless that is done or a user's code led here in its own context; says whether to leave again."""
        if self.is_entered or not self.driver.is_delivering:
            return False
        self.enter()
        return True

    def leave(self):
        self.is_entered = False
        PyContext_Exit(self.context)
        return 0


class FlowChannel(Channel):
    """A channel that can be written to: it asks its protocol to pause when more than ``high`` bytes are queued."""

    def __cinit__(self, *args, **kwargs):
        self.high = HIGH_WATER
        self.low = HIGH_WATER // 4

    @property
    def _protocol_paused(self):
        return self.is_protocol_paused

    def get_write_buffer_size(self):
        """How many bytes are queued."""
        return self.unsent()

    def get_write_buffer_limits(self):
        """The water marks as ``(low, high)``, in bytes."""
        return self.low, self.high

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the water marks in bytes; see :meth:`asyncio.WriteTransport.set_write_buffer_limits`.

        Raises:
            ValueError: unless ``0 <= low <= high``.
        """
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high = high
        self.low = low
        self.after_write()

    def start_sending(self):
        # The protocol is asked to pause only for what the kernel did not take. A loop that does not run has no end of
        # a turn.
        if self.unsent() >= SEND_AT_ONCE or self.unsent() > self.high or self.loop.thread_id == 0:
            self.driver.send_now(self)
        else:
            self.driver.send(self)
        return self.after_write()

    def after_write(self):
        if not self.is_protocol_paused and self.unsent() > self.high:
            self.is_protocol_paused = True
            self._tell_flow("pause_writing")
        return 0

    def after_sent(self):
        if self.is_protocol_paused and self.unsent() <= self.low:
            self.is_protocol_paused = False
            self._tell_flow("resume_writing")
        return 0

    def _tell_flow(self, method):
        try:
            getattr(self.protocol, method)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report(error, f"protocol.{method}() failed")

    def warn_lost(self):
        self.writes_after_loss += 1
        if self.writes_after_loss >= WRITES_BEFORE_WARNING:
            logger.warning("socket.send() raised exception.")
        return 0


def wake_waiter(waiter):
    """Tell whoever waits for the connection that it stands."""
    if not waiter.cancelled():
        waiter.set_result(None)
