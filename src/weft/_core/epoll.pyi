"""Types of the driver on epoll."""

from weft._core.epoll_table import EpollTable

class EpollDriver(EpollTable):
    def after_fork(self, was_running: bool) -> int: ...
