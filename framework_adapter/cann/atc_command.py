"""The command line of ``atc``, CANN's compiler, from a program's dims, a precision and a chip."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

from cir import dim as dm
from cir.diagnostics import error
from cir.graph import Model, Range, TensorType
from framework_adapter.cann import soc as chips

#: What ``--framework`` calls the kinds of file.
_FRAMEWORKS = {".air": 1, ".onnx": 5}
#: Our word -> atc's ``--precision_mode``, nearest to the source first. float32 is kept wherever the
#: chip has it: ``must_keep_origin_dtype`` fails on chips whose matrix unit takes float16 only.
PRECISIONS: Mapping[str, str] = {
    "fp32": "allow_fp32_to_fp16",
    "origin": "must_keep_origin_dtype",
    "mixed": "allow_mix_precision",
    "fp16": "force_fp16",
}
#: Gears that a model may have, by family of chips.
_MAX_GEARS, _MAX_GEARS_BY_FAMILY = 100, {"950": 256}
#: Axes -> ``--input_format`` of an ONNX file; other ranks have no layout.
_FORMATS = {5: "NCDHW", 4: "NCHW"}


def command(
    model: Model,
    source: Path | str,
    out: Path | str,
    soc: str,
    *,
    atc: Path | str = "atc",
    precision: str = "fp32",
    gears: Mapping[str, Sequence[int]] | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """The command that compiles a model file.

    A symbolic dim becomes a range ``lo~hi`` (-1 without an upper bound), or, when its symbol has
    sizes, a set of gears: ``--dynamic_batch_size`` when it is the leading axis and nothing else is
    symbolic, ``--dynamic_dims`` otherwise.

    Args:
        model: the program that the file was written from, for its inputs and their symbols.
        source: the file, ``.air`` or ``.onnx``.
        out: the ``.om`` to write.
        soc: name of the chip, e.g. ``Ascend310P3``.
        atc: the program to call.
        precision: ``fp32`` (where the chip has it), ``origin``, ``mixed`` or ``fp16``.
        gears: symbol -> sizes to compile for, over ``model.symbols``.
        options: further arguments for atc, passed on as they are.

    Raises:
        CirError: E100 for an unknown precision or symbol; E503 for an unknown chip; E505 when atc
            cannot compile for these dims.
    """
    source, out = Path(source), Path(out)
    chip = chips.find(soc)
    if source.suffix not in _FRAMEWORKS:
        raise error(
            "E505",
            f"atc does not compile {source.name}",
            nearest=".air, .onnx",
            fix="convert it first: cir convert MODEL model.air",
        )
    if not soc:
        raise error("E503", "atc needs the name of a chip", fix='e.g. soc="Ascend310P3"')
    air = source.suffix == ".air"
    most = _MAX_GEARS_BY_FAMILY.get(chip.family, _MAX_GEARS)
    return [
        str(atc),
        f"--framework={_FRAMEWORKS[source.suffix]}",
        f"--model={source}",
        f"--output={out.with_suffix('') if out.suffix == '.om' else out}",
        f"--soc_version={soc}",
        *_shapes(model, gears or {}, air, most),
        precision_flag(precision),
        *options,
    ]


def precision_flag(precision: str) -> str:
    """``--precision_mode`` for one of ``PRECISIONS``. Raises CirError E100 for another."""
    if precision not in PRECISIONS:
        raise error(
            "E100",
            f"precision {precision!r} is not supported",
            nearest=", ".join(PRECISIONS),
            fix="pass 'fp32', or none",
        )
    return f"--precision_mode={PRECISIONS[precision]}"


def shown(parts: Sequence[str]) -> str:
    """A command as one line that a shell takes."""
    return shlex.join(parts)


def parse_gears(text: str) -> dict[str, tuple[int, ...]]:
    """``"batch=1,2,4;seq=128,256"`` as symbol -> sizes. Raises CirError E100."""
    found = {}
    for part in filter(None, text.replace(" ", "").split(";")):
        name, _, sizes = part.partition("=")
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", sizes) or not name.isidentifier():
            raise error(
                "E100", f"gears {part!r} are not SYMBOL=SIZE,SIZE", fix='e.g. "batch=1,2,4;seq=128"'
            )
        found[name] = tuple(int(n) for n in sizes.split(","))
    return found


def _shapes(
    model: Model, given: Mapping[str, Sequence[int]], air: bool, most: int
) -> Iterator[str]:
    types = {name: model.graph.types[name] for name in model.graph.inputs}
    symbols = sorted({s for t in types.values() for d in t.shape for s in _symbols(d)})
    ranges = dict(model.symbols)
    if unknown := sorted(set(given) - set(symbols)):
        raise error(
            "E100",
            f"gears for {', '.join(unknown)}, which is no symbolic size of an input",
            nearest=", ".join(symbols) or "none: every size is fixed",
            fix="name a symbolic size, or make one with dynamic_shapes= when converting",
        )
    for name, sizes in given.items():
        ranges[name] = Range(min(sizes), max(sizes), tuple(sizes))
    gears = _gears(symbols, ranges, most)
    if len(gears) == 1:  # one size of each symbol: nothing is left open
        types = {n: _fixed(t, gears[0]) for n, t in types.items()}
    if types:
        # Names in the IR are of letters, digits, _ . and /: none of them means anything to atc.
        shapes = {n: [_dim(d, {} if gears else ranges) for d in t.shape] for n, t in types.items()}
        yield f"--input_shape={';'.join(f'{n}:{_commas(dims)}' for n, dims in shapes.items())}"
    flag = _gear_flag(types, gears) if len(gears) > 1 else ""
    if flag:
        yield flag
    by_dims = flag.startswith("--dynamic_dims")
    if air and by_dims:
        raise error(
            "E505",
            "atc compiles an AIR file for gears of the leading axis only",
            why="--dynamic_dims needs --input_format=ND, and of AIR files atc takes NCHW only",
            fix="compile from ONNX: convert with target='onnx', profile='ge-safe'",
        )
    ranks = {t.rank for t in types.values()}
    layout = next((f for rank, f in _FORMATS.items() if rank in ranks), "ND")
    yield f"--input_format={'NCHW' if air else 'ND' if by_dims else layout}"


def _gears(symbols: Sequence[str], ranges: Mapping[str, Range], most: int) -> list[dict[str, int]]:
    """Every combination of the symbols' sizes; none when they have ranges instead."""
    sizes = {s: sorted(set(ranges[s].sizes)) for s in symbols if s in ranges and ranges[s].sizes}
    if not sizes:
        return []
    if others := [s for s in symbols if s not in sizes]:
        raise error(
            "E505",
            f"sizes are given for {', '.join(sizes)} and not for the other symbols",
            why="atc compiles either for gears or for ranges",
            fix=f"give sizes for {', '.join(others)} as well",
        )
    if (count := math.prod(map(len, sizes.values()))) > most:
        raise error(
            "E505", f"{count} gears are more than the {most} that atc takes", fix="give fewer sizes"
        )
    return [dict(zip(sizes, chosen)) for chosen in product(*sizes.values())]


