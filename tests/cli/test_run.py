"""``weft run``: the program gets weft's loop, and otherwise sees and shows what it would under ``python``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.commands import Both, Command

LOOP_IS_WEFTS = "import asyncio, weft\nasync def main(): print(type(asyncio.get_running_loop()) is weft.EventLoop)\n"
WAYS_TO_A_LOOP = {
    "asyncio.run": "asyncio.run(main())",
    "Runner": "with asyncio.Runner() as runner: runner.run(main())",
    "new_event_loop": "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); loop.close()",
    "imported name": (
        "from asyncio import new_event_loop\nloop = new_event_loop(); loop.run_until_complete(main()); loop.close()"
    ),
    "set_event_loop": (
        "asyncio.set_event_loop(asyncio.new_event_loop()); loop = asyncio.get_event_loop()\n"
        "loop.run_until_complete(main()); loop.close()"
    ),
    "in a thread": "import threading; t = threading.Thread(target=asyncio.run, args=(main(),)); t.start(); t.join()",
    "unittest": (
        "import unittest\n"
        "class Test(unittest.IsolatedAsyncioTestCase):\n    async def test(self): await main()\n"
        "unittest.main(argv=['x'], exit=False)"
    ),
}


@pytest.mark.parametrize("way", WAYS_TO_A_LOOP)
def test_loop_is_wefts(python: Command, way: str) -> None:
    """With warnings as errors: that weft is the loop must not cause a single one."""
    done = python("-W", "error", "-m", "weft", "run", "-c", LOOP_IS_WEFTS + WAYS_TO_A_LOOP[way])
    assert done.stdout == "True\n", done.stderr
    assert done.returncode == 0
    assert way == "unittest" or done.stderr == ""


OLD_FORM = LOOP_IS_WEFTS + "loop = asyncio.get_event_loop(); loop.run_until_complete(main()); loop.close()"


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="get_event_loop() makes no loop any more")
def test_loop_is_wefts_in_the_old_form(weft: Command) -> None:
    done = weft("run", "-c", OLD_FORM)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.skipif(sys.version_info < (3, 14), reason="get_event_loop() still makes a loop")
def test_old_form_fails_as_under_python(weft: Command) -> None:
    done = weft("run", "-c", OLD_FORM)
    assert done.returncode == 1
    assert "RuntimeError: There is no current event loop" in done.stderr


def test_loop_is_wefts_where_policies_are_gone(python: Command) -> None:
    program = (
        "import asyncio.unix_events; del asyncio.unix_events._UnixDefaultEventLoopPolicy\n"
        f"from weft.cli import main; main(['run', '-c', {LOOP_IS_WEFTS + WAYS_TO_A_LOOP['asyncio.run']!r}])"
    )
    assert python("-W", "error", "-c", program).stdout == "True\n"


CHOICES = {
    "a loop factory": "asyncio.Runner(loop_factory=asyncio.SelectorEventLoop).run(main())",
    "a loop class": "loop = asyncio.SelectorEventLoop(); loop.run_until_complete(main()); loop.close()",
    "a policy": (
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
        "class Policy(asyncio.DefaultEventLoopPolicy):\n"
        "    def new_event_loop(self): return asyncio.SelectorEventLoop()\n"
        "asyncio.set_event_loop_policy(Policy()); asyncio.run(main())"
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_what_the_program_names_stays(weft: Command, choice: str) -> None:
    if choice == "a policy" and sys.version_info >= (3, 16):
        pytest.skip("policies are gone")
    program = "import asyncio\nasync def main(): print(type(asyncio.get_running_loop()).__module__)\n"
    done = weft("run", "-c", program + CHOICES[choice])
    assert (done.returncode, done.stdout) == (0, "asyncio.unix_events\n"), done.stderr


@pytest.mark.parametrize(
    "way", ["asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())", "uvloop.run(main())"]
)
def test_uvloop_stays_when_it_is_named(weft: Command, way: str) -> None:
    pytest.importorskip("uvloop")
    program = "import asyncio, uvloop\nasync def main(): print(type(asyncio.get_running_loop()).__module__)\n"
    assert weft("run", "-c", program + way).stdout == "uvloop\n"


# --- the same as python -----------------------------------------------------------------------------------------------

SHOWS_ITSELF = """\
'''docs'''
import sys
import neighbour
x: int = 1
names = {k: v if isinstance(v, (str, type(None))) else type(v).__name__ for k, v in globals().items()}
print(sorted((k, v) for k, v in names.items() if k != "sys"))
print(sys.argv, sys.path[0], neighbour.__file__, sys.modules["__main__"].__dict__ is globals())
print(getattr(__spec__, "name", None), getattr(__spec__, "origin", None), __name__)
"""


def lay_out(root: Path, source: str) -> None:
    """Puts the program where each form of the command line finds it, and a module beside it to import."""
    for folder in (root, root / "sub", root / "pkg", root / "folder"):
        folder.mkdir(exist_ok=True)
        (folder / "neighbour.py").write_text("")
    (root / "program.py").write_text(source)
    (root / "link.py").symlink_to("sub/program.py")
    (root / "sub" / "program.py").write_text(source)
    (root / "pkg" / "__init__.py").write_text("")
    for name in ("pkg/__main__.py", "pkg/module.py", "folder/__main__.py"):
        (root / name).write_text(source)
    with zipfile.ZipFile(root / "zipped", "w") as archive:
        archive.writestr("__main__.py", source)
        archive.writestr("neighbour.py", "")


FORMS = {
    "script": ["program.py"],
    "script in a folder": ["sub/program.py"],
    "script by a link": ["link.py"],
    "script with a dot": ["./program.py"],
    "folder": ["folder"],
    "folder with a slash": ["folder/"],
    "zip file": ["zipped"],
    "module": ["-m", "program"],
    "module, in one word": ["-mprogram"],
    "module in a package": ["-m", "pkg.module"],
    "package": ["-m", "pkg"],
    "standard input": ["-"],
}


@pytest.mark.parametrize("form", FORMS)
def test_program_sees_what_it_sees_under_python(tmp_path: Path, both: Both, form: str) -> None:
    lay_out(tmp_path, SHOWS_ITSELF)
    expected, done = both(*FORMS[form], "-m", "--help", "-", "a b", text=SHOWS_ITSELF)
    assert expected.returncode == 0, expected.stderr
    assert (done.stdout, done.stderr, done.returncode) == (expected.stdout, "", 0)


@pytest.mark.parametrize("form", ["script", "folder", "module"])
def test_safe_path_is_kept(tmp_path: Path, both: Both, form: str) -> None:
    """With ``-P`` nothing is put before ``sys.path``, but for a folder or zip file that is the program."""
    source = SHOWS_ITSELF.replace("import neighbour\n", "").replace("neighbour.__file__", "0")
    lay_out(tmp_path, source)
    expected, done = both(*FORMS[form], "x", options=("-P",))
    assert (done.stdout, done.returncode) == (expected.stdout, expected.returncode)


def test_code_on_the_command_line(tmp_path: Path, both: Both) -> None:
    lay_out(tmp_path, "")
    expected, done = both("-c", SHOWS_ITSELF, "-c", "x")
    assert expected.returncode == 0, expected.stderr
    assert (done.stdout, done.stderr, done.returncode) == (expected.stdout, expected.stderr, 0)


def test_compiled_program(tmp_path: Path, python: Command, both: Both) -> None:
    (tmp_path / "program.py").write_text("print(__file__, __loader__)")
    python("-c", "import py_compile; py_compile.compile('program.py', 'program.pyc')")
    expected, done = both("program.pyc")
    assert done.stdout.partition(" at ")[0] == expected.stdout.partition(" at ")[0] != ""


ENDS = {
    "at its end": "print('x')",
    "exit()": "import sys; sys.exit()",
    "exit(3)": "import sys; sys.exit(3)",
    "exit(None)": "import sys; sys.exit(None)",
    "exit(text)": "import sys; sys.exit('some text')",
    "exit(-1)": "import sys; sys.exit(-1)",
    "exit in a coroutine": "import asyncio, sys\nasync def main(): sys.exit(5)\nasyncio.run(main())",
    "an exception": "def f():\n    1 / 0\n\nf()",
    "an exception with a cause": "try:\n    {}['x']\nexcept KeyError as e:\n    raise ValueError('bad') from e",
    "an exception while handling": "try:\n    {}['x']\nexcept KeyError:\n    undefined",
    "a group": "raise ExceptionGroup('g', [ValueError(1), ExceptionGroup('h', [TypeError(2)])])",
    "a note": "e = ValueError('bad'); e.add_note('think'); raise e",
    "an error of syntax": "x = = 1",
    "KeyboardInterrupt": "def f():\n    raise KeyboardInterrupt\nf()",
    "GeneratorExit": "raise GeneratorExit",
    "a hook": "import sys\nsys.excepthook = lambda t, e, tb: print('hook', e, tb.tb_lineno, tb.tb_next)\n1 / 0",
    "no hook": "import sys\nsys.excepthook = lambda *a: None\n1 / 0",
    "at exit": "import atexit, sys\natexit.register(lambda: print('bye', sys.excepthook is sys.__excepthook__))\n1 / 0",
    "with a thread": (
        "import threading, time, sys\n"
        "def f():\n    threading.main_thread().join(); print('after', __name__, sys.modules['__main__'].f is f)\n"
        "threading.Thread(target=f).start()"
    ),
    "an object's end": "class A:\n    def __del__(self): print('gone', __name__)\na = A()",
    "stack level": "import warnings\ndef f(): warnings.warn('careful', stacklevel=2)\nf()",
    "with the future": "def f(x: y): pass\nprint(f.__annotations__ if 0 else 1)",
}


@pytest.mark.parametrize("end", ENDS)
def test_program_ends_as_under_python(tmp_path: Path, both: Both, end: str) -> None:
    (tmp_path / "program.py").write_text(ENDS[end] + "\n")
    expected, done = both("program.py")
    assert (done.stdout, done.stderr, done.returncode) == (expected.stdout, expected.stderr, expected.returncode)


@pytest.mark.parametrize("end", ["an exception", "an error of syntax", "KeyboardInterrupt", "exit(text)"])
def test_code_ends_as_under_python(both: Both, end: str) -> None:
    expected, done = both("-c", ENDS[end])
    assert (done.stdout, done.stderr, done.returncode) == (expected.stdout, expected.stderr, expected.returncode)


def test_traceback_of_a_module_has_the_program_only(tmp_path: Path, weft: Command) -> None:
    (tmp_path / "program.py").write_text("def f():\n    1 / 0\nf()\n")
    done = weft("run", "-m", "program")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("  File")] == [
        f'  File "{tmp_path / "program.py"}", line 3, in <module>',
        f'  File "{tmp_path / "program.py"}", line 2, in f',
    ]


@pytest.mark.parametrize("source", ["1 / 0", "x = = 1", "import no_such_module"])
def test_package_that_fails_to_import(tmp_path: Path, weft: Command, source: str) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text(source)
    (tmp_path / "pkg" / "__main__.py").write_text("")
    done = weft("run", "-m", "pkg")
    assert done.returncode == 1
    assert "weft" not in done.stderr
    assert "frozen" not in done.stderr
    assert str(tmp_path / "pkg" / "__init__.py") in done.stderr


MISSING = {
    "script": (["no.py"], 2, "can't open file '{root}/no.py': [Errno 2] No such file or directory"),
    "folder": (["empty"], 1, "can't find '__main__' module in '{root}/empty'"),
    "module": (["-m", "no_such"], 1, "No module named no_such"),
    "module in a package": (["-m", "json.no_such"], 1, "No module named json.no_such"),
    "module in no package": (["-m", "no_such.thing"], 1, "No module named no_such.thing"),
    "package": (
        ["-m", "email"],
        1,
        "No module named email.__main__; 'email' is a package and cannot be directly executed",
    ),
    "relative": (["-m", ".x"], 1, "relative module names are not supported"),
}


@pytest.mark.parametrize("what", MISSING)
def test_missing_program(tmp_path: Path, both: Both, what: str) -> None:
    (tmp_path / "empty").mkdir()
    arguments, status, text = MISSING[what]
    expected, done = both(*arguments)
    assert expected.returncode == status
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == f"weft run: {text.format(root=tmp_path)}\n"


def test_file_name_for_a_module_gets_a_hint(tmp_path: Path, weft: Command) -> None:
    (tmp_path / "program.py").write_text("")
    done = weft("run", "-m", "program.py")
    assert done.returncode == 1
    assert "Try 'program' instead of 'program.py'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "which program?"),
        (("-m",), "-m needs a module"),
        (("-c",), "-c needs code"),
        (("-O", "x"), "python -O -m weft run"),
    ],
)
def test_wrong_use(weft: Command, arguments: tuple[str, ...], text: str) -> None:
    done = weft("run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


# --- signals ----------------------------------------------------------------------------------------------------------


def interrupted(program: str) -> tuple[int, str]:
    """Starts a program, interrupts it when it has printed a line, and gives its status and its standard error."""
    command = [sys.executable, "-m", "weft", "run", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def test_interrupt_ends_a_plain_program_by_the_signal() -> None:
    status, errors = interrupted("import time\nprint(1, flush=True)\ntime.sleep(60)")
    assert status == -signal.SIGINT
    assert errors.startswith("Traceback")
    assert errors.endswith("KeyboardInterrupt\n")
    assert os.path.join("weft", "cli") not in errors


def test_interrupt_ends_a_run_in_good_order() -> None:
    main = "async def main():\n    print(1, flush=True)\n    await asyncio.sleep(60)\n"
    program = f"import asyncio\n{main}asyncio.run(main())"
    assert interrupted(program) == (128 + signal.SIGINT, "")


# --- what relies on a real __main__ -----------------------------------------------------------------------------------


def test_pickling_of_what_the_program_defines(tmp_path: Path, weft: Command) -> None:
    (tmp_path / "program.py").write_text(
        "import pickle\nclass Thing: pass\nassert type(pickle.loads(pickle.dumps(Thing()))) is Thing\nprint('same')"
    )
    assert weft("run", "program.py").stdout == "same\n"


MULTIPROCESSING = """\
import asyncio, multiprocessing, sys
async def loop_name(): return type(asyncio.get_running_loop()).__name__ + str(len(sys.argv))
def work(number): return asyncio.run(loop_name()), number * 2
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(1) as pool:
        print(pool.map(work, [20, 21]), asyncio.run(loop_name()))
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("fork", ["program.py"]),
        ("spawn", ["program.py"]),
        ("spawn", ["-m", "program"]),
        ("forkserver", ["program.py"]),
    ],
)
def test_processes_that_the_program_starts(tmp_path: Path, weft: Command, method: str, form: list[str]) -> None:
    (tmp_path / "program.py").write_text(MULTIPROCESSING)
    done = weft("run", *form, method)
    assert done.stdout == "[('EventLoop2', 40), ('EventLoop2', 42)] EventLoop2\n", done.stderr
    assert done.returncode == 0


