"""Runs the tests against a core that was compiled with AddressSanitizer and UndefinedBehaviorSanitizer.

Owns ``build/sanitize``: a copy of the tree as it stands now, compiled there, and the sanitizers' logs.
Its invariant: whatever a sanitizer says in any process of the run, also in a child whose output a test keeps to itself,
ends up in a log there, and one log is enough to fail. Called by ``make sanitize``; arguments go to pytest.

Python's own allocator is bypassed (``PYTHONMALLOC=malloc``), so that the memory of objects is watched too. Leaks are
not looked for: the interpreter itself leaves memory at its end. ``docs/robustness.md`` records what was found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "sanitize"
TREE = WORK / "tree"
LOGS = WORK / "logs"

# Everything that runs weft; tests of the tools, of the benchmarks and of CPython's own suite take hours here.
TESTS = (
    "tests/core",
    "tests/loop",
    "tests/faults",
    "tests/http",
    *sorted(f"tests/{path.name}" for path in ROOT.glob("tests/test_*.py")),
)
# -O1 keeps the frames of a report readable; setup.py's own -O3 comes later and would win, so it is taken out below.
FLAGS = "-fsanitize=address,undefined -fno-omit-frame-pointer -g"


def copy_tree() -> None:
    """Bring the copy up to date: files that have not changed keep their times, so that the build is a short one."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    wanted = {name for name in names if name and (ROOT / name).is_file()}
    for name in wanted:
        source, copy = ROOT / name, TREE / name
        content = source.read_bytes()
        if name == "setup.py":
            content = content.replace(b'"-O3"', b'"-O1"')
        if not copy.exists() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
            shutil.copymode(source, copy)
    for path in [*TREE.rglob("*.py"), *TREE.rglob("*.pxd"), *TREE.rglob("*.h")]:
        name = str(path.relative_to(TREE))
        if name not in wanted and not name.startswith("build/"):
            path.unlink()


def compile_core() -> None:
    """Compile the extensions of the copy, in place, with the sanitizers."""
    print("sanitize: compiling the core", flush=True)
    environ = {**os.environ, "CFLAGS": FLAGS, "LDFLAGS": FLAGS}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    if subprocess.run(command, cwd=TREE, env=environ, stdin=subprocess.DEVNULL, check=False).returncode:
        sys.exit("sanitize: the core cannot be compiled with the sanitizers; is gcc's libasan there?")


def library(name: str) -> str:
    """The path of one of the compiler's libraries."""
    command = ["gcc", f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if "/" not in path:
        sys.exit(f"sanitize: gcc has no {name}: apt-get install gcc (Debian has it in libgcc-N-dev)")
    return path


def environment() -> dict[str, str]:
    """What the tests run under. The interpreter is not compiled for it, so the libraries are loaded before it."""
    log = LOGS / "report"
    return {
        **os.environ,
        # libstdc++: the sanitizer looks for the throw of C++ exceptions once, at its start.
        "LD_PRELOAD": " ".join(library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")),
        # Python's faulthandler has a signal stack of its own, which the sanitizer would take for its own.
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={log}:halt_on_error=1:allocator_may_return_null=1:use_sigaltstack=0",
        "UBSAN_OPTIONS": f"log_path={log}:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(TREE / "src"),
        "WEFT_SANITIZED": "1",
    }


# Reads memory that was freed: the sanitizers must say so, or their silence about the tests means nothing.
MISTAKE = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(16)))
libc.free(block)
ctypes.string_at(block.value, 8)
"""


def check_the_watch() -> None:
    """End the program unless a mistake made on purpose is noticed, and every extension is compiled to be watched."""
    subprocess.run([sys.executable, "-c", MISTAKE], env=environment(), capture_output=True, check=False)
    if not any("heap-use-after-free" in path.read_text(errors="replace") for path in LOGS.iterdir()):
        sys.exit("sanitize: the sanitizer does not notice a mistake made on purpose: does LD_PRELOAD work here?")
    extensions = list((TREE / "src" / "weft").rglob("*.so"))
    bare = [path.name for path in extensions if b"__asan_report" not in path.read_bytes()]
    if bare or not extensions:
        sys.exit(f"sanitize: not compiled to be watched: {bare or 'anything'}")


def fresh_logs() -> None:
    """Make an empty folder for the logs."""
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)


def main() -> None:
    """Copy, compile, test, and say what the sanitizers said."""
    copy_tree()
    compile_core()
    fresh_logs()
    check_the_watch()
    fresh_logs()
    arguments = sys.argv[1:]
    if not any(one.startswith("tests") for one in arguments):
        arguments = [*TESTS, *arguments]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    failed = subprocess.run(command, cwd=TREE, env=environment(), check=False).returncode
    reports = sorted(LOGS.iterdir())
    for report in reports:
        print(f"\n== {report}\n{report.read_text(errors='replace')[:6000]}")
    print(f"sanitize: {len(reports)} reports of the sanitizers; pytest ended with {failed}")
    sys.exit(1 if reports or failed else 0)


if __name__ == "__main__":
    main()
