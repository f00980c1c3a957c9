"""The life of a byte, as the page tells it, is the one in the code.

A step of docs/life-of-a-byte.md begins with the function that acts; every other function it names is one that this one
calls. All of them exist, and each of the calls stands in the text of the function that acts. What is called through a
base class (a driver, a runnable) has the name that it has there, so the last part of the name decides.
"""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "life-of-a-byte.md"
NAME = re.compile(r"`([\w/]+\.(?:py|h)|asyncio\.\w+)::([\w.]+)`")


def steps(text: str) -> list[str]:
    """The numbered steps of a page, each with the lines that belong to it."""
    return re.findall(r"^\d+\. (.*(?:\n +.*)*)", text, flags=re.MULTILINE)


def file_of(name: str) -> Path:
    """The file that the page means: one of weft's, or of the asyncio that runs here."""
    if name.startswith("asyncio."):
        return Path(asyncio.__file__).with_name(name.removeprefix("asyncio.") + ".py")
    return ROOT / "src" / "weft" / name


def python_functions(text: str) -> dict[str, str]:
    """The text of every function and method in a Python file, by qualified name."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                # Without the first line: a function does not call itself by being defined.
                yield prefix + child.name, "\n".join(map(ast.unparse, child.body))

    return dict(walk(ast.parse(text), ""))


def c_functions(text: str) -> dict[str, str]:
    """The same of the functions in a C header."""
    found = re.findall(r"^static inline [^;{]*?(\w+)\([^;{]*\) \{$(.*?)^\}", text, flags=re.MULTILINE | re.DOTALL)
    return dict(found)


@cache
def functions(file: str) -> dict[str, str]:
    """The functions of a file that the page names; none where there is no such file."""
    path = file_of(file)
    if not path.is_file():
        return {}
    return (python_functions if path.suffix == ".py" else c_functions)(path.read_text())


def faults(text: str) -> list[str]:
    """What is not true in the steps of a page."""
    found = []
    for step in steps(text):
        names = NAME.findall(step)
        if not step.startswith("`") or not names:
            found.append(f"no function begins this step: {step.splitlines()[0]}")
            continue
        missing = [f"{file}::{function}" for file, function in names if function not in functions(file)]
        found += [f"there is no {name}" for name in missing]
        if not missing:
            (file, actor), *called = names
            code = functions(file)[actor]
            found += [
                f"{file}::{actor} does not call {function}"
                for _, function in called
                if not re.search(rf"\b{function.rpartition('.')[2]}\(", code)
            ]
    return found


def test_every_function_exists_and_calls_what_the_page_says() -> None:
    assert faults(PAGE.read_text()) == []


def test_the_page_tells_four_lives() -> None:
    sections = PAGE.read_text().split("\n## ")[1:]
    assert [len(steps(section)) > 10 for section in sections] == [True] * 4


def test_the_bytes_begin_and_end_where_they_should() -> None:
    inwards, outwards, task, response = (
        [NAME.findall(step) for step in steps(part)] for part in PAGE.read_text().split("\n## ")[1:]
    )
    assert ("_core/sys/weft_sys.h", "weft_epoll_wait") in inwards[3]
    assert inwards[-1][0] == ("asyncio.streams", "StreamReader.read")
    assert outwards[0][0] == ("asyncio.streams", "StreamWriter.write")
    assert ("_core/sys/weft_sys.h", "weft_sendv") in [name for names in outwards for name in names]
    assert task[0][0] == ("asyncio.tasks", "create_task")
    assert response[0][0] == ("http/client.py", "Client._request")
    assert response[3][0] == inwards[9][0] == ("_core/stream.py", "StreamTransport.on_received")
    assert response[-1][0] == ("http/response.py", "Response.read")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("1. `_core/ring.py::Ring.push` calls\n   `_core/ring.py::Ring.resize`.", []),
        ("1. `_core/ring.py::Ring.lost` acts.", ["there is no _core/ring.py::Ring.lost"]),
        ("1. `_core/lost.py::Ring.push` acts.", ["there is no _core/lost.py::Ring.push"]),
        (
            "1. `_core/ring.py::Ring.take` calls\n   `_core/ring.py::Ring.resize`.",
            ["_core/ring.py::Ring.take does not call Ring.resize"],
        ),
        ("1. `_core/sys/weft_sys.h::weft_recv` reads.", []),
        ("1. `_core/sys/weft_sys.h::weft_lost` reads.", ["there is no _core/sys/weft_sys.h::weft_lost"]),
        ("1. `asyncio.streams::StreamReader.lost` acts.", ["there is no asyncio.streams::StreamReader.lost"]),
        ("1. Something acts.", ["no function begins this step: Something acts."]),
    ],
)
def test_the_check_itself(page: str, expected: list[str]) -> None:
    assert faults(page) == expected
