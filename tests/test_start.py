"""What is imported at a start, and what only when something asks for it: in processes of their own."""

from __future__ import annotations

import sys

import pytest

from tests.core.kit import run_script

pytestmark = pytest.mark.weft_only

RUN = """
import sys
import weft
async def noop(): pass
weft.run(noop())
def is_whole(name):
    return not {"OP_ALL", "SSLProtocol", "getsource"}.isdisjoint(vars(sys.modules[name]))
"""


def check(source: str, before: str = "") -> None:
    assert run_script(before + RUN + source + "\nprint('done')") == "done\n"


class TestModulesThatComeLater:
    @pytest.mark.parametrize(
        "name",
        [
            "ssl",
            "asyncio.sslproto",
            pytest.param(
                "inspect", marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="`traceback` needs it there")
            ),
        ],
    )
    def test_a_run_does_without(self, name: str) -> None:
        check(f"assert not is_whole({name!r})")

    def test_inspect(self) -> None:
        check("""
import asyncio, inspect
async def function(): pass
assert inspect.iscoroutinefunction(function) and asyncio.iscoroutinefunction(function)
assert is_whole("inspect") and not is_whole("ssl")
""")

    def test_a_name_brings_the_module(self) -> None:
        check("""
import asyncio, ssl, types
from ssl import SSLContext
assert asyncio.base_events.ssl is ssl
assert is_whole("ssl") and not is_whole("asyncio.sslproto")
assert type(ssl) is types.ModuleType
assert ssl.__spec__.loader is ssl.__loader__
assert type(ssl.__loader__).__name__ == "SourceFileLoader"
assert isinstance(ssl.create_default_context(), SSLContext)
assert asyncio.sslproto.SSLProtocol and is_whole("asyncio.sslproto")
""")

    @pytest.mark.parametrize(
        "ask",
        [
            "dir(ssl)",
            "from ssl import *; SSLContext",
            "ssl.SSLContext",
            "ssl.__all__ = []",
            "hasattr(ssl, 'what is not there')",
            "import importlib; importlib.reload(ssl).SSLContext",
        ],
    )
    def test_whatever_asks_gets_all_of_it(self, ask: str) -> None:
        check(f"""
import ssl
{ask}
assert is_whole("ssl")
""")

    def test_what_is_set_stays(self) -> None:
        check("""
import ssl
ssl.create_default_context = 1
assert ssl.create_default_context == 1 and ssl.SSLContext
""")

    def test_what_is_deleted_is_gone(self) -> None:
        check("""
import ssl
del ssl.create_default_context
assert not hasattr(ssl, "create_default_context") and ssl.SSLContext
""")

    def test_a_name_that_is_not_there(self) -> None:
        check("""
import ssl
try:
    ssl.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    assert False
""")

    def test_threads_that_ask_at_the_same_time(self) -> None:
        check("""
import threading
sys.setswitchinterval(1e-6)
import ssl, asyncio
start, wrong, names = threading.Barrier(8), [], vars(ssl)
def ask(number):
    start.wait()
    try:
        while number and "SSLContext" not in names: pass  # it gets its classes of sockets far below
        assert number or ssl.get_server_certificate
        assert ssl.SSLContext.sslsocket_class is not None
        assert asyncio.sslproto.SSLProtocol
    except BaseException as error:
        wrong.append(error)
threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join(30)
assert not wrong, wrong
""")

    def test_an_import_that_fails_fails_for_each_who_asks(self) -> None:
        check("""
import ssl
sys.modules["_ssl"], before = None, sys.modules.pop("_ssl", None)
for _ in range(2):
    try:
        ssl.SSLContext
    except ImportError:
        pass
    else:
        assert False
sys.modules["_ssl"] = before
if before is None:
    del sys.modules["_ssl"]
assert ssl.SSLContext
""")

    def test_a_python_without_tls(self) -> None:
        check(
            """
import asyncio
assert asyncio.base_events.ssl is None
assert asyncio.sslproto.SSLProtocol
""",
            before="import sys; sys.modules['_ssl'] = None\n",
        )

    def test_who_has_imported_asyncio_already_keeps_it(self) -> None:
        check("assert is_whole('ssl')", before="import asyncio\n")

    def test_nothing_stays_in_the_import_system(self) -> None:
        check("assert not [finder for finder in sys.meta_path if 'weft' in type(finder).__module__]")


@pytest.mark.parametrize(
    "module", ["weft.streams", "weft.http", "weft.parallel", "weft.watch.report", "multiprocessing"]
)
def test_parts_come_when_they_are_used(module: str) -> None:
    check(f"assert {module!r} not in sys.modules")
