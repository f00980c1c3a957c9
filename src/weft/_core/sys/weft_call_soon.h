/* The door of call_soon, by which asyncio's futures wake tasks: see weft_door.h. A wake-up needs neither a tuple of
 * arguments nor a keyword, and the rest has one keyword at most.
 *
 * Included by stepper.pxd alone; weft_install_call_soon() is called once, when the class is made.
 */
#ifndef WEFT_CALL_SOON_H
#define WEFT_CALL_SOON_H

#include "weft_door.h"

/* wake(loop, callback, argument): 1 when that was a wake-up, which is done; 0 when not; -1 with an exception set. */
static int (*weft_wake)(PyObject *loop, PyObject *callback, PyObject *argument);
/* schedule(loop, callback, args, context): what the method returns. */
static PyObject *(*weft_schedule)(PyObject *loop, PyObject *callback, PyObject *args, PyObject *context);
static PyObject *weft_context_name, *weft_no_arguments;
static PyObject *weft_stock_names; /* the tuple that asyncio's C module hands over, whose name is not interned */

/* Whether the one keyword is `context`. */
static inline int weft_is_context(PyObject *names) {
    if (names == weft_stock_names) return 1;
    if (PyTuple_GET_SIZE(names) != 1) return 0;
    PyObject *name = PyTuple_GET_ITEM(names, 0);
    if (name == weft_context_name) return 1;
    if (PyUnicode_CompareWithASCIIString(name, "context") != 0) return 0;
    Py_XSETREF(weft_stock_names, Py_NewRef(names));
    return 1;
}

static inline PyObject *weft_call_soon(PyObject *method, PyObject *const *args, size_t flags, PyObject *names) {
    Py_ssize_t given = PyVectorcall_NARGS(flags);
    if (given == 3) {
        int woken = weft_wake(args[0], args[1], args[2]);
        if (woken < 0) return NULL;
        if (woken) Py_RETURN_NONE; /* asyncio ignores what it gets */
    }
    /* What is wrong is for the general way, which says so. */
    if (given < 2 || !weft_is_loop(args[0]) || (names != NULL && !weft_is_context(names)))
        return weft_general_way(method, args, flags, names);
    PyObject *rest = given > 2 ? PyTuple_New(given - 2) : Py_NewRef(weft_no_arguments);
    if (rest == NULL) return NULL;
    for (Py_ssize_t i = 2; i < given; i++) PyTuple_SET_ITEM(rest, i - 2, Py_NewRef(args[i]));
    PyObject *handle = weft_schedule(args[0], args[1], rest, names == NULL ? Py_None : args[given]);
    Py_DECREF(rest);
    return handle;
}

static inline int weft_install_call_soon(
    PyObject *method, PyObject *base, int (*wake)(PyObject *, PyObject *, PyObject *),
    PyObject *(*schedule)(PyObject *, PyObject *, PyObject *, PyObject *)
) {
    weft_wake = wake;
    weft_schedule = schedule;
    weft_context_name = PyUnicode_InternFromString("context");
    weft_no_arguments = PyTuple_New(0);
    if (weft_context_name == NULL || weft_no_arguments == NULL) return -1;
    return weft_lead(method, base, weft_call_soon);
}

#endif
