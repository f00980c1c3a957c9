"""A small web service: starlette on uvicorn. It serves fifteen pages that link to each other like a tree.

It prints its address, and stops on Ctrl-C (SIGINT) or SIGTERM, once the requests under way are answered. crawler.py
walks it. By uvicorn's own command: `cd examples && uvicorn --loop weft:new_event_loop web_service:application`.

    python examples/web_service.py --port 8000
    weft run examples/web_service.py --port 8000
"""

import argparse
import asyncio
import signal
import socket
import sys

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import HTMLResponse
    from starlette.routing import Route
except ImportError as missing:
    sys.exit(f"web_service.py needs {missing.name}: pip install starlette uvicorn")

PAGES = 15


def loop_name() -> str:
    """The loop that serves, by its class."""
    kind = type(asyncio.get_running_loop())
    return f"{kind.__module__}.{kind.__qualname__}"


async def page(request: Request) -> HTMLResponse:
    """Page N links to 2N and 2N + 1; page 3 has a broken link as well."""
    number = request.path_params.get("number", 1)
    if not 1 <= number <= PAGES:
        raise HTTPException(404, f"there are pages 1 to {PAGES}")
    await asyncio.sleep(0.02)  # say, a database
    links = [f"/pages/{child}" for child in (2 * number, 2 * number + 1) if child <= PAGES]
    links += ["/missing"] if number == 3 else []
    items = "\n".join(f'<li><a href="{link}">{link}</a></li>' for link in ["/", *links])
    return HTMLResponse(f"<h1>page {number}</h1>\n<ul>\n{items}\n</ul>\n<p>served by {loop_name()}</p>\n")


application = Starlette(routes=[Route("/", page), Route("/pages/{number:int}", page)])


async def serve(listener: socket.socket) -> None:
    """Serves on the socket until a signal comes; uvicorn runs in whatever loop this is."""
    host, port = listener.getsockname()
    print(f"serving on http://{host}:{port}/ (Ctrl-C stops it)", flush=True)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves fifteen pages that link to each other.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
    options = parser.parse_args()
    # uvicorn stops on either signal, and then raises it again for whoever was there before: let both mean Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with socket.create_server(("127.0.0.1", options.port)) as listening:
        try:
            asyncio.run(serve(listening))
        except KeyboardInterrupt:
            print("stopped")
