"""What to write instead of a call that blocks: a table, by the names of calls, then by what the kernel says.

The invariant: the first row that fits wins, and the names are tried from the user's call inwards, so that
``requests.get`` is advised about, not the socket deep below it. Called by ``blame`` and ``strict``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

THREAD = "asyncio.to_thread()"
SLEEP = f'use "await asyncio.sleep()" or {THREAD}'
HTTP = f'use "await weft.http.get()" or {THREAD}'
PROCESS = 'use "await asyncio.create_subprocess_exec()" and await its wait() or communicate()'
NAMES = 'use "await loop.getaddrinfo()"'
SOCKET = "use asyncio.open_connection(), or loop.sock_*() on a socket that does not block"
QUEUE = f"use asyncio.Queue, or {THREAD}"
FUTURE = 'use "await asyncio.wrap_future(...)", or "await loop.run_in_executor()"'
LOCK = f"use asyncio.Lock, Event, Condition or Semaphore between tasks; {THREAD} to wait for a thread"
JOIN = f'use "await {THREAD}" to wait for a thread'
DATABASE = f"use {THREAD}, or a driver with async methods"
FILE = f'use "await {THREAD}" for files'
PARSE = f"use {THREAD}, or a process pool where it keeps the GIL; parse in smaller parts"
REGEX = "the pattern backtracks: make it simpler; a process pool keeps the loop free, a thread does not"
NATIVE = f"use {THREAD}: it gives the GIL up"
COMPUTE = 'use a process pool by "await loop.run_in_executor()", or give way at times by "await asyncio.sleep(0)"'
START = "starting a process takes that long here: start fewer at a time"
SIGNAL = "use loop.add_signal_handler()"
READY = "use loop.add_reader() or loop.add_writer()"
TLS = f"make the context once, before the loop runs, or use {THREAD}"
IMPORT = "import it before the loop runs"
LOGS = "use logging.handlers.QueueHandler, so that a thread writes"
INPUT = f'use "await {THREAD[:-1]}input)"'

#: A pattern for the start of a call's full name, and the advice.
BY_NAME: tuple[tuple[str, str], ...] = (
    (r"asyncio\.(subprocess\.)?create_subprocess", START),
    (r"time\.sleep\b", SLEEP),
    (
        r"(requests|urllib3|urllib\.request|http\.client|httplib2)\b|httpx\.(_client\.Client|_api|get|post|request)",
        HTTP,
    ),
    (r"subprocess\b|os\.(system|wait|popen|spawn)|_?posix\.(system|wait)|pty\.", PROCESS),
    (r"_?socket\.(getaddrinfo|gethost|getnameinfo|getfqdn|create_connection)", NAMES),
    (r"_?ssl\.(create_default_context|SSLContext\.load|_SSLContext\.load)", TLS),
    (r"_?socket\b|(smtplib|ftplib|imaplib|poplib|telnetlib|socketserver|xmlrpc)\b", SOCKET),
    (r"select(ors)?\b", READY),
    (r"_?queue\b|multiprocessing\.(queues|connection)", QUEUE),
    (r"concurrent\.futures|multiprocessing\.pool", FUTURE),
    (r"threading\.Thread\.join|multiprocessing\.(process|popen|context)", JOIN),
    (r"logging\b", LOGS),
    (r"(threading|_thread|multiprocessing\.synchronize)\b", LOCK),
    (r"(sqlite3|psycopg2?|pymysql|MySQLdb|redis|pymongo|sqlalchemy|dbm)\b", DATABASE),
    (r"builtins\.input", INPUT),
    (r"(signal|_signal)\b", SIGNAL),
    (r"re\b|_sre|regex\b|(re|_sre)\.", REGEX),
    (r"(json|_json|pickle|_pickle|marshal|csv|_csv|xml|pyexpat|ast|yaml|tomllib|plistlib|html)\b", PARSE),
    (r"(_?hashlib|_sha|_md5|_blake2|zlib|gzip|bz2|_bz2|lzma|_lzma|zipfile|tarfile|bcrypt|hmac)\b", NATIVE),
    (r"fcntl\b", f"use LOCK_NB and try again later, or {THREAD}"),
    (r"(importlib|_frozen_importlib\w*|builtins\.__import__|<frozen)\b", IMPORT),
    (r"(builtins\.open|_?io\b|pathlib|shutil|glob|tempfile|mmap|linecache|fileinput)", FILE),
    (r"(os|posix)\.(?!cpu|path\.(join|split))", FILE),
)
#: The ends of calls as they are written, where the object is a local variable, and what the kernel must say.
BY_METHOD: tuple[tuple[str, str, str], ...] = (
    (r"\.(recv|recv_into|recvfrom|recvmsg|accept|connect|send|sendall|sendto|do_handshake)$", "", SOCKET),
    (r"\.(acquire|__enter__)$", "futex", LOCK),
    (r"\.(result|exception)$", "futex", FUTURE),
    (r"\.(get|put)$", "futex", QUEUE),
    (r"\.(wait|join)$", "futex", LOCK),
    (r"\.(wait|communicate|poll)$", "wait", PROCESS),
    (r"\.(execute|executemany|executescript|fetchall|commit)$", "", DATABASE),
    (r"\.(match|search|fullmatch|findall|sub|split|finditer)$", "running", REGEX),
    (r"\.(read|readline|readlines|write|flush|seek)$", "", FILE),
)
BY_KERNEL: tuple[tuple[str, str], ...] = (
    ("clock_nanosleep", SLEEP),
    ("nanosleep", SLEEP),
    ("futex", LOCK),
    ("wait4", PROCESS),
    ("waitid", PROCESS),
    ("sigtimedwait", SIGNAL),
    ("recv", SOCKET),
    ("send", SOCKET),
    ("connect", SOCKET),
    ("accept", SOCKET),
    ("poll", SOCKET),
    ("ppoll", SOCKET),
    ("select", READY),
    ("pselect6", READY),
    ("epoll_wait", READY),
    ("flock", FILE),
    ("read", FILE),
    ("write", FILE),
    ("f", FILE),
    ("open", FILE),
    ("running", COMPUTE),
)


def cure(names: Sequence[str], kernel: str) -> str:
    """The advice for a call.

    Args:
        names: full names (``module.function``) or source text, from the user's call to the innermost.
        kernel: the system call in which the thread stands, ``running``, or nothing.

    Returns:
        A clause, or nothing when the table has no row for it.
    """
    for name in names:
        for pattern, advice in BY_NAME:
            if re.match(pattern, name):
                return advice
        for pattern, word, advice in BY_METHOD:
            if re.search(pattern, name) and kernel.startswith(word):
                return advice
    return next((advice for word, advice in BY_KERNEL if kernel.startswith(word)), "")
