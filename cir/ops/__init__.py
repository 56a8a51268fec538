"""The op vocabulary: importing this package registers every family."""

from cir.ops import (  # noqa: F401
    activation,
    attention,
    channels_last,
    control,
    conv,
    elementwise,
    indexing,
    linear,
    norm,
    quant,
    recurrent,
    reduce,
    spatial,
    tensor,
)
