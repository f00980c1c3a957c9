"""From one loop to every core to a cluster: ``weft.map``, and the helpers that move a single call elsewhere.

``map`` is what users call, ``engine`` keeps its promises, ``jobs`` is the interface to the backends: ``local`` (this
loop), ``processes`` with ``crew``, ``worker`` and ``wire``, ``executors``, ``cluster``. ``offload`` has ``to_thread``
and its like.
"""
