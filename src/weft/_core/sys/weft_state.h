/* What weft keeps of a task, and the type whose instances have room for it.
 *
 * An asyncio.Task is a C structure whose layout is private. PyType_FromSpecWithBases() may derive a type from it that is
 * larger, and what comes after the base's own size is ours. Included by registry.pxd alone; weft_make_task_base() is
 * called once, at import, before there are instances, and weft_share_state() by each other module that looks at states.
 */
#ifndef WEFT_STATE_H
#define WEFT_STATE_H

#include <Python.h>
#include <stdint.h>

/* All zero in a task that was only allocated. `loop` and the neighbours are borrowed, the next three owned. */
typedef struct {
    PyObject *loop;
    PyObject *next, *previous;
    PyObject *coroutine, *context, *held;
    uint32_t cancel_requests;
    unsigned char must_cancel, is_running, ended_eagerly, is_made;
#if PY_VERSION_HEX < 0x030E0000
    uint64_t number;
#endif
} weft_state;

/* The number of the name that nobody has asked for yet; 0 where the task has its name, which it always has from 3.14 on:
 * tools that look at the process from outside read it. */
static inline uint64_t weft_get_number(weft_state *state) {
#if PY_VERSION_HEX < 0x030E0000
    return state->number;
#else
    (void)state;
    return 0;
#endif
}

static inline void weft_set_number(weft_state *state, uint64_t number) {
#if PY_VERSION_HEX < 0x030E0000
    state->number = number;
#else
    (void)state, (void)number;
#endif
}

static Py_ssize_t weft_state_offset;
static PyTypeObject *weft_stock_task, *weft_task_base;

/* Only for instances of the type below. */
static inline weft_state *weft_state_of(PyObject *task) {
    return (weft_state *)((char *)task + weft_state_offset);
}

/* The same for what may be any object, with which a method can be called; NULL with TypeError set for all others. */
static inline weft_state *weft_find_state(PyObject *object) {
    /* weft.Task derives from the base itself, which is seen without a walk through its ancestors. */
    if (Py_TYPE(object)->tp_base == weft_task_base || PyObject_TypeCheck(object, weft_task_base))
        return weft_state_of(object);
    PyErr_Format(PyExc_TypeError, "%.100s object is no weft.Task", Py_TYPE(object)->tp_name);
    return NULL;
}

/* Have an owned place refer to `value`, or to nothing (NULL). What was there may run any code as it goes. */
static inline void weft_hold(PyObject **place, PyObject *value) {
    PyObject *before = *place;
    Py_XINCREF(value);
    *place = value;
    Py_XDECREF(before);
}

static int weft_task_traverse(PyObject *self, visitproc visit, void *arg) {
    weft_state *state = weft_state_of(self);
    Py_VISIT(state->coroutine);
    Py_VISIT(state->context);
    Py_VISIT(state->held);
    return weft_stock_task->tp_traverse(self, visit, arg); /* the type of `self` among others */
}

static int weft_task_clear(PyObject *self) {
    weft_state *state = weft_state_of(self);
    Py_CLEAR(state->coroutine);
    Py_CLEAR(state->context);
    Py_CLEAR(state->held);
    return weft_stock_task->tp_clear(self);
}

static void weft_task_dealloc(PyObject *self) {
    /* First, while the task is whole; the base's own call for it finds it done. */
    if (PyObject_CallFinalizerFromDealloc(self) < 0) return;
    PyObject_GC_UnTrack(self);
    weft_state *state = weft_state_of(self);
    Py_CLEAR(state->coroutine);
    Py_CLEAR(state->context);
    Py_CLEAR(state->held);
    weft_stock_task->tp_dealloc(self);
}

/* A waiting task stands as itself among the callbacks of a future, whose repr() takes the name from here: asyncio's. */
static PyObject *weft_task_callback_name(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure)) {
    return PyUnicode_FromString("Task.task_wakeup");
}

static PyGetSetDef weft_task_getset[] = {
    {"__qualname__", weft_task_callback_name, NULL, "How asyncio words the callback of a waiting task.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot weft_task_slots[] = {
    {Py_tp_traverse, weft_task_traverse},
    {Py_tp_clear, weft_task_clear},
    {Py_tp_dealloc, weft_task_dealloc},
    {Py_tp_getset, weft_task_getset},
    {0, NULL},
};

static inline void weft_share_state(PyObject *stock, PyObject *base) {
    weft_stock_task = (PyTypeObject *)stock;
    weft_state_offset = weft_stock_task->tp_basicsize;
    weft_task_base = (PyTypeObject *)base;
}

/* A new reference to the type, or NULL with an exception set. */
static inline PyObject *weft_make_task_base(PyObject *stock) {
    weft_share_state(stock, NULL);
    PyType_Spec spec = {
        .name = "weft._core.registry.SteppedTask",
        .basicsize = (int)(weft_state_offset + (Py_ssize_t)sizeof(weft_state)),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
        .slots = weft_task_slots,
    };
    PyObject *bases = PyTuple_Pack(1, stock);
    if (bases == NULL) return NULL;
    PyObject *type = PyType_FromSpecWithBases(&spec, bases);
    Py_DECREF(bases);
    weft_task_base = (PyTypeObject *)type;
    return type;
}

#endif
