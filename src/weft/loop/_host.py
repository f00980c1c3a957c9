"""What a mixin may expect of the loop that it becomes part of, for the type checker only.

At run time ``Host`` is ``object``: the mixins stay plain classes and their order in ``EventLoop`` decides the rest.
The table in ``docs/architecture.md`` says what each name means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class Host(asyncio.AbstractEventLoop):
        """An event loop with the private helpers that ``Scheduler`` offers to the mixins."""

        slow_callback_duration: float

        def _release(self) -> None: ...
        def _check_closed(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _watch_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> object: ...
        def _unwatch_reader(self, fd: int) -> bool: ...
        def _watch_writer(self, fd: int, callback: Callable[..., object], *args: Any) -> object: ...
        def _unwatch_writer(self, fd: int) -> bool: ...
        def _transport_of(self, fd: int) -> asyncio.BaseTransport | None: ...

else:
    Host = object
