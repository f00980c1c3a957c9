"""UDP echo on loopback, by ``asyncio.DatagramProtocol``.

As in ``tcp``, the server is one process on one core and the load generator (``bench/load/udp_load.c``) another on
another core, both fresh for every measurement. What is on its way at once fits the socket buffers, so nothing is lost.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from bench.cases.tcp import SERVED, loaded
from bench.contenders import FIELD, beat_uvloop
from bench.model import Case, Metric, Sample, register
from bench.serve import python_server

_kept: list[object] = []  # the endpoint of the serving process, which only a signal ends


class Echo(asyncio.DatagramProtocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def serve_datagrams() -> dict[str, Any]:
    """Echo by ``create_datagram_endpoint``."""
    endpoint = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    _kept.append(endpoint)
    return {"port": endpoint[0].get_extra_info("sockname")[1]}


METRICS = (
    Metric("cpu_us", "server CPU µs/datagram"),
    Metric("rate", "datagrams/s", more_is_better=True, compared=True),
    Metric("user_us", "of it user µs"),
    Metric("system_us", "of it system µs"),
    Metric("server_busy", "server core busy", more_is_better=True),
    Metric("load_busy", "generator core busy"),
)

HOW = (
    "Each of {sockets} keeps {flight} on their way: for each that comes back it sends another. The server is an "
    "`asyncio.DatagramProtocol` that sends back what it gets. Datagrams are counted in a window of 0.6 s after 0.15 s "
    "of warm-up, and the processor time of the server is read at both its ends."
)


def register_echo(size: int, sockets: int, flight: int, *, target: float | None = None, quick: bool = False) -> None:
    """Register one cell: the size of a datagram in bytes, how many sockets send, and how many each has on their way."""
    name = f"udp.echo-{size}x{sockets}x{flight}"
    words = ["--size", str(size), "--connections", str(sockets), "--flight", str(flight)]
    function = f"{__name__}:{serve_datagrams.__name__}"
    SERVED[name] = function, "udp_load", words

    def measure(contender: str, seconds: float) -> Sample:
        return loaded(python_server(contender, function), "udp_load", words, seconds)

    peers = f"{sockets} socket{'s' if sockets > 1 else ''}"
    many = f"{flight} datagram{'s' if flight > 1 else ''}"
    size_text = "1 KiB" if size == 1024 else f"{size} B"
    register(
        Case(
            name,
            f"UDP, {size_text}, {peers} with {flight} on their way",
            HOW.format(sockets=peers, flight=many),
            FIELD,
            METRICS,
            measure,
            seconds=0.6,
            quick=quick,
            aims=beat_uvloop(target),
        )
    )


register_echo(64, 1, 1, target=1.0)
register_echo(64, 1, 32, target=1.5)
register_echo(64, 10, 10, target=1.5, quick=True)
register_echo(1024, 10, 8, target=1.5)
