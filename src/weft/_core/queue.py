"""``Queue``, ``PriorityQueue`` and ``LifoQueue``: asyncio's, with compiled methods that wait without futures.

Built as the locks are (``locks.py`` says how): a core with asyncio's private attributes, under a class that derives
from asyncio's; whoever derives from ours gets asyncio's methods, which call what it overrides. The invariant: who gets,
and who puts, is woken in the order of coming, and one that was woken and cannot go on wakes the next. The items stand
where asyncio keeps them, in ``_queue``: a deque, a list, or a heap.
"""

import asyncio
import heapq
from asyncio import QueueEmpty, QueueFull
from collections import deque

import cython
from cython.cimports.weft._core.lines import LoopBound, Wait, new_line, wake_next
from cython.cimports.weft._core.locks import EventCore, new_event
from cython.cimports.weft._core.sys.python import Py_TYPE, PyTypeObject
from cython.cimports.weft._core.waiter import GIVEN_UP

# From 3.13 on queues can be shut down, by asyncio's own method.
QueueShutDown = cython.declare(object, getattr(asyncio, "QueueShutDown", None))
HEAP_PUSH = cython.declare(object, heapq.heappush)
HEAP_POP = cython.declare(object, heapq.heappop)
APPEND = cython.declare(object, deque.append)
POPLEFT = cython.declare(object, deque.popleft)


class QueueCore(LoopBound):
    def __init__(self, maxsize=0, **unexpected):
        self.refuse(unexpected)
        self._maxsize = maxsize
        self.settle()
        self.finished = None
        self.unfinished = 0
        self.is_shut_down = False
        if self.kind == SUBCLASS:
            self._init(maxsize)
        else:
            self.store = deque() if self.kind == FIRST_IN else []

    def settle(self):
        self.kind = SUBCLASS
        if Py_TYPE(self) == queue_type:
            self.kind = FIRST_IN
        elif Py_TYPE(self) == lifo_type:
            self.kind = LAST_IN
        elif Py_TYPE(self) == priority_type:
            self.kind = LOWEST
        self.getters = new_line()
        self.putters = new_line()
        return 0

    def state_names(self):
        return ("_maxsize", "_queue", "_unfinished_tasks", "_is_shutdown")

    def waiting_count(self):
        return len(self.getters) + len(self.putters) + (self.finished is not None and self.finished.waiting_count())

    # -- asyncio's private attributes, which subclasses and tools use --------------------------------------------------

    @property
    def _maxsize(self):
        return self.size_limit

    @_maxsize.setter
    def _maxsize(self, value):
        self.size_limit = value
        if type(value) is int:
            self.limit = max(min(value, 1 << 62), 0)
        else:
            self.limit = ASK  # infinity, say

    @property
    def _queue(self):
        return self.store

    @_queue.setter
    def _queue(self, value):
        self.store = value
        if self.kind == FIRST_IN and type(value) is not deque:
            self.kind = SUBCLASS  # asyncio's own methods know what to do with it
        elif self.kind != FIRST_IN and type(value) is not list:
            self.kind = SUBCLASS

    @property
    def _getters(self):
        return self.getters

    @_getters.setter
    def _getters(self, value):
        self.getters = value

    @property
    def _putters(self):
        return self.putters

    @_putters.setter
    def _putters(self, value):
        self.putters = value

    @property
    def _unfinished_tasks(self):
        return self.unfinished

    @_unfinished_tasks.setter
    def _unfinished_tasks(self, value):
        self.unfinished = value

    @property
    def _finished(self):
        return self.when_finished()

    @_finished.setter
    def _finished(self, value):
        self.finished = value

    @property
    def _is_shutdown(self):
        return self.is_shut_down

    @_is_shutdown.setter
    def _is_shutdown(self, value):
        self.is_shut_down = value

    # -- asyncio's methods ---------------------------------------------------------------------------------------------

    @property
    def maxsize(self):
        """How many items fit; 0 or less means any number."""
        return self.size_limit

    def qsize(self):
        """How many items there are."""
        return len(self.store)

    def empty(self):
        """Whether there is no item."""
        return not self.store

    def full(self):
        """Whether there is no room."""
        return STOCK_FULL(self) if self.kind == SUBCLASS else self.is_full()

    def put(self, item):
        """Put an item in, when there is room for it; to be awaited.

        Raises:
            QueueShutDown: the queue was shut down (from Python 3.13 on).
        """
        if self.kind == SUBCLASS:
            return STOCK_PUT(self, item)
        putting: Put = Put.__new__(Put)
        putting.queue = self
        putting.item = item
        return putting

    def get(self):
        """Take an item out, when there is one; to be awaited.

        Raises:
            QueueShutDown: the queue was shut down and is empty (from Python 3.13 on).
        """
        if self.kind == SUBCLASS:
            return STOCK_GET(self)
        getting: Get = Get.__new__(Get)
        getting.queue = self
        return getting

    def put_nowait(self, item):
        """Put an item in.

        Raises:
            QueueFull: there is no room.
            QueueShutDown: the queue was shut down (from Python 3.13 on).
        """
        if self.kind == SUBCLASS:
            return STOCK_PUT_NOWAIT(self, item)
        if self.is_shut_down:
            raise QueueShutDown
        if self.is_full():
            raise QueueFull
        self.add(item)

    def get_nowait(self):
        """Take an item out.

        Raises:
            QueueEmpty: there is none.
            QueueShutDown: the queue was shut down and is empty (from Python 3.13 on).
        """
        if self.kind == SUBCLASS:
            return STOCK_GET_NOWAIT(self)
        if not self.store:
            if self.is_shut_down:
                raise QueueShutDown
            raise QueueEmpty
        return self.take()

    def task_done(self):
        """Say that an item that was taken out is done with.

        Raises:
            ValueError: more often than items were put in.
        """
        if self.unfinished <= 0:
            raise ValueError("task_done() called too many times")
        self.unfinished -= 1
        if self.unfinished == 0 and self.finished is not None:
            self.finished.set()

    def join(self):
        """Wait until every item that was put in is done with; to be awaited."""
        if self.kind == SUBCLASS:
            return STOCK_JOIN(self)
        joining: Join = Join.__new__(Join)
        joining.queue = self
        return joining

    # -- the same in C -------------------------------------------------------------------------------------------------

    def is_full(self):
        if self.limit == 0:
            return False
        if self.limit == ASK:
            return self.size_limit > 0 and len(self.store) >= self.size_limit
        return len(self.store) >= self.limit

    def add(self, item):
        if self.kind == FIRST_IN:
            APPEND(self.store, item)
        elif self.kind == LAST_IN:
            cython.cast(list, self.store).append(item)  # SAFETY: the kind says what it is
        else:
            HEAP_PUSH(self.store, item)
        self.unfinished += 1
        if self.finished is not None:
            self.finished.clear()
        if self.getters:
            wake_next(self.getters)
        return 0

    def take(self):
        item: object
        if self.kind == FIRST_IN:
            item = POPLEFT(self.store)
        elif self.kind == LAST_IN:
            item = cython.cast(list, self.store).pop()  # SAFETY: the kind says what it is
        else:
            item = HEAP_POP(self.store)
        if self.putters:
            wake_next(self.putters)
        return item

    def when_finished(self):
        """The event behind :meth:`join`, made when somebody has to wait for it."""
        if self.finished is None:
            self.finished = new_event(self.unfinished == 0)
        return self.finished


