"""What a driver is, and what it drives.

A ``Driver`` is the only code that makes I/O system calls for transports, and the only clock of a loop. It speaks in
completions: a ``Sink`` (a transport, a listener, a watcher of one descriptor) says which way its bytes come and go, the
driver moves them and calls ``on_*`` when something was done. So one transport serves every driver: epoll, io_uring, a
simulated network. The invariant: a driver never closes a descriptor. Its sink owns it, and calls ``release()`` before
closing it, after which no completion reaches that sink, not even one that the kernel has reported already.

The ``on_*`` methods keep the errors of user code to themselves; what they let out (KeyboardInterrupt, SystemExit)
leaves ``deliver()`` and so the loop.
"""

from cython.cimports.weft._core.sinks import SinkList


class Sink:
    def __cinit__(self):
        self.fd = -1

    def drop_unsent(self):
        """Nothing that is queued will be sent."""
        self.is_flushing = False
        if self.queue is not None:
            self.queue.clear()
        if self.packets is not None:
            self.packets.clear()
        return 0

    def offer_buffer(self, where, size):
        """Name memory to receive into; leaving ``where`` NULL asks for the driver's own buffer."""
        return 0

    def withdraw_buffer(self):
        """The memory that was offered is not written to any more: nothing came, or it stands there now."""
        return 0

    def on_received(self, data, size):
        raise NotImplementedError

    def on_eof(self):
        raise NotImplementedError

    def on_receive_failed(self, code):
        raise NotImplementedError

    def on_datagram(self, data, address):
        raise NotImplementedError

    def keep_datagrams(self, rest):
        """What was received and could not be delivered: to be delivered in the next turn."""
        raise NotImplementedError

    def on_datagram_failed(self, error):
        """The oldest datagram was not sent, because of ``error``, and is dropped."""
        raise NotImplementedError

    def on_accepted(self, connection, address):
        raise NotImplementedError

    def on_sent(self):
        """The queue has become shorter, perhaps empty."""
        raise NotImplementedError

    def on_send_failed(self, code):
        raise NotImplementedError

    def on_readable(self):
        """For ``IN_READY``: the descriptor is readable, or has failed or ended, which a read would tell."""
        raise NotImplementedError

    def on_writable(self):
        """For ``OUT_READY``: as above, for writing."""
        raise NotImplementedError

    def on_once(self, readable, writable):
        """For ``watch_once``: it is readable or writable, or has failed or ended, which is both."""
        raise NotImplementedError

    def on_evicted(self):
        """The descriptor belongs to another sink now: it was closed behind this one's back."""
        return 0

    def is_transport(self):
        """Whether asyncio's users may no longer watch this descriptor themselves."""
        return True


class Driver:
    # `poll_interval`: for how many ticks (sys/weft_sys.h) ready callbacks may run before wait() is called again.
    # `unsent`: the sinks that flush() has something to send for.
    # `watched`: what the loop shows to the watchdog, which is told of each sink that is called. NULL without a loop.
    # `is_delivering`: whether it is the driver who calls the sinks now, not the code of a user who writes or closes.

    def __cinit__(self):
        self.unsent = SinkList()

    def read_clock(self):
        """The moment, in nanoseconds; it never goes back."""
        return 0

    def wait(self, timeout):
        """Find out what can be delivered; wait up to ``timeout`` nanoseconds (negative: for ever) for some."""
        raise NotImplementedError

    def deliver(self):
        """Deliver what the last ``wait()`` found, save to those who were released since."""
        raise NotImplementedError

    def wake(self):
        """End a ``wait()`` that is under way. The only method for other threads; they hold the GIL."""

    def register(self, sink):
        """Know ``sink`` as the owner of its descriptor, before anything moves.

        A sink that nothing moves for, and that says ``is_collectable``, is not kept alive by the driver; it releases
        itself when it is collected.
        """
        raise NotImplementedError

    def receive(self, sink):
        """Deliver what comes in, as ``sink.incoming`` says, until ``unreceive()``."""
        raise NotImplementedError

    def unreceive(self, sink):
        raise NotImplementedError

    def send(self, sink):
        """Send ``sink.queue``, or ``sink.packets``, at the end of this turn, and go on until it is empty."""
        raise NotImplementedError

    def send_now(self, sink):
        """Send at once what the kernel takes; the rest follows by itself."""
        raise NotImplementedError

    def await_writable(self, sink):
        """Call ``sink.on_writable()`` whenever the descriptor is writable, until ``unsend()``."""
        raise NotImplementedError

    def unsend(self, sink):
        raise NotImplementedError

    def watch_once(self, sink, reading, writing):
        """Call ``sink.on_once()`` once, when one of what is asked for comes true, or is true already.

        After that the sink is still known, and nothing is watched for it. A call takes the place of the one before.
        """
        raise NotImplementedError

    def flush(self):
        """The end of a turn: send what ``send()`` was asked to."""
        raise NotImplementedError

    def release(self, sink):
        """Forget ``sink`` and its descriptor; harmless when it was not known."""
        raise NotImplementedError

    def sink_of(self, fd):
        """The sink that this driver knows for ``fd``, or None."""
        raise NotImplementedError

    def close(self):
        raise NotImplementedError

    def after_fork(self, was_running):
        """In a forked child: share nothing of the driver's own with the parent any more.

        If the loop was running, the parent goes on with it, and the connections are the parent's: nothing comes or
        goes here. If not, it may be the child that is to run it, as servers do that fork before they serve: all that
        was watched still is.
        """
        return 0

    def traverse(self, visit, data):
        """Show the garbage collector the references that only C knows of, on behalf of the loop."""
        return 0
