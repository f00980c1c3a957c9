/* Doors: a way of our own into a method that Cython has made, for the calls that come most.
 *
 * Such a method looks keywords up and collects the arguments before its first line runs, which the plain calls do not
 * need. The function object's way in (tp_vectorcall_offset: PEP 590) is led to a C function, which serves what it knows
 * and leaves the rest to the way that was there before. Each module that includes this has one door.
 */
#ifndef WEFT_DOOR_H
#define WEFT_DOOR_H

#include <Python.h>

static vectorcallfunc weft_general_way;
static PyTypeObject *weft_loop_base, *weft_loop_type; /* the class whose C methods are called; that of the last loop */

/* Whether `loop` is what the C methods take. A program has loops of one class, mostly. */
static inline int weft_is_loop(PyObject *loop) {
    if (Py_IS_TYPE(loop, weft_loop_type)) return 1;
    if (!PyObject_TypeCheck(loop, weft_loop_base)) return 0;
    Py_XSETREF(weft_loop_type, (PyTypeObject *)Py_NewRef(Py_TYPE(loop)));
    return 1;
}

/* Have calls of `method` go to `door`; `base` is a class that its module holds. Without a way in that can be led
 * elsewhere nothing is changed, and -1 returned with an exception set. */
static inline int weft_lead(PyObject *method, PyObject *base, vectorcallfunc door) {
    Py_ssize_t offset = Py_TYPE(method)->tp_vectorcall_offset;
    vectorcallfunc *way_in = (vectorcallfunc *)((char *)method + offset);
    if (offset <= 0 || *way_in == NULL) {
        PyErr_Format(PyExc_SystemError, "%R has no vectorcall function: was it compiled with binding=False?", method);
        return -1;
    }
    weft_loop_base = (PyTypeObject *)base;
    weft_general_way = *way_in;
    *way_in = door;
    return 0;
}

#endif
