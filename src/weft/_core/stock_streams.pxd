cimport cython
from weft._core.receiver cimport Receiver

@cython.final
cdef class StockReceiver(Receiver):
    cdef object reader_reference

cdef StockReceiver receiver_for(object protocol)
