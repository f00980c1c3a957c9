from weft._core.receiver cimport Receiver
from weft._core.tls_transport cimport TlsTransport

cdef class TlsReceiver(Receiver):
    cdef TlsTransport transport
