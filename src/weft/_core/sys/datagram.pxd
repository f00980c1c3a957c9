"""Datagrams by the batch; see weft_datagram.h for what each promises."""

from weft._core.sys.linux cimport iovec
from weft._core.sys.python cimport PyObject

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    int AF_INET, AF_INET6, AF_UNIX
    struct msghdr:
        socklen_t msg_namelen
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

cdef extern from "weft_datagram.h":
    int WEFT_BATCH, WEFT_PEERS
    ctypedef struct weft_packet:
        PyObject* owner
        PyObject* odd
        socklen_t length
    ctypedef union weft_address:
        pass
    ctypedef struct weft_peer:
        PyObject* object
    int weft_receive_batch(
        int fd, char* memory, size_t stride, size_t slot, int most, mmsghdr* headers, iovec* parts, weft_address* names
    )
    int weft_send_batch(int fd, weft_packet* packets, int count)
    socklen_t weft_pack_address(object given, int family, weft_packet* packet)
    object weft_unpack_address(const weft_address* name, socklen_t length)
    object weft_peer_address(weft_peer* peers, const weft_address* name, socklen_t length)
