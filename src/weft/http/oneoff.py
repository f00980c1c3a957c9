"""Requests without a client: each makes one, and closes it when the body is there.

For a script's one request. Who makes more keeps a :class:`Client`, and with it the connections.
"""

from __future__ import annotations

from typing import Any

from weft.http.calls import Call
from weft.http.client import Client
from weft.http.response import Response

__all__ = ["delete", "get", "head", "options", "patch", "post", "put", "request"]

# What belongs to the client; everything else belongs to the request.
FOR_CLIENT = frozenset(
    {
        "cookie_jar", "hooks", "http2", "limits", "max_decoded_size", "resolver", "transport", "trust_env",
        "unix_socket",
    }
)  # fmt: skip


async def _request(method: str, url: Any, given: dict[str, Any]) -> Response:
    for_client = {name: given.pop(name) for name in FOR_CLIENT & given.keys()}
    async with Client(**for_client) as client:
        response = await client.request(method, url, **given)
        await response.read()
        return response


def request(method: str, url: Any, **options: Any) -> Call:
    """Make one request, and read its body; the options are those of :meth:`Client.request` and of :class:`Client`."""
    return Call(_request(method, url, options))


def get(url: Any, **options: Any) -> Call:
    """GET ``url`` and read the body; see :func:`request`."""
    return request("GET", url, **options)


def head(url: Any, **options: Any) -> Call:
    """HEAD ``url``; see :func:`request`."""
    return request("HEAD", url, **options)


def options(url: Any, **options: Any) -> Call:
    """OPTIONS of ``url``; see :func:`request`."""
    return request("OPTIONS", url, **options)


def post(url: Any, **options: Any) -> Call:
    """POST to ``url`` and read the body; see :func:`request`."""
    return request("POST", url, **options)


def put(url: Any, **options: Any) -> Call:
    """PUT to ``url`` and read the body; see :func:`request`."""
    return request("PUT", url, **options)


def patch(url: Any, **options: Any) -> Call:
    """PATCH ``url`` and read the body; see :func:`request`."""
    return request("PATCH", url, **options)


def delete(url: Any, **options: Any) -> Call:
    """DELETE ``url`` and read the body; see :func:`request`."""
    return request("DELETE", url, **options)
