"""``loop.sock_*``: one operation on a socket that the caller owns, for those that run per packet.

The system call is tried first, unless the last one seems to have taken all that there was. Then the caller waits with
the socket's ``Watcher``, where the kernel says at once if there is something after all. The invariant: the call that
succeeds is made *in the step that returns its result*, so a cancelled operation has taken no byte, datagram or
connection with it. Plain sockets are read and written here, in C; what derives from ``socket.socket``, or only looks
like one, through its own methods. The mixin ``SocketCalls`` is part of the loop.
"""

import os
import socket

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.libc.stdlib import malloc
from cython.cimports.weft._core.operation import Operation
from cython.cimports.weft._core.plain_sockets import accept_from
from cython.cimports.weft._core.sys.linux import EAGAIN, weft_recv_now, weft_send_now
from cython.cimports.weft._core.sys.python import (
    Py_XDECREF,
    PyBytes_FromStringAndSize,
    PyBytes_NewBlock,
    PyBytes_START,
    PyObject,
    weft_cut_bytes,
)
from cython.cimports.weft._core.waiter import Waiter, new_waiter
from cython.cimports.weft._core.watcher import Watcher, watcher_at, watcher_of

SOCKET = cython.declare(object, socket.socket)
# What an attempt returns when there is nothing to be had; no socket's method does.
NOT_YET = cython.declare(object, object())
FILENO = cython.declare(object, socket.socket.fileno)
# Up to here (bytes) a copy out of memory that is in the cache costs less than an object of the size that was asked for.
SCRATCH_SIZE = cython.declare(cython.Py_ssize_t, 64 * 1024)
# SAFETY: used between a receive and the copy after it only, and all who do hold the GIL throughout.
scratch = cython.declare(cython.p_char, cython.cast(cython.p_char, malloc(SCRATCH_SIZE)))


class SocketCall(Operation):
    """What all of them share: ``attempt`` is the system call; it returns NOT_YET or what the caller gets."""

    def attempt(self):
        raise NotImplementedError

    def prepare(self):
        """Refuse what no loop can use; find out about the socket."""
        self.loop = self.given_loop
        self.is_plain = type(self.sock) is SOCKET
        if self.loop.debug or not self.is_plain:
            self.given_loop._check_socket(self.sock)
        return self.look()

    def look(self):
        """Note the number of the descriptor, which is another after each wait if the socket was closed meanwhile."""
        # Without the detour over the instance: this is asked for in each step of each call.
        self.number = FILENO(self.sock) if self.is_plain else self.sock.fileno()
        return 0

    def descriptor(self):
        """The number of a plain socket's descriptor; -1 for all that is to be asked by its methods."""
        return self.number if self.is_plain else -1

    def wait_readable(self):
        self.loop.check()
        self.watcher = watcher_at(self.loop, self.number)
        if self.watcher is None:
            self.watcher = watcher_of(self.loop, self.sock)
        self.park(self.loop)
        self.watcher.await_readable(self.waiter)
        return self.waiter

    def wait_writable(self):
        watcher: Watcher = watcher_of(self.loop, self.sock)
        self.park(self.loop)
        watcher.await_writable(self.waiter)
        return self.waiter


class Reading(SocketCall):
    def begin(self):
        self.prepare()
        self.watcher = watcher_at(self.loop, self.number)
        return self.try_or_wait()

    def resume(self):
        self.look()
        return self.try_or_wait()

    def try_or_wait(self):
        if self.watcher is None or self.watcher.may_read:
            result: object = self.attempt()
            if result is not NOT_YET:
                return result
        return self.wait_readable()


class Receive(Reading):
    def name(self):
        return "EventLoop.sock_recv"

    def attempt(self):
        fd: cython.int = self.descriptor()
        size: cython.Py_ssize_t = self.size if type(self.size) is int and 0 < self.size <= 2**31 else -1
        data: bytes
        if fd < 0 or size < 0:
            try:
                data = self.sock.recv(self.size)
            except BlockingIOError:
                return NOT_YET
        else:
            received: object = receive(fd, size)
            if received is None:
                return NOT_YET
            data = received
        if self.watcher is not None:
            # Less than was asked for: there is hardly more now (epoll(7)).
            self.watcher.may_read = len(data) == size
        return data


class ReadBy(Reading):
    """By a method of the socket: for those who bring their own memory, and for datagrams."""

    def name(self):
        return f"EventLoop.sock_{self.called}"

    def attempt(self):
        try:
            return getattr(self.sock, self.called)(*self.args)
        except BlockingIOError:
            return NOT_YET


class Accept(Reading):
    def name(self):
        return "EventLoop.sock_accept"

    def attempt(self):
        accepted = accept_from(self.sock)
        return NOT_YET if accepted is None else accepted


