"""asyncio's futures, as the stepper handles them: unbound built-in methods and C getters instead of attribute lookups.

Futures on a weft loop are plain ``asyncio.Future`` objects, and ``weft.Task`` is an ``asyncio.Task``. What is needed of
their classes is taken once, here, through documented structures; nothing depends on the layout of an instance. The
invariant: a function that takes the fast way checks the exact type first.
"""

import _asyncio
from asyncio import tasks

import cython
from cython.cimports.weft._core.sys.python import (
    Py_DECREF,
    Py_TYPE,
    PyObject,
    PyTypeObject,
    getter,
    setter,
    weft_add_done_callback,
    weft_ask,
    weft_call0,
    weft_call_method0,
    weft_getter,
    weft_setter,
    weft_take_exception,
)

# SAFETY: the modules that define these classes hold them for as long as the interpreter lives.
future_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), _asyncio.Future))
stock_task_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), _asyncio.Task))
task_type = cython.declare(cython.pointer(PyTypeObject), cython.NULL)

SET_RESULT = cython.declare(object, _asyncio.Future.set_result)
SET_EXCEPTION = cython.declare(object, _asyncio.Future.set_exception)
CANCEL = cython.declare(object, _asyncio.Future.cancel)
RESULT = cython.declare(object, _asyncio.Future.result)
EXCEPTION = cython.declare(object, _asyncio.Future.exception)
ADD_DONE_CALLBACK = cython.declare(object, _asyncio.Future.add_done_callback)
BLOCKING = cython.declare(object, _asyncio.Future.__dict__["_asyncio_future_blocking"])
LOOP = cython.declare(object, _asyncio.Future.__dict__["_loop"])
STATE = cython.declare(object, _asyncio.Future.__dict__["_state"])
ERROR = cython.declare(object, _asyncio.Future.__dict__["_exception"])
# SAFETY: the module holds the descriptors, so their C functions stay valid.
get_blocking = cython.declare(getter, weft_getter(cython.cast(cython.pointer(PyObject), BLOCKING)))
set_blocking = cython.declare(setter, weft_setter(cython.cast(cython.pointer(PyObject), BLOCKING)))
get_loop = cython.declare(getter, weft_getter(cython.cast(cython.pointer(PyObject), LOOP)))
get_state = cython.declare(getter, weft_getter(cython.cast(cython.pointer(PyObject), STATE)))
get_exception = cython.declare(getter, weft_getter(cython.cast(cython.pointer(PyObject), ERROR)))

RESULT_NAME = cython.declare(str, "result")
CONTEXT_KEYWORD = cython.declare(tuple, ("context",))
# As objects: the bare literals would be C integers in a cast.
YES = cython.declare(object, True)
NO = cython.declare(object, False)
NOTHING = cython.declare(object, None)


class _Probe:
    """Just enough of a loop to make a future, and for a stock task to hand over its step wrapper."""

    wrapper = None

    def get_debug(self):
        return False

    def call_soon(self, callback, *args, context=None):
        self.wrapper = callback


async def _nothing():
    pass


def _step_wrapper_type():
    """The type of what ``asyncio.Task.__init__`` hands to ``call_soon``, which has no other name."""
    probe = _Probe()
    coroutine = _nothing()
    task = _asyncio.Task(coroutine, loop=probe, name="probe")
    found = type(probe.wrapper)
    # The probe must leave no trace: neither a task in the registry nor a warning about one that never ran.
    tasks._unregister_task(task)
    task._log_destroy_pending = False
    coroutine.close()
    return found


def _state(settle=None):
    future = _asyncio.Future(loop=_Probe())
    if settle is not None:
        settle(future)
    return future._state


# Futures give out one of three interned strings, which can be told apart by identity.
PENDING = cython.declare(object, _state())
CANCELLED = cython.declare(object, _state(_asyncio.Future.cancel))
FINISHED = cython.declare(object, _state(lambda future: future.set_result(None)))
step_wrapper_class = cython.declare(object, _step_wrapper_type())
# SAFETY: held by the line above.
step_wrapper_type = cython.declare(
    cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), step_wrapper_class)
)