def _gear_flag(types: Mapping[str, TensorType], gears: Sequence[Mapping[str, int]]) -> str:
    open_dims = [(axis, d) for t in types.values() for axis, d in enumerate(t.shape) if _symbols(d)]
    if set(open_dims) == {(0, name) for name in gears[0]} and len(gears[0]) == 1:
        return f"--dynamic_batch_size={_commas(n for g in gears for n in g.values())}"
    rows = [_commas(dm.evaluate(d, g) for _, d in open_dims) for g in gears]
    return f"--dynamic_dims={';'.join(rows)}"


def _commas(items: Iterable[object]) -> str:
    return ",".join(map(str, items))


def _symbols(d: dm.Dim) -> frozenset[str]:
    return dm.symbols_of(d) if isinstance(d, str) else frozenset()


def _fixed(t: TensorType, env: Mapping[str, int]) -> TensorType:
    return TensorType(t.dtype, tuple(dm.evaluate(d, env) for d in t.shape))


def _dim(d: dm.Dim, ranges: Mapping[str, Range]) -> str:
    """A size, ``lo~hi``, or -1 for any."""
    if isinstance(d, int):
        return str(d)
    known = ranges.get(d)  # nothing is known about an expression of symbols
    if known is None or known.max is None:
        return "-1"
    low = max(known.min, 1)
    return str(low) if low == known.max else f"{low}~{known.max}"
