"""Builds what is compiled: every ``.py`` under ``src/weft`` that has a ``.pxd`` beside it becomes one extension module.

Everything else about the package stands in ``pyproject.toml``.
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SOURCE = Path("src")
CORE = SOURCE / "weft" / "_core"
JOBS = int(os.environ.get("WEFT_BUILD_JOBS") or os.cpu_count() or 1)

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": False,
    "auto_pickle": False,
    # What a destructor or a C callback lets out goes to sys.unraisablehook alone. Cython would print it too, by
    # PyErr_PrintEx(), which ends the process on SystemExit, and on 3.14 has it end by SIGINT after a KeyboardInterrupt.
    "unraisable_tracebacks": False,
}


class ParallelBuild(build_ext):
    """``build_ext`` that compiles one extension per processor unless it is told otherwise."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = JOBS


def extensions() -> list[Extension]:
    """One extension for each module that has a ``.pxd`` beside it."""
    headers = [str(path) for path in CORE.glob("sys/*.h")]
    modules = []
    for pxd in sorted((ROOT / SOURCE).rglob("*.pxd")):
        source = pxd.with_suffix(".py").relative_to(ROOT)
        if not (ROOT / source).exists():
            continue  # declarations only
        modules.append(
            Extension(
                ".".join(source.relative_to(SOURCE).with_suffix("").parts),
                [str(source)],
                include_dirs=[str(CORE / "sys")],
                depends=headers,
                extra_compile_args=["-O3", "-fno-semantic-interposition", "-Wno-unused-function"],
            )
        )
    return modules


# From Python 3.14 on, the processes that cythonize in parallel import this file.
if __name__ == "__main__":
    setup(
        # tools/build.py compiles the core itself, and then has no use for a second time in a temporary folder.
        ext_modules=[]
        if os.environ.get("WEFT_COMPILE") == "0"
        else cythonize(
            extensions(),
            nthreads=JOBS,
            include_path=["src"],
            compiler_directives=DIRECTIVES,
            build_dir="build/cython",
        ),
        cmdclass={"build_ext": ParallelBuild},
    )
