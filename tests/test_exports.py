"""What weft exports is there, documented and typed, and the stubs say what was compiled.

An exported name is one in the ``__all__`` of ``weft`` or of a package in it. What a class inherits from asyncio counts
as documented and typed there.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import weft

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"


@cache
def packages() -> list[ModuleType]:
    """``weft`` and every package in it that says what it exports."""
    inner = [info.name for info in pkgutil.walk_packages(weft.__path__, "weft.") if info.ispkg]
    found = [weft, *(importlib.import_module(name) for name in inner)]
    return [module for module in found if hasattr(module, "__all__")]


@cache
def exports() -> dict[str, Any]:
    """Every exported object by its full name."""
    return {
        f"{module.__name__}.{name}": getattr(module, name, None) for module in packages() for name in module.__all__
    }


def is_ours(thing: Any) -> bool:
    """Whether a class or function was written in weft."""
    return (inspect.isclass(thing) or inspect.isroutine(thing)) and str(getattr(thing, "__module__", "")).startswith(
        "weft"
    )


# -- stubs


@cache
def stubs() -> dict[str, ast.Module]:
    """The parsed stub of every module that has one."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text())
        for path in SOURCE.rglob("*.pyi")
    }


def definitions(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What a module or class of a stub defines; of overloads the last."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
        elif isinstance(node, ast.If):  # by Python version
            found |= definitions(node.body) | definitions(node.orelse)
    return found


def stub_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The names of a function's parameters, in order, with their stars."""
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return names


def runtime_parameters(function: Callable[..., Any]) -> list[str] | None:
    """The same of a function that runs; None for a compiled one that does not tell."""
    if isinstance(function, type(object.__init__)):
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [f"{stars.get(parameter.kind, '')}{parameter.name}" for parameter in signature.parameters.values()]


def stubbed_functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, Any]]:
    """Every function and method of the stubs: its full name, its stub, and what is there at run time, or None."""
    for module, tree in stubs().items():
        runtime = importlib.import_module(module)
        for name, node in definitions(tree.body).items():
            there = getattr(runtime, name, None)
            if isinstance(node, ast.ClassDef):
                for method, inner in definitions(node.body).items():
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield f"{module}.{name}.{method}", inner, inspect.getattr_static(there, method, None)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{name}", node, there


class TestStubs:
    def test_what_a_stub_names_exists(self) -> None:
        missing = [
            f"{module}.{name}"
            for module, tree in stubs().items()
            for name, node in definitions(tree.body).items()
            # A private name, such as a type variable, may be there for the stub alone.
            if not name.startswith("_") and not hasattr(importlib.import_module(module), name)
        ]
        missing += [name for name, _, there in stubbed_functions() if there is None]
        assert missing == []

    def test_parameters_agree(self) -> None:
        wrong = {}
        for name, node, there in stubbed_functions():
            function = getattr(there, "__func__", there)
            if isinstance(there, property) or inspect.isdatadescriptor(there) or not callable(function):
                continue
            found = runtime_parameters(function)
            if found is not None and found != stub_parameters(node) and found[:1] != ["*args"]:
                wrong[name] = {"stub": stub_parameters(node), "compiled": found}
        assert wrong == {}

    def test_every_public_method_of_a_stubbed_class_is_in_the_stub(self) -> None:
        missing = []
        for module, tree in stubs().items():
            runtime = importlib.import_module(module)
            for name, node in definitions(tree.body).items():
                if isinstance(node, ast.ClassDef):
                    known = definitions(node.body)
                    public = [member for member in vars(getattr(runtime, name, object)) if not member.startswith("_")]
                    missing += [f"{module}.{name}.{member}" for member in public if member not in known]
        assert missing == []


# -- exports


def untyped(function: Any) -> list[str]:
    """The parameters (and ``return``) of a function that have no type."""
    signature = inspect.signature(function)
    bare = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty and name not in {"self", "cls"}
    ]
    return bare + (["return"] if signature.return_annotation is signature.empty else [])


def is_asyncios(cls: type, method: str) -> bool:
    """Whether a method is one of asyncio's, whose documentation is that of asyncio."""
    return any(
        method in vars(base) for base in cls.__mro__ if base.__module__.partition(".")[0] in {"asyncio", "_asyncio"}
    )


def public_methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods of a class that weft defines, by their full names."""
    for name, member in inspect.getmembers_static(cls):
        if isinstance(member, property):
            member = member.fget  # noqa: PLW2901 - the function behind it
        member = getattr(member, "__func__", member)  # noqa: PLW2901
        if not name.startswith("_") and is_ours(member):
            yield f"{member.__module__}.{member.__qualname__}", member


def public_functions() -> dict[str, Any]:
    """Every exported function and every public method of an exported class, once."""
    found: dict[str, Any] = {}
    for name, thing in exports().items():
        if inspect.isclass(thing) and is_ours(thing):
            found |= dict(public_methods(thing))
        elif is_ours(thing):
            found[name] = thing
    return found


class TestExports:
    def test_weft_exports_something(self) -> None:
        assert {"run", "new_event_loop", "EventLoop", "Task", "Runner", "install"} <= set(weft.__all__)

    @pytest.mark.parametrize("module", packages(), ids=lambda module: str(module.__name__))
    def test_every_exported_name_exists_once(self, module: ModuleType) -> None:
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
        assert len(set(module.__all__)) == len(module.__all__)

    def test_every_exported_class_and_function_is_documented(self) -> None:
        bare = [name for name, thing in exports().items() if is_ours(thing) and not inspect.getdoc(thing)]
        for cls in filter(is_ours, exports().values()):
            methods = public_methods(cls) if inspect.isclass(cls) else ()
            bare += [name for name, method in methods if not method.__doc__ and not is_asyncios(cls, method.__name__)]
        assert bare == []

    def test_every_exported_function_is_typed(self) -> None:
        stubbed = {name for name, _, _ in stubbed_functions()}
        bare = {
            name: gaps
            for name, function in public_functions().items()
            if name not in stubbed and (gaps := untyped(function))
        }
        assert bare == {}

    def test_every_stub_is_typed(self) -> None:
        bare = []
        for name, node, _ in stubbed_functions():
            arguments = [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ]
            named = [argument for argument in arguments if argument and argument.arg not in {"self", "cls"}]
            if node.returns is None or any(argument.annotation is None for argument in named):
                bare.append(name)
        assert bare == []

    def test_type_checkers_may_use_the_types(self) -> None:
        assert resources.files("weft").joinpath("py.typed").is_file()

    @pytest.mark.time_limit(60)
    def test_the_types_are_in_what_is_installed(self) -> None:
        program = (
            "from setuptools import Distribution\n"
            "project = Distribution()\n"
            "project.parse_config_files()\n"
            "command = project.get_command_obj('build_py')\n"
            "command.ensure_finalized()\n"
            "for package, source, _, files in command.data_files:\n"
            "    for file in files: print(f'{source}/{file}')\n"
        )
        command = [sys.executable, "-W", "ignore", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        wanted = {str(path.relative_to(ROOT)) for path in [SOURCE / "weft" / "py.typed", *SOURCE.rglob("*.pyi")]}
        assert wanted <= set(done.stdout.split())
