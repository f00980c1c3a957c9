"""Blocks the loop: a request by a library that knows nothing of loops: requests, urllib, a database driver.

loop blocked 313 ms in task 'Task-1' at examples/pathologies/blocked_by_request.py:35 in fetch():
urllib.request.urlopen (kernel: recvfrom of socket:[12345]); use "await weft.http.get()" or asyncio.to_thread().
seen 1x

    python examples/pathologies/blocked_by_request.py
"""

import socket
import threading
import time
import urllib.request

import weft


def slow_server() -> int:
    """A server of one answer, which takes its time; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            connection.recv(10_000)
            time.sleep(0.3)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")

    threading.Thread(target=serve).start()
    return int(listener.getsockname()[1])


async def fetch(url: str) -> bytes:
    """Fetches a page, and the loop waits for it."""
    with urllib.request.urlopen(url) as response:  # should be: await weft.http.get(url)
        return bytes(response.read())


async def main() -> None:
    """One page."""
    print((await fetch(f"http://127.0.0.1:{slow_server()}/")).decode())


if __name__ == "__main__":
    weft.run(main())
