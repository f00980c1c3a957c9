"""Calls that can block, found as they are made, whether they were fast this time or not: ``sys.monitoring``.

For strict mode alone, from Python 3.12 on. Each place that calls something else is looked at once and then switched off
(``DISABLE``), so that a long run costs nothing. The invariant: only the program's own lines count, and only while a
loop runs in their thread. Started and stopped by ``strict``; a second start waits its turn in a count.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from weft.watch.blame import name_of, rank
from weft.watch.cures import cure
from weft.watch.stall import shortened

#: What can block for as long as somebody else likes. Files and free locks are not among them: they are fast unless they
#: are not, and then the stall watch says so.
BLOCKING = {
    "time.sleep",
    "builtins.input",
    "subprocess.run",
    "subprocess.call",
    "subprocess.check_call",
    "subprocess.check_output",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "subprocess.Popen.wait",
    "subprocess.Popen.communicate",
    "posix.system",
    "posix.waitpid",
    "posix.wait",
    "os.popen",
    "_socket.getaddrinfo",
    "socket.getaddrinfo",
    "socket.create_connection",
    "_socket.gethostbyname",
    "urllib.request.urlopen",
    "http.client.HTTPConnection.request",
    "http.client.HTTPConnection.getresponse",
    "requests.api.get",
    "requests.api.post",
    "requests.api.put",
    "requests.api.request",
    "requests.sessions.Session.get",
    "requests.sessions.Session.post",
    "requests.sessions.Session.request",
    "select.select",
    "concurrent.futures._base.wait",
    "concurrent.futures._base.Future.result",
    "concurrent.futures._base.Future.exception",
    "threading.Thread.join",
    "threading.Event.wait",
    "threading.Condition.wait",
    "threading.Barrier.wait",
    "queue.Queue.get",
    "queue.Queue.put",
    "queue.Queue.join",
    "sqlite3.Connection.execute",
    "sqlite3.Cursor.execute",
    "sqlite3.connect",
    "_sqlite3.connect",
    "signal.sigwait",
    "_signal.sigwait",
}
#: Methods of sockets: where the socket has a timeout, or none at all.
SOCKETS = {"recv", "recv_into", "recvfrom", "recvmsg", "send", "sendall", "sendto", "connect", "accept", "do_handshake"}

Objection = Callable[[str, str, int, str], tuple[bool, BaseException | None]]

_object_to: Objection | None = None
_users = 0
_tool: int | None = None


def start(object_to: Objection) -> Callable[[], None]:
    """Begin to look at calls.

    Args:
        object_to: called with a report, file, line and module; tells whether the place needs no second look, and what
            to raise there, or None.

    Returns:
        The function that ends it.
    """
    global _users, _tool, _object_to
    _object_to = object_to
    _users += 1
    if _users == 1:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        _tool = next((number for number in (4, 3, 5, 2) if monitoring.get_tool(number) is None), None)
        if _tool is not None:
            monitoring.use_tool_id(_tool, "weft.watch")
            monitoring.register_callback(_tool, monitoring.events.CALL, on_call)
            monitoring.restart_events()
            monitoring.set_events(_tool, monitoring.events.CALL)
    return _stop


def _stop() -> None:
    global _users, _tool
    _users -= 1
    if _users == 0 and _tool is not None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        monitoring.set_events(_tool, 0)
        monitoring.register_callback(_tool, monitoring.events.CALL, None)
        monitoring.free_tool_id(_tool)
        _tool = None


def on_call(code: CodeType, offset: int, function: Any, first: Any) -> Any:
    """A call is about to be made at ``offset`` of ``code``; raises where strictness wants that."""
    off = sys.monitoring.DISABLE  # type: ignore[attr-defined]
    name = name_of(function)
    if name is None or not can_block(name, function, first):
        return off
    if rank(code.co_filename) != 0:
        return off
    if asyncio._get_running_loop() is None:
        return None  # here it may; the next time it may not
    frame = sys._getframe(1)
    line = frame.f_lineno
    report = (
        f"call that can block at {shortened(code.co_filename)}:{line} in {code.co_qualname}(): "
        f"{name}; {cure([name], '')}"
    )
    assert _object_to is not None
    is_settled, error = _object_to(report, code.co_filename, line, str(frame.f_globals.get("__name__", "")))
    if error is not None:
        raise error
    return off if is_settled else None


def can_block(name: str, function: Any, first: Any) -> bool:
    """Whether a call of that name blocks, given what it is called on."""
    if name in BLOCKING:
        # What is done already has its result at once.
        target = getattr(function, "__self__", first)
        done = getattr(target, "done", None) if ".Future." in name else None
        return not (callable(done) and done())
    owner, _, method = name.rpartition(".")
    if method in SOCKETS and owner in {"_socket.socket", "socket.socket", "ssl.SSLSocket"}:
        target = getattr(function, "__self__", first)
        timeout = getattr(target, "gettimeout", None)
        return bool(callable(timeout) and timeout() != 0)
    return False
