"""Finds a Python program in any of the forms that the interpreter takes, and runs it as ``__main__``.

The program sees what it would see under ``python``: ``sys.argv``, ``sys.path[0]``, a real ``__main__`` module (so that
what it pickles and what multiprocessing imports again is found), ``__file__``, ``__spec__``, ``__package__``.
Invariant: an exception that leaves the program leaves this module as it is, and is shown without the frames from here.
The standard library's runpy does much of this, but its frames would show, and its ``__main__`` is gone when the
program's threads and exit handlers run. Called by ``weft run``.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, ModuleSpec, PathFinder, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, NamedTuple, cast

__all__ = ["launch"]


class Program(NamedTuple):
    """A program that has been found: its code, and what its ``__main__`` is to be told about where it comes from."""

    code: CodeType
    attributes: dict[str, Any]  # of the module


class _NotFound(Exception):
    """There is no such program. Carries the text for the user and the exit status that ``python`` has for it."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def launch(form: str, target: str, arguments: list[str]) -> None:
    """Runs a program as ``__main__`` in this interpreter, which should end afterwards.

    Args:
        form: ``"-m"`` for a module, ``"-c"`` for code, ``""`` for a path.
        target: the module's name, the code, or the path (``"-"`` for the standard input).
        arguments: what follows ``sys.argv[0]``.

    Raises:
        SystemExit: the program ended that way, or it could not be found (after a line on stderr).
        BaseException: what else left the program.
    """
    find = {"-m": _find_module, "-c": _find_code, "": _find_path}[form]
    sys.argv[:] = [form or target, *arguments]
    if not sys.flags.safe_path:
        del sys.path[0]  # where the weft script lies, or the directory that python -m weft was started in
    try:
        program = find(target)
        namespace = _become_main(program.attributes)
        exec(program.code, namespace)
    except _NotFound as problem:
        print(f"weft run: {problem}", file=sys.stderr)
        raise SystemExit(problem.status) from None
    except SystemExit:
        raise
    except BaseException as exc:
        _show_without_launcher(exc)
        raise


def _become_main(attributes: dict[str, Any]) -> dict[str, Any]:
    """Puts a new ``__main__`` in the place of ours; returns its namespace."""
    global _replaced_main
    _replaced_main = sys.modules["__main__"]  # keeps the globals of the code below us alive
    module = ModuleType("__main__")
    namespace = vars(module)
    namespace["__builtins__"] = sys.modules["builtins"]
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}  # for variables annotated at the top level; later versions make it on demand
    namespace.update(attributes)
    sys.modules["__main__"] = module
    return namespace


_replaced_main: ModuleType | None = None


def _find_code(source: str) -> Program:
    _prepend_path("")
    code = compile(source, "<string>", "exec", dont_inherit=True)
    _show_lines_of(code, source)
    return Program(code, {"__loader__": BuiltinImporter})


def _show_lines_of(code: CodeType, source: str) -> None:
    """Lets tracebacks show the lines of ``-c``, as they do from 3.13 on. There is no public way to tell them."""
    import linecache

    register: Callable[[CodeType | str, str, str], object] | None = getattr(linecache, "_register_code", None)
    if register is not None:
        register(code if hasattr(linecache, "_interactive_cache") else "<string>", source, "<string>")


def _find_path(path: str) -> Program:
    if path == "-":
        _prepend_path("")
        code = compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True)
        return Program(code, {"__loader__": BuiltinImporter, "__file__": "<stdin>", **_cached(None)})
    absolute = os.getcwd() if path == "." else os.path.join(os.getcwd(), path)
    if _importer(absolute) is not None:
        return _find_inside(absolute)
    loader: SourceFileLoader | SourcelessFileLoader
    try:
        if path.endswith(".pyc"):
            loader = SourcelessFileLoader("__main__", absolute)
            code = cast(CodeType, loader.get_code("__main__"))
        else:
            loader = SourceFileLoader("__main__", absolute)
            with io.open_code(absolute) as file:
                source = file.read()
            code = compile(source, absolute, "exec", dont_inherit=True)
    except OSError as exc:
        raise _NotFound(f"can't open file '{absolute}': [Errno {exc.errno}] {exc.strerror}", status=2) from None
    if not sys.flags.safe_path:
        _prepend_path(os.path.dirname(os.path.realpath(absolute)))  # beside the file, not beside a link to it
    return Program(code, {"__loader__": loader, "__file__": absolute, **_cached(None)})


