"""Types of the parser of HTTP/1 responses."""

from weft.http._wire.incoming import Incoming

class Step:
    STATUS_LINE: int
    FIELDS: int
    SIZE: int
    EXTENSION: int
    SIZE_END: int
    DATA: int
    DATA_CR: int
    DATA_LF: int
    TRAILER: int
    LENGTH: int
    UNTIL_CLOSE: int
    DONE: int
    SWITCHED: int

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
