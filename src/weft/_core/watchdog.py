"""The stall watch in the core: it notices that a callback does not end, and collects what can be known of it.

A loop stores an epoch for each callback that it begins. The watchdog (one native thread per process, in
``sys/weft_watchdog.h``) sees that the epoch stands still, asks the kernel what the thread waits for, and has another
thread copy that thread's frames, as soon as the GIL can be had. The loop's own thread then hands all of it to
``weft.watch``, which is imported there and then: nothing here knows what becomes of it. The invariant: what runs in the
watchdog's threads takes no lock that Python code may hold, and calls no code of a user; so whatever the blocked thread
holds, nobody waits for it here.

``Scheduler`` calls ``enter``, ``leave`` and ``ended``.
"""

import asyncio
import atexit
import gc
import importlib
import os

import cython
from cython.cimports.libc.stdint import int64_t
from cython.cimports.weft._core.sys.python import Py_DECREF, Py_INCREF, PyObject
from cython.cimports.weft._core.sys.watch import weft_watch_rest, weft_watch_rouse, weft_watched
from cython.cimports.weft._core.sys.watchdog import (
    PyFrame_GetBack,
    PyFrame_GetCode,
    PyFrame_GetGlobals,
    PyFrame_GetLasti,
    PyFrame_GetLineNumber,
    PyFrameObject,
    PyGC_Disable,
    PyGC_Enable,
    PyThreadState_GetFrame,
    drop_frame,
    weft_call_name,
    weft_dog,
    weft_dog_collection_callback,
    weft_dog_deliver,
    weft_dog_enter,
    weft_dog_finish,
    weft_dog_forget,
    weft_dog_is_capturing,
    weft_dog_leave,
    weft_dog_next_wish,
    weft_dog_resume,
    weft_dog_set_capture,
    weft_dog_stop,
    weft_here_tid,
    weft_monotonic_ns,
    weft_seen,
    weft_stall,
    weft_thread_cpu_here,
    weft_thread_delay,
)

# As asyncio's slow_callback_duration: what users notice, and far above what a machine under load does by itself.
DEFAULT_THRESHOLD = cython.declare(cython.double, 0.1)  # seconds
# Where the analysis is; by name, since it lies in a layer above.
REPORTS = "weft.watch.reports"
# The frames of a thread that are copied; deeper ones can only be below the loop, or in a recursion.
FRAMES = cython.declare(cython.int, 400)
# How often the loop steps aside for a capture that waits for the GIL, when other threads want it too.
COURTESIES = cython.declare(cython.int, 5)

current_task = cython.declare(object, asyncio.current_task)
override = cython.declare(object, None)
is_prepared = cython.declare(cython.bint, False)


def default_threshold():
    """The threshold of a loop that was not given one: WEFT_STALL_THRESHOLD in seconds, None for ``off``; or 0.1."""
    if "WEFT_STRICT" in os.environ:
        importlib.import_module(REPORTS)
    if override is not None:
        return override
    given = os.environ.get("WEFT_STALL_THRESHOLD", "")
    if not given:
        return DEFAULT_THRESHOLD
    if given == "off":
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise ValueError(
            f"the environment has WEFT_STALL_THRESHOLD={given!r}: it takes a number of seconds above 0, or 'off'"
        )
    return seconds


def override_threshold(seconds):
    """What a loop gets that is not given a threshold, whatever the environment says; or None. Returns what it was."""
    global override
    if seconds is not None and not seconds > 0:
        raise ValueError(f"a threshold is a number of seconds above 0, not {seconds!r}")
    before, override = override, seconds
    return before


def counters():
    """What the watchdog has done in this process."""
    return {
        "looks": weft_dog.looks,
        "parks": weft_dog.parks,
        "noticed": weft_dog.found,
        "unseen": weft_dog.unseen,
        "threads": weft_dog.is_running + weft_dog.captures,
    }


def set_first_word(seconds):
    """After how long a stall that lasts is first reported; returns what it was. For tests."""
    before = weft_dog.first_word / 1e9
    weft_dog.first_word = cython.cast(int64_t, seconds * 1e9)
    return before


def call_name(number):
    """The name of a system call in which threads stand, or None."""
    name = weft_call_name(number)
    return None if name == cython.NULL else name.decode()


# -- a loop runs -------------------------------------------------------------------------------------------------------


def enter(watched, loop):
    """``loop`` begins to run in this thread; it is watched until ``leave``."""
    if watched.threshold <= 0:
        return 0
    if not is_prepared:
        prepare()
    # SAFETY: a borrowed reference: the loop is alive while it runs, and leave() takes it back.
    weft_dog_enter(watched, cython.cast(cython.pointer(PyObject), loop))
    return 0


def leave(watched):
    weft_dog_leave(watched)
    return 0


def prepare():
    """Once in a process: what has to be known of forks, of the end, and of collections."""
    global is_prepared
    is_prepared = True
    # A thread that lives through a fork makes Python 3.12 and later warn, and leaves its locks to the child.
    os.register_at_fork(before=stop, after_in_parent=resume, after_in_child=forget)
    atexit.register(stop_for_good)
    gc.callbacks.append(weft_dog_collection_callback())


def stop():
    with cython.nogil:
        weft_dog_stop(False)


def stop_for_good():
    with cython.nogil:
        weft_dog_stop(True)


def resume():
    weft_dog_resume()


def forget():
    weft_dog_forget()


# -- what is seen of a stall -------------------------------------------------------------------------------------------


