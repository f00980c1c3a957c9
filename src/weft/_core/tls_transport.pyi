"""Types of the transport of a TLS connection."""

import asyncio
import ssl
from typing import Any, Self

from weft._core.tls_flow import TlsFlow

class TlsTransport(TlsFlow):
    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        waiter: asyncio.Future[Any] | None = None,
        server_side: bool = False,
        server_hostname: str | None = None,
        is_made: bool = False,
        handshake_timeout: float | None = None,
        shutdown_timeout: float | None = None,
    ) -> Self: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
