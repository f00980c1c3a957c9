"""Which modules of ``test.test_asyncio`` are run; a module that an interpreter does not have is left out there.

Not listed: Windows and proactor modules, and ``test_protocols`` and ``test_transports``, which only look at abstract
classes.
"""

from __future__ import annotations

MODULES: tuple[str, ...] = (
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_free_threading",
    "test_futures",
    "test_futures2",
    "test_graph",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_runners",
    "test_selector_events",
    "test_sendfile",
    "test_server",
    "test_server_context",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_staggered",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
)

# These run a second time with the Task class of asyncio, in C or in Python, on the target's loop, because a loop has to
# drive Task classes that are not its own: the modules whose classes are parametrised by the Task class, and those that
# say most about tasks.
FOREIGN_TASK_MODULES: tuple[str, ...] = (
    "test_eager_task_factory",
    "test_free_threading",
    "test_futures2",
    "test_graph",
    "test_taskgroups",
    "test_tasks",
    "test_timeouts",
    "test_waitfor",
)

# What says most about streams, for the run with weft's.
STREAM_MODULES: tuple[str, ...] = ("test_streams",)

# These run once more with ``weft.accelerate()`` in force: those that are about what it replaces.
ACCELERATED_MODULES: tuple[str, ...] = (
    "test_locks",
    "test_queues",
    "test_taskgroups",
    "test_tasks",
    "test_timeouts",
    "test_waitfor",
)

# The modules of the targets that do not run all.
MODULES_OF = {
    "weft+ctask": FOREIGN_TASK_MODULES,
    "weft+streams": STREAM_MODULES,
    "weft+accelerated": ACCELERATED_MODULES,
}

# Slowest first, measured on stock asyncio, so that a run on several processors ends evenly.
SLOWEST_FIRST: tuple[str, ...] = ("test_events", "test_ssl", "test_subprocess", "test_tasks", "test_sslproto")

# What ``make test`` leaves out, for it is to take less than two minutes with its baseline: the second and third copy of
# tests that CPython runs once per selector and once per child watcher, which on our one driver are the same test; what
# collects all garbage a hundred times; and test_ssl, whose ground test_sslproto covers in a third of the time.
QUICK_WITHOUT: tuple[str, ...] = (
    "*.PollEventLoopTests.*",
    "*.SelectEventLoopTests.*",
    "test_futures.*.test_future_del_collect",
    "test_subprocess.SubprocessFastWatcherTests.*",
    "test_subprocess.SubprocessSafeWatcherTests.*",
    "test_subprocess.SubprocessThreadedWatcherTests.*",
    "test_tasks.*.test_task_del_collect",
)
QUICK_MODULES = tuple(module for module in MODULES if module != "test_ssl")
QUICK_ACCELERATED_MODULES = tuple(module for module in ACCELERATED_MODULES if module != "test_taskgroups")
QUICK_FOREIGN_TASK_MODULES = tuple(module for module in FOREIGN_TASK_MODULES if module != "test_taskgroups")
