"""The transport of a TLS connection, over any other stream transport.

Between the program's protocol and a TLS ``Engine`` it is the state machine of TLS in asyncio: FRESH until the transport
below stands, HANDSHAKE, WRAPPED while data flows, FLUSHING when the end has been asked for and what was written is
still leaving, SHUTDOWN when our close_notify has gone and the peer's is awaited, UNWRAPPED. The invariant: ``pump``
alone moves on, and never within itself: whatever happens meanwhile (a protocol that writes or closes in
``data_received``) is left to the ``pump`` that runs.

The methods ``on_*`` are called by ``tls.TlsReceiver``, the protocol of the transport below. Made by ``loop.tls``.
"""

import asyncio
import ssl
import warnings
from asyncio.log import logger

import cython
from cython.cimports.weft._core.buffers import WriteQueue
from cython.cimports.weft._core.channel import CLOSED, CLOSING, LOST, OPEN, Channel
from cython.cimports.weft._core.stream import StreamTransport
from cython.cimports.weft._core.tls_engine import new_engine
from cython.cimports.weft._core.tls_flow import FLUSHING, FRESH, HANDSHAKE, SHUTDOWN, UNWRAPPED, WRAPPED, TlsFlow

# Seconds: asyncio's.
HANDSHAKE_TIMEOUT = cython.declare(object, asyncio.constants.SSL_HANDSHAKE_TIMEOUT)
SHUTDOWN_TIMEOUT = cython.declare(object, asyncio.constants.SSL_SHUTDOWN_TIMEOUT)
STOCK_TRANSPORT = cython.declare(object, getattr(asyncio.sslproto, "_SSLProtocolTransport", asyncio.Transport))
STATE_NAMES = cython.declare(tuple, ("fresh", "handshake", "open", "flushing", "shutdown", "closed"))
# What asyncio asks for at the end of every handshake, and we when someone wants to know.
LATE_ANSWERS = cython.declare(tuple, ("peercert", "cipher", "compression"))


