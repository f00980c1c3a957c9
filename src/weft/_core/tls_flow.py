"""How bytes flow through a TLS connection: to the program's protocol, and to the transport below.

The invariant: what is written waits as plaintext in ``queue`` until the transport below has room, and is encrypted in
the order in which it was written; what is decrypted is delivered before anything else is decrypted, from a block that
all connections share, or in the protocol's own buffer. ``TlsTransport`` adds beginning and end, and decides when.
"""

import asyncio
from asyncio.log import logger

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.libc.string import memcpy
from cython.cimports.weft._core.buffers import freeze
from cython.cimports.weft._core.channel import OPEN, FlowChannel
from cython.cimports.weft._core.receiver import Receiver
from cython.cimports.weft._core.stream import StreamTransport
from cython.cimports.weft._core.sys.linux import iovec
from cython.cimports.weft._core.sys.python import PyBytes_FromStringAndSize
from cython.cimports.weft._core.tls_engine import CLOSED_BY_PEER, PLAIN_SIZE, WANTS_MORE, give_plain, take_plain

# asyncio's FLOW_CONTROL_HIGH_WATER_SSL_WRITE, in bytes.
TLS_HIGH_WATER = cython.declare(cython.Py_ssize_t, 512 * 1024)
# What a record holds (RFC 8446, 5.1): smaller writes that wait together share one.
RECORD_SIZE = cython.declare(cython.Py_ssize_t, 16 * 1024)
PARTS_PER_RECORD = cython.declare(cython.int, 16)
# So much ciphertext is handed down at a time, to learn whether there is room for more.
CIPHER_CHUNK = cython.declare(cython.Py_ssize_t, 64 * 1024)
# asyncio warns from the fifth write to a lost connection on.
WRITES_BEFORE_WARNING = cython.declare(cython.int, 5)
# What decrypt_to_*() and fill() return besides the words of the engine: the memory was full before all was read.
MORE = cython.declare(cython.Py_ssize_t, 1)


