"""From one loop to every core to a cluster: ``weft.map``, and the helpers that move a single call elsewhere.

``map`` is what users call, ``engine`` keeps its promises, ``jobs`` is the interface to the backends: ``local`` (this
loop), ``processes``, and, over ``batches``, ``executors`` and ``cluster``. Processes need ``crew`` (one of them),
``worker`` (its inside), ``wire``, ``board``, ``shipping`` (pickles); ``pace`` measures. ``offload`` has ``to_thread``
and its like.
"""
