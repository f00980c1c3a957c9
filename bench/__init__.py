"""The benchmark harness: `python -m bench` from the root of the repository.

Layers, each of which knows only what stands above it here:
``model`` (case, metric, registry) - ``contenders`` (the event loops) - ``cases/`` (what is measured) -
``worker`` (one measurement in a fresh process) - ``runner`` (interleaved rounds) - ``store`` (results in files) -
``report`` (tables) - ``__main__`` (the command).

The invariant: the runner, the store and the report know nothing of any particular case; a new benchmark is a new
function in ``cases/``.
"""
