"""The rules of the code that no tool knows: the layers, the sizes, and a reason for every manual reference count.

The layers are read from the table of docs/architecture.md, so the page cannot be wrong: a module that it does not name
fails here, and so does an import that goes up.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
PAGE = ROOT / "docs" / "architecture.md"

FILE_LINES = 500
FUNCTION_LINES = 40

# What may be larger, each with the reason. An entry that is no longer needed fails as well.
LARGER: dict[str, str] = {
    "tools/conformance/fakeclock.py::test_loop_class": "one class, in a function as its base is chosen at run time",
    "tests/core/test_scheduler.py": "a dozen lines over: one subject, whose model and scenarios are read together",
    "tests/core/test_task_ends.py": "the same",
    "tests/watch/kinds.py": "fifty programs of a few lines each: one list",
    "tests/core/test_tasks.py": "the same",
}

# How many lines a SAFETY comment speaks for: those that follow it without a gap, in its block.
SAFETY_REACH = 8

# Modules that stand beside the layers: the package itself is what the layers below the command line make together.
FACADE = "weft"
ABOVE_ALL = {"weft.__main__"}
BELOW_ALL = {"weft._version"}


# -- what there is


@cache
def modules() -> dict[str, Path]:
    """Every module of weft by name, and C declarations (``.pxd``) without a module by theirs."""
    found = {}
    for path in [*SOURCE.rglob("*.pxd"), *SOURCE.rglob("*.py")]:
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def layers() -> dict[str, int]:
    """The layer of each module, package or prefix that the table names."""
    table = {}
    for number, where in re.findall(r"^\| (\d) \| ([^|]+) \|", PAGE.read_text(), flags=re.MULTILINE):
        for folder, names, file in re.findall(r"`(?:([\w/]+)/`([^`]*)|([\w/]+)(?:\.py)?`)", where):
            inside = re.findall(r"\w+", names)
            base = "weft." + (folder or file).replace("/", ".")
            for name in [f"{base}.{one}" for one in inside] or [base]:
                table[name] = int(number)
    return table


@cache
def free() -> set[str]:
    """What the page allows everyone to import."""
    sentences = re.findall(r"[^.|]*(?:\.py[^.|]*)*may be imported from anywhere", PAGE.read_text())
    return {f"weft.{name}" for sentence in sentences for name in re.findall(r"`(\w+)\.py`", sentence)} | BELOW_ALL


def layer_of(module: str) -> int | None:
    """The layer of a module: that of the longest name in the table that it is or is in."""
    if module == FACADE:
        return layers()["weft.runner"]
    if module in ABOVE_ALL:
        return max(layers().values())
    if module in free() or module == "weft._core":
        return min(layers().values())
    while module:
        if module in layers():
            return layers()[module]
        module = module.rpartition(".")[0]
    return None


# -- what imports what


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each thing of weft that a file imports or cimports."""
    text = path.read_text()
    package = path.relative_to(SOURCE).parent.parts
    if path.suffix == ".pxd":
        for number, line in enumerate(text.splitlines(), 1):
            if match := re.match(r"\s*from\s+([\w.]+)\s+(?:c?import)\s+(.+)", line):
                for name in re.findall(r"(\w+)(?:\s+as\s+\w+)?", match[2].partition("#")[0]):
                    yield number, f"{absolute(match[1], package)}.{name}"
            elif match := re.match(r"\s*c?import\s+([\w.]+)", line):
                yield number, match[1]
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute("." * node.level + (node.module or ""), package)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def absolute(name: str, package: tuple[str, ...]) -> str:
    """A name as it would stand in an absolute import."""
    dots = len(name) - len(name.lstrip("."))
    if not dots:
        return name
    return ".".join(filter(None, (*package[: len(package) - dots + 1], name[dots:])))


