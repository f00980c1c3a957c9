"""The calls of CPython's C API that Cython does not declare, or declares without the borrowed pointers used here."""

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass
    ctypedef struct PyTypeObject:
        pass
    ctypedef PyObject* (*getter)(PyObject*, void*)
    ctypedef int (*setter)(PyObject*, PyObject*, void*)
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    bint PyExceptionInstance_Check(PyObject*)
    PyTypeObject* Py_TYPE(object)
    PyTypeObject* Py_TYPE_OF "Py_TYPE"(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_DECREF(PyObject*)
    void Py_XDECREF(PyObject*)
    void PyObject_GC_Track(void*)
    void PyObject_GC_UnTrack(void*)
    int Py_EnterRecursiveCall(const char* where) except -1
    void Py_LeaveRecursiveCall()
    unsigned long PyThread_get_thread_ident() nogil
    int PyErr_CheckSignals() except -1
    bint PyCallable_Check(object)
    bint Py_IsFinalizing() nogil
    object PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    PyObject* PyBytes_NewBlock "PyBytes_FromStringAndSize"(const char*, Py_ssize_t) except NULL
    char* PyBytes_START "PyBytes_AS_STRING"(PyObject*)

cdef extern from "weft_sys.h":
    getter weft_getter(PyObject* descriptor)
    setter weft_setter(PyObject* descriptor)
    PyObject* weft_take_exception()
    object weft_cut_bytes(PyObject* block, Py_ssize_t size)
    int weft_raise_again(object exception) except -1
    object weft_new(object type, tuple no_args)
    int weft_init(object type, object self, tuple args, dict keywords) except -1
    Py_ssize_t weft_slot_offset(object descriptor)
    PyObject** weft_slot(object self, Py_ssize_t offset)
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    ctypedef int (*traverseproc)(PyObject*, visitproc, void*) noexcept
    traverseproc weft_get_traverse(object type)
    void weft_set_traverse(object type, traverseproc function)
    double weft_as_double(object number) except? -1
    object weft_call(object callable, tuple args)
    int weft_call2(object function, object a, object b) except -1
    int weft_try_call2 "weft_call2"(object function, object a, object b) noexcept  # -1: an exception is set
    PyObject* weft_call0(object method, object self)
    object weft_ask "weft_call0"(object method, object self)
    void weft_inherit_new(object type)
    PyObject* weft_call_method0(object self, object name)
    int weft_add_done_callback(object method, object future, object callback, object context, object kwnames) except -1
    PySendResult weft_step(object coroutine, PyObject* exception, object throw_name, PyObject** result)
