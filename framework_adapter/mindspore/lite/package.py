"""A model as a part of a mobile app: ``.ms`` file, manifest, self-test, code that loads it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

import numpy as np

from cir.diagnostics import error
from cir.graph import TensorType
from framework_adapter.mindspore.lite import BACKEND, flat
from framework_adapter.mindspore.lite.check import DTYPES, dims_of

#: Largest scaled error of the self-test: a phone's kernels round otherwise than ours.
TOLERANCE = 1e-3
MANIFEST = "manifest.json"
_PACKAGE = "models"


@dataclass(frozen=True)
class App:
    """Where an app of a platform keeps its files: folder of data, (template, folder) of code."""

    data: str
    code: tuple[tuple[str, str], ...]


APPS: Mapping[str, App] = {
    "android": App(
        "app/src/main/assets",
        (
            ("model.java", f"app/src/main/java/{_PACKAGE}/$Class.java"),
            ("model.kt", f"app/src/main/kotlin/{_PACKAGE}/${{Class}}Kt.kt"),
        ),
    ),
    "harmonyos": App(
        "entry/src/main/resources/rawfile",
        (
            ("model.ets", f"entry/src/main/ets/{_PACKAGE}/$Class.ets"),
            ("model.h", "entry/src/main/cpp/${name}_model.h"),
            ("model.c", "entry/src/main/cpp/${name}_model.c"),
        ),
    ),
}


@dataclass(frozen=True)
class _Tensor:
    """An input or output: the file's type and format, and the sample's data."""

    name: str
    type: TensorType
    layout: str
    sample: np.ndarray


def package(
    model: str | Path,
    out: str | Path,
    *,
    app: str,
    weights: str | None = None,
    runtime: str | None = None,
    progress: Any = None,
) -> dict[str, Any]:
    """Write a model, its manifest and loading code in the folders of an app.

    Args:
        model: a ``.ms`` file, which is taken as it is; or a file or folder to convert: ``.onnx``,
            ``.pt2``, ``.keras``, SavedModel, ``.mindir``, ``.cir.json``, ...
        out: folder to write; one that an earlier call wrote is replaced.
        app: ``android`` or ``harmonyos``.
        weights: ``fp32`` or ``fp16``, see ``emit.emit``; not for a ``.ms`` file.
        runtime: oldest runtime, see ``emit.emit``; not for a ``.ms`` file.
        progress: called with a short text at the start of each stage.

    Returns:
        The manifest, as it is in the file; ``manifest.schema.json`` describes it.

    Raises:
        CirError: E100 for an unknown platform or an option that does not apply; E1xx to E6xx as
            ``convert``; E502 when the folder cannot be written.
    """
    from framework_adapter.output import check_writable, staged

    say = progress or (lambda text: None)
    if app not in APPS:
        raise error("E100", f"unknown app {app!r}", nearest=", ".join(APPS), fix="--app android")
    path, out = Path(model), Path(out)
    if not path.exists():
        raise error("E101", f"no such file or folder: {path}", fix="check the path")
    given = {k: v for k, v in (("weights", weights), ("runtime", runtime)) if v is not None}
    if path.suffix == ".ms" and given:
        raise error(
            "E100",
            f"{', '.join(given)} cannot be chosen for a .ms file, which is taken as it is",
            fix="package the model it was made from",
        )
    _check_replaceable(out)
    check_writable(out.with_name(f"{out.name}.probe"))
    with staged(out) as tmp:
        tmp.mkdir()
        name = _identifier(path.name.split(".")[0])
        data = tmp / APPS[app].data
        data.mkdir(parents=True)
        file = data / f"{name}.ms"
        say("convert")
        origin = _model_file(path, file, given)
        say("self-test sample")
        manifest = {**_described(file, app), **origin}
        for relative, text in _code(manifest, app, name).items():
            target = tmp / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            manifest["code"].append(relative)
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (tmp / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
    return manifest


def _check_replaceable(out: Path) -> None:
    """Raise CirError E502 unless a folder is new, empty or holds just an earlier package."""
    if out.is_file():
        raise error("E502", f"{out} is a file", fix="name the folder to write")
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if not p.is_dir()}
    try:
        old = json.loads((out / MANIFEST).read_text(encoding="utf-8")) if found else {}
        model = PurePosixPath(old["model"]["file"]) if found else PurePosixPath()
        goldens = (p["golden"]["file"] for k in ("inputs", "outputs") for p in old.get(k, ()))
        ours = {
            MANIFEST,
            str(model),
            *old.get("code", ()),
            *(str(model.parent / g) for g in goldens),
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        ours = set()
    if foreign := sorted(found - ours):
        raise error(
            "E502",
            f"{out} holds other files",
            why=", ".join(foreign[:4]) + (", ..." if len(foreign) > 4 else ""),
            fix="name a new folder, or empty this one",
        )


def _identifier(text: str) -> str:
    """A name that assets, C, Java and ArkTS all allow."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "model"
    return name if name[0].isalpha() else f"model_{name}"


