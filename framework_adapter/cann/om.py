"""OM files: compiled by ``atc`` where it is installed and the chip is named, else the graph only.

Only Ascend's compiler can make what a chip executes. A graph-only file holds interface, operators
and weights: it opens in viewers, in ``atc --mode=1`` and in this package, and it says what it is.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cir.diagnostics import error
from cir.graph import Const, Model
from cir.weights import byte_count, storage_bytes
from framework_adapter.cann import container, modeldef
from framework_adapter.cann.air import SOC, AirBackend
from framework_adapter.cann.container import padded
from framework_adapter.cann.modeldef import Place
from framework_adapter.cann.proto import (
    DTYPES,
    FORMATS,
    TYPE_NUMBERS,
    serialise,
    set_attr,
    value_of,
)
from framework_adapter.emission import EmitResult
from framework_adapter.output import staged

GRAPH_ONLY = (
    "graph only: not compiled for a device, which takes atc and a chip; "
    "cir convert --print-atc says how to compile it"
)
#: GE reads offset 0 as "not placed"; weights start here, at multiples of it.
_ALIGN = 512
_COUNTERS = "memory_size p2p_memory_size stream_num event_num label_num zero_copy_memory_size"


class OmBackend(AirBackend):
    """Writes OM files."""

    name = "om"
    options: Mapping[str, str] = {
        "soc": SOC,
        "atc": "CANN's compiler, or none for the graph only; default: the one that is installed",
        "precision_mode": "of atc: fp32 (default), origin, mixed or fp16",
        "gears": "sizes of symbolic dims to compile for, e.g. batch=1,2,4;seq=128",
        "timeout": "seconds that atc may take, default 3600",
    }

    def emit(
        self,
        model: Model,
        path: Path,
        *,
        digest: str = "",
        versions: Mapping[str, str] | None = None,
        ctx: Any = None,
        soc: str | None = None,
        atc: str | None = None,
        precision_mode: str = "fp32",
        gears: str = "",
        timeout: float | str = "",
        **_: Any,
    ) -> EmitResult:
        """Write an AIR file and compile it, or, without compiler or chip, write the graph.

        ``notes`` say which. A compiled file has the AIR beside it: the same name, ``.air``.

        Raises:
            CirError: E100 for an option that has no such value; E501 for what the chip does not
                take; E502 when the file cannot be written; E503 for an unknown chip, or none when
                a compiler is named; E505 and E961 of the compiler, E903 when the one named does not
                exist; E901 without protobuf.
        """
        from framework_adapter.cann import atc as driver
        from framework_adapter.cann.atc_command import parse_gears, precision_flag

        path = Path(path)
        chosen = None if atc == "none" else driver.find(atc)
        # Checked without a compiler as well: a typing error must not go unseen.
        how: dict[str, Any] = {
            "precision": precision_mode,
            "gears": parse_gears(gears),
            "timeout": _seconds(timeout or driver.TIMEOUT),
        }
        precision_flag(precision_mode)
        if atc and chosen and not soc:
            raise error(
                "E503",
                f"{atc} needs the name of a chip",
                fix='e.g. soc="Ascend310P3", or atc="none"',
            )
        if chosen is None or not soc:
            return self.emit_graph(model, path, digest=digest, versions=versions, ctx=ctx, soc=soc)
        with staged(path) as tmp:
            source = tmp.with_suffix(".air")
            air = super().emit(model, source, digest=digest, versions=versions, ctx=ctx, soc=soc)
            how["log"] = None if ctx is None else ctx.say
            driver.compile(model, source, tmp, soc, atc=chosen, names=air.mapping, **how)
        files = (path, *(path.with_name(str(f.relative_to(source.parent))) for f in air.files))
        note = f"compiled by atc for {soc}; the numbers are those of {path.stem}.air beside it"
        return EmitResult(path, files, air.node_count, air.mapping, notes=(note,))

    def run(self, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results of the graph: of the file itself, or of the AIR that it was compiled from."""
        from framework_adapter.cann.extract import is_graph_only

        source = path.with_suffix(".air")
        compiled = source.is_file() and not is_graph_only(path)
        return super().run(source if compiled else path, feeds)

    def emit_graph(
        self,
        model: Model,
        path: Path,
        *,
        digest: str = "",
        versions: Mapping[str, str] | None = None,
        ctx: Any = None,
        soc: str | None = None,
    ) -> EmitResult:
        """Write the graph of a program, uncompiled and marked so; errors as of ``emit``."""
        from framework_adapter.cann.emit import program

        graph = program(model, soc, ctx)
        places, blocks, total = placed(graph.consts)
        texts = modeldef.text_attrs(versions, digest)
        out = modeldef.build(graph, model, places=places, texts=texts)
        _model_attrs(out, total, soc)
        head = serialise(out)
        interface = interface_block(out)
        parts = [(container.INTERFACE, len(interface)), (container.MODEL_DEF, len(head))]
        if total:
            parts.append((container.WEIGHTS, total))
        dynamic = any(not graph.types[i].is_static for i in graph.inputs)
        with staged(path) as tmp, open(tmp, "wb") as f:
            container.write_header(f, out.name, parts, dynamic)
            f.write(interface)
            f.write(head)
            _write_weights(f, blocks, total)
        count = len(out.graph[0].op)
        names = modeldef.mapping(graph.nodes)
        return EmitResult(path, (path,), count, names, notes=(GRAPH_ONLY,))