class Get(Wait):
    def name(self):
        return "Queue.get"

    def begin(self):
        queue: QueueCore = self.queue
        if queue.store:
            return queue.take()
        if queue.is_shut_down:
            raise QueueShutDown
        return self.stand(queue, queue.getters)

    def give_up(self, error):
        queue: QueueCore = self.queue
        self.abandon(queue.getters)
        if queue.store and self.waiter.state != GIVEN_UP:
            wake_next(queue.getters)
        raise error


class Put(Wait):
    def name(self):
        return "Queue.put"

    def begin(self):
        queue: QueueCore = self.queue
        if queue.is_full():
            if queue.is_shut_down:
                raise QueueShutDown
            return self.stand(queue, queue.putters)
        if queue.is_shut_down:
            raise QueueShutDown
        queue.add(self.item)
        return None

    def give_up(self, error):
        queue: QueueCore = self.queue
        self.abandon(queue.putters)
        if not queue.is_full() and self.waiter.state != GIVEN_UP:
            wake_next(queue.putters)
        raise error


class Join(Wait):
    def name(self):
        return "Queue.join"

    def begin(self):
        if self.queue.unfinished <= 0:
            return None
        event: EventCore = self.queue.when_finished()
        self.event = event
        return None if event.value else self.stand(event, event.line)

    def resume(self):
        self.abandon(self.event.line)

    def give_up(self, error):
        self.abandon(self.event.line)
        raise error


# Taken before anybody may have put something else in their place.
STOCK_FULL = cython.declare(object, asyncio.Queue.full)
STOCK_PUT = cython.declare(object, asyncio.Queue.put)
STOCK_GET = cython.declare(object, asyncio.Queue.get)
STOCK_PUT_NOWAIT = cython.declare(object, asyncio.Queue.put_nowait)
STOCK_GET_NOWAIT = cython.declare(object, asyncio.Queue.get_nowait)
STOCK_JOIN = cython.declare(object, asyncio.Queue.join)


class Queue(QueueCore, asyncio.Queue):
    """:class:`asyncio.Queue`: first in, first out.

    Args:
        maxsize: how many items fit; 0 or less means any number.
    """


class LifoQueue(Queue, asyncio.LifoQueue):
    """:class:`asyncio.LifoQueue`: last in, first out."""


class PriorityQueue(Queue, asyncio.PriorityQueue):
    """:class:`asyncio.PriorityQueue`: the lowest item is first out."""


for _class in (Queue, LifoQueue, PriorityQueue):
    _class.__module__ = "weft"

# SAFETY: the module holds the classes.
queue_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), Queue))
lifo_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), LifoQueue))
priority_type = cython.declare(cython.pointer(PyTypeObject), cython.cast(cython.pointer(PyTypeObject), PriorityQueue))
