"""The guide's examples run, print what their comments say, and name what is there.

Every block of Python on the pages of ``PAGES`` is run as it stands, against the servers of ``tests/guidekit.py``; only
the ports are replaced. What starts no loop of its own is run inside a coroutine that has a ``client``.
"""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import weft
import weft.http
from tests.test_docs import spans

GUIDE = Path(__file__).parent.parent / "docs" / "guide"
PAGES = [GUIDE / name for name in ("http-client.md", "coming-from.md", "streams.md", "map.md")]


@dataclass(frozen=True)
class Example:
    """A block of Python on a page."""

    name: str
    text: str

    @property
    def promised(self) -> list[str]:
        """What the comments behind its calls of ``print`` say that they print."""
        return re.findall(r"^ *print\(.*\)  # (.+)$", self.text, flags=re.MULTILINE)


def examples_of(page: Path) -> list[Example]:
    """The blocks of Python on ``page``, named after the headings that they stand under."""
    found = []
    for section in re.split(r"^#+ +", page.read_text(), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
        title = section.partition("\n")[0]
        found += [Example(f"{page.stem}: {title} {number}", text) for number, text in enumerate(blocks, 1)]
    return found


EXAMPLES = [example for page in PAGES for example in examples_of(page)]

# What the pages call by these names is one of these.
OBJECTS = {"client": weft.http.Client, "response": weft.http.Response, "weft.http": weft.http}
# What the constructor sets.
ATTRIBUTES = {"client": {"headers", "cookies", "auth", "timeout", "hooks"}, "response": {"history", "status"}}


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[dict[str, int]]:
    """Runs the servers, and puts the files that the examples need into ``tmp_path``; gives port by port of the page."""
    for package in ("aiohttp", "h2"):
        pytest.importorskip(package, reason=f"not installed: {package} (weft[http,race])")
    from tests.guidekit import serving

    with serving(tmp_path) as free:
        yield free


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_example_runs_and_prints_what_it_says(
    example: Example,
    ports: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = example.text
    if "workers=" in text or "to_process" in text:
        pytest.importorskip("cloudpickle", reason="not installed: cloudpickle (weft[cluster])")
    for written, free in ports.items():
        text = text.replace(f"localhost:{written}", f"localhost:{free}")
    run(text)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in example.promised if line not in printed] == [], printed


def run(text: str) -> None:
    """Runs a program as it is, anything else inside a coroutine that has a client."""
    names: dict[str, Any] = {"__name__": "example", "asyncio": asyncio, "weft": weft}
    code = compile(text, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if ".run(main())" in text:
        exec(code, names)
        return

    async def main() -> None:
        async with weft.http.Client() as names["client"]:
            if (coroutine := eval(code, names)) is not None:
                await coroutine

    weft.run(main())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_named_is_there(page: Path) -> None:
    missing = []
    for span in spans(page):
        for owner, name in re.findall(r"(?<![\w.])(weft\.http|client|response)\.(\w+)", span):
            if not hasattr(OBJECTS[owner], name) and name not in ATTRIBUTES.get(owner, ()):
                missing.append(f"{owner}.{name}")
    assert missing == []


def test_aiohttps_errors_are_there_under_its_names() -> None:
    table = (GUIDE / "coming-from.md").read_text().partition("| aiohttp's error")[2].partition("\n\n")[0]
    rows = [re.findall(r"`([\w.]+)`", row) for row in table.splitlines()[2:]]
    names = [name for row in rows for name in row if not name.startswith("weft.")]
    assert len(names) > 15
    assert [name for name in names if not hasattr(weft.http, name)] == []


def test_the_examples_are_found() -> None:
    assert len(EXAMPLES) > 30
