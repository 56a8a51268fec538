"""The op vocabulary: importing this package registers every family."""

from cir.ops import (  # noqa: F401
    activation,
    attention,
    control,
    conv,
    elementwise,
    indexing,
    linear,
    norm,
    quant,
    reduce,
    spatial,
    tensor,
)