def imported_modules(module: str) -> set[tuple[str, str]]:
    """Pairs of a place (``file:line``) and a module of weft that is imported there."""
    path = modules()[module]
    found = set()
    for one in {path, path.with_suffix(".pxd")}:
        if not one.exists():
            continue
        for line, full in imports(one):
            name = full.removeprefix("cython.cimports.")
            while name.partition(".")[0] == FACADE and name not in modules():
                name = name.rpartition(".")[0]
            if name.partition(".")[0] == FACADE and name != module:
                found.add((f"{one.relative_to(ROOT)}:{line}", name))
    return found


class TestLayers:
    def test_the_page_has_the_table(self) -> None:
        assert {"weft.loop", "weft._core.scheduler"} <= set(layers())
        assert layers()["weft.loop"] > layers()["weft._core.scheduler"]
        assert "weft.errors" in free()

    def test_every_module_stands_in_the_table(self) -> None:
        assert [module for module in modules() if layer_of(module) is None] == []

    def test_every_name_in_the_table_is_a_module(self) -> None:
        assert [name for name in layers() if name not in modules()] == []

    def test_imports_only_go_down(self) -> None:
        wrong = []
        for module in modules():
            layer = layer_of(module)
            for place, imported in sorted(imported_modules(module)):
                other = layer_of(imported)
                # What has no layer is reported by the test above; a package may import what is in it.
                if layer is None or other is None or module == FACADE:
                    continue
                if other > layer:
                    wrong.append(f"{place}: {module} (layer {layer}) imports {imported} (layer {other})")
        assert wrong == []

    def test_the_core_imports_only_the_core_and_what_is_free(self) -> None:
        wrong = [
            f"{place}: {imported}"
            for module in modules()
            if module.startswith("weft._core")
            for place, imported in sorted(imported_modules(module))
            if not imported.startswith("weft._core") and imported not in free()
        ]
        assert wrong == []

    def test_no_module_imports_itself_through_others(self) -> None:
        below: dict[str, set[str]] = {
            module: {name for _, name in imported_modules(module) if not module.startswith(f"{name}.")}
            for module in modules()
        }
        # Take away what imports nothing that is left, until nothing changes: the rest are circles.
        while done := {module for module, names in below.items() if not names & set(below)}:
            below = {module: names for module, names in below.items() if module not in done}
        assert {module: names & set(below) for module, names in below.items()} == {}


# -- sizes


@cache
def python_files() -> list[Path]:
    """The files of the project whose size is limited."""
    folders = ("src", "tools", "bench", "tests")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a file with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from functions(node, f"{name}.")
        else:
            yield from functions(node, prefix)


