"""Descriptors that the user owns and the loop only watches: ``add_reader``, ``add_writer``, and sockets of ``sock_*``.

One ``Watcher`` per descriptor holds up to one handle for each direction, and the waiters of those who wait for one.
With a handle, the driver watches exactly the directions that somebody wants, as long as they want them. A descriptor
that only ``sock_*`` has to do with is watched once for each wait, and stays known in between. The mixin ``Watches`` is
part of the event loop.
"""

import cython
from cython.cimports.weft._core.driver import IN_READY, OUT_READY, Driver, Sink
from cython.cimports.weft._core.handle import Handle, new_handle
from cython.cimports.weft._core.scheduler import Scheduler
from cython.cimports.weft._core.waiter import Waiter


class Watcher(Sink):
    def __repr__(self):
        return f"<Watcher fd={self.fd} reader={self.reader!r} writer={self.writer!r}>"

    def is_transport(self):
        return False

    def on_readable(self):
        if self.readers is not None:
            self.readers = wake_all(self.readers)
            self.settle()
        return 0 if self.reader is None else self.loop.run_now(self.reader)

    def on_writable(self):
        if self.writers is not None:
            self.writers = wake_all(self.writers)
            self.settle()
        return 0 if self.writer is None else self.loop.run_now(self.writer)

    def on_once(self, readable, writable):
        if readable:
            self.may_read = True
            if self.readers is not None:
                self.readers = wake_all(self.readers)
        if writable and self.writers is not None:
            self.writers = wake_all(self.writers)
        if self.readers is not None or self.writers is not None:
            self.wait()
        return 0

    def await_readable(self, waiter):
        """Wake ``waiter`` when it is readable."""
        self.readers = [waiter] if self.readers is None else [*self.readers, waiter]
        return self.wait()

    def await_writable(self, waiter):
        """The same for writing."""
        self.writers = [waiter] if self.writers is None else [*self.writers, waiter]
        return self.wait()

    def wait(self):
        """Make the driver wake those who wait."""
        if self.reader is not None or self.writer is not None:
            return self.settle()
        return self.loop._driver.watch_once(self, self.readers is not None, self.writers is not None)

    def on_evicted(self):
        if self.readers is not None:
            self.readers = wake_all(self.readers)
        if self.writers is not None:
            self.writers = wake_all(self.writers)
        if self.reader is not None:
            self.reader.cancel()
        if self.writer is not None:
            self.writer.cancel()
        self.reader = self.writer = None
        return 0

    def settle(self):
        """Make the driver watch the directions that somebody wants."""
        driver: Driver = self.loop._driver
        reading: cython.bint = self.reader is not None or self.readers is not None
        writing: cython.bint = self.writer is not None or self.writers is not None
        if not reading and not writing:
            return driver.release(self)
        self.is_once = False
        if reading:
            driver.receive(self)
        else:
            driver.unreceive(self)
        if writing:
            driver.await_writable(self)
        else:
            driver.unsend(self)
        return 0


class Watches:
    """``add_reader`` and its like; see :class:`asyncio.AbstractEventLoop`."""

    def add_reader(self, fd, callback, *args):
        """Call ``callback(*args)`` in every turn in which ``fd`` can be read without blocking."""
        self._watch_reader(self._own_fd(fd), callback, *args)

    def remove_reader(self, fd):
        """Stop watching ``fd`` for reading; returns whether it was watched."""
        return self._unwatch_reader(self._own_fd(fd))

    def add_writer(self, fd, callback, *args):
        """Call ``callback(*args)`` in every turn in which ``fd`` can be written without blocking."""
        self._watch_writer(self._own_fd(fd), callback, *args)

    def remove_writer(self, fd):
        """Stop watching ``fd`` for writing; returns whether it was watched."""
        return self._unwatch_writer(self._own_fd(fd))

    def _own_fd(self, fd):
        """``fd`` as a number; refuses one that a transport owns."""
        number = fileno(fd)
        transport = self._transport_of(number)
        if transport is not None:
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")
        return number

    def _transport_of(self, fd):
        # SAFETY: this mixin is only ever part of a Scheduler.
        sink: Sink = cython.cast(Scheduler, self)._driver.sink_of(fd)
        return sink if sink is not None and sink.is_transport() else None

    def _watch_reader(self, fd, callback, *args):
        return watch(self, fd, callback, args, True)

    def _watch_writer(self, fd, callback, *args):
        return watch(self, fd, callback, args, False)

    def _unwatch_reader(self, fd):
        return unwatch(self, fd, True)

    def _unwatch_writer(self, fd):
        return unwatch(self, fd, False)


def fileno(fd):
    """The number of a descriptor given as such or as an object with ``fileno()``."""
    number = fd
    if not isinstance(fd, int):
        try:
            number = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
    if number < 0:
        raise ValueError(f"Invalid file descriptor: {number}")
    return number


@cython.cfunc
def watch(loop: Scheduler, fd: cython.int, callback: object, args: tuple, reading: cython.bint) -> Handle:
    loop.check()
    sink: Sink = loop._driver.sink_of(fd)
    watcher: Watcher
    watcher = new_watcher(loop, fd) if sink is None else sink
    handle: Handle = new_handle(loop, callback, args, None, loop.debug)
    handle.is_kept = True
    previous: Handle = watcher.reader if reading else watcher.writer
    replace(watcher, handle, reading)
    try:
        watcher.settle()
    except BaseException:
        replace(watcher, previous, reading)
        watcher.settle()
        raise
    if previous is not None:
        previous.cancel()
    return handle


@cython.cfunc
def unwatch(loop: Scheduler, fd: cython.int, reading: cython.bint) -> cython.bint:
    if loop.closed:
        return False
    loop.check()
    sink: Sink = loop._driver.sink_of(fd)
    if sink is None or sink.is_transport():
        return False
    watcher: Watcher = sink
    handle: Handle = watcher.reader if reading else watcher.writer
    if handle is None:
        return False
    replace(watcher, None, reading)
    watcher.settle()
    handle.cancel()
    return True


def new_watcher(loop, fd):
    watcher: Watcher = Watcher.__new__(Watcher)
    watcher.loop = loop
    watcher.fd = fd
    watcher.incoming = IN_READY
    watcher.outgoing = OUT_READY
    watcher.may_read = True
    return watcher


def watcher_at(loop, number):
    """What is known of a descriptor that ``sock_*`` has waited for before; None: to be tried."""
    sink: Sink = loop._driver.sink_of(number)
    if not isinstance(sink, Watcher):
        return None
    return sink


def watcher_of(loop, sock):
    """The watcher to wait with."""
    loop.check()
    number: cython.int = fileno(sock)
    known: Watcher = watcher_at(loop, number)
    if known is not None:
        return known
    owner: Sink = loop._driver.sink_of(number)
    if owner is not None:
        # Both would steal each other's bytes.
        raise RuntimeError(f"File descriptor {number} is used by transport {owner!r}")
    return new_watcher(loop, number)


@cython.cfunc
def wake_all(waiters: list) -> object:
    """Wake all that wait; returns the empty list of waiters."""
    for item in waiters:
        waiter: Waiter = item
        waiter.wake()
    return None


@cython.cfunc
def replace(watcher: Watcher, handle: object, reading: cython.bint) -> cython.int:
    if reading:
        watcher.reader = handle
    else:
        watcher.writer = handle
    return 0
