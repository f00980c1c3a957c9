"""An HTTP client for coroutines, on weft's loop and on any other asyncio loop.

Owns the names that users import.
"""
