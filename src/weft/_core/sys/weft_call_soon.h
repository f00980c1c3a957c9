/* The door by which call_soon is entered from anywhere: asyncio's futures, which wake tasks by it, and programs.
 *
 * The method that Cython makes looks keywords up and collects the arguments before the first line of it runs; a wake-up
 * needs neither, and the rest has one keyword at most. So the function object's way in (tp_vectorcall_offset: PEP 590)
 * leads here first. Included by stepper.pxd alone; weft_install_call_soon() is called once, when the class is made.
 */
#ifndef WEFT_CALL_SOON_H
#define WEFT_CALL_SOON_H

#include <Python.h>

/* wake(loop, callback, argument): 1 when that was a wake-up, which is done; 0 when not; -1 with an exception set. */
static int (*weft_wake)(PyObject *loop, PyObject *callback, PyObject *argument);
/* schedule(loop, callback, args, context): what the method returns. */
static PyObject *(*weft_schedule)(PyObject *loop, PyObject *callback, PyObject *args, PyObject *context);
static vectorcallfunc weft_general_call_soon;
static PyObject *weft_context_name, *weft_no_arguments;
static PyTypeObject *weft_loop_base, *weft_loop_type; /* the class with the method; the class of the loop before */

/* Whether `loop` may be handed to schedule(). A program has loops of one class, mostly. */
static inline int weft_is_loop(PyObject *loop) {
    if (Py_IS_TYPE(loop, weft_loop_type)) return 1;
    if (!PyObject_TypeCheck(loop, weft_loop_base)) return 0;
    Py_XSETREF(weft_loop_type, (PyTypeObject *)Py_NewRef(Py_TYPE(loop)));
    return 1;
}

static inline PyObject *weft_call_soon(PyObject *method, PyObject *const *args, size_t flags, PyObject *names) {
    Py_ssize_t given = PyVectorcall_NARGS(flags);
    if (given == 3) {
        int woken = weft_wake(args[0], args[1], args[2]);
        if (woken < 0) return NULL;
        if (woken) Py_RETURN_NONE; /* asyncio ignores what it gets */
    }
    /* For the general way: what lacks an argument, and a name that is not interned, or not known. */
    if (given < 2 || !weft_is_loop(args[0])
        || (names != NULL && (PyTuple_GET_SIZE(names) != 1 || PyTuple_GET_ITEM(names, 0) != weft_context_name)))
        return weft_general_call_soon(method, args, flags, names);
    PyObject *rest = Py_NewRef(weft_no_arguments);
    if (given > 2) {
        Py_DECREF(rest);
        rest = PyTuple_New(given - 2);
        if (rest == NULL) return NULL;
        for (Py_ssize_t i = 2; i < given; i++) PyTuple_SET_ITEM(rest, i - 2, Py_NewRef(args[i]));
    }
    PyObject *handle = weft_schedule(args[0], args[1], rest, names == NULL ? Py_None : args[given]);
    Py_DECREF(rest);
    return handle;
}

/* Without a way in that can be led elsewhere nothing is changed, and -1 returned with an exception set. */
static inline int weft_install_call_soon(
    PyObject *method, PyObject *base, int (*wake)(PyObject *, PyObject *, PyObject *),
    PyObject *(*schedule)(PyObject *, PyObject *, PyObject *, PyObject *)
) {
    Py_ssize_t offset = Py_TYPE(method)->tp_vectorcall_offset;
    vectorcallfunc *way_in = (vectorcallfunc *)((char *)method + offset);
    if (offset <= 0 || *way_in == NULL) {
        PyErr_Format(PyExc_SystemError, "%R has no vectorcall function: was it compiled with binding=False?", method);
        return -1;
    }
    weft_context_name = PyUnicode_InternFromString("context");
    weft_no_arguments = PyTuple_New(0);
    if (weft_context_name == NULL || weft_no_arguments == NULL) return -1;
    weft_loop_base = (PyTypeObject *)base; /* the module that defines it holds it */
    weft_wake = wake;
    weft_schedule = schedule;
    weft_general_call_soon = *way_in;
    *way_in = weft_call_soon;
    return 0;
}

#endif
