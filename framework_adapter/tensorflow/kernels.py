"""What TensorFlow's CPU runtime takes, asked of its own op and kernel registries.

They are the registries of the C++ runtime, which TensorFlow Serving is built from as well; nothing
that Python registers beside them (``tf.py_function``) may be emitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from cir import dtype as dt
from framework_adapter.target import Scope
from framework_adapter.tensorflow import dims

#: Devices whose kernels the CPU runs.
_DEVICES = ("CPU", "DEFAULT")
#: Ops whose kernels call back into the Python process that made them.
PYTHON_ONLY = frozenset(["PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"])


@cache
def definition(op: str) -> Any:
    """The OpDef of an op; None when TensorFlow has no such op."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op)


@cache
def slots(op: str) -> tuple[frozenset[str], ...] | None:
    """Dtypes that each input of an op takes on the CPU; None without op or kernel."""
    from tensorflow.python.framework import kernels

    spec = definition(op)
    if spec is None or op in PYTHON_ONLY:
        return None
    registered = kernels.get_registered_kernels_for_op(op).kernel
    found = [k for k in registered if k.device_type in _DEVICES]
    if not found:
        return None
    declared = {a.name: _names(a.allowed_values.list.type) for a in spec.attr}
    out = []
    for arg in spec.input_arg:
        if arg.type:
            out.append(_names([arg.type]))
            continue
        allowed = declared.get(arg.type_attr) or frozenset(dt.ALL)
        takes: set[str] = set()
        for k in found:
            limits = [c.allowed_values.list.type for c in k.constraint if c.name == arg.type_attr]
            takes |= _names(limits[0]) if limits else allowed
        out.append(allowed & takes)
    return tuple(out)


def _names(types: Sequence[int]) -> frozenset[str]:
    import tensorflow as tf

    return frozenset(tf.dtypes.as_dtype(t).name for t in types) & frozenset(dt.ALL)


def counts(spec: Any, operands: int) -> list[int]:
    """How many of an op's operands belong to each of its input arguments.

    At most one argument takes a number of them.
    """
    rest = operands - sum(not _is_list(a) for a in spec.input_arg)
    return [rest if _is_list(a) else 1 for a in spec.input_arg]


def _is_list(arg: Any) -> bool:
    return bool(arg.number_attr or arg.type_list_attr)


class TensorFlowTarget:
    """What emission asks of TensorFlow."""

    version = 0
    copy = "Identity"
    functions: Mapping[str, Any] = {
        "is_float": dt.is_float,
        "static": lambda shape: all(isinstance(d, int) for d in shape),
    }

    def takes(self, op: str, slot: int) -> frozenset[str] | None:
        """Dtypes that an input argument of an op takes; None without a kernel."""
        found = slots(op)
        if not found:
            return None if found is None else frozenset()
        return found[min(slot, len(found) - 1)]

    def result_dtypes(
        self, op: str, dtypes: Sequence[str], attrs: Mapping[str, Any]
    ) -> Sequence[str]:
        """Dtypes of an op's results, by the type attributes of its definition."""
        import tensorflow as tf

        spec = definition(op)
        known = {
            a.name: tf.dtypes.as_dtype(a.default_value.type).name
            for a in spec.attr
            if a.type == "type" and a.HasField("default_value")
        }
        at = 0
        for arg, n in zip(spec.input_arg, counts(spec, len(dtypes))):
            if arg.type_attr and n:
                known[arg.type_attr] = dtypes[at]
            at += n
        known.update((k, v) for k, v in attrs.items() if isinstance(v, str))
        return [
            tf.dtypes.as_dtype(o.type).name if o.type else known[o.type_attr]
            for o in spec.output_arg
        ]

    def cast(self, scope: Scope, value: str, dtype: str) -> str:
        """Emit a Cast."""
        return str(scope.op("Cast", value, DstT=dtype))

    def dims(self, scope: Scope, shape: Sequence[Any]) -> str:
        """Emit dims as an int64 vector."""
        return dims.vector(scope, shape)
