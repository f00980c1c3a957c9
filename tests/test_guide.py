"""The guide's examples run, print what their comments say, and name what is there.

Every block of Python on the pages of ``PAGES`` is run as it stands, against the servers of ``tests/guidekit.py``; only
the ports are replaced. What starts no loop of its own is run inside a coroutine that has a ``client``.
"""

from __future__ import annotations

import ast
import asyncio
import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import weft
import weft.http
from tests.test_docs import spans

for package in ("aiohttp", "h2"):
    pytest.importorskip(package, reason=f"not installed: {package} (weft[http,race])")

from tests.guidekit import PORTS, Example, examples_of, serving

GUIDE = Path(__file__).parent.parent / "docs" / "guide"
PAGES = [GUIDE / "http-client.md", GUIDE / "coming-from.md"]
EXAMPLES = [example for page in PAGES for example in examples_of(page)]

# What the pages call by these names is one of these.
OBJECTS = {"client": weft.http.Client, "response": weft.http.Response, "weft.http": weft.http}
# What the constructor sets.
ATTRIBUTES = {
    "client": {"headers", "cookies", "auth", "timeout", "hooks"},
    "response": {"history", "status", "request"},
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_example_runs_and_prints_what_it_says(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "netrc").write_text("machine localhost login ada password secret\n")
    with serving(tmp_path) as free:
        run(
            reduce(lambda text, port: text.replace(f"localhost:{port}", f"localhost:{free[port]}"), PORTS, example.text)
        )
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


def test_the_examples_are_found() -> None:
    assert len(EXAMPLES) > 30
