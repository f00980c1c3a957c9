"""Every exception that weft raises of its own; each is also what asyncio would raise, so old handlers go on working."""


class WeftError(Exception):
    """The base of weft's exceptions."""


class LoopClosedError(WeftError, RuntimeError):
    """The event loop was closed, and the call needs one that is open."""


class LoopRunningError(WeftError, RuntimeError):
    """The event loop, or another one in this thread, is running, and the call needs that it is not."""


class WrongThreadError(WeftError, RuntimeError):
    """A call that is not thread-safe came from another thread than the one that runs the loop."""