class SendAll(SocketCall):
    def name(self):
        return "EventLoop.sock_sendall"

    def begin(self):
        self.prepare()
        self.hold()
        return self.try_or_wait()

    def resume(self):
        try:
            self.look()
        except BaseException:
            self.let_go()
            raise
        return self.try_or_wait()

    def try_or_wait(self):
        try:
            result: object = self.attempt()
        except BaseException:
            self.let_go()
            raise
        if result is NOT_YET:
            return self.wait_writable()
        self.let_go()
        return None

    def attempt(self):
        fd: cython.int = self.descriptor()
        n: cython.Py_ssize_t
        while self.sent < self.view.len:
            if fd < 0:
                try:
                    n = self.sock.send(memoryview(self.data).cast("B")[self.sent :])
                except BlockingIOError:
                    return NOT_YET
            else:
                # SAFETY: hold() keeps the memory where it is.
                n = weft_send_now(fd, cython.cast(cython.p_char, self.view.buf) + self.sent, self.view.len - self.sent)
                if n == -EAGAIN:
                    return NOT_YET
                if n < 0:
                    raise OSError(-n, os.strerror(-n))
            self.sent += n
        return None

    def wait_writable(self):
        try:
            return SocketCall.wait_writable(self)
        except BaseException:
            self.let_go()
            raise

    def give_up(self, error):
        self.let_go()
        raise error

    def hold(self):
        PyObject_GetBuffer(self.data, cython.address(self.view), PyBUF_SIMPLE)
        self.is_held = True
        return 0

    def let_go(self):
        if self.is_held:
            self.is_held = False
            PyBuffer_Release(cython.address(self.view))
        return 0

    def __dealloc__(self):
        self.let_go()


class SendTo(SocketCall):
    def name(self):
        return "EventLoop.sock_sendto"

    def begin(self):
        self.prepare()
        return self.resume()

    def resume(self):
        try:
            return self.sock.sendto(self.data, self.address)
        except BlockingIOError:
            return self.wait_writable()


class SocketCalls:
    def sock_recv(self, sock, nbytes):
        """Receive up to *nbytes* bytes; ``b""`` means that the peer has closed its side (recv(2)).

        Raises:
            TypeError: *sock* is an ``ssl.SSLSocket``.
            ValueError: *sock* blocks (checked in debug mode).
            RuntimeError: a transport of this loop owns the socket.
            OSError: the call failed.
        """
        call: Receive = Receive.__new__(Receive)
        call.given_loop = self
        call.sock = sock
        call.size = nbytes
        return call

    def sock_recv_into(self, sock, buf):
        """Receive into *buf* as many bytes as fit; returns how many came. Raises as ``sock_recv``."""
        return read_by(self, sock, "recv_into", (buf,))

    def sock_recvfrom(self, sock, bufsize):
        """Receive one datagram; returns it, cut to *bufsize* bytes, and its sender (recvfrom(2)).

        Raises as ``sock_recv``.
        """
        return read_by(self, sock, "recvfrom", (bufsize,))

    def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive one datagram into *buf*, at most *nbytes* bytes of it (0: as many as fit); returns length and sender.

        Raises as ``sock_recv``.
        """
        return read_by(self, sock, "recvfrom_into", (buf, nbytes))

    def sock_accept(self, sock):
        """Accept one connection; returns the new socket, which does not block, and the peer's address (accept(2)).

        Raises as ``sock_recv``.
        """
        call: Accept = Accept.__new__(Accept)
        call.given_loop = self
        call.sock = sock
        return call

    def sock_sendall(self, sock, data):
        """Send all of *data* to the connected peer (send(2)). Raises as ``sock_recv``.

        After an error or a cancellation nobody can tell how much of *data* has gone.
        """
        call: SendAll = SendAll.__new__(SendAll)
        call.given_loop = self
        call.sock = sock
        call.data = data
        return call

    def sock_sendto(self, sock, data, address):
        """Send one datagram to *address*; returns the bytes sent (sendto(2)). Raises as ``sock_recv``."""
        call: SendTo = SendTo.__new__(SendTo)
        call.given_loop = self
        call.sock = sock
        call.data = data
        call.address = address
        return call

    def _until_writable(self, sock):
        """A future for the moment when *sock*, which has just said that it is not, is writable."""
        watcher: Watcher = watcher_of(self, sock)
        waiter: Waiter = new_waiter(self)
        watcher.await_writable(waiter)
        return waiter


@cython.cfunc
def read_by(loop: object, sock: object, called: str, args: tuple) -> ReadBy:
    call: ReadBy = ReadBy.__new__(ReadBy)
    call.given_loop = loop
    call.sock = sock
    call.called = called
    call.args = args
    return call


@cython.cfunc
def receive(fd: cython.int, size: cython.Py_ssize_t) -> object:
    """Up to ``size`` bytes; None when there are none now."""
    n: cython.Py_ssize_t
    block: cython.pointer(PyObject) = cython.NULL
    if size <= SCRATCH_SIZE and scratch != cython.NULL:
        n = weft_recv_now(fd, scratch, size)
        if n >= 0:
            return PyBytes_FromStringAndSize(scratch, n)
    else:
        # SAFETY: the one reference goes over to what weft_cut_bytes() returns, or is dropped.
        block = PyBytes_NewBlock(cython.NULL, size)
        n = weft_recv_now(fd, PyBytes_START(block), size)
        if n >= 0:
            return weft_cut_bytes(block, n)
        Py_XDECREF(block)
    if n == -EAGAIN:
        return None
    raise OSError(-n, os.strerror(-n))
