"""MindSpore: extraction from cells and .mindir files, and the op table."""

from framework_adapter.mindspore.extract import MindSporeFrontend

#: The frontend of this room.
FRONTEND = MindSporeFrontend()

__all__ = ["FRONTEND", "MindSporeFrontend"]