def _model_file(path: Path, file: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write the ``.ms`` file; what the model came from and how the conversion was validated."""
    from framework_adapter import api, registry
    from framework_adapter.validate.metrics import json_number

    def origin(framework: str, validation: Any = None) -> dict[str, Any]:
        return {"source": {"framework": framework}, "validation": validation}

    if path.suffix == ".ms":
        shutil.copyfile(path, file)
        return origin("mslite")
    if path.suffix == ".json":
        from cir.serde import load

        BACKEND.emit(load(path), file, **options)
        return origin("cir")
    frontend = registry.detect(str(path))
    report = api.convert(str(path), "mslite", file, framework=frontend.name, **options).report
    if report is None:
        return origin(frontend.name)
    return origin(
        frontend.name, {"verdict": report.verdict, "scaled_error": json_number(report.scaled_error)}
    )


# -- the manifest ----------------------------------------------------------------------------------
def _described(file: Path, app: str) -> dict[str, Any]:
    from framework_adapter import readback

    program = readback.program(file)
    raw = file.read_bytes()
    tables = flat.unpack(raw)
    inputs, outputs = _sampled(file, tables, program)
    for t in outputs:
        if t.type.dtype == "float16":
            raise error(
                "E103", f"output {t.name!r} is float16, which the self-test does not compare",
                fix="cast it to float32 in the model",
            )  # fmt: skip
    halves = any(DTYPES[t["dataType"]] == "float16" for t in tables["allTensors"])
    ops = Counter(n["primitive"]["value"][0] for n in tables["nodes"])
    return {
        "manifest": 1,
        "app": app,
        "model": {
            "file": f"{APPS[app].data}/{file.name}",
            "bytes": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(),
            "schema": flat.schema().identifier,
            "weights": "fp16" if halves else "fp32",
            "ops": dict(sorted(ops.items())),
        },
        "runtime": {
            "name": "MindSpore Lite",
            "min_version": (tables["version"] or "").rpartition(" ")[2],
        },
        "digest": program.digest,
        "inputs": [_port(t, file, "input", i) for i, t in enumerate(inputs)],
        "outputs": [_port(t, file, "output", i) for i, t in enumerate(outputs)],
        "tolerance": TOLERANCE,
        "code": [],
    }


def _sampled(
    file: Path, tables: Mapping[str, Any], program: Any
) -> tuple[list[_Tensor], list[_Tensor]]:
    """Inputs and outputs with a seeded sample."""
    feeds, results = _run(file, program.specs)
    ports = []
    for key, data in (("inputIndex", feeds), ("outputIndex", results)):
        found = []
        for i, sample in zip(tables[key], data):
            tensor = tables["allTensors"][int(i)]
            stored = TensorType(DTYPES[tensor["dataType"]], tuple(dims_of(tensor)))
            layout = tensor["format"] if len(stored.shape) == 4 else ""
            found.append(_Tensor(tensor["name"], stored, layout, np.ascontiguousarray(sample)))
        ports.append(found)
    return ports[0], ports[1]


def _run(file: Path, specs: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Feeds and finite results, symbolic sizes being 1; integers are 0 and 1, or 1."""
    from framework_adapter.validate.inputs import feeds_at, first_sizes

    why = "its results are not finite"
    for seed in range(4):
        feeds = feeds_at(specs, seed, dict.fromkeys(first_sizes(specs), 1))
        if seed == 3:
            feeds = [f if f.dtype.kind == "f" else np.ones_like(f) for f in feeds]
        try:
            results = BACKEND.run(file, feeds)
        except Exception as exc:  # the runtime's own exception types
            why = str(exc)
            continue
        if all(np.isfinite(r.astype(np.float64)).all() for r in results):
            return feeds, results
    raise error(
        "E103", "the model does not run on a drawn sample", why=why[:300],
        fix="package a model that takes normal numbers, and 0 and 1 as integers",
    )  # fmt: skip


def _port(t: _Tensor, file: Path, kind: str, index: int) -> dict[str, Any]:
    """One input or output as the manifest has it; its sample is written beside the model."""
    name = f"{file.stem}.{kind}_{index}.bin"
    data = t.sample.astype(t.sample.dtype.newbyteorder("<")).tobytes()
    file.with_name(name).write_bytes(data)
    return {
        "name": t.name,
        "dtype": t.type.dtype,
        "shape": list(t.type.shape),
        "layout": t.layout,
        "golden": {
            "file": name,
            "shape": list(t.sample.shape),
            "sha256": hashlib.sha256(data).hexdigest(),
        },
    }


def _class(name: str) -> str:
    """A class name that is none of those that the code imports."""
    parts = name.removesuffix("model").split("_")
    return ("".join(p.capitalize() for p in parts) or "OnDevice") + "Model"


# -- the code --------------------------------------------------------------------------------------
def _code(manifest: Mapping[str, Any], app: str, name: str) -> dict[str, str]:
    """Relative path -> text of each source file."""
    values = _values(manifest, name)
    folder = Path(__file__).parent / "templates"
    return {
        Template(path).substitute(values): Template(
            (folder / template).read_text(encoding="utf-8")
        ).substitute(values)
        for template, path in APPS[app].code
    }


def _values(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    inputs, outputs = manifest["inputs"], manifest["outputs"]
    shapes = [p["golden"]["shape"] for p in inputs]

    def listed(items: Sequence[str], start: str, end: str) -> str:
        return ", ".join(f"{start}{i}{end}" for i in items)

    def each(ports: Any, quote: Any, key: str) -> str:
        return ", ".join(quote(p["golden"][key] if key == "file" else p[key]) for p in ports)

    rows = [", ".join(map(str, s)) for s in shapes]
    return {
        "package": _PACKAGE,
        "Class": _class(name),
        "name": name,
        "NAME": name.upper(),
        "file": f"{name}.ms",
        "title": f"The model {name}, run by MindSpore Lite {manifest['runtime']['min_version']}.",
        "interface": "\n".join(
            f" * {kind} {i}: {_shown(p)}"
            for kind, ports in (("Input", inputs), ("Output", outputs))
            for i, p in enumerate(ports)
        ),
        "output_names": each(outputs, _quoted, "name"),
        "output_names_c": each(outputs, _quoted_c, "name"),
        "output_dtypes": each(outputs, _quoted, "dtype"),
        "golden_inputs": each(inputs, _quoted, "file"),
        "golden_outputs": each(outputs, _quoted, "file"),
        "golden_shapes": listed(rows, "{", "}"),
        "golden_shapes_kt": listed(rows, "intArrayOf(", ")"),
        "golden_shapes_ets": listed(rows, "[", "]"),
        "golden_shapes_c": ", ".join(f"{{{len(s)}, {{{r}}}}}" for s, r in zip(shapes, rows)),
        "tolerance": TOLERANCE,
        "any_size": "true" if any(d < 0 for p in inputs for d in p["shape"]) else "false",
        "inputs": len(inputs),
        "outputs": len(outputs),
    }


def _shown(port: Mapping[str, Any]) -> str:
    """Name, dtype, shape and layout in a comment."""
    dims = ", ".join("any" if d < 0 else str(d) for d in port["shape"])
    name = re.sub(r"[^\x20-\x7e]|\*/", "?", port["name"])
    return f"{name}, {port['dtype']}[{dims}] {port['layout']}".rstrip()


def _quoted(text: str) -> str:
    """A string literal that Java, Kotlin and ArkTS read alike."""
    out = json.dumps(text)
    return out.replace("$", "\\u0024") if "$" in out else out


def _quoted_c(text: str) -> str:
    """A string literal of C, the text in UTF-8."""
    plain = re.compile(r'[^\x20-\x7e]|["\\?]')
    parts = (f"\\{b:03o}" if plain.match(chr(b)) else chr(b) for b in text.encode())
    return f'"{"".join(parts)}"'
