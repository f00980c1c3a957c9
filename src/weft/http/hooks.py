"""What a client tells of its requests while they run: for metrics, logs and tracing.

Invariant: a hook is called synchronously, in the order of the phases, each at most once per request that leaves (a
redirect is another one); an exception in a hook is reported to the loop's exception handler and changes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.http._wire.incoming import Incoming
    from weft.http.outgoing import Request

__all__ = ["Hooks", "Trace"]


@dataclass(slots=True)
class Trace:
    """One request that leaves, and when its phases were, in seconds of the loop's clock; None: not yet, or never.

    Attributes:
        request: the request.
        started: when the client began with it.
        connected: when it had a connection.
        is_reused: whether that connection had been used before.
        first_byte: when the head of the response was there.
        ended: when the last byte of the body was there, or it failed.
        status: the response's.
        error: why it failed.
        context: for the hooks' own use.
    """

    request: Request
    started: float
    connected: float | None = None
    is_reused: bool | None = None
    first_byte: float | None = None
    ended: float | None = None
    status: int | None = None
    error: BaseException | None = None
    context: dict[str, Any] = field(default_factory=dict)


class Hooks:
    """Derive from it, and override what is of interest."""

    def on_start(self, trace: Trace) -> None:
        """A request begins."""

    def on_connect(self, trace: Trace) -> None:
        """It has a connection."""

    def on_first_byte(self, trace: Trace) -> None:
        """The head of its response is there."""

    def on_end(self, trace: Trace) -> None:
        """The last byte is there, or it has failed: then ``trace.error`` says why."""


class Tracer:
    """Tells ``hooks`` of one request; the transport calls it."""

    def __init__(self, hooks: Hooks, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self._hooks = hooks
        self._loop = loop
        self.trace = Trace(request, loop.time())
        self._tell(hooks.on_start)

    def on_connection(self, connection: Any, incoming: Incoming) -> None:
        """The request has a connection; it has another if the first turned out to be dead."""
        is_first = self.trace.connected is None
        self.trace.connected = self._loop.time()
        self.trace.is_reused = connection.uses > 0
        incoming.observer = partial(self._on_event, incoming)
        if is_first:
            self._tell(self._hooks.on_connect)

    def on_response(self, incoming: Incoming) -> None:
        """The transport has given a response. Some know nothing of traces: what they left out is told now."""
        if self.trace.first_byte is None:
            self._on_event(incoming, "first_byte")
        if incoming.is_ended:
            self.end(incoming.error)
        elif incoming.observer is None:
            incoming.observer = partial(self._on_event, incoming)

    def _on_event(self, incoming: Incoming, name: str) -> None:
        """The response has come to its head, or to its end."""
        if name == "first_byte":
            self.trace.first_byte = self._loop.time()
            self.trace.status = incoming.status
            self._tell(self._hooks.on_first_byte)
        elif incoming.was_answered:  # without an answer the transport goes on, or fails with its error
            self.end(incoming.error)

    def end(self, error: BaseException | None = None) -> None:
        """It is over."""
        if self.trace.ended is None:
            self.trace.ended = self._loop.time()
            self.trace.error = error
            self._tell(self._hooks.on_end)

    def _tell(self, hook: Any) -> None:
        try:
            hook(self.trace)
        except Exception as error:
            self._loop.call_exception_handler(
                {"message": f"a hook of the HTTP client failed: {hook!r}", "exception": error}
            )