class TlsTransport(TlsFlow):
    """An encrypted stream; see :class:`asyncio.Transport`. To be handed to a ``TlsReceiver``.

    Args:
        loop: the event loop.
        protocol: the program's protocol.
        context: an ``ssl.SSLContext``.
        waiter: a future that hears of the end of the handshake, or None.
        server_side: whether to play the server's part.
        server_hostname: the name to verify; None for none.
        is_made: whether ``connection_made`` was called already, by the transport below.
        handshake_timeout: seconds; None for asyncio's 60.
        shutdown_timeout: seconds; None for asyncio's 30.

    Raises:
        ValueError: a timeout is not positive.
    """

    def __init__(
        self,
        loop,
        protocol,
        context,
        waiter=None,
        server_side=False,
        server_hostname=None,
        is_made=False,
        handshake_timeout=None,
        shutdown_timeout=None,
    ):
        self.phase = CLOSED  # nothing to warn of if what follows fails
        self.state = FRESH
        self.handshake_timeout = positive("ssl_handshake_timeout", handshake_timeout, HANDSHAKE_TIMEOUT)
        self.shutdown_timeout = positive("ssl_shutdown_timeout", shutdown_timeout, SHUTDOWN_TIMEOUT)
        self.loop = loop
        self.engine = new_engine(context, server_side, server_hostname if not server_side else None)
        self.extra = {"sslcontext": context}
        self.queue = WriteQueue()
        self.set_write_buffer_limits()
        self.waiter = waiter
        self.is_made = is_made
        self.adopt(protocol)
        self.phase = OPEN

    # What asyncio looks for before start_tls() and sendfile().
    @property
    def _start_tls_compatible(self):
        return True

    @property
    def _sendfile_compatible(self):
        return asyncio.constants._SendfileMode.FALLBACK

    @property
    def _ssl_protocol(self):
        return self.layer

    @property
    def __class__(self):
        # isinstance(transport, asyncio.Transport) holds without deriving from a class that has no C layout; who knows
        # TLS by the class of asyncio's own transport is told so as well.
        return STOCK_TRANSPORT

    def __repr__(self):
        return f"<weft.TlsTransport {self.phase_name()} over {self.below!r}>"

    def __del__(self):
        if self.phase == OPEN and self.loop is not None:
            self.phase = CLOSED
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def phase_name(self):
        return STATE_NAMES[cython.cast(cython.int, self.state)]

    def get_extra_info(self, name, default=None):
        """About TLS, or about the transport below; see :meth:`asyncio.BaseTransport.get_extra_info`."""
        if name in self.extra:
            return self.extra[name]
        ssl_object = self.extra.get("ssl_object") if name in LATE_ANSWERS else None
        if ssl_object is not None:
            answer = ssl_object.getpeercert() if name == "peercert" else getattr(ssl_object, name)()
            self.extra[name] = answer
            return answer
        return default if self.answers is None else self.answers.get_extra_info(name, default)

    # -- moving on -----------------------------------------------------------------------------------------------------

    def pump(self):
        if self.is_pumping:
            return 0
        self.is_pumping = True
        try:
            self.advance()
        finally:
            self.is_pumping = False
        self.after_write()
        return self.after_sent()

    def advance(self):
        """As far as it goes now, from state to state."""
        if self.state == HANDSHAKE:
            self.do_handshake()
        if self.state == WRAPPED or self.state == FLUSHING:
            try:
                self.exchange()
            except Exception as error:
                self.fatal(error, "Fatal error on SSL protocol")
        if self.state == FLUSHING and self.queue.size == 0 and not (self.is_eof and self.is_paused):
            self.state = SHUTDOWN
            self.steer_below()
        if self.state == SHUTDOWN:
            self.do_shutdown()
        return self.send_below()

    def exchange(self):
        if self.decrypt():
            self.tell_eof()
            if self.phase == OPEN:
                self.phase = CLOSING
            self.start_shutdown()
        return self.encrypt()

    # -- the handshake -------------------------------------------------------------------------------------------------

    def do_handshake(self):
        try:
            done: cython.bint = self.engine.handshake()
        except Exception as error:
            return self.fail_handshake(error)
        return self.end_handshake() if done else 0

    def end_handshake(self):
        self.set_timer(0, None)
        self.state = WRAPPED
        if self.loop.debug:
            logger.debug("%r: SSL handshake took %.1f ms", self, (self.loop.time() - self.started) * 1e3)
        self.extra["ssl_object"] = self.engine.ssl_object
        if not self.is_made:
            self.is_made = True
            self.protocol.connection_made(self)
        return self.wake(None)

    def fail_handshake(self, error):
        self.set_timer(0, None)
        if isinstance(error, ssl.CertificateError):
            self.fatal(error, "SSL handshake failed on verifying the certificate")
        else:
            self.fatal(error, "SSL handshake failed")
        return self.wake(error)

    def _on_handshake_timeout(self):
        if self.state == HANDSHAKE:
            limit = f"SSL handshake is taking longer than {self.handshake_timeout} seconds"
            self.fatal(ConnectionAbortedError(f"{limit}: aborting the connection"), "Fatal error on transport")

    def wake(self, error):
        """Tell, once, whoever waits for the end of the handshake."""
        waiter, self.waiter = self.waiter, None
        if waiter is None or waiter.done():
            return 0
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
        return 0

    # -- the end -------------------------------------------------------------------------------------------------------

    def is_closing(self):
        """Whether the transport is closing or closed, or the one below is."""
        return self.phase != OPEN or (self.below is not None and self.below.is_closing())

    def close(self):
        """Let queued data leave, exchange close_notify with the peer, then call ``connection_lost(None)``."""
        self.check_thread()
        if self.phase == OPEN:
            self.phase = CLOSING
            self.start_shutdown()

    def abort(self):
        """Close at once, without a word to the peer; what is queued here is dropped."""
        self.check_thread()
        self.give_up()
        if self.below is not None:
            self.below.abort()

    def _force_close(self, error):
        """Close at once because of ``error`` (or None), of which ``connection_lost`` will hear."""
        self.give_up()
        self.fail_below(error)

    def give_up(self):
        if self.phase == OPEN:
            self.phase = CLOSING
        self.state = UNWRAPPED
        self.queue.clear()
        return 0

    def fail_below(self, error):
        if self.below is None:
            return 0
        if self.channel is not None:
            self.channel._force_close(error)
        elif hasattr(self.below, "_force_close"):
            self.below._force_close(error)
        else:
            self.below.abort()
        return 0

    def fatal(self, error, message):
        """Close because of ``error``; an OSError, as every SSLError is one, is the peer's, all else is reported."""
        if self.below is not None and self.engine.unsent() > 0:
            self.send_below()  # the alert that tells the peer
            if self.stream is not None:
                self.stream.driver.send_now(self.stream)
        if isinstance(error, OSError):
            if self.loop.debug:
                logger.debug("%r: %s", self, message, exc_info=error)
        elif not isinstance(error, asyncio.CancelledError):
            self.report(error, message)
        self._force_close(error)
        return 0

    def start_shutdown(self):
        if self.state == HANDSHAKE:
            self.abort()
        elif self.state == WRAPPED:
            self.state = FLUSHING
            self.set_timer(self.shutdown_timeout, self._on_shutdown_timeout)
            self.pump()
        return 0

    def _on_shutdown_timeout(self):
        if self.state == FLUSHING or self.state == SHUTDOWN:
            self._force_close(TimeoutError("SSL shutdown timed out"))

    def do_shutdown(self):
        """Send our close_notify, and wait for the peer's unless nothing can come any more."""
        try:
            if not self.is_eof and not self.engine.unwrap():
                return 0
        except Exception as error:
            return self.fatal(error, "Fatal error on transport")
        self.send_below()
        self.tell_eof()
        if self.state == SHUTDOWN:
            self.state = UNWRAPPED
            self.set_timer(0, None)
            self.loop.call_soon(self.below.close)
        return 0

    def set_timer(self, seconds, callback):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if callback is not None:
            self.timer = self.loop.call_later(seconds, callback)
        return 0

    # -- the transport below -------------------------------------------------------------------------------------------

    def on_below_made(self, below):
        self.below = self.answers = below
        if isinstance(below, Channel):
            self.channel = below
        if type(below) is StreamTransport:
            self.stream = below
        if self.phase != OPEN:
            below.abort()  # closed before it began
            return 0
        if self.loop.debug:
            logger.debug("%r starts SSL handshake", self)
            self.started = self.loop.time()
        self.state = HANDSHAKE
        self.set_timer(self.handshake_timeout, self._on_handshake_timeout)
        return self.pump()

    def on_ciphertext(self, data, size):
        self.engine.put(data, size)
        try:
            if self.is_pumping:
                self.loop.call_soon(self._read_on)  # the one that runs may be past its reading
            self.pump()
        finally:
            self.engine.settle()
        return 0

    def on_below_eof(self):
        """Whether to keep the transport below open for a while."""
        self.is_eof = True
        if self.loop.debug:
            logger.debug("%r received EOF", self)
        if self.state == HANDSHAKE:
            self.fail_handshake(ConnectionResetError("the peer ended the connection during the TLS handshake"))
        elif self.state == WRAPPED:
            self.state = FLUSHING
            if self.is_paused:
                return True
            self.pump()
        elif self.state < UNWRAPPED:
            self.pump()
        return False

    def on_below_lost(self, error):
        self.queue.clear()
        self.engine.drop()
        self.set_timer(0, None)
        self.wake(error or ConnectionAbortedError(f"{self.below!r} was closed during the TLS handshake"))
        self.state = UNWRAPPED
        self.phase = LOST
        is_ours: cython.bint = self.channel is not None
        self.below = self.channel = self.stream = self.layer = None
        self.writes_after_loss += 1
        if not self.is_made or self.loop.closed:
            self.let_go()
        elif is_ours:
            self._finish(error)  # a turn of its own already: not within a call of the program's
        else:
            self.loop.call_soon(self._finish, error)
        return 0

    def on_below_full(self):
        self.is_below_full = True
        return 0

    def on_below_drained(self):
        self.is_below_full = False
        if self.state == WRAPPED or self.state == FLUSHING:
            self.pump()
        return 0


@cython.cfunc
def positive(name: str, seconds: object, default: object) -> object:
    if seconds is None:
        return default
    if seconds <= 0:
        raise ValueError(f"{name} should be a positive number, got {seconds}")
    return seconds
