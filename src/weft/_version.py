"""The version of weft, alone in a file so that the build can read it without importing the compiled core."""

__version__ = "0.1.0"
