"""A server on every core: several processes that share their ports, looked after by one that does nothing else.

Invariant: a worker is the same command again, told by its environment that it is one (decision 26); so there is one
way in which a program is loaded, and a reload is new code. ``serve`` is for programs; ``weft run --workers`` does the
same for a program that knows nothing of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from weft.serving.worker import Place, join

__all__ = ["Place", "place", "serve", "supervise"]


def place() -> Place | None:
    """Which of how many workers this process is; None where it is none."""
    membership = join()
    return None if membership is None else membership.place


def serve(
    main: Callable[[], Coroutine[Any, Any, Any]],
    *,
    workers: int | str = "cores",
    shutdown_timeout: float = 10.0,
    debug: bool | None = None,
) -> None:
    """Run ``main()`` in several processes that share the ports on which they listen.

    Each worker is a new process that runs this program again, up to this call; there it runs ``main()`` on a weft loop
    and ends. Whatever ``loop.create_server``, ``asyncio.start_server`` or a framework on top of them listens on, all
    workers listen on. A worker that dies is replaced, SIGHUP replaces all one by one (no connection is refused), and
    SIGTERM or SIGINT end all of them. What follows this call runs in the first process only, when all workers have
    ended.

    Args:
        main: called without arguments in each worker; gives a coroutine, usually an ``async def`` function.
        workers: how many; ``"cores"`` for as many as this process may use cores.
        shutdown_timeout: seconds that a worker has from SIGTERM until SIGKILL.
        debug: asyncio's debug mode in the workers.

    Raises:
        ValueError: ``workers`` is neither a positive number nor ``"cores"``.
        RuntimeError: this program cannot be started again, as it came from a terminal or a pipe.
        SystemExit: in a worker, when ``main`` has ended; in the first process, when no worker can be started.
    """
    if not callable(main):
        raise TypeError(f"weft.serve() calls what it is given to get a coroutine: give it main, not main(): {main!r}")
    if join() is not None:
        from weft.runner import run

        run(main(), debug=debug)
        raise SystemExit(0)
    status = supervise(workers, shutdown_timeout=shutdown_timeout)
    if status not in (0, 128 + 2, 128 + 15):  # a stop by SIGINT or SIGTERM is how a server ends
        raise SystemExit(status)


def supervise(workers: int | str, *, shutdown_timeout: float = 10.0) -> int:
    """Start this program again as so many workers, and look after them until they have ended.

    Returns:
        0 when all of them ended by themselves, 128 + the number of the signal that stopped them, or the exit status of
        the workers when none of them could be started.
    """
    from weft.runner import run
    from weft.serving.supervisor import Supervisor

    return run(Supervisor(command_again(), count(workers), shutdown_timeout=shutdown_timeout).run())


def count(workers: int | str) -> int:
    """How many workers ``workers`` means."""
    if workers == "cores":
        return len(os.sched_getaffinity(0))
    if isinstance(workers, int) and not isinstance(workers, bool) and workers > 0:
        return workers
    raise ValueError(f"workers is a number of processes, at least 1, or 'cores', not {workers!r}")


def command_again() -> list[str]:
    """The command that started this process."""
    words = list(sys.orig_argv)
    if hasattr(sys, "ps1") or words[-1:] == ["-"] or len(words) < 2:
        raise RuntimeError(
            "workers are this program started again, and a program from a terminal or a pipe cannot be: "
            "put it into a file"
        )
    return [sys.executable, *words[1:]]
