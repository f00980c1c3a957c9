"""The cases. Importing this package registers them all, file by file, in the order of the tables.

A new group of benchmarks is a new file here and its name in ``GROUPS``; nothing else of the harness changes.
"""

from importlib import import_module

GROUPS = (
    "scheduler",
    "primitives",
    "memory",
    "scale",
    "startup",
    "tcp",
    "streams",
    "udp",
    "wire",
    "tls",
    "http",
    "parallel",
    "watch",
)

for _name in GROUPS:
    import_module(f"bench.cases.{_name}")