def _find_inside(container: str) -> Program:
    """``__main__`` in a directory or a zip file; its place goes on the path even with ``-P``, as with ``python``."""
    sys.path.insert(0, container)
    spec = PathFinder.find_spec("__main__", [container])
    if spec is None or spec.loader is None:
        raise _NotFound(f"can't find '__main__' module in '{container}'")
    return _from_spec(spec)


def _find_module(name: str) -> Program:
    _prepend_path(os.getcwd())
    spec = _spec_of(name)
    if spec.submodule_search_locations is not None:
        try:
            spec = _spec_of(f"{name}.__main__")
        except _NotFound as exc:
            raise _NotFound(f"{exc}; '{name}' is a package and cannot be directly executed") from None
    program = _from_spec(spec)
    sys.argv[0] = spec.origin or name
    return program


def _spec_of(name: str) -> ModuleSpec:
    """Finds a module by its full name, importing the packages that it lies in."""
    from importlib.util import find_spec

    if name.startswith("."):
        raise _NotFound("relative module names are not supported")
    parent = name.rpartition(".")[0]
    try:
        if parent:
            __import__(parent)  # on its own, so that what its code raises is not mistaken for a missing module
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{parent}.".startswith(f"{exc.name}."):
            raise
        raise _NotFound(f"No module named {name}") from None
    try:
        spec = find_spec(name)
    except (ImportError, AttributeError, TypeError, ValueError) as exc:
        hint = f". Try '{name[:-3]}' instead of '{name}' as the module name" if name.endswith(".py") else ""
        raise _NotFound(f"can't look up module {name!r} ({type(exc).__name__}: {exc}){hint}") from None
    if spec is None:
        raise _NotFound(f"No module named {name}")
    return spec


def _from_spec(spec: ModuleSpec) -> Program:
    get_code = getattr(spec.loader, "get_code", None)
    code = get_code(spec.name) if get_code is not None else None
    if code is None:
        raise _NotFound(f"No code object available for {spec.name}")
    attributes = {"__loader__": spec.loader, "__file__": spec.origin, "__package__": spec.parent, "__spec__": spec}
    return Program(code, {**attributes, **_cached(spec.cached)})


def _cached(path: str | None) -> dict[str, Any]:
    return {"__cached__": path} if sys.version_info < (3, 15) else {}


def _prepend_path(entry: str) -> None:
    if not sys.flags.safe_path:
        sys.path.insert(0, entry)


def _importer(path: str) -> object | None:
    """What imports from inside the path, or None when it is an ordinary file."""
    from pkgutil import get_importer

    return get_importer(path)


def _show_without_launcher(exc: BaseException) -> None:
    """Sees to it that ``sys.excepthook`` gets the traceback as under ``python``: from the program's own code on.

    The exception itself goes on to the interpreter, which knows best how to end (status 1, or killed by SIGINT).
    """
    own = exc.__traceback__
    while own is not None and _is_launcher(own):
        own = own.tb_next
    hook = sys.excepthook

    def once(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        sys.excepthook = hook
        if value is exc:
            value.__traceback__ = traceback = own
        hook(kind, value, traceback)

    sys.excepthook = once


def _is_launcher(traceback: TracebackType) -> bool:
    filename = traceback.tb_frame.f_code.co_filename
    return filename == __file__ or filename.startswith("<frozen ")  # the import system, which looks for the program
