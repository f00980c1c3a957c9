"""Types of ``sleep``."""

from typing import TypeVar, overload

_T = TypeVar("_T")

@overload
async def sleep(delay: float) -> None: ...
@overload
async def sleep(delay: float, result: _T) -> _T: ...
