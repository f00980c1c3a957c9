"""What a mixin may call on the loop that it is part of, for type checkers only.

Invariant: at run time this is ``object``, so that the order of bases in ``EventLoop`` is the mixins' own.
Every mixin of ``loop/`` derives from ``Host``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import socket
    import weakref
    from collections.abc import Callable
    from typing import Any

    class Host(asyncio.AbstractEventLoop):
        """The private helpers that the scheduler and the mixins offer to each other."""

        def __init__(self) -> None: ...

        def _release(self) -> None: ...

        # the scheduler
        _driver: Any
        slow_callback_duration: float
        _task_observer: Callable[[Any, str, Any, Any], None] | None

        def _set_debug(self, enabled: bool) -> None: ...
        def _run(self, thread_id: int) -> None: ...
        def _check_closed(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _watch_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> asyncio.Handle: ...
        def _unwatch_reader(self, fd: int) -> bool: ...
        def _watch_writer(self, fd: int, callback: Callable[..., object], *args: Any) -> asyncio.Handle: ...
        def _unwatch_writer(self, fd: int) -> bool: ...
        def _transport_of(self, fd: int) -> asyncio.BaseTransport | None: ...

        # Servers
        _ending: asyncio.Future[Any] | None
        _servers: weakref.WeakSet[Any]

        # Names
        async def _resolve(
            self,
            host: str | bytes | None,
            port: str | bytes | int | None,
            *,
            family: int = 0,
            type: int = 0,
            proto: int = 0,
            flags: int = 0,
            flowinfo: int = 0,
            scopeid: int = 0,
        ) -> list[tuple[Any, Any, int, str, Any]]: ...

        # Signals
        def _signals_enter(self) -> None: ...
        def _signals_leave(self) -> None: ...

        # Sockets
        def _check_fd_free(self, fd: int) -> None: ...
        def _until_writable(self, sock: socket.socket) -> asyncio.Future[None]: ...
        async def _connect_socket(self, sock: socket.socket, address: Any) -> None: ...

        # Tls
        def _make_tls_transport(
            self,
            rawsock: socket.socket,
            protocol: asyncio.BaseProtocol,
            sslcontext: Any,
            waiter: asyncio.Future[Any] | None = None,
            *,
            server_side: bool = False,
            server_hostname: str | None = None,
            extra: dict[str, Any] | None = None,
            server: Any = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
        ) -> asyncio.Transport: ...

else:
    Host = object
