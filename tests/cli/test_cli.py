"""The ``weft`` command itself: help, version, unknown words, and what it costs to import."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.cli.commands import Command
from weft._version import __version__
from weft.cli import COMMANDS


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_every_command(weft: Command, arguments: tuple[str, ...]) -> None:
    done = weft(*arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: weft COMMAND")
    for name, summary in COMMANDS.items():
        assert name in done.stdout
        assert summary in done.stdout


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(weft: Command, option: str) -> None:
    done = weft(option)
    assert (done.returncode, done.stdout) == (0, f"weft {__version__}\n")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("rcae", "weft: unknown command 'rcae'; did you mean 'race'?\n"),
        ("zzz", "weft: unknown command 'zzz'; there are: run, race, fetch\n"),
        ("--fast", "weft: unknown option '--fast'; there are: run, race, fetch\n"),
    ],
)
def test_unknown_word_is_an_error_of_use(weft: Command, word: str, text: str) -> None:
    done = weft(word)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module_and_help(weft: Command, name: str) -> None:
    assert callable(import_module(f"weft.cli.{name}").main)
    done = weft(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: weft {name}")


def test_import_is_light(python: Command) -> None:
    done = python("-c", "import sys, weft.cli; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"aiohttp", "argparse", "matplotlib", "multiprocessing", "requests", "rich", "uvloop"}
    assert "weft.cli.run" not in done.stdout.split()


def test_installed_script_runs_the_command() -> None:
    scripts = [point for point in entry_points(group="console_scripts") if point.name == "weft"]
    script = Path(sys.executable).with_name("weft")
    if not scripts or not script.exists():
        pytest.skip("weft is on the path here, but not installed")
    assert scripts[0].value == "weft.cli:main"
    done = subprocess.run([script, "run", "-c", "raise SystemExit(7)"], check=False, timeout=30)
    assert done.returncode == 7
