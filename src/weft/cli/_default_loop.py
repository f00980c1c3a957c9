"""Makes weft's loop the one that asyncio gives to whoever asks for no loop in particular.

Invariant: only the default loop, and what `weft.accelerate` replaces, changes. A loop factory, a policy or a loop class
that the program names stays its choice, and no deprecated name is touched, so that no warning appears that the program
alone would not have caused. Called by ``weft run``, and, through what ``_ChildHook`` sends along, by the processes that
such a program spawns.
"""

from __future__ import annotations

import asyncio.events
import asyncio.runners
import asyncio.unix_events
import os
from typing import Any

__all__ = ["make_default"]

# The class whose ``_loop_factory`` answers asyncio.run(), Runner(), new_event_loop() and get_event_loop() alike. Its
# public name warns from 3.14 on; the class itself is there until policies go (3.16).
_DEFAULT_POLICY = "_UnixDefaultEventLoopPolicy"


def make_default(*, accelerates: bool, shutdown: bool = False) -> None:
    """Makes ``weft.new_event_loop`` the factory of asyncio's default loops, in this process and those it spawns.

    Args:
        accelerates: put weft's primitives in the place of asyncio's as well, to the end of the process.
        shutdown: let ``asyncio.run()`` and ``asyncio.Runner()`` end as ``weft.run()`` does, in this process.
    """
    from weft import new_event_loop

    if shutdown:
        _make_runner_default()

    policy: Any = getattr(asyncio.unix_events, _DEFAULT_POLICY, None)
    if policy is not None and hasattr(policy, "_loop_factory"):
        policy._loop_factory = staticmethod(new_event_loop)
    else:  # no policies any more: then Runner looks the function up in asyncio.events
        asyncio.events.new_event_loop = asyncio.new_event_loop = new_event_loop
    if accelerates:
        from weft.acceleration import accelerate

        accelerate()
    _reach_spawned_processes(accelerates)


def _make_runner_default() -> None:
    """Puts our Runner in the place of asyncio's, whose defaults and context it keeps."""
    from weft.runner import Runner

    class DefaultRunner(Runner):  # type: ignore[misc]  # final through asyncio.Runner, in typeshed alone
        """:class:`weft.Runner`, made as :class:`asyncio.Runner` is: without a factory by what is the default loop."""

        def __init__(self, *, debug: bool | None = None, loop_factory: Any = None) -> None:
            super().__init__(debug=debug, loop_factory=loop_factory)

    DefaultRunner.__name__ = DefaultRunner.__qualname__ = "Runner"
    asyncio.Runner = asyncio.runners.Runner = DefaultRunner  # type: ignore[misc]


class _ChildHook:
    """Rides in what multiprocessing sends to a spawned child; unpickling it there makes weft the default loop.

    It pickles as a call of ``exec``, because the child unpickles it before it knows the parent's ``sys.path``: a
    reference to a function of weft could fail there, and take the child with it.
    """

    def __init__(self, accelerates: bool) -> None:
        self._accelerates = accelerates

    def __reduce__(self) -> tuple[Any, ...]:
        root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
        lines = (
            "import sys",
            f"sys.path.append({root!r})",  # multiprocessing replaces sys.path right afterwards
            "try:",
            "    from weft.cli._default_loop import make_default",
            "except ImportError:",
            "    pass",
            "else:",
            f"    make_default(accelerates={self._accelerates})",
        )
        return exec, ("\n".join(lines), {})


def _reach_spawned_processes(accelerates: bool) -> None:
    """A forked child inherits the default; to one that is spawned (or made by the forkserver) it has to be told."""
    from multiprocessing import spawn

    original = spawn.get_preparation_data
    if getattr(original, "weft", False):
        return

    def get_preparation_data(name: str) -> dict[str, Any]:
        return {**original(name), "weft": _ChildHook(accelerates)}

    get_preparation_data.weft = True  # type: ignore[attr-defined]
    spawn.get_preparation_data = get_preparation_data
