/* The slots by which an operation is awaited: without them each await of one would raise and catch a StopIteration.
 * Included by operation.pxd alone; weft_install_operation() is called once, before any subclass is made.
 */
#ifndef WEFT_OPERATION_H
#define WEFT_OPERATION_H

#include <Python.h>

/* go(operation): to the next stop; a waiter when it waits, the pause when it gives way, else the result. */
static PyObject *(*weft_go)(PyObject *operation);
static PyTypeObject *weft_waiter_class;
static PyObject *weft_pause;

/* What a coroutine yields to give way for one turn is None. */
static inline PyObject *weft_give_way(PyObject *pause) {
    Py_DECREF(pause);
    return Py_NewRef(Py_None);
}

static PySendResult weft_operation_send(PyObject *self, PyObject *value, PyObject **result) {
    (void)value;
    *result = weft_go(self);
    if (*result == NULL) return PYGEN_ERROR;
    if (*result == weft_pause) {
        *result = weft_give_way(*result);
        return PYGEN_NEXT;
    }
    return Py_TYPE(*result) == weft_waiter_class ? PYGEN_NEXT : PYGEN_RETURN;
}

/* raise StopIteration(result). From 3.12 on this is how the interpreter learns of the result of each await: so the
 * exception is made by its type's slot, and its field filled (PyStopIterationObject is declared in CPython's headers),
 * without the call of a class, and raised without a look at what else is being handled. */
static inline void weft_stop_with(PyObject *result) {
#if PY_VERSION_HEX >= 0x030C0000
    PyTypeObject *type = (PyTypeObject *)PyExc_StopIteration;
    PyObject *args = PyTuple_Pack(1, result);
    PyObject *stop = args == NULL ? NULL : type->tp_new(type, args, NULL);
    Py_XDECREF(args);
    if (stop == NULL) return;
    Py_XSETREF(((PyStopIterationObject *)stop)->value, Py_NewRef(result));
    PyErr_SetRaisedException(stop);
#else
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    if (stop != NULL) PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
#endif
}

static PyObject *weft_operation_next(PyObject *self) {
    PyObject *result = weft_go(self);
    if (result == NULL || Py_TYPE(result) == weft_waiter_class) return result;
    if (result == weft_pause) return weft_give_way(result);
    if (result != Py_None) weft_stop_with(result); /* an end without an exception means None */
    Py_DECREF(result);
    return NULL;
}

static inline void weft_install_operation(PyObject *type, PyObject *waiter, PyObject *pause, PyObject *(*go)(PyObject *)) {
    weft_go = go;
    weft_pause = Py_NewRef(pause);
    weft_waiter_class = (PyTypeObject *)waiter;
    ((PyTypeObject *)type)->tp_iternext = weft_operation_next;
    ((PyTypeObject *)type)->tp_as_async->am_send = weft_operation_send;
}

#endif
