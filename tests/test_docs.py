"""The pages agree with each other and with the code.

What a page names is there: links and their anchors, files, functions (written ``path/to/file.py::Class.method``),
chores of the Makefile, subcommands of ``weft``. Tables that a tool makes are what that tool makes now.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from weft._version import __version__

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FOLDERS = ("src", "docs", "tests", "tools", "bench", "examples", ".ci")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """What stands in `backticks` on a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_file(name: str) -> bool:
    """Whether a file or folder of that name (it may be a pattern) is in the repository, or a module of weft."""
    return any(next(base.glob(name.rstrip("/")), None) for base in (ROOT, ROOT / "src" / "weft"))


@cache
def names_in(path: Path) -> set[str]:
    """The classes, functions and methods of a Python file, by qualified name."""

    def walk(node: ast.AST, prefix: str) -> set[str]:
        found = set()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found |= {prefix + child.name, *walk(child, f"{prefix}{child.name}.")}
        return found

    return walk(ast.parse(path.read_text()), "")


@cache
def chores() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


class TestPages:
    @pages
    def test_links_lead_somewhere(self, page: Path) -> None:
        broken = []
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if re.match(r"[a-z]+:", link):
                continue  # on the net: not for a test to ask
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
        assert broken == []

    @pages
    def test_files_that_are_named_exist(self, page: Path) -> None:
        named = [
            span for span in spans(page) if re.fullmatch(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*", span)
        ]
        assert [name for name in named if not is_file(name)] == []

    @pages
    def test_functions_that_are_named_exist(self, page: Path) -> None:
        missing = []
        for span in spans(page):
            if match := re.fullmatch(r"([\w./-]+\.py)::([\w.]+)(?:\(\))?", span):
                files = [base / match[1] for base in (ROOT, ROOT / "src" / "weft") if (base / match[1]).is_file()]
                if not files or match[2] not in names_in(files[0]):
                    missing.append(span)
        assert missing == []

    @pages
    def test_chores_that_are_named_exist(self, page: Path) -> None:
        named = re.findall(r"(?:^|`)make ((?:[A-Z]+=\S+ )*)([a-z-]+)\b", page.read_text(), flags=re.MULTILINE)
        assert [chore for _, chore in named if chore not in chores()] == []

    @pages
    def test_subcommands_that_are_named_exist(self, page: Path) -> None:
        blocks = "\n".join(re.findall(r"^```\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL))
        named = set(re.findall(r"^weft ([a-z]+)", "\n".join([blocks, *spans(page)]), flags=re.MULTILINE))
        commands = {path.stem for path in (ROOT / "src" / "weft" / "cli").glob("*") if not path.name.startswith("_")}
        assert named <= commands


class TestTables:
    @pytest.mark.skipif(not (ROOT / "docs" / "benchmarks.md").exists(), reason="nothing has been measured")
    def test_benchmarks_page_says_what_was_measured(self) -> None:
        command = [sys.executable, "-m", "bench", "--check-docs"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class TestRecords:
    def test_decisions_are_numbered_and_complete(self) -> None:
        found = sorted((ROOT / "docs" / "decisions").glob("*.md"))
        assert [path.name[:5] for path in found] == [f"{number:04}-" for number in range(1, len(found) + 1)]
        wanted = {"context", "options", "choice", "what-would-change-our-mind"}
        assert {path.name: wanted - anchors(path) for path in found if wanted - anchors(path)} == {}

    def test_the_changelog_knows_this_version(self) -> None:
        versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
        assert versions[0] == "Unreleased"
        # What is being worked on may stand under its own number or under Unreleased; a release has its number.
        assert __version__ in versions or len(versions) == 1

    def test_the_readme_starts_with_the_two_commands(self) -> None:
        block = re.search(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
        assert block is not None
        assert [line.partition("#")[0].strip() for line in block[1].splitlines()] == ["make demo", "make test"]

    def test_every_chore_is_in_the_list(self) -> None:
        makefile = (ROOT / "Makefile").read_text()
        listed = set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE))
        wanted = {"demo", "test", "lint", "bench", "conformance", "docs", "test-all", "test-debian", "clean", "help"}
        assert wanted <= listed
        assert chores() - listed <= {"python"}
