"""Help for testing programs on weft. ``weft.testing.plugin`` is a plugin of pytest, which finds it by itself."""
