"""A model in the folders of an app: the manifest, the sample, and the code, which runs against a stand-in runtime."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner  # noqa: E402

from cir.builder import Builder  # noqa: E402
from cir.diagnostics import CirError  # noqa: E402
from cir.graph import Const, Model  # noqa: E402
from cir.serde import save  # noqa: E402
from framework_adapter import api, convert, onnx  # noqa: E402
from framework_adapter.cli import app as cli  # noqa: E402
from framework_adapter.mindspore.lite import BACKEND, FRONTEND, flat  # noqa: E402
from framework_adapter.mindspore.lite.package import APPS, package  # noqa: E402

ROOT = Path(__file__).parents[3]
STANDINS = Path(__file__).parent / "apps"
SCHEMA = json.loads((ROOT / "framework_adapter/mindspore/lite/manifest.schema.json").read_text())


def network(size: Any = "batch") -> Model:
    """An image and token ids in; scores and the best of them out."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> str:
        return b.const(Const.of(rng.standard_normal(shape).astype(np.float32)))

    b = Builder()
    x = b.input("image", "float32", [size, 3, 6, 5])
    ids = b.input("ids", "int64", [size, 4])
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    h = b.emit("relu", [b.emit("conv", [x, weight(8, 3, 3, 3), weight(8)], attrs)[0]])[0]
    h = b.emit("mean", [h], {"axis": (2, 3), "keepdims": False})[0]
    e = b.emit(
        "sum", [b.emit("gather", [weight(7, 8), ids])[0]], {"axis": (1,), "keepdims": False}
    )[0]
    y = b.emit("softmax", [b.emit("add", [h, e])[0]], name="scores")[0]
    best = b.emit("argmax", [y], {"axis": -1}, name="best")[0]
    return Model(b.finish([y, best]))


def packaged(folder: Path, app: str, size: Any = "batch") -> tuple[Path, dict[str, Any]]:
    """The folder written, and its manifest."""
    model = folder / "my Net.ms"
    BACKEND.emit(network(size), model)
    return folder / "out", package(model, folder / "out", app=app)


