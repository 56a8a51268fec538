"""Samples: a row's own test. Make operands from text, lower a one-node graph, interpret it.

A sample is a list of operands; its last element may be an object of attributes given by name::

    "float32[2,3]"     normal deviates; "+float32[3]" positive, in [0.5, 1.5)
    "int64[4]<5"       integers in [0, 5); without a bound in [-3, 4) (unsigned: [0, 4))
    "bool[2]"          fair coin
    numbers, booleans, null, nested lists, other strings (modes, dtype names): themselves

The same text always gives the same data; equal operands of one sample differ.

``python -m framework_adapter.samples FILE...`` runs the samples of table files in the framework and
through the rows. A room's ``samples.py`` knows how its framework runs one op.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import CirError, Collector, error
from cir.graph import Const, Model, TensorType
from framework_adapter.lowering import lower
from framework_adapter.mapping import MappingTable, Row, load
from framework_adapter.source import Operand, Ref, SourceGraph, SourceNode

_TENSOR = re.compile(r"(\+?)([a-z0-9_]+)\[([0-9, ]*)\](?:<(\d+))?\Z")

#: Largest scaled error of a sample: max|a-b| / max(max|ref|, 1e-6).
TOLERANCE: Mapping[str, float] = {"float16": 2e-3, "bfloat16": 2e-2}


def tensor(text: str, seed: int = 0) -> np.ndarray | None:
    """The array a sample's string stands for, None when the string is no tensor."""
    m = _TENSOR.match(text)
    if not m or m[2] not in dt.ALL:
        return None
    shape = tuple(int(d) for d in m[3].split(",") if d.strip())
    rng = np.random.default_rng(zlib.crc32(f"{text}#{seed}".encode()))
    dtype = dt.to_numpy(m[2])
    if m[2] == "bool":
        return rng.random(shape) < 0.5
    if dt.is_float(m[2]):
        data = rng.random(shape) + 0.5 if m[1] else rng.standard_normal(shape)
        return np.asarray(data).astype(dtype)
    low, high = (0, int(m[4])) if m[4] else (0 if m[2] in dt.UNSIGNED or m[1] else -3, 4)
    return np.asarray(rng.integers(low + bool(m[1] and not m[4]), high, shape)).astype(dtype)


def operands(sample: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(positional operands, attributes) of a sample; tensors are arrays, lists are tuples."""
    items = list(sample)
    attrs = items.pop() if items and isinstance(items[-1], dict) else {}
    count = [0]

    def make(x: Any) -> Any:
        if isinstance(x, str):
            count[0] += 1
            array = tensor(x, count[0])
            return x if array is None else array
        return tuple(make(i) for i in x) if isinstance(x, list) else x

    return tuple(make(x) for x in items), {k: make(v) for k, v in attrs.items()}


def graph(
    framework: str,
    op: str,
    args: Sequence[Any],
    attrs: Mapping[str, Any],
    types: Sequence[TensorType | None],
    *,
    constants: bool = False,
) -> tuple[SourceGraph, list[np.ndarray]]:
    """A one-node source graph and its feeds.

    Args:
        framework: room name.
        op: op id.
        args: positional operands; each array, also inside tuples, becomes an input.
        attrs: operands by name, in the same form.
        types: types of the results; their number is the op's number of results.
        constants: integer and bool arrays become constants instead of inputs, as shape operands
        are.
    """
    feeds: list[np.ndarray] = []
    inputs: dict[str, TensorType] = {}
    consts: dict[str, Const] = {}

    def ref(x: Any) -> Operand:
        if isinstance(x, np.ndarray):
            name = f"x{len(inputs) + len(consts)}"
            if constants and x.dtype.kind in "iub":
                consts[name] = Const.of(x)
            else:
                inputs[name] = TensorType(dt.from_numpy(x.dtype), x.shape)
                feeds.append(x)
            return Ref(name)
        return tuple(map(ref, x)) if isinstance(x, tuple) else x

    node = SourceNode(
        op,
        tuple(map(ref, args)),
        {k: ref(v) for k, v in attrs.items()},
        tuple(f"y{i}" for i in range(len(types))),
        tuple(types),
    )
    made = tuple(o for o, t in zip(node.outputs, types) if t is not None)
    return SourceGraph(framework, inputs, made, (node,), consts), feeds


def interpret(model: Model, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of a model by the reference interpreter in float64, rounded to the model's dtypes."""
    from cir import interpret as ci

    values = ci.run(model, feeds)
    types = model.graph.types
    return [values[o].astype(dt.to_numpy(types[o].dtype)) for o in model.graph.outputs]


def run(
    table: MappingTable,
    op: str,
    sample: Sequence[Any],
    types: Sequence[TensorType | None],
    *,
    constants: bool = False,
) -> list[np.ndarray]:
    """Results of a sample through the row: lowered, then interpreted."""
    args, attrs = operands(sample)
    source, feeds = graph(table.room, op, args, attrs, types, constants=constants)
    return interpret(lower(source, table), feeds)


def scaled_error(got: np.ndarray, want: np.ndarray) -> float:
    """max|got - want| / max(max|want|, 1e-6) in float64; inf when NaN or inf places differ."""
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if a.shape != b.shape:
        return float("inf")
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    a, b = a[finite], b[finite]
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6)) if a.size else 0.0


