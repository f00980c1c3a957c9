"""Where a client's requests go: the interface that the network, an ASGI application and a test's function share.

Invariant: ``send`` either gives an ``Incoming`` whose head is there, or raises an :class:`HTTPError`; when it is
cancelled, nothing of the exchange is left. Called by the client, once per request that leaves (a redirect is another).
"""

from __future__ import annotations

from weft.http._wire.incoming import Incoming
from weft.http.outgoing import Request

__all__ = ["Transport"]


class Transport:
    """Carries requests; derive from it to send them somewhere of your own."""

    async def send(self, request: Request, total: float = float("inf")) -> Incoming:
        """Send ``request`` and wait for the head of its response.

        Args:
            request: what to send.
            total: when all of it must have ended, in seconds of the loop's clock.

        Raises:
            HTTPError: there is no response.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Give back what the transport holds."""
