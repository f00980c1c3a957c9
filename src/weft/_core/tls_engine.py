"""TLS without a transport: ciphertext goes in and out, plaintext out and in.

An ``Engine`` is one TLS connection over the ``ssl.SSLObject`` that the program's ``SSLContext`` makes, whose Python
methods do the handshake and the shutdown. Bytes go through one of two classes with the same methods: ``DirectEngine``
calls the interpreter's own OpenSSL on the ``SSL`` inside that object, ``BioEngine`` calls the object. ``new_engine``
chooses; how the first is proved to be right stands in docs/decisions/0017-tls-over-openssl-itself.md. The invariant of
both: what ``put`` is given is borrowed until ``settle``, which keeps what was not read.

Called by ``tls_transport`` alone, from the loop's thread and never from within itself.
"""

import os
import ssl

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy
from cython.cimports.weft._core.sys.python import PyObject
from cython.cimports.weft._core.sys.tls import (
    WEFT_ERROR_WANT_READ,
    WEFT_ERROR_WANT_WRITE,
    WEFT_ERROR_ZERO_RETURN,
    weft_pipe_drop_out,
    weft_pipe_keep,
    weft_pipe_unread,
    weft_tls_attach,
    weft_tls_begin,
    weft_tls_detach,
    weft_tls_forget_newest,
    weft_tls_has_pending,
    weft_tls_load,
    weft_tls_read,
    weft_tls_ssl_of,
    weft_tls_write,
)

try:
    import _ssl
except ImportError:  # an interpreter whose ssl module is another
    _ssl = None

# asyncio takes both for "not yet".
AGAIN = cython.declare(tuple, (ssl.SSLWantReadError, ssl.SSLSyscallError))
READ = cython.declare(object, ssl.SSLObject.read)
WRITE = cython.declare(object, ssl.SSLObject.write)
# Blocks of plaintext that are kept for the next who needs one: a layer of TLS in TLS needs one more, and so does each
# other thread with a loop that is between two instructions of Python.
SPARE_BLOCKS = cython.declare(cython.int, 4)
spare = cython.declare(cython.p_char[4])
spare_count = cython.declare(cython.int, 0)
is_loaded = cython.declare(cython.bint, False)
load_failure = cython.declare(object, None)


class Engine:
    def put(self, data, size):
        """Ciphertext has come; ``data`` is borrowed until ``settle()``."""
        raise NotImplementedError

    def settle(self):
        """Keep what of the borrowed ciphertext was not read."""
        raise NotImplementedError

    def unread(self):
        """How many bytes of ciphertext wait to be read."""
        raise NotImplementedError

    def may_read(self):
        """Whether ``read()`` could give something now."""
        raise NotImplementedError

    def read(self, where, room):
        """Decrypt up to ``room`` bytes to ``where``: how many, or CLOSED_BY_PEER, or WANTS_MORE."""
        raise NotImplementedError

    def write(self, data, size):
        """Encrypt: how many bytes of ``data`` were taken, one or more, or WANTS_MORE (a renegotiation)."""
        raise NotImplementedError

    def unsent(self):
        """How many bytes of ciphertext are to be sent."""
        raise NotImplementedError

    def take(self):
        """The ciphertext that is to be sent, which is the caller's from now on."""
        raise NotImplementedError

    def drop(self):
        """Forget all ciphertext: the connection has gone."""
        raise NotImplementedError

    def handshake(self):
        """As far as it goes now; true when it is over."""
        try:
            self.ssl_object.do_handshake()
        except AGAIN:
            return False
        return True

    def unwrap(self):
        """Send a close_notify, once; true when the peer's has come too."""
        try:
            self.ssl_object.unwrap()
        except AGAIN:
            return False
        return True


class BioEngine(Engine):
    """By the methods of ``ssl.SSLObject`` and two ``ssl.MemoryBIO``; works with whatever ``wrap_bio`` returns."""

    def put(self, data, size):
        self.incoming.write(PyBytes_FromStringAndSize(data, size))
        return 0

    def settle(self):
        return 0

    def unread(self):
        return self.incoming.pending

    def may_read(self):
        return self.incoming.pending > 0 or self.pending is None or self.pending() > 0

    def read(self, where, room):
        try:
            chunk: bytes = self.ssl_object.read(room)
        except AGAIN:
            return WANTS_MORE
        size: cython.Py_ssize_t = PyBytes_GET_SIZE(chunk)
        if size > room:
            raise ssl.SSLError(f"{self.ssl_object!r} gave {size} bytes when asked for {room}")
        memcpy(where, PyBytes_AS_STRING(chunk), size)
        return size

    def write(self, data, size):
        try:
            count: cython.Py_ssize_t = self.ssl_object.write(PyBytes_FromStringAndSize(data, size))
        except AGAIN:
            return WANTS_MORE
        return count if count > 0 else WANTS_MORE

    def unsent(self):
        return self.outgoing.pending

    def take(self):
        return self.outgoing.read()

    def drop(self):
        self.incoming.read()
        self.outgoing.read()
        return 0


