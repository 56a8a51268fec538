"""CIR files: canonical JSON (``model.cir.json``) beside the weights (``model.safetensors``).

The JSON has sorted keys, one line for each input, constant and node, and numbers in their shortest
spelling: the same model gives the same bytes in any process. Constants of up to 16 elements are
    written
as numbers, larger ones as ``"blob": "sha256:..."``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cir.decode import build_model, check_structure
from cir.diagnostics import CirError, error
from cir.graph import Const, Graph, Meta, Model, Node, TensorType
from cir.migrate import VERSION, migrate
from cir.values import is_inline, plain_attr, plain_elements
from cir.verify import verify
from cir.weights import WeightsFile, read_header, write

SUFFIX = ".cir.json"
#: Larger JSON files are refused: weights are not kept there.
MAX_BYTES = 1 << 30


def save(model: Model, path: str | Path) -> None:
    """Write a model to ``path`` and its large constants to the sibling ``.safetensors`` file.

    Both files are written under temporary names and renamed when complete. The sibling is written
    only when there is a large constant, and removed when an earlier save left one that is no
    longer needed.

    Args:
        model: a model that verifies.
        path: a name that ends with ``.cir.json``.

    Raises:
        CirError: E100 for another suffix; E303 or E304 when the model does not verify; E301 when
            its metadata is not JSON; E305 when the sibling is a file of somebody else.
    """
    target = Path(path)
    sibling = weights_path(target)
    verify(model)
    blobs = [c for c in _constants(model.graph) if not is_inline(c.type)]
    _guard(sibling)
    temporary = [p.with_name(f".{p.name}.{os.getpid()}.tmp") for p in (sibling, target)]
    try:
        with open(temporary[1], "wb") as out:
            out.write(encode(model).encode())
        if blobs:
            with open(temporary[0], "wb") as out:
                write(out, blobs)
            os.replace(temporary[0], sibling)
        os.replace(temporary[1], target)
        if not blobs:
            sibling.unlink(missing_ok=True)
    finally:
        for p in temporary:
            with contextlib.suppress(OSError):
                p.unlink()


def load(path: str | Path, *, check: bool = True) -> Model:
    """Read a model and verify it. Large constants are mapped from the sibling file.

    Args:
        path: the ``.cir.json`` file.
        check: compare each large constant with its sha256, which reads the whole weights file.

    Raises:
        CirError: E100 for another suffix; E101 when the file is missing; E301 when it is malformed;
            E302 for an unknown version; E303 and E304 when the graph is wrong; E305 for the
            weights.
    """
    source = Path(path)
    sibling = weights_path(source)
    files: list[WeightsFile] = []

    def blob(key: str, t: TensorType) -> Const:
        if not files:
            files.append(WeightsFile(sibling))
        return files[0].const(key, t, check=check)

    try:
        size = source.stat().st_size
        if size > MAX_BYTES:
            raise error("E301", f"{source.name} has {size} bytes, more than {MAX_BYTES}")
        text = source.read_bytes()
    except OSError as exc:
        raise error(
            "E101", f"cannot read {source.name}: {exc.strerror or exc}", where=str(source)
        ) from exc
    return decode(text, blob)


def weights_path(path: Path) -> Path:
    """The weights file beside a CIR file. Raises CirError E100 for another suffix."""
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        raise error(
            "E100", f"{path.name!r} is not a CIR file name", fix=f"use a name such as model{SUFFIX}"
        )
    return path.with_name(path.name.removesuffix(SUFFIX) + ".safetensors")


def _guard(sibling: Path) -> None:
    """Refuse to replace a weights file that no save wrote, such as a checkpoint."""
    if sibling.exists() and any(
        len(k) != 64 or k.strip("0123456789abcdef") for k in read_header(sibling)
    ):
        raise error(
            "E305",
            f"{sibling.name} exists and is not the weights file of a CIR model",
            where=str(sibling),
            fix="save under another name",
        )


# -- JSON ------------------------------------------------------------------------------------------
def encode(model: Model, *, meta: bool = True) -> str:
    """Canonical JSON text of a model. ``meta=False`` leaves out all provenance.

    Raises:
        CirError: E301 when metadata is not JSON; E305 for constants that no weights file can hold.
    """
    body: dict[str, Any] = {"cir": VERSION, **_graph(model.graph, meta)}
    body["state"] = [list(pair) for pair in model.state]
    body["symbols"] = {
        name: {"max": r.max, "min": r.min, "sizes": list(r.sizes)}
        for name, r in model.symbols.items()
    }
    if meta and model.meta:
        body["meta"] = model.meta
    try:
        return "{\n" + ",\n".join(_field(k, body[k]) for k in sorted(body)) + "\n}\n"
    except (TypeError, ValueError, RecursionError) as exc:
        raise error("E301", f"metadata is not JSON: {exc}", where=model.graph.name) from exc


def _field(key: str, value: Any) -> str:
    """One field of the document; lists and tables that grow with the model take a line an entry."""
    if key in ("inputs", "nodes") and value:
        lines = [_dump(v) for v in value]
        return f'"{key}": [\n ' + ",\n ".join(lines) + "\n]"
    if key in ("consts", "symbols") and value:
        lines = [f"{_dump(k)}: {_dump(value[k])}" for k in sorted(value)]
        return f'"{key}": {{\n ' + ",\n ".join(lines) + "\n}"
    return f'"{key}": {_dump(value)}'


_dump = json.JSONEncoder(sort_keys=True, allow_nan=False).encode


def _graph(g: Graph, meta: bool) -> dict[str, Any]:
    return {
        "name": g.name,
        "inputs": _values(g, g.inputs),
        "consts": {name: _const(c) for name, c in g.consts.items()},
        "nodes": [_node(g, n, meta) for n in g.nodes],
        "outputs": list(g.outputs),
    }


def _values(g: Graph, names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"name": n, "dtype": g.types[n].dtype, "shape": list(g.types[n].shape)} for n in names]


def _const(c: Const) -> dict[str, Any]:
    out: dict[str, Any] = {"dtype": c.type.dtype, "shape": list(c.type.shape)}
    if is_inline(c.type):
        return {**out, "value": plain_elements(c)}
    return {**out, "blob": f"sha256:{c.digest}"}


def _node(g: Graph, node: Node, meta: bool) -> dict[str, Any]:
    out: dict[str, Any] = {
        "op": node.op,
        "inputs": list(node.inputs),
        "outputs": _values(g, node.outputs),
    }
    if node.attrs:
        out["attrs"] = {k: plain_attr(v) for k, v in node.attrs.items()}
    if node.regions:
        out["regions"] = [_graph(r, meta) for r in node.regions]
    if meta and (node.meta.src or node.meta.by):
        out["meta"] = _meta(node.meta)
    return out


def _meta(m: Meta) -> dict[str, Any]:
    return {"src": [[s.op, s.module, s.place] for s in m.src], "by": list(m.by)}


def _constants(g: Graph) -> list[Const]:
    out = list(g.consts.values())
    for _, node in g.walk():
        for region in node.regions:
            out.extend(region.consts.values())
    return out


def _no_weights(key: str, t: TensorType) -> Const:
    raise error("E305", f"there is no weights file for {t} {key[:12]}…")


def decode(text: str | bytes, blobs: Any = _no_weights) -> Model:
    """The verified model of a JSON text, strictly: see ``load`` for what is refused.

    Args:
        text: the document.
        blobs: function from (sha256 key, type) to the constant.
    """
    try:
        doc = _parse(text)
        if not isinstance(doc, dict):
            raise error("E301", "the document must be a JSON object")
        doc = migrate(doc)
        check_structure(doc)
        model = build_model(doc, blobs)
        verify(model)
    except RecursionError:
        raise error("E301", "the document is nested too deeply") from None
    return model


def _parse(text: str | bytes) -> Any:
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except CirError:
        raise
    except ValueError as exc:  # JSON and Unicode errors, and numbers of absurd length
        raise error("E301", f"not a JSON document: {exc}") from exc


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        twice = Counter(k for k, _ in pairs).most_common(1)[0][0]
        raise error("E301", f"the key {twice!r} occurs twice in one object", where=twice)
    return out


def _refuse(word: str) -> Any:
    raise ValueError(f'{word} is not JSON: write "nan", "inf" or "-inf"')
