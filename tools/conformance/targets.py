"""Redirects asyncio's names to the loop and the Task under test, before CPython's test modules are imported.

The invariant: the test modules themselves stay as they are; only names *they look up in asyncio* and in their own
``utils`` change. Called by ``worker`` (and, through ``CHILD_PREFIX``, by interpreters that a test starts).

A target is ``stock`` (nothing redirected), ``uvloop``, ``weft``, ``weft+ctask``: weft's loop driving the interpreter's
own Task class, or ``weft+accelerated``: weft with ``weft.accelerate()`` in force.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.events
import asyncio.tasks
import asyncio.unix_events
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from tools.conformance import fakeclock

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("stock", "uvloop", "weft", "weft+ctask", "weft+accelerated")
CHILD_PREFIX = (
    "import sys; sys.path.insert(1, {root!r})\nfrom tools.conformance import targets; targets.redirect({name!r})\n"
)

# The names under which asyncio offers a loop class that tests instantiate.
LOOP_NAMES: tuple[tuple[Any, str], ...] = (
    (asyncio, "SelectorEventLoop"),
    (asyncio, "EventLoop"),
    (asyncio.unix_events, "SelectorEventLoop"),
    (asyncio.unix_events, "EventLoop"),
    (asyncio.unix_events, "_UnixSelectorEventLoop"),
)
# The abstract class, which some tests complete with mocks.
BASE_NAMES: tuple[tuple[Any, str], ...] = ((asyncio, "BaseEventLoop"), (asyncio.base_events, "BaseEventLoop"))
# The policy class whose ``_loop_factory`` makes ``asyncio.new_event_loop()``: the name until 3.13, and since 3.14.
POLICY_NAMES = ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy")
TASK_NAMES: tuple[tuple[Any, str], ...] = ((asyncio, "Task"), (asyncio.tasks, "Task"), (asyncio.tasks, "_CTask"))

made = 0  # how many loops of the target this process has made


def importable(target: str) -> bool:
    """Whether this interpreter has what ``target`` needs."""
    return target == "stock" or importlib.util.find_spec(target.partition("+")[0]) is not None


def package(target: str) -> str:
    """The name of the package that holds the target's loop."""
    return target.partition("+")[0]


class Hidden:
    """Makes an attribute of a base class look absent."""

    def __get__(self, instance: object, owner: type) -> None:
        raise AttributeError(f"{owner.__name__} has no such attribute")


async def not_available(*args: object) -> None:
    """What takes the place of sending by the kernel."""
    raise asyncio.SendfileNotAvailableError("sendfile() is not supported")


def loop_class(target: str) -> type[Any]:
    """The target's loop class, counting instances and accepting (and closing) the selector that tests may pass."""
    base: Any = {"uvloop": "Loop", "weft": "EventLoop"}[package(target)]
    base = getattr(importlib.import_module(package(target)), base)

    class BaseLoop(base):  # type: ignore[misc, unused-ignore]
        def __init__(self, selector: Any = None, **options: Any) -> None:
            global made
            made += 1
            if selector is not None:
                selector.close()
            super().__init__(**options)

        # What tests of the base class alone ask for. There, sending a file by the kernel is what is not available.
        _run_once = fakeclock.run_once
        _sendfile_native = _sock_sendfile_native = not_available

    if not hasattr(base, "_default_executor"):
        BaseLoop._default_executor = None  # the tests' own clean-up reads it
    if target == "weft+ctask":
        make_stock_tasks(BaseLoop)
    return BaseLoop


def make_stock_tasks(loop: type[Any]) -> None:
    """Makes a loop class create asyncio's tasks and futures, looked up each time: tests put others in their place."""
    by_factory = loop.create_task

    def create_task(self: Any, coro: Any, **options: Any) -> Any:
        if self.get_task_factory() is not None:
            return by_factory(self, coro, **options)
        self._check_closed()
        task: Any = asyncio.tasks.Task(coro, loop=self, **options)
        if task._source_traceback:
            del task._source_traceback[-1]  # this function is none of the program's
        return task

    def create_future(self: Any) -> Any:
        return asyncio.futures.Future(loop=self)

    loop.create_task, loop.create_future = create_task, create_future