def _seconds(value: float | str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise error("E100", f"timeout {value!r} is no number of seconds", fix="e.g. timeout=7200")
    return seconds


def placed(consts: Mapping[str, Const]) -> tuple[dict[str, Place], dict[int, Const], int]:
    """(constant -> place, offset -> data, bytes in all); equal constants share their place."""
    places: dict[str, Place] = {}
    blocks: dict[int, Const] = {}
    by_content: dict[str, int] = {}
    at = _ALIGN
    for name, const in consts.items():
        offset = by_content.setdefault(const.digest, at)
        places[name] = Place(offset)
        if offset == at:
            blocks[at] = const
            at = padded(at + max(byte_count(const.type), 1), _ALIGN)
    if not blocks:
        return places, blocks, 0
    last = max(blocks)
    end = last + byte_count(blocks[last].type)
    return places, blocks, padded(end + 32, _ALIGN)


def _write_weights(f: BinaryIO, blocks: Mapping[int, Const], total: int) -> None:
    start = f.tell()
    for offset, const in blocks.items():
        f.write(b"\0" * (start + offset - f.tell()))
        f.write(storage_bytes(const).data)
    f.write(b"\0" * (start + total - f.tell()))


def _model_attrs(out: Any, weights: int, soc: str | None) -> None:
    """What GE's loader and tools look for, and the mark that nothing here is compiled."""
    for name in _COUNTERS.split():
        set_attr(out.attr[name], "Int", 0)
    set_attr(out.attr["weight_size"], "Int", weights)
    set_attr(out.attr["om_info_list"], "ListInt", [weights, 0, 0, 0, 0])
    set_attr(out.attr["target_type"], "String", "MINI")
    set_attr(out.attr["framework_type"], "String", "1")
    set_attr(out.attr["soc_version"], "String", soc or "")
    set_attr(out.attr["atc_cmdline"], "String", GRAPH_ONLY)
    set_attr(out.attr[modeldef.MARK], "Bool", True)


def interface_block(model: Any) -> bytes:
    """The MODEL_INOUT_INFO partition: inputs and outputs, readable without the graph."""
    ops = {op.name: op for op in model.graph[0].op}
    inputs = [(op.name, op.input_desc[0]) for op in model.graph[0].op if op.type == "Data"]
    names = value_of(model.attr[modeldef.OUTPUT_NAMES])
    outputs = []
    for name, edge in zip(names, model.graph[0].output):
        producer, _, index = edge.rpartition(":")
        outputs.append((name, ops[producer].output_desc[int(index)]))
    return b"".join(_block(tag, descs) for tag, descs in ((0, inputs), (1, outputs)) if descs)


def _block(tag: int, descs: Sequence[tuple[str, Any]]) -> bytes:
    body = struct.pack("<I", len(descs)) + b"".join(b"".join(_described(*d)) for d in descs)
    return struct.pack("<II", tag, len(body)) + body


def _described(name: str, desc: Any) -> Iterator[bytes]:
    dims = list(desc.shape.dim)
    dtype = DTYPES[desc.dtype]
    size = 0 if -1 in dims else int(np.prod(dims, dtype=np.int64)) * _bytes(dtype)
    label = name.encode()
    ranges = (
        [n for pair in value_of(desc.attr["shape_range"]) or () for n in pair]
        if "shape_range" in desc.attr
        else []
    )
    yield struct.pack("<QiiIIII", size, FORMATS[desc.layout], TYPE_NUMBERS[dtype], len(label),
                      8 * len(dims), 8 * len(dims), 8 * len(ranges))  # fmt: skip
    yield label
    yield struct.pack(f"<{2 * len(dims) + len(ranges)}q", *dims, *dims, *ranges)


def _bytes(dtype: str) -> int:
    from cir import dtype as dt

    return dt.bits(dtype) // 8


BACKEND = OmBackend()
