/* The door by which asyncio's futures wake tasks: `loop.call_soon(callback, future, context=context)`, from C.
 *
 * The method that Cython makes collects the arguments in a tuple and looks the keyword up before the first line of it
 * runs, and a wake-up needs neither. So the function object's way in (tp_vectorcall_offset: PEP 590) leads here first.
 * Included by stepper.pxd alone; weft_install_call_soon() is called once, when the class is made.
 */
#ifndef WEFT_CALL_SOON_H
#define WEFT_CALL_SOON_H

#include <Python.h>

/* wake(loop, callback, argument): 1 when that was a wake-up, which is done; 0 when not; -1 with an exception set. */
static int (*weft_wake)(PyObject *loop, PyObject *callback, PyObject *argument);
static vectorcallfunc weft_general_call_soon;

static inline PyObject *weft_call_soon(PyObject *method, PyObject *const *args, size_t flags, PyObject *names) {
    if (PyVectorcall_NARGS(flags) == 3) {
        int woken = weft_wake(args[0], args[1], args[2]);
        if (woken < 0) return NULL;
        if (woken) Py_RETURN_NONE; /* asyncio ignores what it gets */
    }
    return weft_general_call_soon(method, args, flags, names);
}

/* Without a way in that can be led elsewhere nothing is changed, and -1 returned with an exception set. */
static inline int weft_install_call_soon(PyObject *method, int (*wake)(PyObject *, PyObject *, PyObject *)) {
    Py_ssize_t offset = Py_TYPE(method)->tp_vectorcall_offset;
    vectorcallfunc *way_in = (vectorcallfunc *)((char *)method + offset);
    if (offset <= 0 || *way_in == NULL) {
        PyErr_Format(PyExc_SystemError, "%R has no vectorcall function: was it compiled with binding=False?", method);
        return -1;
    }
    weft_wake = wake;
    weft_general_call_soon = *way_in;
    *way_in = weft_call_soon;
    return 0;
}

#endif