# -- the manifest ----------------------------------------------------------------------------------
@pytest.mark.parametrize("app", APPS)
def test_manifest(app: str, tmp_path: Path) -> None:
    """It fits its schema; hashes, sizes and numbers are those of the files; the sample is what the model gives."""
    out, made = packaged(tmp_path, app)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest == made
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(manifest, SCHEMA)
    file = out / manifest["model"]["file"]
    assert file.read_bytes() == (tmp_path / "my Net.ms").read_bytes()
    assert file.name == "my_net.ms" and str(file.parent.relative_to(out)) == APPS[app].data
    assert manifest["model"]["bytes"] == file.stat().st_size
    assert manifest["model"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert sum(manifest["model"]["ops"].values()) == len(flat.unpack(file.read_bytes())["nodes"])
    assert manifest["runtime"]["min_version"] == "2.7.0" and manifest["model"]["weights"] == "fp32"
    assert manifest["digest"] == api.build(str(file), FRONTEND).digest
    ports = [(p["name"], p["dtype"], p["shape"], p["layout"]) for p in manifest["inputs"]]
    assert ports == [("image", "float32", [-1, 3, 6, 5], "NCHW"), ("ids", "int64", [-1, 4], "")]
    assert [(p["name"], p["dtype"]) for p in manifest["outputs"]] == [
        ("scores", "float32"),
        ("best", "int64"),
    ]
    arrays = []
    for p in (*manifest["inputs"], *manifest["outputs"]):
        data = (file.parent / p["golden"]["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == p["golden"]["sha256"]
        arrays.append(np.frombuffer(data, p["dtype"]).reshape(p["golden"]["shape"]))
    for got, want in zip(BACKEND.run(file, arrays[:2]), arrays[2:]):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    files = {str(f.relative_to(out)) for f in out.rglob("*") if f.is_file()}
    golden = {
        f"{APPS[app].data}/{p['golden']['file']}"
        for p in (*manifest["inputs"], *manifest["outputs"])
    }
    assert files == {"manifest.json", manifest["model"]["file"], *golden, *manifest["code"]}


@pytest.mark.parametrize(
    "change", [{"app": "ios"}, {"extra": 1}, {"digest": "0"}, {"inputs": []}, {"tolerance": "no"}]
)
def test_the_schema_refuses(change: dict[str, Any], tmp_path: Path) -> None:
    _, manifest = packaged(tmp_path, "android")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**manifest, **change}, SCHEMA)


# -- what is packaged ------------------------------------------------------------------------------
def test_other_files_are_converted(tmp_path: Path) -> None:
    """ONNX with validation, the IR without; half precision where asked for; one program whatever the file."""
    onnx.BACKEND.emit(network(2), tmp_path / "net.onnx")
    save(network(2), tmp_path / "net.cir.json")
    found = {
        name: package(tmp_path / name, tmp_path / f"{name}-out", app="android", weights="fp16")
        for name in ("net.onnx", "net.cir.json")
    }
    for manifest in found.values():
        jsonschema.validate(manifest, SCHEMA)
        assert manifest["model"]["weights"] == "fp16"
    assert len({m["digest"] for m in found.values()}) == 1
    assert {m["source"]["framework"]: (m["validation"] or {}).get("verdict") for m in found.values()} == {
        "onnx": "PASS", "cir": None,
    }  # fmt: skip


def test_frameworks_files(tmp_path: Path) -> None:
    """A PyTorch program and a Keras file, by the command line."""
    torch = pytest.importorskip("torch")
    keras = pytest.importorskip("keras")
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 4),)), tmp_path / "net.pt2")
    keras.Sequential([keras.Input((4,), 2), keras.layers.Dense(3, "relu")]).save(
        tmp_path / "net.keras"
    )
    for name, app in (("net.pt2", "android"), ("net.keras", "harmonyos")):
        out = tmp_path / app
        args = [
            "package",
            str(tmp_path / name),
            "--target",
            "mslite",
            "--app",
            app,
            str(out),
            "--json",
        ]
        done = CliRunner().invoke(cli(), args)
        assert done.exit_code == 0, done.output
        manifest = json.loads((out / "manifest.json").read_text())
        assert json.loads(done.stdout.strip().splitlines()[-1]) == manifest
        assert manifest["validation"]["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("change", "code", "what"),
    [
        ({"app": "ios"}, "E100", "unknown app"),
        ({"weights": "fp16"}, "E100", "taken as it is"),
        ({"runtime": "2.6.0"}, "E100", "taken as it is"),
        ({"model": "missing.onnx"}, "E101", "no such file"),
        ({"model": "other.ms"}, "E105", "not a MindSpore Lite model"),
        ({"model": "net.cir.json", "weights": "int8"}, "E503", "weights"),
        ({"model": "half.ms"}, "E103", "float16"),
        ({"out": "used"}, "E502", "holds other files"),
        ({"out": "file/below"}, "E502", ""),
    ],
)
def test_refusals(change: dict[str, Any], code: str, what: str, tmp_path: Path) -> None:
    """Nothing is left behind."""
    BACKEND.emit(network(), tmp_path / "net.ms")
    save(network(2), tmp_path / "net.cir.json")
    (tmp_path / "other.ms").write_bytes(b"PK\x03\x04" * 20)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("kept")
    b = Builder()
    x = b.input("x", "float32", [2])
    BACKEND.emit(
        Model(b.finish([b.emit("cast", [x], {"dtype": "float16"})[0]])), tmp_path / "half.ms"
    )
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    given = {"model": "net.ms", "out": "out", "app": "android", **change}
    with pytest.raises(CirError) as info:
        package(tmp_path / given.pop("model"), tmp_path / given.pop("out"), **given)
    assert info.value.code == code and what in str(info.value), info.value
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "out").exists()