def check(
    row: Row, sample: Sequence[Any], got: Sequence[np.ndarray], want: Sequence[np.ndarray]
) -> None:
    """Compare a sample's results with the framework's.

    Raises CirError E204 on another number, dtype or shape of results, unequal integers or bools,
    or a scaled error above 1e-5 (float16 2e-3, bfloat16 2e-2).
    """
    problem = ""
    if len(got) != len(want):
        problem = f"{len(got)} results, the framework gives {len(want)}"
    for i, (g, w) in enumerate(zip(got, want)):
        w = np.asarray(w)
        if g.dtype != w.dtype or g.shape != w.shape:
            problem = (
                problem or f"result {i} is {g.dtype}{list(g.shape)}, want {w.dtype}{list(w.shape)}"
            )
        elif w.dtype.kind in "iub":
            if not np.array_equal(g, w):
                problem = problem or f"result {i} differs"
        elif (err := scaled_error(g, w)) > TOLERANCE.get(w.dtype.name, 1e-5):
            problem = problem or f"result {i} has scaled error {err:.2e}"
    if problem:
        raise error(
            "E204", f"row {row.ops[0]} failed sample {list(sample)}: {problem}", where=row.origin
        )


def prove(table: MappingTable, rows: Iterable[Row]) -> list[str]:
    """Run the samples of rows in the framework and through the rows; one line for each op.

    Raises:
        CirError: E204 for every op whose sample fails or that takes none of them; E203 for an op
            that the framework does not have; E901 when the framework is not installed.
    """
    from framework_adapter.registry import FRAMEWORKS, require, room

    package, extra, module = FRAMEWORKS[next(n for n in FRAMEWORKS if room(n) == table.room)]
    require(module, extra)
    both = importlib.import_module(f"{package}.samples").both
    found = Collector()
    lines = []
    for row in rows:
        for op in row.ops:
            count = 0
            try:
                for sample in row.samples:
                    pair = both(table, row, op, sample)
                    if pair is not None:
                        check(row, sample, *pair)
                        count += 1
                if not count:
                    raise error("E204", "it takes none of the samples")
            except CirError as exc:
                d = exc.diagnostics[0]
                code = d.code if d.code in ("E203", "E204") else "E204"
                what = d.what if d.what.startswith("row ") else f"row {op}: {d.what}"
                fix = d.fix or "correct the row or its samples"
                found.add(code, what, where=row.origin, why=d.why, fix=fix)
            lines.append(f"{op}: {count} of {len(row.samples)} samples")
    found.raise_errors()
    return lines


def _framework(path: Path) -> str:
    """The framework that a table file names. Raises CirError E101, E104, E203."""
    from framework_adapter.registry import FRAMEWORKS, frontend

    try:
        name = json.loads(path.read_text(encoding="utf-8"))["framework"]
    except OSError as exc:
        raise error("E101", f"cannot read {path}: {exc.strerror}", fix="check the path") from exc
    except (ValueError, LookupError, TypeError) as exc:
        fix = "a table file has the keys framework, family, rows"
        raise error("E203", f"{path} is not a table file: {exc!r}", fix=fix) from exc
    if name not in FRAMEWORKS:
        frontend(str(name))
    return str(name)


def main(paths: Sequence[str]) -> int:
    """Prove table files; the process's exit code."""
    if not paths:
        print("usage: python -m framework_adapter.samples FILE...", file=sys.stderr)
        return 2
    try:
        for path in paths:
            table = load(_framework(Path(path)), [path])
            rows = [r for r in table.unique_rows() if r.origin == str(Path(path))]
            print(*prove(table, rows), sep="\n")
    except CirError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
