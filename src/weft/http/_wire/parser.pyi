"""Types of the parser of HTTP/1 responses."""

from enum import IntFlag

from weft.http._wire.incoming import Incoming

class Step(IntFlag):
    STATUS_LINE = 0
    FIELDS = 1
    SIZE = 2
    EXTENSION = 3
    SIZE_END = 4
    DATA = 5
    DATA_CR = 6
    DATA_LF = 7
    TRAILER = 8
    LENGTH = 9
    UNTIL_CLOSE = 10
    DONE = 11
    SWITCHED = 12

class ResponseParser:
    @property
    def step(self) -> int: ...
    @property
    def is_reusable(self) -> bool: ...
    def begin(
        self, incoming: Incoming, has_no_body: bool = False, may_switch: bool = False, may_tunnel: bool = False
    ) -> None: ...
    def receive(self, data: bytes) -> int: ...
    def close(self) -> bool: ...
