"""The short way into asyncio's own streams: what ``StreamReader.feed_data`` does, without its frames and its copy.

``receiver_for`` recognises exactly asyncio's ``StreamReaderProtocol`` over exactly its ``StreamReader``, with the
methods and attributes that this module knows; for all else there is no short way, and the transport calls
``data_received``. The invariant: after ``feed`` the reader is as ``feed_data`` would have left it.

Used by ``StreamTransport.adopt``.
"""

import asyncio
import weakref
from asyncio import streams

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cython.cimports.libc.string import memcpy
from cython.cimports.weft._core.futures import is_pending, set_result

from weft import versions

PROTOCOL = cython.declare(object, streams.StreamReaderProtocol)
READER = cython.declare(object, streams.StreamReader)
FUTURE = cython.declare(object, asyncio.Future)
# As they were when weft was imported; what `feed` stands for is known of these alone.
DATA_RECEIVED = cython.declare(object, streams.StreamReaderProtocol.data_received)
FEED_DATA = cython.declare(object, streams.StreamReader.feed_data)
WAKE = cython.declare(object, getattr(streams.StreamReader, "_wakeup_waiter", None))
ATTRIBUTES = cython.declare(tuple, ("_buffer", "_eof", "_waiter", "_transport", "_limit", "_paused"))
IS_KNOWN = cython.declare(cython.bint, versions.STREAM_READER_IS_KNOWN)


class StockReceiver:
    def feed(self, source, data, size):
        reader: object = self.reader_reference()
        if reader is None:
            return 0  # the program has dropped it
        buffer: object = reader._buffer
        if reader._eof or type(buffer) is not bytearray:
            reader.feed_data(source.take_received(data, size))
            return 0
        before: cython.Py_ssize_t = PyByteArray_GET_SIZE(buffer)
        PyByteArray_Resize(buffer, before + size)
        memcpy(PyByteArray_AS_STRING(buffer) + before, data, size)
        waiter: object = reader._waiter
        if waiter is not None:
            reader._waiter = None
            if type(waiter) is not FUTURE:
                if not waiter.cancelled():
                    waiter.set_result(None)
            elif is_pending(waiter):
                set_result(waiter, None)
            elif not waiter.cancelled():
                waiter.set_result(None)  # asyncio's error
        transport: object = reader._transport
        if transport is not None and before + size > 2 * reader._limit and not reader._paused:
            try:
                transport.pause_reading()
            except NotImplementedError:
                reader._transport = None
            else:
                reader._paused = True
        return 0


def receiver_for(protocol):
    """The short way to the reader of ``protocol``; None where there is none."""
    if type(protocol) is not PROTOCOL or not IS_KNOWN:
        return None
    reference: object = getattr(protocol, "_stream_reader_wr", None)
    if type(reference) is not weakref.ref:
        return None
    reader: object = reference()
    if type(reader) is not READER or getattr(READER, "_wakeup_waiter", None) is not WAKE:
        return None
    for name in ATTRIBUTES:
        if not hasattr(reader, name):
            return None
    if getattr(protocol.data_received, "__func__", None) is not DATA_RECEIVED:
        return None
    if getattr(reader.feed_data, "__func__", None) is not FEED_DATA:
        return None
    receiver: StockReceiver = StockReceiver.__new__(StockReceiver)
    receiver.reader_reference = reference
    return receiver
