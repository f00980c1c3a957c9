"""Types of the driver on epoll."""

from weft._core.epoll_table import EpollTable

class EpollDriver(EpollTable): ...
