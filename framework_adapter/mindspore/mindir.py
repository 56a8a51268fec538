"""Read a .mindir file, the messages of ``mind_ir.proto``, as plain Python values.

Neither MindSpore nor protobuf is needed. Weights are not copied: their arrays are views of the
file's bytes. Every way a file can be wrong ends in one CirError E105; nesting is bounded.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import CirError, error
from cir.graph import Const, TensorType
from framework_adapter.mindspore.wire import WireError, decode

#: TensorProto.DataType -> dtype name. 11 and 17 both mean float64.
DTYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128",
    16: "bfloat16", 17: "float64",
}  # fmt: skip

#: First bytes of a file that ``mindspore.export(..., enc_key=...)`` wrote.
_ENCRYPTED = b"\xd8\x5e\x3a\x7f"
FIX = "export it again with mindspore.export(net, *inputs, file_name=..., file_format='MINDIR')"


class Monad:
    """The side-effect token: an operand that carries order, not data."""

    def __repr__(self) -> str:
        return "MONAD"


MONAD = Monad()


@dataclass(frozen=True, slots=True)
class Abstract:
    """What the file says of a result.

    dims of -1 are unknown, dims (-2,) mean an unknown rank; ``host`` marks a Python scalar.
    """

    dtype: str
    dims: tuple[int, ...]
    host: bool = False

    @property
    def type(self) -> TensorType | None:
        """The type when all of it is known."""
        return TensorType(self.dtype, self.dims) if min(self.dims, default=0) >= 0 else None

    @property
    def rank(self) -> int | None:
        """Number of axes; None when the file does not know it (dims are then (-2,))."""
        return None if self.dims == (-2,) else len(self.dims)


@dataclass(frozen=True, slots=True)
class Node:
    """One node. ``op`` is an op name, or the name of a graph or of a value that is called.

    ``result`` is an Abstract, a tuple of such (several results), or None (a function, a token).
    """

    op: str
    calls: bool
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any]
    scope: str
    result: Any


@dataclass(frozen=True, slots=True)
class FuncGraph:
    """A function: inputs with their types, nodes in topological order, the one value it returns."""

    name: str
    inputs: tuple[tuple[str, Abstract | None], ...]
    nodes: tuple[Node, ...]
    output: str
    flags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MindIR:
    """A file's content. ``constants`` and ``parameters`` are visible from every graph.

    Attributes:
        version: MindSpore version that wrote the file.
        main: name of the entry graph.
        graphs: all graphs by name.
        constants: value name -> Python value, Const, tuple of these, None, or MONAD.
        parameters: value name -> (key such as ``conv.weight``, Const).
    """

    version: str
    main: str
    graphs: Mapping[str, FuncGraph]
    constants: Mapping[str, Any]
    parameters: Mapping[str, tuple[str, Const]]


# -- messages to Python values ---------------------------------------------------------------------
class _Reader:
    """Turns decoded messages into Python values; knows where external weights are."""

    def __init__(self, folder: Path, keep: bool) -> None:
        self.folder, self.keep = folder, keep
        self._files: dict[str, Any] = {}

    def type(self, t: Mapping[str, Any]) -> TensorType:
        code = t.get("data_type", 0)
        if code not in DTYPES:
            raise WireError(f"tensor {t.get('name', '')!r} has element type {code}")
        return TensorType(DTYPES[code], tuple(t.get("dims", ())))

    def const(self, t: Mapping[str, Any]) -> Const:
        """A tensor with its data."""
        kind = self.type(t)
        if t.get("compression_type"):
            raise WireError(f"tensor {t.get('name', '')!r} is compressed")
        size = 1
        for d in kind.shape:
            size *= int(d)
        wanted = size * dt.to_numpy(kind.dtype).itemsize
        if "external_data" in t:
            raw: Any = self.external(t["external_data"], wanted)
        elif "raw_data" in t:
            raw = np.frombuffer(t["raw_data"], np.uint8)
        else:
            lists = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
            values: list[Any] = next((t[k] for k in lists if k in t), [])
            raw = np.asarray(values).astype(dt.to_numpy(kind.dtype)).view(np.uint8)
        if raw.nbytes != wanted:
            name = t.get("ref_key") or t.get("name", "")
            raise WireError(
                f"tensor {name!r} ({kind}) has {raw.nbytes} bytes of data, needs {wanted}"
            )
        return Const(kind, raw.view(dt.to_numpy(kind.dtype)).reshape(kind.shape))

    def external(self, where: Mapping[str, Any], wanted: int) -> np.ndarray:
        """The bytes of a weight kept in a file beside the model."""
        location, offset = where.get("location", ""), where.get("offset", 0)
        path = Path(location)
        if path.is_absolute() or ".." in path.parts or not location:
            raise WireError(f"weights file {location!r} is outside the model's folder")
        if location not in self._files:
            file = self.folder / path
            if not file.is_file():
                raise error(
                    "E105",
                    f"the model keeps its weights in {location}, which is missing",
                    where=str(self.folder),
                    fix="copy the whole export: the .mindir file and its folder of variables",
                )
            data = np.memmap(file, np.uint8, "r")
            self._files[location] = data if self.keep else np.array(data)
        data = self._files[location]
        length = where.get("length", wanted)
        if offset < 0 or length < 0 or offset + length > data.nbytes:
            raise WireError(f"weights file {location!r} is shorter than the model says")
        return data[offset : offset + length]

    def attributes(self, items: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {a.get("name", ""): self.value(a) for a in items}

    def value(self, a: Mapping[str, Any]) -> Any:
        """The Python value of an attribute."""
        values = self.values(a)
        return values[0] if len(values) == 1 else tuple(values)

    def values(self, a: Mapping[str, Any]) -> list[Any]:
        """The values that an attribute holds: elements of a sequence use its repeated fields."""
        kind = a.get("type", 0)
        if kind in (17, 19):  # TENSOR, TENSORS
            return [self.const(t) for t in ([a["t"]] if "t" in a else a.get("tensors", []))]
        if kind in (20, 21, 22):  # TUPLE, LIST, DICT
            return [tuple(v for item in a.get("values", []) for v in self.values(item))]
        if kind in (23, 24):  # UMONAD, IOMONAD
            return [MONAD]
        if kind == 8:  # STRING
            return [str(s, "utf-8") for s in a.get("strings", [a.get("s", b"")])]
        if kind in (1, 10, 16):  # FLOAT, FLOAT16, BFLOAT16
            return [_short(f) for f in a.get("floats", [a.get("f", 0.0)])]
        if kind == 11:  # DOUBLE
            return list(a.get("doubles", [a.get("d", 0.0)]))
        if kind == 9:  # BOOL
            return [bool(i) for i in a.get("ints", [a.get("i", 0)])]
        if 2 <= kind <= 13:  # the integers
            return list(a.get("ints", [a.get("i", 0)]))
        return [None]  # NONE, TYPE_NULL, functions: nothing to compute with

    def abstract(self, a: Mapping[str, Any] | None) -> Any:
        """What a node's ``shape`` attribute says of its result."""
        if a is None:
            return None
        kind = a.get("type", 0)
        if kind in (17, 19, 39) and a.get("tensors"):  # a tensor, or a SCALAR of the host
            t = self.type(a["tensors"][0])
            if kind == 39:
                return Abstract(t.dtype, (), host=True)
            return Abstract(t.dtype, tuple(int(d) for d in t.shape))
        if kind in (20, 21) and not a.get("seq_info", {}).get("is_dyn_len"):
            return tuple(self.abstract(item) for item in a.get("values", []))
        return None


