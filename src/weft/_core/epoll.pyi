"""Types of the driver on epoll."""

from weft._core.driver import Driver

class EpollDriver(Driver): ...
