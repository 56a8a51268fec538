"""Questions about the FX nodes of a torch.export program."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import Any

#: Checks and annotations without a result.
_SKIPPED = re.compile(
    r"aten\.(_assert|sym_constrain|_functional_assert|_functional_sym_constrain|_log_api_usage)"
)
_NOT_USER = re.compile(r"(^|[/\\])(torch|framework_adapter)[/\\]|^<")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def is_check(target: Any) -> bool:
    """Whether a call only asserts or annotates."""
    return _SKIPPED.match(str(target)) is not None


def op_id(target: Any) -> str:
    """``aten.add.Tensor``, ``operator.mul``, ``cond``, ``torch.sym_sqrt``."""
    if hasattr(target, "_schema"):
        return str(target)
    name = getattr(target, "__name__", str(target))
    module = getattr(target, "__module__", "") or ""
    if module in ("_operator", "operator", "math"):
        return f"{module.lstrip('_')}.{name}"
    if "HigherOrder" in type(target).__mro__[1].__name__:
        return str(name)
    return f"torch.{name}"


def source_op(target: Any) -> str:
    """Op id that a row is looked up by; an in-place op reads as the one that computes its
    result.
    """
    op = op_id(target)
    if op.startswith("aten.") and target._schema.is_mutable:
        namespace, name, overload = op.split(".", 2)
        return f"{namespace}.{name.rstrip('_')}.{overload}"
    return op


def gives_tensors(target: Any) -> bool:
    """Whether a call is an ATen op that gives tensors."""
    op = op_id(target)
    if not op.startswith("aten.") or is_check(op):
        return False
    return any("Tensor" in str(r.type) for r in target._schema.returns)


def arguments(n: Any) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call, positional wherever the op's schema allows it."""
    args, kwargs = list(n.args), dict(n.kwargs)
    declared = n.target._schema.arguments if hasattr(n.target, "_schema") else []
    for a in declared[len(args) :]:
        if a.kwarg_only or not any(b.name in kwargs for b in declared if not b.kwarg_only):
            break
        args.append(kwargs.pop(a.name, a.default_value if a.has_default_value() else None))
    return args, kwargs


def origin(n: Any) -> tuple[str, str]:
    """(module path, file:line) of a call: the innermost module, the innermost frame outside
    torch.
    """
    stack = list((n.meta.get("nn_module_stack") or {}).values())
    module = str(stack[-1][0]) if stack else ""
    module = "" if module.startswith("_empty") else module.removeprefix("L['self'].")
    frames = _FRAME.findall(n.meta.get("stack_trace") or "")
    own = [f for f in frames if not _NOT_USER.search(f[0])]
    chosen = (own or frames)[-1:]
    if not chosen:
        return module, ""
    path, line = chosen[0]
    return module, f"{PureWindowsPath(path).name}:{line}"


def guards(program: Any) -> Any:
    """What the exporter assumed about symbolic sizes."""
    for n in program.graph.nodes:
        mode = getattr(n.meta.get("val"), "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            return mode.shape_env.guards
    return ()


def leaf_paths(spec: Any) -> list[tuple[str, ...]]:
    """Keys and positions that lead to each leaf of a pytree spec."""
    if spec.is_leaf():
        return [()]
    children = spec.children() if hasattr(spec, "children") else spec.children_specs
    keys = getattr(spec.context, "_fields", spec.context)
    if not isinstance(keys, (list, tuple)) or len(keys) != len(children):
        keys = range(len(children))
    return [(str(k), *path) for k, child in zip(keys, children) for path in leaf_paths(child)]


def fixed_size(size: Any) -> int | None:
    """The number, for an int or a SymInt that stands for one; None for a symbolic size."""
    expr = None if isinstance(size, int) else size.node.expr
    return int(size) if expr is None or expr.is_number else None