def _short(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


# -- the file --------------------------------------------------------------------------------------
def read(path: str | Path, *, keep: bool = True) -> MindIR:
    """Read a .mindir file.

    Args:
        path: the file. Large models keep their weights in a folder beside it.
        keep: the file stays where it is, so arrays may be mapped from it; False copies the data.

    Raises:
        CirError: E101 no such file; E105 encrypted, corrupt, compressed or incomplete.
    """
    path = Path(path)
    if not path.is_file():
        graph = path.with_name(f"{path.stem}_graph.mindir")
        fix = f"give {graph}" if graph.is_file() else "check the path"
        raise error("E101", f"no file {path}", fix=fix)
    if path.stat().st_size == 0:
        raise error("E105", "the .mindir file is empty", where=str(path), fix=FIX)
    with path.open("rb") as f:
        data = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if keep else f.read())
    if bytes(data[:4]) == _ENCRYPTED:
        fix = "export it without enc_key (encrypted models cannot be read without MindSpore)"
        raise error("E105", "the .mindir file is encrypted", where=str(path), fix=fix)
    try:
        return _model(decode(data, "Model"), _Reader(path.parent, keep))
    except CirError:
        raise
    except (WireError, LookupError, ValueError, TypeError, OverflowError, struct.error) as exc:
        what = "the file is not a readable .mindir model"
        raise error("E105", what, where=str(path), why=str(exc), fix=FIX) from exc


