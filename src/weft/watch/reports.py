"""From the facts that the core has found to a report: what kind of stall it was, whose line it is, and the log.

Two doors, which the core calls by name: ``ended`` in the thread of the loop, as soon as the callback that blocked has
returned, when that thread holds no lock that the callback took; and ``lasts``, while it still blocks, in a thread of
its own, which may have to wait for a lock that the blocked thread holds (the log's, say) and then writes past it. The
invariant: a line is blamed only if what remains without collections, stops, debuggers, and waiting for a processor or
for the GIL, is above the threshold.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from weft._core import watchdog
from weft.watch import ledger, strict
from weft.watch.blame import NOBODY, Blame, blame, rank
from weft.watch.cures import cure
from weft.watch.stall import Kind, Stall

logger = logging.getLogger("weft.watch")

Facts = Mapping[str, Any]

# What the frames of a debugger belong to.
DEBUGGERS = {"bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy", "ipdb", "pudb", "rpdb", "wdb"}
# Below these a stall is worth a line that says so, not a warning: nothing in the program can be mended.
QUIET = {Kind.STOPPED, Kind.STARVED, Kind.DEBUGGER}
WAITS_FOR_GIL = "the GIL"  # how the core marks a futex that is the GIL's
LOCK_PATIENCE = 1.0  # seconds that a report of a stall which lasts waits for the log


def ended(loop: Any, facts: Facts) -> BaseException | None:
    """A callback took too long and has returned. Gives the error that is to end the run, in strict mode."""
    stall = judge(loop, facts)
    if stall is None:
        return None
    stall = ledger.record(stall)
    if ledger.may_log(stall):
        logger.log(level_of(stall), "%s", stall)
    tell(stall)
    return strict.verdict(stall)


def lasts(loop: Any, facts: Facts) -> None:
    """A callback takes long and has not returned; in a thread of its own."""
    stall = judge(loop, facts)
    if stall is None:
        return
    if can_log():
        logger.log(level_of(stall), "%s", stall)
    else:
        os.write(2, f"weft.watch: {stall} (what blocks the loop holds the lock of the log)\n".encode())
    tell(stall)


def level_of(stall: Stall) -> int:
    """How loud a stall is."""
    return logging.INFO if stall.kind in QUIET else logging.WARNING


def tell(stall: Stall) -> None:
    """Call those who want to be told."""
    for callback in ledger.callbacks():
        try:
            callback(stall)
        except Exception:
            logger.exception("a callback of weft.watch.on_stall() failed: %r", callback)


def can_log() -> bool:
    """Whether the locks of all handlers that would write can be had: the blocked thread may stand in one of them."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if handler.lock is not None:
                if not handler.lock.acquire(timeout=LOCK_PATIENCE):
                    return False
                handler.lock.release()
        current = current.parent if current.propagate else None
    return True


# -- what kind of stall ------------------------------------------------------------------------------------------------


