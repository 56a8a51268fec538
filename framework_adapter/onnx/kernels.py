"""What a runtime can run: its ops, by version, with the dtypes that each input takes.

A profile is a file ``profiles/<name>.json``. ``ort-cpu`` is read from ONNX Runtime itself::

    python -m framework_adapter.onnx.kernels        # rewrites profiles/ort-cpu.json

One that is ``like`` another has its kernels of the standard domain, at other opsets or only those
of ``ops``. ``ge-safe`` lists what GE, Ascend's graph compiler, has ONNX parsers for at opset 18:
the key of its parsers holds the opset, and none is registered for a later one.

An op without a kernel (GroupNormalization, HardSwish, Mish) is not in it, although ONNX defines it:
such ops are lowered further instead of being left to the runtime's function expansion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cir import dtype as dt
from cir.diagnostics import error

_FOLDER = Path(__file__).parent / "profiles"
#: ONNX's spelling of dtypes where it differs.
_SPELLING = {
    "float": "float32",
    "double": "float64",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e5m2": "float8_e5m2",
}
#: The dtypes that ops which only move data take.
_ALL = ("bool", *dt.INTS, *dt.FLOATS)


@dataclass(frozen=True)
class Profile:
    """What may be emitted for a runtime.

    Attributes:
        name: as in ``convert(..., profile=name)``.
        base, lowest, highest: opset that is emitted unless an op needs a later one, and the limits.
        domains: op -> domain, for ops outside the standard domain.
        kernels: op -> ((since version, dtypes of each input slot), ...), latest last.
    """

    name: str
    base: int
    lowest: int
    highest: int
    domains: Mapping[str, str]
    kernels: Mapping[str, tuple[tuple[int, tuple[frozenset[str], ...]], ...]]

    def domain(self, op: str) -> str:
        """Domain of an op, "" for the standard one."""
        return self.domains.get(op, "")

    def slots(self, op: str, opset: int) -> tuple[frozenset[str], ...] | None:
        """Dtypes that each input slot takes (the last one repeats); None without a kernel."""
        found = None
        version = opset if op not in self.domains else 1
        for since, slots in self.kernels.get(op, ()):
            if since <= version:
                found = slots
        return found

    def dtypes(self, op: str, slot: int, opset: int) -> frozenset[str] | None:
        """Dtypes that one input takes; None without a kernel."""
        slots = self.slots(op, opset)
        if not slots:
            return None if slots is None else frozenset()
        return slots[min(slot, len(slots) - 1)]


@cache
def load(name: str) -> Profile:
    """A profile by name. Raises CirError E503 for an unknown one."""
    path = _FOLDER / f"{name}.json"
    if not name.replace("-", "").isalnum() or not path.is_file():
        known = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.json")))
        raise error("E503", f"unknown profile {name!r}", nearest=known, fix=f"use one of: {known}")
    raw = json.loads(path.read_text(encoding="utf-8"))
    if "like" in raw:
        like = load(raw["like"])
        opsets = raw.get("opset") or {k: getattr(like, k) for k in ("base", "lowest", "highest")}
        ops = frozenset(op for line in raw.get("ops", ()) for op in line.split()) or like.kernels
        kernels = {op: k for op, k in like.kernels.items() if op in ops and op not in like.domains}
        return Profile(name, **opsets, domains={}, kernels=kernels)
    base, lowest, highest = (raw["opset"][k] for k in ("base", "lowest", "highest"))
    kernels = {
        op: tuple((int(since), tuple(map(_names, slots))) for since, slots in versions.items())
        for op, versions in raw["kernels"].items()
    }
    domains = {op: domain for domain, ops in raw["domains"].items() for op in ops}
    return Profile(name, base, lowest, highest, domains, kernels)


def _names(text: str) -> frozenset[str]:
    return frozenset(n for t in text.split() for n in (_ALL if t == "all" else (t,)))


def read_runtime() -> dict[str, Any]:
    """The installed ONNX Runtime's CPU kernels, in the form of the profile file.

    float16 is listed where the runtime itself casts around a float32 kernel: for standard ops.
    """
    from onnxruntime import __version__
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    old = json.loads((_FOLDER / "ort-cpu.json").read_text(encoding="utf-8"))
    lowest, highest = old["opset"]["lowest"], old["opset"]["highest"]
    schemas: dict[tuple[str, str], list[Any]] = {}
    for s in runtime.get_all_operator_schema():
        schemas.setdefault((s.domain, s.name), []).append(s)
    standard = {name for domain, name in schemas if domain == ""}
    found: dict[str, dict[int, list[set[str]]]] = {}
    domains: dict[str, set[str]] = {}
    for kernel in runtime.get_all_opkernel_def():
        domain, op = kernel.domain, kernel.op_name
        known = schemas.get((domain, op), [])
        if (
            kernel.provider != "CPUExecutionProvider"
            or domain not in ("", "com.microsoft")
            or not known
        ):
            continue
        since, until = kernel.version_range
        if domain and op in standard or not domain and (since > highest or until < lowest):
            continue
        if domain:
            domains.setdefault(domain, set()).add(op)
        schema = max((s for s in known if s.since_version <= since), key=lambda s: s.since_version)
        slots = found.setdefault(op, {}).setdefault(since, [set() for _ in schema.inputs])
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        for slot, formal in zip(slots, schema.inputs):
            names = kernel.type_constraints.get(formal.typeStr) or allowed.get(formal.typeStr)
            slot.update(map(spelled, names or [formal.typeStr]))
            declared = set(map(spelled, allowed.get(formal.typeStr, ())))
            if not domain and {"float32", "float16"} <= declared and "float32" in slot:
                slot.add("float16")
    return {
        **old,
        "runtime": f"onnxruntime {__version__}",
        "domains": {d: sorted(ops) for d, ops in sorted(domains.items())},
        "kernels": {op: _compact(versions) for op, versions in sorted(found.items())},
    }


def _compact(versions: Mapping[int, list[set[str]]]) -> dict[str, list[str]]:
    """Slots by version, without versions that change nothing and slots that repeat the one
    before.
    """
    out: dict[str, list[str]] = {}
    for since, slots in sorted(versions.items()):
        texts = [_text(s) for s in slots]
        while len(texts) > 1 and texts[-1] == texts[-2]:
            texts.pop()
        if not out or texts != list(out.values())[-1]:
            out[str(since)] = texts
    return out


def spelled(name: str) -> str:
    """The dtype that a runtime calls ``tensor(float)`` or the like."""
    name = name.removeprefix("tensor(").removesuffix(")")
    return _SPELLING.get(name, name)


def _text(slot: set[str]) -> str:
    names = [n for n in dt.ALL if n in slot]
    if slot >= set(_ALL):
        names = ["all", *(n for n in names if n not in _ALL)]
    return " ".join(names)


def render(raw: Mapping[str, Any]) -> str:
    """A profile as text, one op on a line."""
    head = "".join(
        f"{json.dumps(k)}: {json.dumps(v)},\n " for k, v in raw.items() if k != "kernels"
    )
    rows = (f"  {json.dumps(op)}: {json.dumps(v)}" for op, v in raw["kernels"].items())
    return f'{{{head}"kernels": {{\n' + ",\n".join(rows) + "\n}}\n"


if __name__ == "__main__":
    (_FOLDER / "ort-cpu.json").write_text(render(read_runtime()), encoding="utf-8")
