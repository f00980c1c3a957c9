"""A listening socket: it accepts, and keeps accepting when the process runs out of descriptors.

``accept(2)`` fails with EMFILE, ENFILE, ENOBUFS or ENOMEM while the connection stays in the kernel's queue. So the
listener stops watching, tries again 50 ms later, and says so at most every few seconds: no connection is dropped, none
waits longer than that once there is room. (asyncio stops for a second; libuv drops the connection.)
"""

import errno
import os
from asyncio import trsock

from cython.cimports.cpython.contextvars import PyContext_Copy, PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cython.cimports.weft._core.driver import IN_ACCEPT, Sink

RETRY_DELAY = 0.05  # seconds
REPORT_INTERVAL = 5.0  # seconds
OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# The connection has gone before it was accepted, or the network failed: accept(2) says to treat these like EAGAIN.
CONNECTION_GONE = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPERM,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    )
)


class Listener(Sink):
    """Calls ``on_connection(connection, address)`` for each connection of ``sock``, which its caller owns.

    Args:
        loop: the event loop.
        sock: a listening, non-blocking socket.
        on_connection: takes a new non-blocking :class:`socket.socket` and the peer's address.
        backlog: what the socket listens with; kept for the reader of a repr.
    """

    def __init__(self, loop, sock, on_connection, backlog=100):
        self.loop = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.incoming = IN_ACCEPT
        self.on_connection = on_connection
        self.backlog = backlog
        self.context = PyContext_CopyCurrent()
        self.last_report = -REPORT_INTERVAL

    def __repr__(self):
        return f"<weft.Listener fd={self.fd} {'accepting' if self.is_receiving else 'idle'} backlog={self.backlog}>"

    def is_transport(self):
        return False

    def start(self):
        """Accept."""
        if self.retry is None:
            self.loop._driver.receive(self)

    def stop(self):
        """Accept no more; the socket stays open."""
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None
        self.loop._driver.release(self)

    def _try_again(self):
        self.retry = None
        try:
            self.start()
        except OSError as error:
            self.on_receive_failed(error.errno)  # there is no memory to watch the socket, either

    def on_accepted(self, connection, address):
        # One copy per connection: what a protocol factory sets is for its own connection.
        context: object = PyContext_Copy(self.context)
        PyContext_Enter(context)
        try:
            self.on_connection(connection, address)
        except (SystemExit, KeyboardInterrupt):
            connection.close()
            raise
        except BaseException as error:
            connection.close()
            self.loop.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": error,
                    "socket": trsock.TransportSocket(self.sock),
                }
            )
        finally:
            PyContext_Exit(context)
        return 0

    def on_receive_failed(self, code):
        if code in CONNECTION_GONE:
            return 0
        self.loop._driver.unreceive(self)
        self.retry = self.loop.call_later(RETRY_DELAY, self._try_again)
        now = self.loop.time()
        if now - self.last_report < REPORT_INTERVAL:
            return 0
        self.last_report = now
        what = "is out of system resources" if code in OUT_OF_RESOURCES else "failed"
        self.loop.call_exception_handler(
            {
                "message": (
                    f"socket.accept() {what}; the connection waits in the kernel's queue, "
                    f"trying again every {RETRY_DELAY * 1000:.0f} ms"
                ),
                "exception": OSError(code, os.strerror(code)),
                "socket": trsock.TransportSocket(self.sock),
            }
        )
        return 0