def test_a_package_is_replaced_whole(tmp_path: Path) -> None:
    """A second call leaves nothing of the first; one that fails leaves all of it."""
    out, _ = packaged(tmp_path, "android")
    package(tmp_path / "my Net.ms", out, app="harmonyos")
    assert not (out / "app").exists() and (out / "entry").is_dir()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    (tmp_path / "bad.ms").write_bytes((tmp_path / "my Net.ms").read_bytes()[:3000])
    with pytest.raises(CirError):
        package(tmp_path / "bad.ms", out, app="android")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("text", ['{"name": "web app"}', "[]", "{", "not JSON"])
def test_what_is_not_a_package_is_not_replaced(text: str, tmp_path: Path) -> None:
    """Another program's manifest, and a user's file in a package."""
    BACKEND.emit(network(), tmp_path / "net.ms")
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "manifest.json").write_text(text)
    (folder / "index.html").write_text("kept")
    out, _ = packaged(tmp_path, "android")
    (out / "app" / "notes.txt").write_text("kept")
    for target, name in ((folder, "index.html"), (out, "app/notes.txt"), (tmp_path / "net.ms", "")):
        with pytest.raises(CirError) as info:
            package(tmp_path / "net.ms", target, app="android")
        assert info.value.code == "E502" and name in str(info.value)
    assert (folder / "index.html").is_file() and (out / "app" / "notes.txt").is_file()


def test_command_line(tmp_path: Path) -> None:
    """Exit codes, and what is said."""
    BACKEND.emit(network(), tmp_path / "net.ms")
    done = CliRunner().invoke(
        cli(), ["package", str(tmp_path / "net.ms"), "--app", "android", str(tmp_path / "o")]
    )
    assert done.exit_code == 0 and "input   image: float32[any, 3, 6, 5] NCHW" in done.stdout
    for args in (["--app", "ios"], ["--target", "onnx", "--app", "android"]):
        run = [
            sys.executable,
            "-c",
            "from framework_adapter.cli import main; main()",
            "package",
            "net.ms",
            "p",
            *args,
        ]
        failed = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(ROOT)})  # fmt: skip
        assert (
            failed.returncode == 2 and "E100" in failed.stderr and "Traceback" not in failed.stderr
        )


# -- the code --------------------------------------------------------------------------------------
def _literal(text: str) -> str:
    return json.dumps(text)


@pytest.mark.parametrize("size", ["batch", 2])
def test_c_code_runs(size: Any, tmp_path: Path) -> None:
    """Compiled with warnings as errors, as C and as C++'s header, and run: right, wrong, and too much off."""
    out, manifest = packaged(tmp_path, "harmonyos", size)
    data, code = out / APPS["harmonyos"].data, out / "entry/src/main/cpp"

    def port(p: dict[str, Any]) -> str:
        shape, dtype = p["golden"]["shape"], p["dtype"]
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        dims = ", ".join(map(str, shape))
        name, file = _literal(p["name"]), _literal(p["golden"]["file"])
        return f"{{{name}, {file}, {count}, {int(dtype == 'float32')}, {{{len(shape)}, {{{dims}}}}}, NULL, 0}}"

    lines = ["#define FILE_NAME " + _literal(Path(manifest["model"]["file"]).name)]
    lines.append(f"#define ANY_SIZE {int(size == 'batch')}")
    for kind in ("inputs", "outputs"):
        lines.append(f"#define {kind.upper()} {len(manifest[kind])}")
        lines.append(f"static Port {kind}[] = {{{', '.join(map(port, manifest[kind]))}}};")
    (tmp_path / "phone.inc").write_text("\n".join(lines))
    text = (STANDINS / "c/phone.c").read_text().replace('"MODEL.h"', '"my_net_model.h"')
    (tmp_path / "phone.c").write_text(text)
    flags = [
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{STANDINS / 'c'}",
        f"-I{code}",
        f"-I{tmp_path}",
        "-DMODEL=my_net",
    ]
    build = ["gcc", "-std=c11", "-fsanitize=address,undefined", *flags, str(tmp_path / "phone.c")]
    build += [str(code / "my_net_model.c"), "-lm", "-o", str(tmp_path / "phone")]
    subprocess.run(build, check=True, timeout=120)
    (tmp_path / "main.cc").write_text('#include "my_net_model.h"\n')
    subprocess.run(
        ["g++", "-fsyntax-only", *flags, str(tmp_path / "main.cc")], check=True, timeout=120
    )

    def run(*args: str) -> float:
        done = subprocess.run([str(tmp_path / "phone"), str(data), *args], capture_output=True, text=True, timeout=60,
                              env={"ASAN_OPTIONS": "detect_leaks=0"})  # fmt: skip
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    assert run() == 0
    assert run("1.5") == pytest.approx(0.5)
    file = data / manifest["inputs"][0]["golden"]["file"]
    kept = file.read_bytes()
    file.write_bytes(kept[:-4])  # a sample that does not fit is not copied
    assert run() == -1
    file.unlink()
    assert run() == -1
    file.write_bytes(kept)
    model = data / "my_net.ms"
    model.write_bytes(b"\0" * 100)
    assert run() == -2


