"""What is done to each socket of a connection; see weft_socket.h for what each promises."""

from weft._core.sys.datagram cimport socklen_t, weft_address

cdef extern from "weft_socket.h":
    int weft_accept(int fd, weft_address* peer, socklen_t* length)
    int weft_own_address(int fd, weft_address* own, socklen_t* length)
    int weft_set_no_delay(int fd)
    int weft_family_of(const weft_address* address)