def judge(loop: Any, facts: Facts) -> Stall | None:
    """What the facts amount to; None when it is no stall after all, or one that is allowed."""
    threshold = (loop.stall_threshold or 0.0) * 1e9
    total = (facts["ended"] or facts["now"]) - facts["started"]
    excuses = {kind: min(max(ns, 0), total) for kind, ns in excuses_of(facts, total).items()}
    allowed = strict.allowed_ns(facts["tid"], facts["task"], facts["started"], facts["ended"] or facts["now"])
    # What the thread has computed it has not waited for, and while it slept, without the GIL, it wanted no processor.
    collecting = min(facts["collected"], total) / max(total, 1)
    own = max(total - sum(excuses.values()), int(facts["cpu"] * (1 - collecting)))
    if facts["samples"] and not is_gil_scarce(facts, total):
        own = max(own, (total - facts["stolen"]) * (facts["samples"] - facts["running"]) // facts["samples"])
    own -= allowed
    if total - allowed < threshold:
        return None
    is_own = own >= threshold and Kind.DEBUGGER not in excuses
    kind = Kind.BLOCKED if is_own or not excuses else max(excuses, key=lambda one: excuses[one])
    found = blame(facts["frames"]) if facts["frames"] else suspended(facts["task"])
    kernel = kernel_of(facts)
    return Stall(
        kind,
        (total - allowed) / 1e9,
        facts["ended"] is not None,
        found.filename,
        found.lineno,
        found.function,
        found.call,
        kernel,
        cure(found.names, kernel) if kind is Kind.BLOCKED else "",
        facts["task"].get_name() if facts["task"] is not None else None,
        found.module,
        found.stack,
    )


def excuses_of(facts: Facts, total: int) -> dict[Kind, int]:
    """How many nanoseconds of a stall nobody's line is to blame for, by kind."""
    if is_debugged(facts):
        return {Kind.DEBUGGER: total}
    starved = starved_ns(facts)
    # Where everybody waits for a processor, the watchdog is late as well: that is the same time, once more.
    found = {
        Kind.STOPPED: facts["stolen"] - starved,
        Kind.COLLECTION: facts["collected"] * (total - min(starved, total)) // max(total, 1),
        Kind.STARVED: starved,
    }
    # It did not compute, and stood where those stand who ask for the GIL, which could not be had: a third has it.
    if facts["channel"] == WAITS_FOR_GIL and facts["samples"]:
        found[Kind.GIL] = total * (facts["samples"] - facts["running"]) // facts["samples"] - facts["collected"]
    elif is_gil_scarce(facts, total) and facts["cpu"] < total / 3 and kernel_word(facts) in {"futex", "running"}:
        found[Kind.GIL] = facts["gil_wait"] - facts["collected"]  # the collector keeps it too
    return {kind: ns for kind, ns in found.items() if ns > 0}


def is_gil_scarce(facts: Facts, total: int) -> bool:
    """Whether someone had the GIL for a third of the stall, this thread in C code or another, or was seen with it."""
    return bool(facts["gil_wait"] > total / 3 or facts["channel"] == WAITS_FOR_GIL)


def starved_ns(facts: Facts) -> int:
    """For how long the thread was ready and had no processor: from the kernel, or else from looks at its state."""
    if facts["ended"] is None:
        return 0
    if facts["delay"] >= 0:
        return int(facts["delay"])
    if facts["running"] * 2 < facts["samples"]:
        return 0
    window = facts["ended"] - facts["measured"]
    return int(window * facts["running"] / facts["samples"] - facts["cpu"])


def is_debugged(facts: Facts) -> bool:
    """Whether a debugger has the thread, or another process the whole of this one."""
    for _, _, _, names in facts["frames"]:
        if str(names.get("__name__", "")).partition(".")[0] in DEBUGGERS:
            return True
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in status)
    except OSError:
        return False


def kernel_word(facts: Facts) -> str:
    """The system call in which the thread stood, or ``running``."""
    first = str(facts["call"]).partition(" ")[0]
    if first.lstrip("-").isdigit():
        return watchdog.call_name(int(first)) or str(facts["channel"]) or f"system call {first}"
    if first:
        return first
    return "running" if facts["running"] else ""


def kernel_of(facts: Facts) -> str:
    """The same with what it is done to, where that is a file, a pipe or a socket."""
    word = kernel_word(facts)
    if facts["target"] and word.startswith(
        ("read", "write", "pread", "pwrite", "recv", "send", "accept", "f", "connect")
    ):
        if word != "futex":
            return f"{word} of {facts['target']}"
    return word


def suspended(task: Any) -> Blame:
    """No frame was seen: C code kept the GIL until the callback was over. The task stands at the await that follows.

    If it has ended, there is its name alone.
    """
    coroutine = task.get_coro() if task is not None else None
    frames = []
    while coroutine is not None:
        if (frame := getattr(coroutine, "cr_frame", None)) is not None:
            frames.append(frame)
        coroutine = getattr(coroutine, "cr_await", None)
    if not frames:
        return NOBODY
    frame = min(reversed(frames), key=lambda one: rank(one.f_code.co_filename))
    module = str(frame.f_globals.get("__name__", ""))
    call = "something before this line, which kept the GIL"
    return Blame(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname, module, call, (), ())