def test_spawned_process_that_cannot_import_weft(tmp_path: Path, python: Command, weft: Command) -> None:
    """It has to do without, and must not die of it."""
    (tmp_path / "program.py").write_text(
        "import multiprocessing, pickle, sys\n"
        "from multiprocessing import spawn\n"
        "if __name__ == '__main__':\n"
        "    sys.stdout.buffer.write(pickle.dumps(spawn.get_preparation_data('x')['weft'], 0))\n"
    )
    pickled = weft("run", "program.py").stdout
    child = "import pickle, sys\nsys.modules['weft'] = None\npickle.loads(sys.stdin.buffer.read())\nprint('alive')"
    assert python("-c", child, text=pickled).stdout == "alive\n"


WHOSE_QUEUE = "import asyncio; print(type(asyncio.Queue()).__module__, asyncio.sleep.__module__)"


@pytest.mark.parametrize(
    ("options", "expected"), [([], "weft weft"), (["--no-accelerate"], "asyncio.queues asyncio.tasks")]
)
def test_accelerated_unless_told_otherwise(weft: Command, options: list[str], expected: str) -> None:
    done = weft("run", *options, "-c", WHOSE_QUEUE)
    assert (done.returncode, done.stdout) == (0, expected + "\n"), done.stderr


def test_no_accelerate_needs_a_program(weft: Command) -> None:
    done = weft("run", "--no-accelerate")
    assert done.returncode == 2
    assert "which program?" in done.stderr


def test_the_option_belongs_to_the_program_behind_its_name(weft: Command) -> None:
    done = weft("run", "-c", f"{WHOSE_QUEUE}; import sys; print(sys.argv[1:])", "--no-accelerate")
    assert done.stdout == "weft weft\n['--no-accelerate']\n", done.stderr
