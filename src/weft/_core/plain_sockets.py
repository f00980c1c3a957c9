"""What is done to each socket of a connection, without the lines of Python that ``socket.socket`` runs for it.

What comes out is the same, seen from outside: ``accept_from`` gives a ``socket.socket`` that does not block, and the
address that its ``accept`` would give. Sockets of other classes, which may have methods of their own, are asked by
these. The invariant: a descriptor that the kernel gave is in the socket that is returned, or closed.
Called by the driver for servers, by ``sock_accept``, and by transports at their beginning and end.
"""

import os
import socket

import cython
from cython.cimports.libc.stdlib import calloc
from cython.cimports.weft._core.sys.datagram import (
    WEFT_PEERS,
    socklen_t,
    weft_address,
    weft_peer,
    weft_peer_address,
    weft_unpack_address,
)
from cython.cimports.weft._core.sys.linux import EAGAIN, EINTR, close
from cython.cimports.weft._core.sys.socket import (
    weft_accept,
    weft_family_of,
    weft_own_address,
    weft_set_no_delay,
)

PLAIN = cython.declare(type, socket.socket)
BASE = cython.declare(type, socket.SocketType)
make = cython.declare(object, BASE.__init__)
end = cython.declare(object, BASE.close)
kind_of = cython.declare(object, BASE.type.__get__)
# Our own names, which all connections of a server share.
# SAFETY: read and changed with the GIL held, and never freed.
own_names = cython.declare(
    cython.pointer(weft_peer), cython.cast(cython.pointer(weft_peer), calloc(WEFT_PEERS, cython.sizeof(weft_peer)))
)
IPPROTO_TCP = cython.declare(object, socket.IPPROTO_TCP)
TCP_NODELAY = cython.declare(object, socket.TCP_NODELAY)
SOCK_NONBLOCK = cython.declare(object, int(socket.SOCK_NONBLOCK))


def accept_from(sock):
    """The next connection and its address; None when none waits.

    Raises:
        OSError: as accept(2) says; the descriptors are all in use, or the connection has gone.
    """
    if type(sock) is not PLAIN:
        return accept_by_method(sock)
    name: weft_address
    length: socklen_t = 0
    fd: cython.int = weft_accept(sock.fileno(), cython.address(name), cython.address(length))
    if fd < 0:
        if fd == -EAGAIN or fd == -EINTR:
            return None
        raise OSError(-fd, os.strerror(-fd))
    try:
        connection: object = PLAIN.__new__(PLAIN)
        make(connection, weft_family_of(cython.address(name)), kind_of(sock) | SOCK_NONBLOCK, sock.proto, fd)
    except BaseException:
        close(fd)
        raise
    # As socket.socket.__init__ does.
    connection._io_refs = 0
    connection._closed = False
    address: object = weft_unpack_address(cython.address(name), length)
    return connection, connection.getpeername() if address is None else address  # None: of another family


def own_address(sock):
    """What ``sock.getsockname()`` gives.

    Raises:
        OSError: as getsockname(2) says.
    """
    name: weft_address
    length: socklen_t = 0
    found: object = None
    if type(sock) is PLAIN and weft_own_address(sock.fileno(), cython.address(name), cython.address(length)) == 0:
        found = weft_peer_address(own_names, cython.address(name), length)
    return sock.getsockname() if found is None else found


def accept_by_method(sock):
    try:
        connection, address = sock.accept()
    except (BlockingIOError, InterruptedError):
        return None
    connection.setblocking(False)
    return connection, address


def set_no_delay(sock):
    """Switch Nagle's algorithm off.

    Raises:
        OSError: as setsockopt(2) says.
    """
    if type(sock) is not PLAIN:
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        return 0
    code: cython.int = weft_set_no_delay(sock.fileno())
    if code < 0:
        raise OSError(-code, os.strerror(-code))
    return 0


def close_owner(owner):
    """Close a socket, or a file."""
    if type(owner) is PLAIN and owner._io_refs <= 0:
        # As socket.socket.close does.
        owner._closed = True
        end(owner)
    else:
        owner.close()
    return 0
