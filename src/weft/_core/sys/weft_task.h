/* The methods of weft.Task that hand out how a task ended. They are C so that the tracebacks which users read have no
 * frame of ours in them. Included by task.pxd alone; weft_install_outcome() is called once, when the class is made.
 */
#ifndef WEFT_TASK_H
#define WEFT_TASK_H

#include "weft_sys.h"

/* take_kept(task): the CancelledError that ended the task, which it keeps for the first who asks; or None. */
static PyObject *(*weft_take_kept)(PyObject *task);
static PyObject *weft_stock_result, *weft_stock_exception;
static unaryfunc weft_stock_await;

/* -1 when the task has raised what it kept, or the question itself failed; 0 when there is nothing kept. */
static int weft_raise_kept(PyObject *task) {
    PyObject *kept = weft_take_kept(task);
    if (kept == NULL) return -1;
    int raised = kept != Py_None;
    if (raised) weft_raise_again(kept);
    Py_DECREF(kept);
    return -raised;
}

static PyObject *weft_task_result(PyObject *task, PyObject *Py_UNUSED(ignored)) {
    return weft_raise_kept(task) < 0 ? NULL : weft_call0(weft_stock_result, task);
}

static PyObject *weft_task_exception(PyObject *task, PyObject *Py_UNUSED(ignored)) {
    return weft_raise_kept(task) < 0 ? NULL : weft_call0(weft_stock_exception, task);
}

static PyObject *weft_task_await(PyObject *task) {
    return weft_raise_kept(task) < 0 ? NULL : weft_stock_await(task);
}

static PyMethodDef weft_outcome_methods[] = {
    {"result", weft_task_result, METH_NOARGS,
     "What the coroutine returned; raises what it raised; see asyncio.Task.result()."},
    {"exception", weft_task_exception, METH_NOARGS, "What the coroutine raised, or None; see asyncio.Task.exception()."},
    {NULL, NULL, 0, NULL},
};

/* Give `type` the methods above, and `await` straight to the C function. The base class is `stock`. */
static inline int weft_install_outcome(PyObject *type, PyObject *stock, PyObject *(*take_kept)(PyObject *)) {
    weft_take_kept = take_kept;
    weft_stock_result = PyObject_GetAttrString(stock, "result");
    weft_stock_exception = PyObject_GetAttrString(stock, "exception");
    if (weft_stock_result == NULL || weft_stock_exception == NULL) return -1;
    for (PyMethodDef *method = weft_outcome_methods; method->ml_name != NULL; method++) {
        PyObject *descriptor = PyDescr_NewMethod((PyTypeObject *)type, method);
        if (descriptor == NULL) return -1;
        int failed = PyObject_SetAttrString(type, method->ml_name, descriptor);
        Py_DECREF(descriptor);
        if (failed) return -1;
    }
    weft_stock_await = ((PyTypeObject *)stock)->tp_as_async->am_await;
    ((PyTypeObject *)type)->tp_as_async->am_await = weft_task_await;
    ((PyTypeObject *)type)->tp_iter = weft_task_await;
    return 0;
}

#endif
