"""Blocks the loop: a name that is looked up by socket.

loop blocked 322 ms in task 'Task-1' at examples/pathologies/blocked_by_dns.py:30 in address_of():
socket.getaddrinfo (kernel: clock_nanosleep); use "await loop.getaddrinfo()". seen 1x

    python examples/pathologies/blocked_by_dns.py
"""

import socket
import time
from typing import Any

import weft


def slow_names() -> None:
    """Makes every look-up take as long as one with a name server that does not answer."""
    look_up = socket._socket.getaddrinfo  # type: ignore[attr-defined]

    def slow(*arguments: Any) -> Any:
        time.sleep(0.3)
        return look_up(*arguments)

    slow.__code__ = slow.__code__.replace(co_filename=socket.__file__)  # as it is below the program in real life
    socket._socket.getaddrinfo = slow  # type: ignore[attr-defined]


async def address_of(host: str) -> str:
    """The first address of a host."""
    return str(socket.getaddrinfo(host, 80)[0][4][0])  # should be: await loop.getaddrinfo(host, 80)


async def main() -> None:
    """One name."""
    slow_names()
    print(await address_of("127.0.0.1"))


if __name__ == "__main__":
    weft.run(main())