def redirect(target: str) -> None:
    """Makes asyncio hand out the target's loop, and its Task where it has one of its own."""
    if target == "stock":
        return
    base = loop_class(target)
    for owner, name in BASE_NAMES:
        setattr(owner, name, base)
    # As in asyncio, the loop that programs get is a subclass. What is for tests of the base alone is gone from it.
    own = {name: getattr(base.__base__, name, Hidden()) for name in ("_sendfile_native", "_sock_sendfile_native")}
    loop = type("Loop", (base,), {"_run_once": Hidden(), **own})
    for owner, name in LOOP_NAMES:
        if hasattr(owner, name):
            setattr(owner, name, loop)
    for name in POLICY_NAMES:
        policy = getattr(asyncio.unix_events, name, None)
        if policy is not None:
            policy._loop_factory = loop
    if target in ("weft", "weft+accelerated"):
        task = importlib.import_module("weft").Task
        # What the stock loop makes, in the tests of its own insides, stays stock.
        view = types.SimpleNamespace(**vars(asyncio.tasks))
        setattr(asyncio.base_events, "tasks", view)  # noqa: B010 - not a name to assign to, for the type checker
        for owner, name in TASK_NAMES:
            setattr(owner, name, task)
        factory = getattr(asyncio.tasks, "create_eager_task_factory", None)
        if factory is not None:
            for owner in (asyncio, asyncio.tasks):
                setattr(owner, "eager_task_factory", factory(task))  # noqa: B010 - not in 3.11
    if target == "weft+accelerated":
        importlib.import_module("weft").accelerate()


def redirect_children(target: str) -> None:
    """Makes the interpreters that tests start with ``assert_python_ok('-c', ...)`` redirect themselves too."""
    from test.support import script_helper  # type: ignore[import-not-found]

    run = script_helper.run_python_until_end
    prefix = CHILD_PREFIX.format(root=str(ROOT), name=target)

    def run_redirected(*args: str, **env: Any) -> Any:
        argv = list(args)
        if "-c" in argv:
            code = argv.index("-c") + 1
            argv[code] = prefix + argv[code]
        return run(*argv, **env)

    script_helper.run_python_until_end = run_redirected


def mirror_patches(target: str) -> None:
    """Lets ``mock.patch('asyncio.unix_events.signal')`` reach the target's modules as well.

    Tests replace a module or a logger that the stock loop imported. Wherever a module of the target holds the same
    object, or a function imported from it, the mock takes its place for the same time.
    """
    enter, leave = mock._patch.__enter__, mock._patch.__exit__
    undo: dict[int, list[tuple[Any, str, object]]] = {}

    def __enter__(self: Any) -> Any:
        owner = self.getter()
        original = getattr(owner, self.attribute, None)
        result = enter(self)
        if getattr(owner, "__name__", "").startswith("asyncio.") and original is not None:
            substitute = getattr(owner, self.attribute)
            if isinstance(substitute, mock.NonCallableMock):
                _make_faithful(self.attribute, substitute)
            undo[id(self)] = _substitute(package(target), self.attribute, original, substitute)
        return result

    def __exit__(self: Any, *exc: Any) -> Any:
        for module, attribute, original in undo.pop(id(self), ()):
            setattr(module, attribute, original)
        return leave(self, *exc)

    mock._patch.__enter__ = __enter__  # type: ignore[method-assign]
    mock._patch.__exit__ = __exit__  # type: ignore[method-assign]


def _substitute(prefix: str, name: str, original: Any, substitute: Any) -> list[tuple[Any, str, object]]:
    """Puts ``substitute`` in the place of ``original`` in the target's modules; returns what was there."""
    before = []
    for module in [module for key, module in list(sys.modules.items()) if key.startswith(prefix)]:
        for attribute, value in list(vars(module).items()):
            if attribute == name and value is original:
                before.append((module, attribute, value))
                setattr(module, attribute, substitute)
            elif isinstance(original, types.ModuleType) and _is_function_of(original, attribute, value):
                before.append((module, attribute, value))
                # Looked up at each call: tests go on changing their mock.
                setattr(module, attribute, lambda *a, _name=attribute, **k: getattr(substitute, _name)(*a, **k))
    return before


def _is_function_of(module: types.ModuleType, name: str, value: object) -> bool:
    is_function = isinstance(value, types.FunctionType | types.BuiltinFunctionType)
    return is_function and getattr(module, name, None) is value


def _make_faithful(name: str, module: Any) -> None:
    """Makes a mocked module give a proper answer where the stock loop does not look at the answer, and weft does."""
    if name == "signal":
        module.set_wakeup_fd.return_value = -1  # none was set before


def replace_test_loop(target: str) -> None:
    """Puts the target's fake-time loop in the place of the tests' own; where there is none, such tests are skipped."""
    utils: Any = importlib.import_module("test.test_asyncio.utils")
    if package(target) == "weft":
        utils.TestLoop = fakeclock.test_loop_class(asyncio.base_events.BaseEventLoop)
        return

    def unavailable(*args: object) -> None:
        import unittest

        raise unittest.SkipTest(f"{target} has no virtual clock")

    utils.TestLoop = unavailable


def install(target: str) -> Callable[[], int]:
    """Redirects everything to ``target``.

    Returns:
        A function that tells how many loops of the target have been made so far.

    Raises:
        ValueError: there is no such target.
    """
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r}: it is one of {', '.join(TARGETS)}")
    if target != "stock":
        redirect(target)
        redirect_children(target)
        mirror_patches(target)
        replace_test_loop(target)
    return lambda: made
