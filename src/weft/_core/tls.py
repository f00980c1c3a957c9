"""The protocol of the transport below a TLS connection: where ciphertext comes in.

It has no state but the ``TlsTransport`` that it tells, and no rule but that of every protocol: each event of the
transport below becomes one call. Over a transport of weft it is a ``Receiver``; over any other it takes ``bytes``.
Made by ``loop.tls``, one per connection.
"""

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.weft._core.buffers import freeze
from cython.cimports.weft._core.tls_transport import TlsTransport


class TlsReceiver:
    """Stands between a transport and a TLS transport over it.

    Args:
        transport: the ``TlsTransport`` that is to be told; it has no other.
    """

    def __init__(self, transport):
        self.transport = transport
        self.transport.layer = self

    def feed(self, source, data, size):
        transport: TlsTransport = self.transport  # held here: what is delivered may be the end of us
        return transport.on_ciphertext(data, size)

    def data_received(self, data):
        """Ciphertext, from a transport that is not weft's; or what a reader had received before ``start_tls``."""
        held: bytes = freeze(data)
        self.transport.on_ciphertext(PyBytes_AS_STRING(held), PyBytes_GET_SIZE(held))

    def connection_made(self, transport):
        """The transport below stands: the handshake begins."""
        self.transport.on_below_made(transport)

    def eof_received(self):
        """Nothing comes any more; returns whether the transport below is to stay open for a while."""
        return bool(self.transport.on_below_eof())

    def connection_lost(self, exc):
        """The transport below has gone."""
        self.transport.on_below_lost(exc)

    def pause_writing(self):
        """The transport below has had enough."""
        self.transport.on_below_full()

    def resume_writing(self):
        """The transport below has room again."""
        self.transport.on_below_drained()