def _model(m: Mapping[str, Any], reader: _Reader) -> MindIR:
    if not m.get("graph", {}).get("output"):
        raise WireError("it holds no graph")
    if not m.get("little_endian", 1):
        raise WireError("it was written on a big-endian machine")
    primitives = {
        p["name"]: (p.get("op_type", ""), reader.attributes(p.get("attribute", [])))
        for p in m.get("primitives", [])
    }
    graphs: dict[str, FuncGraph] = {}
    constants: dict[str, Any] = {}
    parameters: dict[str, tuple[str, Const]] = {}
    shared: dict[str, Const] = {}
    for g in (m["graph"], *m.get("functions", [])):
        for p in g.get("parameter", []):
            key = p.get("ref_key") or p["name"].rpartition(":")[2]
            if key not in shared:
                shared[key] = reader.const(p)
            parameters[p["name"]] = (key, shared[key])
        nodes = []
        for n in g.get("node", []):
            outputs = n.get("output", [])
            if len(outputs) != 1:
                raise WireError(f"node {n.get('op_type', '')!r} has {len(outputs)} outputs")
            attrs = n.get("attribute", [])
            if n.get("op_type") == "Constant":
                constants[outputs[0]] = reader.value(attrs[0])
            else:
                nodes.append(_node(n, primitives, reader))
        inputs = tuple((v["name"], reader.abstract(_of_value(v))) for v in g.get("input", []))
        flags = {
            a.get("name", ""): a.get("i", 0) for a in g.get("attribute", []) if a.get("type") == 9
        }
        name = g.get("name", "")
        graphs[name] = FuncGraph(name, inputs, tuple(nodes), g["output"][0]["name"], flags)
    return MindIR(m.get("model_version", ""), m["graph"]["name"], graphs, constants, parameters)


def _of_value(v: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if v.get("tensor"):
        return {"type": 19, "tensors": v["tensor"]}
    return v.get("attr_info")


def _node(n: Mapping[str, Any], primitives: Mapping[str, Any], reader: _Reader) -> Node:
    """A node; its op is resolved. Files before 2.0 put the bare op name and its attributes here."""
    own = {a.get("name", ""): a for a in n.get("attribute", [])}
    result = reader.abstract(own.pop("shape", None))
    op, calls = n.get("op_type", ""), False
    attrs = {k: reader.value(a) for k, a in own.items()}
    if op.startswith("REF::"):
        op = op.removeprefix("REF::")
        if op in primitives:
            op, given = primitives[op]
            attrs = {**given, **attrs}
        else:
            calls = True
    return Node(
        op, calls, tuple(n.get("input", ())), n["output"][0], attrs, n.get("domain", ""), result
    )