class TlsFlow(FlowChannel):
    def pump(self):
        """Do everything that can be done now."""
        raise NotImplementedError

    def adopt(self, protocol):
        self.protocol = protocol
        self.receiver = self.data_received = self.get_buffer = self.buffer_updated = None
        if isinstance(protocol, Receiver):
            self.receiver = protocol
        elif isinstance(protocol, asyncio.BufferedProtocol):
            self.get_buffer = protocol.get_buffer
            self.buffer_updated = protocol.buffer_updated
        elif protocol is not None:
            self.data_received = getattr(protocol, "data_received", None)
        return 0

    # -- reading -------------------------------------------------------------------------------------------------------

    def is_reading(self):
        """Whether data is delivered."""
        return self.phase == OPEN and not self.is_paused

    def pause_reading(self):
        """Deliver nothing until :meth:`resume_reading`; the transport below stops as well."""
        self.check_thread()
        self.pause()

    def resume_reading(self):
        """Deliver again after :meth:`pause_reading`."""
        self.check_thread()
        self.resume()

    def pause(self):
        if self.phase == OPEN and not self.is_paused:
            self.is_paused = True
            self.steer_below()
        return 0

    def resume(self):
        if self.is_paused:
            self.is_paused = False
            if WRAPPED <= self.state < UNWRAPPED and (self.is_eof or self.engine.may_read()):
                self.loop.call_soon(self._read_on)
            self.steer_below()
        return 0

    def _read_on(self):
        if FRESH < self.state < UNWRAPPED:
            self.pump()

    def steer_below(self):
        """The transport below receives unless the program wants nothing, and nothing else is awaited."""
        stop: cython.bint = self.is_paused and (self.state == WRAPPED or self.state == FLUSHING)
        if self.below is None or stop == self.is_below_paused:
            return 0
        self.is_below_paused = stop
        if self.channel is not None:
            return self.channel.pause() if stop else self.channel.resume()
        if stop:
            self.below.pause_reading()
        else:
            self.below.resume_reading()
        return 0

    def decrypt(self):
        """Read and deliver what there is; true when the peer's close_notify has come."""
        status: cython.Py_ssize_t = MORE
        while status == MORE and not self.is_paused and (self.state == WRAPPED or self.state == FLUSHING):
            if not self.engine.may_read():
                return 0
            if self.get_buffer is not None and self.phase == OPEN:
                status = self.decrypt_to_buffer()
            else:
                status = self.decrypt_to_block()
            if self.failure is not None:
                error, self.failure = self.failure, None
                raise error
        return status == CLOSED_BY_PEER

    def decrypt_to_block(self):
        filled: cython.Py_ssize_t = 0
        block: cython.p_char = take_plain()
        try:
            status: cython.Py_ssize_t = self.fill(block, PLAIN_SIZE, cython.address(filled))
            if filled > 0 and self.phase == OPEN:  # nothing is delivered after close()
                self.deliver(block, filled)
        finally:
            give_plain(block)
        return status

    def decrypt_to_buffer(self):
        view: Py_buffer
        filled: cython.Py_ssize_t = 0
        buffer = self.get_buffer(self.engine.unread())
        if not len(buffer):
            raise RuntimeError("get_buffer() returned an empty buffer")
        PyObject_GetBuffer(buffer, cython.address(view), PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            # SAFETY: the view holds the memory until it is released.
            status: cython.Py_ssize_t = self.fill(
                cython.cast(cython.p_char, view.buf), view.len, cython.address(filled)
            )
        finally:
            # Before buffer_updated() runs: nobody may resize a bytearray that has views.
            PyBuffer_Release(cython.address(view))
        del buffer
        if filled > 0:
            self.buffer_updated(filled)
        return status

    def fill(self, where, room, filled):
        """Decrypt until ``room`` bytes are full or nothing is left; a failure after the first record waits its turn."""
        count: cython.Py_ssize_t
        while filled[0] < room:
            try:
                count = self.engine.read(where + filled[0], room - filled[0])
            except Exception as error:
                self.failure = error
                return WANTS_MORE
            if count <= 0:
                return count
            filled[0] += count
            if not self.engine.may_read():
                return WANTS_MORE
        return MORE

    def deliver(self, data, size):
        receiver: Receiver = self.receiver  # held here: its feed() may replace it
        if receiver is not None:
            return receiver.feed(self, data, size)
        self.data_received(PyBytes_FromStringAndSize(data, size))
        return 0

    def tell_eof(self):
        if self.is_made and not self.is_eof_told:
            self.is_eof_told = True
            try:
                if self.protocol.eof_received():
                    logger.warning("returning true from eof_received() has no effect when using ssl")
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.fatal(error, "Error calling eof_received()")
        return 0

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, data):
        """Encrypt and send ``data`` (bytes-like) without waiting; see :meth:`asyncio.WriteTransport.write`.

        Raises:
            TypeError: when ``data`` is not bytes-like.
            RuntimeError: from another thread.
        """
        data = freeze(data)
        self.check_thread()
        if data and self.may_write():
            self.queue.push(data, 0)
            self.start_sending()

    def writelines(self, list_of_data):
        """Send the bytes-like objects of ``list_of_data`` in order, as by one :meth:`write`."""
        parts: list = [freeze(data) for data in list_of_data]
        self.check_thread()
        if parts and self.may_write():
            for data in parts:
                self.queue.push(data, 0)
            self.start_sending()

    def may_write(self):
        if self.state <= WRAPPED:
            return True
        if self.writes_after_loss >= WRITES_BEFORE_WARNING:
            logger.warning("SSL connection is closed")
        self.writes_after_loss += 1
        return False

    def start_sending(self):
        if self.state == WRAPPED and not self.is_pumping and not self.is_below_full:
            self.is_pumping = True
            try:
                self.encrypt()
            except Exception as error:
                self.fatal(error, "Fatal error on SSL protocol")
            finally:
                self.is_pumping = False
        return self.after_write()

    def can_write_eof(self):
        """False: TLS as asyncio speaks it has no half-closed connections."""
        return False

    def write_eof(self):
        """Not possible over TLS.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a TLS connection cannot be closed for writing alone; close() it")

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the water marks in bytes; 512 KiB and a quarter of it by default."""
        if high is None and low is None:
            high = TLS_HIGH_WATER
        FlowChannel.set_write_buffer_limits(self, high, low)

    def encrypt(self):
        """Encrypt and hand down what waits, until the transport below has had enough."""
        while self.queue.size > 0 and not self.is_below_full and self.state <= FLUSHING:
            done: cython.Py_ssize_t = self.encrypt_some()
            if done == WANTS_MORE:
                break  # a renegotiation: reading comes first
            self.queue.consume(done)
            if self.engine.unsent() >= CIPHER_CHUNK:
                self.send_below()
        return self.send_below()

    def encrypt_some(self):
        """One record: of the oldest part that waits, or of several small ones."""
        parts: iovec[16]
        i: cython.int
        size: cython.Py_ssize_t = 0
        count: cython.int = self.queue.gather(parts, PARTS_PER_RECORD)
        # SAFETY: the queue holds the memory of its parts until consume().
        first: cython.p_char = cython.cast(cython.p_char, parts[0].iov_base)
        if count == 1 or cython.cast(cython.Py_ssize_t, parts[0].iov_len) >= RECORD_SIZE:
            return self.engine.write(first, parts[0].iov_len)
        block: cython.p_char = take_plain()
        try:
            for i in range(count):
                if size + cython.cast(cython.Py_ssize_t, parts[i].iov_len) > RECORD_SIZE:
                    break
                memcpy(block + size, parts[i].iov_base, parts[i].iov_len)
                size += parts[i].iov_len
            return self.engine.write(block, size)
        finally:
            give_plain(block)

    def send_below(self):
        if self.below is None or self.engine.unsent() == 0:
            return 0
        data: bytes = self.engine.take()
        stream: StreamTransport = self.stream
        if stream is None:
            self.below.write(data)
        elif stream.push(data):
            stream.start_sending()
        return 0
