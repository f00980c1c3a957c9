"""``loop.sock_*``: one operation on a socket that the caller owns, for those that run per packet.

The system call is tried first, unless the last one seems to have taken all that there was. Then the caller waits with
the socket's ``Watcher``, where the kernel says at once if there is something after all. The invariant: the call that
succeeds is made *in the caller's own coroutine*, so a cancelled operation has taken no byte, datagram or connection
with it. The mixin ``SocketCalls`` is part of the loop.
"""

try:
    import ssl
except ImportError:  # a Python built without OpenSSL
    ssl = None

import cython
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.watcher import Watcher, known_watcher, watcher_of

TLS_SOCKETS = cython.declare(tuple, () if ssl is None else (ssl.SSLSocket,))


class SocketCalls:
    async def sock_recv(self, sock, nbytes):
        """Receive up to *nbytes* bytes; ``b""`` means that the peer has closed its side (recv(2)).

        Raises:
            TypeError: *sock* is an ``ssl.SSLSocket``.
            ValueError: *sock* blocks (checked in debug mode).
            RuntimeError: a transport of this loop owns the socket.
            OSError: the call failed.
        """
        loop: Scheduler = checked(self, sock)
        watcher: Watcher = known_watcher(loop, sock)
        while True:
            if watcher is None or watcher.may_read:
                try:
                    data = sock.recv(nbytes)
                except BlockingIOError:
                    pass
                else:
                    if watcher is not None:
                        # Less than was asked for: there is hardly more now (epoll(7)).
                        watcher.may_read = len(data) == nbytes
                    return data
            watcher = watcher_of(loop, sock)
            await watcher.until_readable()

    async def sock_recv_into(self, sock, buf):
        """Receive into *buf* as many bytes as fit; returns how many came. Raises as ``sock_recv``."""
        return await read(checked(self, sock), sock, sock.recv_into, (buf,))

    async def sock_recvfrom(self, sock, bufsize):
        """Receive one datagram; returns it, cut to *bufsize* bytes, and its sender (recvfrom(2)).

        Raises as ``sock_recv``.
        """
        return await read(checked(self, sock), sock, sock.recvfrom, (bufsize,))

    async def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive one datagram into *buf*, at most *nbytes* bytes of it (0: as many as fit); returns length and sender.

        Raises as ``sock_recv``.
        """
        return await read(checked(self, sock), sock, sock.recvfrom_into, (buf, nbytes))

    async def sock_accept(self, sock):
        """Accept one connection; returns the new socket, which does not block, and the peer's address (accept(2)).

        Raises as ``sock_recv``.
        """
        loop: Scheduler = checked(self, sock)
        watcher: Watcher = known_watcher(loop, sock)
        while True:
            if watcher is None or watcher.may_read:
                try:
                    conn, address = sock.accept()
                except BlockingIOError:
                    pass
                else:
                    conn.setblocking(False)
                    return conn, address
            watcher = watcher_of(loop, sock)
            await watcher.until_readable()

    async def sock_sendall(self, sock, data):
        """Send all of *data* to the connected peer (send(2)). Raises as ``sock_recv``.

        After an error or a cancellation nobody can tell how much of *data* has gone.
        """
        checked(self, sock)
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        if type(data) is bytes and sent == len(data):
            return
        view = memoryview(data).cast("B")  # lengths in bytes, whatever the items are
        while sent < len(view):
            try:
                sent += sock.send(view[sent:])
            except BlockingIOError:
                await self._until_writable(sock)

    async def sock_sendto(self, sock, data, address):
        """Send one datagram to *address*; returns the bytes sent (sendto(2)). Raises as ``sock_recv``."""
        checked(self, sock)
        while True:
            try:
                return sock.sendto(data, address)
            except BlockingIOError:
                await self._until_writable(sock)

    def _until_readable(self, sock):
        """A future for the moment when *sock*, which has just said that it is not, is readable."""
        watcher: Watcher = watcher_of(self, sock)
        return watcher.until_readable()

    def _until_writable(self, sock):
        """The same for writing."""
        watcher: Watcher = watcher_of(self, sock)
        return watcher.until_writable()


def checked(loop, sock):
    """The loop, having refused what no loop can use."""
    scheduler: Scheduler = loop
    if scheduler.debug or isinstance(sock, TLS_SOCKETS):
        loop._check_socket(sock)
    return scheduler


async def read(loop: Scheduler, sock, method, args):
    """Call ``method(*args)``, which reads from *sock*, as soon as there is something."""
    watcher: Watcher = known_watcher(loop, sock)
    while True:
        if watcher is None or watcher.may_read:
            try:
                return method(*args)
            except BlockingIOError:
                pass
        watcher = watcher_of(loop, sock)
        await watcher.until_readable()