def register_task_type(cls):
    """Learn of the class ``weft.Task``, which is defined above this module."""
    global task_type
    # SAFETY: the module that defines the class holds it.
    task_type = cython.cast(cython.pointer(PyTypeObject), cls)


def is_step_wrapper(callback):
    return Py_TYPE(callback) == step_wrapper_type


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def has_state(future: object, state: object) -> cython.bint:
    # SAFETY: the getter returns a new reference to an interned string, of which only the identity is used.
    found: cython.pointer(PyObject) = get_state(cython.cast(cython.pointer(PyObject), future), cython.NULL)
    Py_DECREF(found)
    return found == cython.cast(cython.pointer(PyObject), state)


def is_pending(future):
    """For what is an ``asyncio.Future`` by its class."""
    return has_state(future, PENDING)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_stock(future: object) -> cython.bint:
    return Py_TYPE(future) == future_type or Py_TYPE(future) == stock_task_type


def outcome(future):
    """What a future that is done means for who waits: the exception to throw, or None."""
    result: cython.pointer(PyObject)
    known: cython.bint = is_stock(future) or Py_TYPE(future) == task_type
    if known and has_state(future, FINISHED):
        # SAFETY: the getter returns a new reference, of which only the identity is used.
        result = get_exception(cython.cast(cython.pointer(PyObject), future), cython.NULL)
        Py_DECREF(result)
        if result == cython.cast(cython.pointer(PyObject), NOTHING):
            return None
    # Our own task answers result() itself only for the error that cancelled it.
    if known and (Py_TYPE(future) != task_type or not has_state(future, CANCELLED)):
        result = weft_call0(RESULT, future)
    else:
        result = weft_call_method0(future, RESULT_NAME)
    if result != cython.NULL:
        Py_DECREF(result)  # SAFETY: the new reference that the call gave; `send(None)` will fetch the value anew
        return None
    result = weft_take_exception()
    # SAFETY: a new reference; the object takes one of its own.
    error = cython.cast(object, result)
    Py_DECREF(result)
    return error


def is_known(future):
    """Whether it is of a class whose instances may be asked by C alone."""
    return is_stock(future) or Py_TYPE(future) == task_type


def was_cancelled(future):
    return has_state(future, CANCELLED) if is_known(future) else future.cancelled()


def error_of(future):
    """The exception that ended it, or None; for what is done and was not cancelled."""
    return weft_ask(EXCEPTION, future) if is_known(future) else future.exception()


def result_of(future):
    """The result; for what is done, was not cancelled and has no exception."""
    return weft_ask(RESULT, future) if is_known(future) else future.result()


def begin_waiting(future, loop):
    """The fast way to wait: True when ``future`` was just awaited and is ``loop``'s; else nothing is changed."""
    if not is_stock(future) and Py_TYPE(future) != task_type:
        return False
    # SAFETY: both getters return new references, which are compared and dropped.
    pointer: cython.pointer(PyObject) = cython.cast(cython.pointer(PyObject), future)
    its_loop: cython.pointer(PyObject) = get_loop(pointer, cython.NULL)
    blocking: cython.pointer(PyObject) = get_blocking(pointer, cython.NULL)
    Py_DECREF(its_loop)
    Py_DECREF(blocking)
    # SAFETY: only compared.
    if its_loop != loop or blocking != cython.cast(cython.pointer(PyObject), YES):
        return False
    # SAFETY: the module holds the object.
    set_blocking(pointer, cython.cast(cython.pointer(PyObject), NO), cython.NULL)
    return True


def add_callback(future, callback, context):
    return weft_add_done_callback(ADD_DONE_CALLBACK, future, callback, context, CONTEXT_KEYWORD)


def set_result(task, result):
    SET_RESULT(task, result)
    return 0


def set_exception(task, error):
    SET_EXCEPTION(task, error)
    return 0


def cancel(task, message):
    CANCEL(task, msg=message)
    return 0
