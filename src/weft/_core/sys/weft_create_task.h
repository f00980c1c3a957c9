/* The door of create_task for `create_task(coro)` with nothing else: see weft_door.h.
 *
 * Included by task.pxd alone; weft_install_create_task() is called once, when the class is made.
 */
#ifndef WEFT_CREATE_TASK_H
#define WEFT_CREATE_TASK_H

#include "weft_door.h"

static PyObject *(*weft_create)(PyObject *loop, PyObject *coro);

static inline PyObject *weft_create_task(PyObject *method, PyObject *const *args, size_t flags, PyObject *names) {
    if (names == NULL && PyVectorcall_NARGS(flags) == 2 && weft_is_loop(args[0])) return weft_create(args[0], args[1]);
    return weft_general_way(method, args, flags, names);
}

static inline int weft_install_create_task(
    PyObject *method, PyObject *base, PyObject *(*create)(PyObject *, PyObject *)
) {
    weft_create = create;
    return weft_lead(method, base, weft_create_task);
}

#endif
