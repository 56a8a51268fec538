"""Handlers of the PyTorch tables: ops that need a loop or a decision a row cannot state.

Each is ``def name(c: Context, node: SourceNode, **bound arguments)``; its row says which op it
serves and its samples are its test.
"""

from framework_adapter.pytorch.handlers.control import *  # noqa: F403
from framework_adapter.pytorch.handlers.create import *  # noqa: F403
from framework_adapter.pytorch.handlers.grids import *  # noqa: F403
from framework_adapter.pytorch.handlers.index import *  # noqa: F403
from framework_adapter.pytorch.handlers.nn import *  # noqa: F403
from framework_adapter.pytorch.handlers.recurrent import *  # noqa: F403
from framework_adapter.pytorch.handlers.reduce import *  # noqa: F403
from framework_adapter.pytorch.handlers.shape import *  # noqa: F403
