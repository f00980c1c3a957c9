"""Blocks the loop: a file on something slow.

loop blocked 308 ms in task 'Task-1' at examples/pathologies/blocked_by_file.py:33 in settings(): open (kernel:
openat); use "await asyncio.to_thread()" for files. seen 1x

    python examples/pathologies/blocked_by_file.py
"""

import os
import tempfile
import threading
import time

import weft


def slow_file(folder: str) -> str:
    """A FIFO, as slow as a file on a network drive; gives its path."""
    path = os.path.join(folder, "settings")
    os.mkfifo(path)

    def write() -> None:
        time.sleep(0.3)
        with open(path, "w") as file:
            file.write("debug = true")

    threading.Thread(target=write).start()
    return path


async def settings(path: str) -> str:
    """Reads a file."""
    with open(path) as file:  # should be: await asyncio.to_thread(Path(path).read_text)
        return file.read()


async def main() -> None:
    """One file."""
    with tempfile.TemporaryDirectory() as folder:
        print(await settings(slow_file(folder)))


if __name__ == "__main__":
    weft.run(main())
