"""Types of what ``call_later`` and ``call_at`` return."""

import asyncio

from weft._core.handle import Handle

class TimerHandle(Handle, asyncio.TimerHandle):
    def when(self) -> float: ...
    def cancel(self) -> None: ...

class TimerHeap:
    def __len__(self) -> int: ...
