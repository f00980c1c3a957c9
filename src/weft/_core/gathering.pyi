"""Types of ``gather``."""

import asyncio
from collections.abc import Awaitable
from typing import Any

def gather(*coros_or_futures: Awaitable[Any], return_exceptions: bool = False) -> asyncio.Future[list[Any]]: ...