def capture():
    """The body of a capture's thread: wait for the GIL, and copy what the stalled threads do."""
    asked: int64_t = weft_monotonic_ns()
    with cython.gil:
        capture_all(asked)


def capture_all(asked):
    watched: cython.pointer(weft_watched) = cython.NULL
    seen: weft_seen
    # The collector could run finalisers, which are code of users.
    collecting: cython.bint = PyGC_Disable()
    waited: int64_t = weft_monotonic_ns() - asked
    try:
        while weft_dog_next_wish(cython.address(watched), cython.address(seen)):
            capture_one(watched, cython.address(seen), waited)
    except BaseException:  # no memory: the stall is reported without its frames
        pass
    if collecting:
        PyGC_Enable()


def capture_one(watched, seen, waited):
    # SAFETY: this thread has had the GIL since it saw the loop run, so both still are there.
    frames: list = frames_of(seen) if seen.epoch == seen.stall.epoch else []
    loop: object = cython.cast(object, seen.loop)
    found: tuple = (frames, current_task(loop) if frames else None)
    if seen.wants_word and seen.capture != cython.NULL:  # else the GIL was to be had just now, as the stall ends
        facts: dict = facts_of(cython.address(seen.stall), found, seen.tid)
        facts["gil_wait"] = waited
        speak(loop, facts)
    if seen.capture == cython.NULL:
        # SAFETY: the reference that is handed over; taken back where nobody is there to take it.
        Py_INCREF(cython.cast(cython.pointer(PyObject), found))
        if not weft_dog_deliver(
            watched, seen.serial, seen.stall.epoch, cython.cast(cython.pointer(PyObject), found), waited
        ):
            Py_DECREF(cython.cast(cython.pointer(PyObject), found))
    return 0


def frames_of(seen):
    """Code, line, instruction and globals of each frame, the innermost first. Not the frames: they hold the locals."""
    found: list = []
    frame: cython.pointer(PyFrameObject) = PyThreadState_GetFrame(seen.thread)
    while frame != cython.NULL and len(found) < FRAMES:
        code: cython.pointer(PyObject) = cython.cast(cython.pointer(PyObject), PyFrame_GetCode(frame))  # SAFETY: below
        names: cython.pointer(PyObject) = PyFrame_GetGlobals(frame)
        place: tuple = (PyFrame_GetLineNumber(frame), PyFrame_GetLasti(frame))
        # SAFETY: each of these calls gave a new reference; the objects that are made of them take their own.
        found.append((cython.cast(object, code), *place, cython.cast(object, names)))
        Py_DECREF(code)
        Py_DECREF(names)
        back: cython.pointer(PyFrameObject) = PyFrame_GetBack(frame)
        drop_frame(frame)
        frame = back
    if frame != cython.NULL:
        drop_frame(frame)
    return found


def facts_of(stall, found, tid):
    frames, task = found if found is not None else ([], None)
    return {
        "frames": frames,
        "task": task,
        "tid": tid,
        "started": stall.started,
        "ended": None,
        "now": weft_monotonic_ns(),
        "stolen": stall.stolen,
        "collected": 0,
        "measured": stall.measured,
        "cpu": 0,
        "delay": -1,
        "gil_wait": stall.gil_wait,
        "samples": stall.samples,
        "running": stall.running,
        "call": stall.call.decode("ascii", "replace"),
        "channel": stall.channel.decode("ascii", "replace"),
        "target": stall.target.decode("utf-8", "replace"),
    }


def speak(loop, facts):
    """Report a stall that lasts, from a thread that may wait for what the blocked one holds."""
    import threading

    threading.Thread(target=report, args=("lasts", loop, facts), name="weft-watch-report", daemon=True).start()
    return 0


def ended(watched, loop):
    """The callback that stalled has ended: report it. Gives the error that is to end the run, in strict mode."""
    stall: weft_stall
    cpu: int64_t = weft_thread_cpu_here()
    now: int64_t = weft_monotonic_ns()
    left: cython.int = COURTESIES
    # Where C code kept the GIL until now, the capture that waits for it still finds the task, and where that goes on.
    while left > 0 and weft_dog_is_capturing(watched):
        left -= 1
        with cython.nogil:
            pass
    # SAFETY: the reference to the capture is handed over; the object takes one of its own.
    given: cython.pointer(PyObject) = weft_dog_finish(watched, now, cython.address(stall))
    found: tuple = None
    if given != cython.NULL:
        found = cython.cast(tuple, given)  # SAFETY: as above
        Py_DECREF(given)  # SAFETY: as above
    facts: dict = facts_of(cython.address(stall), found, weft_here_tid())
    facts["ended"] = now
    facts["collected"] = stall.collected
    facts["cpu"] = cpu - stall.cpu
    delay: int64_t = weft_thread_delay(weft_here_tid())
    if delay >= 0 and stall.delay >= 0:
        facts["delay"] = delay - stall.delay
    if found is None:
        facts["gil_wait"] = now - stall.noticed  # at least: nobody has got it since
    if found is None or not found[0]:
        facts["task"] = current_task(loop)
    # What reports is not watched: its first import, and a log that is slow, would be reported in turn.
    weft_watch_rest(watched)
    try:
        return report("ended", loop, facts)
    finally:
        weft_watch_rouse(watched)


def report(how, loop, facts):
    try:
        return getattr(importlib.import_module(REPORTS), how)(loop, facts)
    except Exception as error:
        loop.call_exception_handler({"message": "a stall of the loop could not be reported", "exception": error})
    return None


weft_dog_set_capture(capture)
