"""Runs CPython's own ``test.test_asyncio`` against another event loop and compares it with stock asyncio.

Nothing of CPython is copied: the tests come from the interpreter that runs them (``test.test_asyncio``) and are
redirected at run time. ``python -m tools.conformance --help`` says how to call it; ``docs/conformance.md`` says what
the figures mean.

The parts, from the inside out:
    ``targets``    redirects asyncio's names to the loop and the Task under test (in the worker process)
    ``fakeclock``  the fake-time loop of CPython's tests, built on the virtual driver
    ``worker``     runs one test module in a process of its own and reports one JSON line per event
    ``supervise``  starts workers, ends what hangs, names what crashed, and carries on with the rest
    ``exclusions`` the list of tests that are not asked of the target, each with its reason
    ``verdict``    compares a target with the baseline; ``report`` prints it; ``__main__`` is the command
"""
