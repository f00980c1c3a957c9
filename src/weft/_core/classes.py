"""Putting a class in the place of another, for those who make objects of it.

``Lock.__new__ = ...`` can be taken back by ``del`` in the language, but CPython (up to 3.15 at least) keeps the slot
behind it, and then refuses the arguments of the constructor: ``forget_new`` gives the slot back as well. Called by
``weft.accelerate``.
"""

import cython
from cython.cimports.weft._core.sys.python import weft_inherit_new

OBJECT_NEW = cython.declare(object, object.__new__)


def forget_new(cls):
    """Take ``cls.__new__`` back: it, and what derives from it, is made by ``object.__new__`` again."""
    del cls.__new__
    pending: list = [cls]
    while pending:
        one: object = pending.pop()
        if one.__new__ is OBJECT_NEW:
            weft_inherit_new(one)
        pending += type.__subclasses__(one)
