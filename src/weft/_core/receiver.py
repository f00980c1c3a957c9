"""Protocols that are compiled: they get their bytes where the driver has received them, not as an object.

A transport whose protocol is a ``Receiver`` calls ``feed`` where it would call ``data_received``. The invariant: what
``feed`` is given is there until it returns; who needs it for longer takes it with ``source.take_received``, which
copies it once, or hands over the block that it was received into.

Everything else of :class:`asyncio.Protocol` is called as of any protocol. Stream readers and TLS derive from it.
"""


class Receiver:
    def feed(self, source, data, size):
        """``size`` bytes have come, at ``data``."""
        raise NotImplementedError
