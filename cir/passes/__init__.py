"""Passes over graphs. Each is ``Graph -> Graph`` and returns its argument when nothing changes."""

from cir.passes.basic import cse, dce, fold
from cir.passes.decompose import decompose
from cir.passes.einsum import expand_einsum
from cir.passes.interface import channels_first_interface
from cir.passes.layout import channels_last
from cir.passes.manager import Context, Pass, PassManager, Record, Stage
from cir.passes.normalize import normalize
from cir.passes.slices import slices_to_split
from cir.passes.views import sink_views

__all__ = [
    "Context",
    "Pass",
    "PassManager",
    "Record",
    "Stage",
    "channels_first_interface",
    "channels_last",
    "cse",
    "dce",
    "decompose",
    "expand_einsum",
    "fold",
    "normalize",
    "sink_views",
    "slices_to_split",
]
