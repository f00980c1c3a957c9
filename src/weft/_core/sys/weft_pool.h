/* Memory of objects that come and go by the million: what the last ones of a type left is taken by the next.
 *
 * Cython's freelists serve base classes only; handles have one. Included by the .pxd of a module that has one such type:
 * each includes a pool of its own. weft_pool_type() is called once, when the class is made.
 */
#ifndef WEFT_POOL_H
#define WEFT_POOL_H

#include <Python.h>
#include <string.h>

enum { WEFT_POOLED = 256 };
static PyObject *weft_pool[WEFT_POOLED];
static int weft_pool_count;
static PyTypeObject *weft_pooled_type;

static PyObject *weft_pool_alloc(PyTypeObject *type, Py_ssize_t items) {
    if (type != weft_pooled_type || weft_pool_count == 0) return PyType_GenericAlloc(type, items);
    PyObject *object = weft_pool[--weft_pool_count];
    memset((char *)object + sizeof(PyObject), 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    (void)PyObject_Init(object, type);
    PyObject_GC_Track(object);
    return object;
}

/* The object is untracked, and has let go of all that it held. */
static void weft_pool_free(void *object) {
    if (Py_IS_TYPE((PyObject *)object, weft_pooled_type) && weft_pool_count < WEFT_POOLED)
        weft_pool[weft_pool_count++] = (PyObject *)object;
    else
        PyObject_GC_Del(object);
}

/* `type` is tracked by the collector, has no finaliser, and is no heap type: its instances do not count for it. */
static inline void weft_pool_type(PyObject *type) {
    weft_pooled_type = (PyTypeObject *)type;
    weft_pooled_type->tp_alloc = weft_pool_alloc;
    weft_pooled_type->tp_free = weft_pool_free;
}

#endif