@pytest.mark.parametrize("size", ["batch", 2])
def test_java_code_runs(size: Any, tmp_path: Path) -> None:
    """Compiled with all warnings as errors and run: right, and too much off."""
    if shutil.which("javac") is None:  # checked by its text alone, below
        return
    out, manifest = packaged(tmp_path, "android", size)
    tables = [f"Model.anySize = {'true' if size == 'batch' else 'false'};"]
    for kind in ("input", "output"):
        ports = manifest[f"{kind}s"]
        for key, values in (
            ("Names", [p["name"] for p in ports]),
            ("Files", [p["golden"]["file"] for p in ports]),
        ):
            tables.append(
                f"Model.{kind}{key} = new String[] {{{', '.join(map(_literal, values))}}};"
            )
    shapes = ", ".join(
        "{" + ", ".join(map(str, p["golden"]["shape"])) + "}" for p in manifest["inputs"]
    )
    floats = ", ".join("true" if p["dtype"] == "float32" else "false" for p in manifest["outputs"])
    tables += [
        f"Model.shapes = new int[][] {{{shapes}}};",
        f"Model.floats = new boolean[] {{{floats}}};",
    ]
    shutil.copytree(STANDINS / "java", tmp_path / "java")
    phone = tmp_path / "java/Phone.java"
    phone.write_text(
        phone.read_text().replace("CLASS", "MyNetModel").replace("TABLES", "\n".join(tables))
    )
    sources = [
        *(tmp_path / "java").rglob("*.java"),
        out / "app/src/main/java/models/MyNetModel.java",
    ]
    javac = [
        "javac",
        "-Xlint:all",
        "-Werror",
        "--release",
        "11",
        "-d",
        str(tmp_path / "classes"),
        *map(str, sources),
    ]
    subprocess.run(javac, check=True, timeout=300)

    def run(factor: float) -> list[str]:
        java = [
            "java",
            "-cp",
            str(tmp_path / "classes"),
            "Phone",
            str(out / APPS["android"].data),
            str(factor),
        ]
        done = subprocess.run(java, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert run(1) == ["0.0", "1"]
    text, freed = run(1.5)
    assert "self-test of my_net.ms: scaled error 0.5" in text and freed == "1"


#: What each platform's documentation has: names after a dot.
NAMES = {
    "kt": {
        "init", "addDeviceInfo", "build", "resize", "inputs", "predict", "getOutputByTensorName", "byteData", "free",
        "setData", "tensorName", "HIGHER_CPU", "DT_CPU", "MT_MINDIR",
    },
    "ets": {
        "Model", "Context", "MSTensor", "loadModelFromBuffer", "getInputs", "predict", "resize", "name", "getData",
        "setData", "target", "cpu", "threadNum", "ResourceManager", "getRawFileContent",
    },
}  # fmt: skip
#: Names of the languages themselves.
OWN = {
    "kt": {
        "assets", "openFd", "use", "fileDescriptor", "channel", "map", "startOffset", "declaredLength", "zip",
        "forEach", "forEachIndexed", "wrap", "order", "toTypedArray", "open", "readBytes", "allocateDirect", "size",
        "put", "rewind", "remaining", "hasRemaining", "float", "int", "long", "get", "toDouble", "LITTLE_ENDIAN",
        "POSITIVE_INFINITY", "MapMode", "READ_ONLY",
    },
    "ets": {
        "model", "length", "find", "push", "read", "run", "max", "abs", "slice", "buffer", "distance", "numbers", "from",
    },
}  # fmt: skip


@pytest.mark.parametrize(("app", "suffix"), [("android", "kt"), ("harmonyos", "ets")])
def test_other_code_calls_what_there_is(app: str, suffix: str, tmp_path: Path) -> None:
    """No compiler is at hand: balanced, filled in, and only documented names are called."""
    out, manifest = packaged(tmp_path, app)
    (path,) = (p for p in manifest["code"] if p.endswith(suffix))
    text = (out / path).read_text()
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    bare = re.sub(r"//.*|^(?:import|package) .*", "", bare, flags=re.M)
    bare = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', '""', bare)
    for a, b in ("()", "{}", "[]"):
        assert bare.count(a) == bare.count(b)
    used = set(re.findall(r"(?<=[\w)\]}])\.([A-Za-z]\w*)", bare))
    assert used - OWN[suffix] <= NAMES[suffix], used - OWN[suffix] - NAMES[suffix]
    assert {"predict", "resize", "setData"} <= used
    for p in (*manifest["inputs"], *manifest["outputs"]):
        assert p["golden"]["file"] in text and str(p["golden"]["shape"][1:])[1:-1] in text
    assert r"image, float32[any, 3, 6, 5] NCHW" in text
    assert str(manifest["tolerance"]) in text and '"scores"' in text


def test_names_are_safe_in_every_language(tmp_path: Path) -> None:
    """Quotes, dollars, comment ends and other alphabets in tensor and file names."""
    b = Builder()
    x = b.input("x", "float32", [2])
    BACKEND.emit(Model(b.finish([b.emit("relu", [x], name="y")[0]])), tmp_path / "plain.ms")
    tables = flat.unpack((tmp_path / "plain.ms").read_bytes())
    for i, name in enumerate(('a"*/$b\\', "é\n${y}")):
        tables["allTensors"][i]["name"] = name
    (tmp_path / "3-müller model.ms").write_bytes(flat.pack(tables))
    for app in APPS:
        manifest = package(tmp_path / "3-müller model.ms", tmp_path / app, app=app)
        assert manifest["model"]["file"].endswith("/model_3_m_ller_model.ms")
        for path in manifest["code"]:
            text = (tmp_path / app / path).read_text()
            assert "\n${y}" not in text and '"*/' not in text.split("*/", 1)[0]
            if not path.endswith(".h"):
                assert (r"\303\251\012${y}" if path.endswith(".c") else r"\n\u0024{y}") in text


def test_convert_then_package_is_the_same_file(tmp_path: Path) -> None:
    onnx.BACKEND.emit(network(2), tmp_path / "net.onnx")
    convert(str(tmp_path / "net.onnx"), "mslite", tmp_path / "net.ms")
    manifest = package(tmp_path / "net.onnx", tmp_path / "out", app="android")
    assert (tmp_path / "out" / manifest["model"]["file"]).read_bytes() == (
        tmp_path / "net.ms"
    ).read_bytes()
