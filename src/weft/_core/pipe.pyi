"""Types of the transports of pipes."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Self

from weft._core.channel import Channel, FlowChannel

class ReadPipeTransport(Channel, asyncio.ReadTransport):
    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Self: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

class WritePipeTransport(FlowChannel, asyncio.WriteTransport):
    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Self: ...
    def write(self, data: bytes | bytearray | memoryview[Any]) -> None: ...
    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None: ...
    def write_eof(self) -> None: ...
    def can_write_eof(self) -> bool: ...
