"""The import of asyncio, without the fifth of it that most programs never use.

asyncio imports ``ssl``, ``asyncio.sslproto`` and ``inspect`` when it is imported, and uses them when a connection asks
for TLS, or debug mode asks what a callback is. Here they become modules that are executed when something first asks
for a name in them, as ``importlib.util.LazyLoader`` does; that one is not used as two threads that ask at the same time
may get half a module from it (up to 3.12). The invariant: whoever gets a name from such a module, sets one or lists
them has the whole module, in whatever thread.
Called once, by ``weft/__init__.py``: docs/decisions/0013-what-a-start-costs.md.
"""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.machinery import PathFinder
from types import ModuleType

TYPE_CHECKING = False  # `typing` is not imported by everything here, and takes longer than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from typing import Any

__all__ = ["import_asyncio"]

LATER = ("ssl", "asyncio.sslproto", "inspect")

_lock = threading.RLock()  # one for all, as the second imports the first


class LaterModule(ModuleType):
    """A module that has only the names that the import system gives to each, until it is asked for another."""

    def __getattr__(self, name: str) -> Any:
        _load(self)
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _load(self)
        setattr(self, name, value)

    def __delattr__(self, name: str) -> None:
        _load(self)
        delattr(self, name)

    def __dir__(self) -> list[str]:
        _load(self)
        return dir(self)


class LoadingModule(ModuleType):
    """The same while it is executed: other threads wait for the end of that, whatever they ask for."""

    def __getattribute__(self, name: str) -> Any:
        with _lock:
            return ModuleType.__getattribute__(self, name)


def _load(module: ModuleType) -> None:
    with _lock:
        if type(module) is not LaterModule:  # another thread was first
            return
        spec = module.__spec__
        assert spec is not None
        later: Any = spec.loader
        _become(module, LoadingModule)
        try:
            spec.loader = module.__dict__["__loader__"] = later.loader
            later.loader.exec_module(module)
        except BaseException:
            spec.loader = later  # so that the next who asks gets the error, too
            _become(module, LaterModule)
            raise
        _become(module, ModuleType)


def _become(module: ModuleType, kind: type[ModuleType]) -> None:
    ModuleType.__setattr__(module, "__class__", kind)


class LaterLoader:
    """Makes the module now and executes it later."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        _become(module, LaterModule)


class LaterFinder:
    """Finds the modules of ``LATER`` where they are, and nothing else."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in LATER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = LaterLoader(spec.loader)
            spec.loader = loader
        return spec


def import_asyncio() -> None:
    """Import asyncio, if nobody has yet, on a Python that has TLS: without it, asyncio needs to see that."""
    if "asyncio" in sys.modules or not (sys.modules.get("_ssl", PathFinder) and PathFinder.find_spec("_ssl")):
        return
    finder: Any = LaterFinder()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("asyncio")
    finally:
        sys.meta_path.remove(finder)
