"""Types of the table below the driver on epoll."""

from weft._core.driver import Driver

class EpollTable(Driver): ...