def code_lines(lines: list[str], node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines of code the body of a function has, without its docstring, comments and blank lines."""
    first = node.body[0]
    docstring: set[int] = set()
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        docstring = set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    numbers = set(range(first.lineno, (node.end_lineno or node.lineno) + 1)) - docstring
    return sum(1 for number in numbers if lines[number - 1].strip() and not lines[number - 1].lstrip().startswith("#"))


def oversized() -> Iterator[tuple[str, int]]:
    """What is larger than the limits, as ``path`` or ``path::function``."""
    for path in python_files():
        lines = path.read_text().splitlines()
        name = str(path.relative_to(ROOT))
        if len(lines) > FILE_LINES:
            yield name, len(lines)
        for function, node in functions(ast.parse(path.read_text())):
            if (count := code_lines(lines, node)) > FUNCTION_LINES:
                yield f"{name}::{function}", count


class TestSizes:
    def test_files_and_functions_stay_small(self) -> None:
        assert {name: count for name, count in oversized() if name not in LARGER} == {}

    def test_the_exceptions_are_needed(self) -> None:
        assert set(LARGER) - {name for name, _ in oversized()} == set()

    def test_every_file_says_what_it_owns(self) -> None:
        bare = [
            path
            for path in python_files()
            if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
        ]
        assert [str(path.relative_to(ROOT)) for path in bare] == []


# -- safety


NUMBERS = re.compile(
    r"(cython\.)?(u?int(8|16|32|64)?(_t)?|u?long|ulonglong|longlong|double|float|bint|short|u?char|size_t|Py_ssize_t)"
)
ALLOCATORS = {"malloc", "calloc", "realloc", "PyMem_Malloc", "PyMem_Calloc", "PyMem_Realloc"}
REFERENCE_COUNTS = re.compile(r"Py_X?(INCREF|DECREF|NewRef|CLEAR|SETREF)")


def needs_a_reason(call: ast.Call) -> bool:
    """Whether a call counts a reference by hand, or casts to or from a pointer that was not allocated just there."""
    function = ast.unparse(call.func)
    if function in {"cython.cast", "cast"} and len(call.args) == 2:
        source = call.args[1]
        allocated = isinstance(source, ast.Call) and ast.unparse(source.func) in ALLOCATORS
        return not allocated and not NUMBERS.fullmatch(ast.unparse(call.args[0]).strip("'\""))
    return bool(REFERENCE_COUNTS.fullmatch(function))


def indent(line: str) -> int:
    """The width of a line's indentation."""
    return len(line) - len(line.lstrip())


def has_a_reason(lines: list[str], number: int) -> bool:
    """Whether a SAFETY comment stands on the line, or above it in its block without a gap."""
    if "# SAFETY:" in lines[number - 1]:
        return True
    for line in reversed(lines[max(0, number - 1 - SAFETY_REACH) : number - 1]):
        if not line.strip():
            return False
        if line.lstrip().startswith("# SAFETY:"):
            return indent(line) <= indent(lines[number - 1])
    return False


class TestSafety:
    def test_every_manual_reference_count_and_pointer_cast_has_a_reason(self) -> None:
        bare = []
        for path in sorted(
            path.with_suffix(".py") for path in SOURCE.rglob("*.pxd") if path.with_suffix(".py").exists()
        ):
            text = path.read_text()
            calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and needs_a_reason(node)]
            places = sorted({call.lineno for call in calls if not has_a_reason(text.splitlines(), call.lineno)})
            bare += [f"{path.relative_to(ROOT)}:{place}" for place in places]
        assert bare == []

    def test_an_ignored_type_error_names_its_kind(self) -> None:
        vague = [
            f"{path.relative_to(ROOT)}:{number}"
            for path in python_files()
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if re.search(r"#\s*type:\s*ignore(?!\[)", line) and path != Path(__file__)
        ]
        assert vague == []


class TestTheChecksThemselves:
    @pytest.mark.parametrize(
        ("source", "line", "expected"),
        [
            ("Py_INCREF(x)", 1, False),
            ("# SAFETY: owned\nPy_INCREF(x)", 2, True),
            ("# SAFETY: owned\n\nPy_INCREF(x)", 3, False),
            ("if y:\n    # SAFETY: owned\n    pass\nPy_INCREF(x)", 4, False),
            ("# SAFETY: owned\nif y:\n    Py_INCREF(x)", 3, True),
            ("Py_INCREF(x)  # SAFETY: owned", 1, True),
        ],
    )
    def test_reach_of_a_safety_comment(self, source: str, line: int, expected: bool) -> None:
        assert has_a_reason(source.splitlines(), line) is expected

    @pytest.mark.parametrize(
        ("call", "expected"),
        [
            ("cython.cast(cython.int, x)", False),
            ("cython.cast(int64_t, x)", False),
            ("cython.cast(cython.pointer(Slot), malloc(8))", False),
            ("cython.cast(cython.pointer(PyObject), x)", True),
            ("cython.cast(object, pointer)", True),
            ("Py_XDECREF(x)", True),
            ("call(x)", False),
        ],
    )
    def test_what_needs_a_reason(self, call: str, expected: bool) -> None:
        (statement,) = ast.parse(call).body
        assert isinstance(statement, ast.Expr)
        assert isinstance(statement.value, ast.Call)
        assert needs_a_reason(statement.value) is expected