class DirectEngine(Engine):
    """By OpenSSL's own functions, on the ``SSL`` of the ``ssl.SSLObject``, with a BIO that copies nothing twice."""

    def __dealloc__(self):
        if self.bio != cython.NULL:
            weft_tls_detach(self.bio)

    def put(self, data, size):
        if self.pipe.window_size > 0:
            self.settle()  # a transport that delivers within its write()
        # SAFETY: borrowed until settle(), which the caller calls before the memory goes.
        self.pipe.window = data
        self.pipe.window_size = size
        return 0

    def settle(self):
        if weft_pipe_keep(self.pipe) < 0:
            self.pipe.window = cython.NULL
            self.pipe.window_size = 0
            raise MemoryError("no memory for what a TLS connection has received")
        return 0

    def unread(self):
        return weft_pipe_unread(self.pipe)

    def may_read(self):
        return weft_pipe_unread(self.pipe) > 0 or weft_tls_has_pending(self.ssl)

    def read(self, where, room):
        weft_tls_begin()
        count: cython.Py_ssize_t = weft_tls_read(self.ssl, where, room)
        if count > 0:
            return count
        if count == -WEFT_ERROR_WANT_READ or count == -WEFT_ERROR_WANT_WRITE:
            return WANTS_MORE
        if count == -WEFT_ERROR_ZERO_RETURN:
            return CLOSED_BY_PEER
        return self.refuse(False)

    def write(self, data, size):
        weft_tls_begin()
        count: cython.Py_ssize_t = weft_tls_write(self.ssl, data, size)
        if count > 0:
            return count
        if count == -WEFT_ERROR_WANT_READ or count == -WEFT_ERROR_WANT_WRITE:
            return WANTS_MORE
        return self.refuse(True)

    def refuse(self, writing):
        """Raise what the call that has just failed means.

        The error stands in OpenSSL's queue; a connection that has failed fails again without adding to it, so that the
        ``_ssl`` module finds it there and makes an exception of it.
        """
        try:
            if writing:
                self.socket.write(b"\0")
            else:
                self.socket.read(1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError):
            pass
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the TLS connection has failed before")

    def unsent(self):
        return self.pipe.out_size

    def take(self):
        data: bytes = PyBytes_FromStringAndSize(self.pipe.out, self.pipe.out_size)
        weft_pipe_drop_out(self.pipe)
        return data

    def drop(self):
        return 0  # the BIO frees what it holds, when the last who knows the connection goes


def why_not_direct():
    """Why OpenSSL cannot be called directly in this interpreter; None where it can.

    Whether an ``SSLObject`` is one whose ``SSL`` is known shows when it is made.
    """
    global is_loaded, load_failure
    if not is_loaded:
        is_loaded = True
        load_failure = _load()
    return load_failure


def _load():
    if _ssl is None or not ssl.OPENSSL_VERSION.startswith("OpenSSL "):
        return f"the ssl module is built on {ssl.OPENSSL_VERSION}"
    path = getattr(_ssl, "__file__", None)  # None where it is linked into the interpreter
    encoded: bytes = os.fsencode(path or "")
    where: cython.p_const_char = cython.NULL  # the program itself
    if path:
        where = PyBytes_AS_STRING(encoded)
    failure: cython.p_const_char = weft_tls_load(where, ssl.OPENSSL_VERSION_NUMBER)
    return None if failure == cython.NULL else failure.decode()


def new_engine(context, server_side, server_hostname):
    """The engine of a new connection: direct where that is possible, and ``WEFT_TLS`` does not say otherwise.

    Raises:
        ValueError: ``WEFT_TLS`` has a value that nobody knows.
        RuntimeError: it asks for what is impossible here.
    """
    choice = os.environ.get("WEFT_TLS", "")
    if choice not in ("", "bio", "direct"):
        raise ValueError(f"WEFT_TLS is {choice!r}; it may be 'direct', 'bio', or not set")
    failure = "WEFT_TLS says so" if choice == "bio" else why_not_direct()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    if failure is None:
        weft_tls_forget_newest()
    ssl_object = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
    engine: Engine = None
    if failure is None:
        engine = new_direct_engine(ssl_object)
    if engine is None:
        if choice == "direct":
            raise RuntimeError(f"WEFT_TLS is 'direct', but {failure or f'the SSL of {ssl_object!r} is not known'}")
        engine = new_bio_engine(ssl_object, incoming, outgoing)
    return engine


@cython.cfunc
def new_bio_engine(ssl_object: object, incoming: object, outgoing: object) -> Engine:
    engine: BioEngine = BioEngine.__new__(BioEngine)
    engine.ssl_object = ssl_object
    engine.incoming = incoming
    engine.outgoing = outgoing
    engine.pending = getattr(ssl_object, "pending", None)
    return engine


@cython.cfunc
def new_direct_engine(ssl_object: object) -> Engine:
    """None unless the object is OpenSSL's, reads and writes by its own methods, and has the SSL that was made last."""
    cls = type(ssl_object)
    if not isinstance(ssl_object, ssl.SSLObject) or cls.read is not READ or cls.write is not WRITE:
        return None
    own = ssl_object.__dict__
    socket = own.get("_sslobj")
    if "read" in own or "write" in own or type(socket) is not _ssl._SSLSocket:
        return None
    engine: DirectEngine = DirectEngine.__new__(DirectEngine)
    # SAFETY: `socket` is held by the engine; the SSL that is found belongs to it.
    engine.ssl = weft_tls_ssl_of(cython.cast(cython.pointer(PyObject), socket))
    if engine.ssl == cython.NULL:
        return None
    engine.ssl_object = ssl_object
    engine.socket = socket
    engine.bio = weft_tls_attach(engine.ssl, cython.address(engine.pipe))
    if engine.bio == cython.NULL:
        raise MemoryError("no memory for a TLS connection")
    return engine


# -- blocks of plaintext -----------------------------------------------------------------------------------------------


def take_plain():
    """PLAIN_SIZE bytes for what is on its way through; to be given back by ``give_plain``."""
    global spare_count
    if spare_count > 0:
        spare_count -= 1
        return spare[spare_count]
    block: cython.p_char = cython.cast(cython.p_char, malloc(PLAIN_SIZE))
    if block == cython.NULL:
        raise MemoryError("no memory for decrypted data")
    return block


def give_plain(block):
    global spare_count
    if spare_count < SPARE_BLOCKS:
        spare[spare_count] = block
        spare_count += 1
    else:
        free(block)
