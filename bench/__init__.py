"""The benchmark harness: `python -m bench` from the root of the repository.

Layers, each of which knows only what stands above it here:
``field`` (who competes) - ``model`` (case, metric, aim, registry) - ``contenders`` (the event loops) and ``clients/``
(HTTP clients) - ``cases/`` (what is measured) - ``choice`` (cases and contenders of a run) - ``worker`` (one
measurement in a fresh process) - ``runner`` (interleaved rounds) - ``store`` (results in files) - ``report`` (tables) -
``__main__`` (the command).

The invariant: the runner, the store and the report know nothing of any particular case or contender; a new
benchmark is a new function in ``cases/``.
"""
