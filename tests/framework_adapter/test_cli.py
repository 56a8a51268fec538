"""The command ``cir``: help, exit codes, JSON, and no traceback whatever a user does."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner  # noqa: E402

from cir import diagnostics  # noqa: E402
from framework_adapter.cli import app, convert  # noqa: E402

ROOT = Path(__file__).parents[2]
MAIN = "from framework_adapter.cli import main; main()"
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
NETS = '''
"""A network of the user's own."""
import torch
from helper import WIDTH

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.eval()
    def forward(self, x):
        return torch.relu(x) * WIDTH

def make():
    return Net()

ready = Net()

def broken():
    return undefined_name

def wrong():
    return 3
'''


def cir(*args: Any) -> Any:
    return CliRunner().invoke(app(), [str(a) for a in args])


def process(*args: Any, cwd: Path, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    run = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(run, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    (tmp_path / "helper.py").write_text("WIDTH = 4\n")
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path / "nets.py"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx and model.cir.json."""
    torch = pytest.importorskip("torch")
    from framework_adapter import convert as run

    folder = tmp_path_factory.mktemp("files")
    model = torch.nn.Sequential(torch.nn.Linear(4, 40), torch.nn.GELU()).eval()
    for target, name in (("onnx", "model.onnx"), ("cir", "model.cir.json")):
        run(model, target, folder / name, inputs=(X,), validate=False)
    return folder


# -- help ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["convert", "inspect", "explain", "doctor"])
def test_help_shows_examples_and_exit_codes(verb: str) -> None:
    done = cir(verb, "--help")
    assert done.exit_code == 0
    examples = done.output.split("Examples:\n")[1].split("\n\n")[0].splitlines()
    assert len(examples) >= 2 and all(line.startswith("    ") for line in examples)
    assert all("cir" in e or e.startswith("        ") for e in examples)
    assert re.search(
        r"Exit codes:\n    0 ok .*\n.*\n.*\n    6 resource limit     130 inter", done.output
    )


def test_help_of_all() -> None:
    assert cir("--help").exit_code == 0
    text = cir("--help").output
    for verb in ("convert", "inspect", "explain", "doctor"):
        assert re.search(rf"^  {verb} +\w[^.]+\.$", text, re.M), text
    assert "130 interrupted" in text
    assert cir().exit_code == 2 and "Usage" in cir().output


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["convert"],
        ["convert", "a"],
        ["doctor", "--nope"],
        ["convert", "a", "b", "--opset", "x"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    assert cir(*args).exit_code == 2


# -- convert ---------------------------------------------------------------------------------------
def test_convert_a_factory_in_a_process(nets: Path, tmp_path: Path) -> None:
    args = ("nets.py:make", "out/m.onnx", "--input", "x:float32[batch,4]", "--report", "out/r.html")
    done = process("convert", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "out/m.onnx  PASS"
    assert len(done.stdout.splitlines()) == 2 and "digest" in done.stdout
    assert [t for t in done.stderr.splitlines() if t.startswith("... ")][:2] == [
        "... extract",
        "... lower",
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["m.onnx", "r.html"]


def test_convert_gives_one_json_object(nets: Path, tmp_path: Path) -> None:
    args = ("--input", "float32[2,4]", "--json")
    done = process("convert", "nets.py:ready", "m.cir.json", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "PASS" and found["artifact"] == "m.cir.json"
    assert found["nodes_emitted"] == 2 and len(found["digest"]) == 64
    assert (tmp_path / "m.cir.json").is_file()


def test_convert_files(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.cir.json"
    done = cir("convert", files / "model.onnx", out, "--fusion", "safe", "--opset", "0")
    assert done.exit_code == 0, done.output
    first, again = (
        json.loads(cir("inspect", p, "--json").stdout) for p in (files / "model.cir.json", out)
    )
    assert first == again
    named = cir(
        "convert",
        files / "model.onnx",
        tmp_path / "x",
        "--target",
        "onnx",
        "--fusion",
        "geglu,swi_glu",
    )
    assert named.exit_code == 0 and (tmp_path / "x").is_file()
    output = json.loads(cir("inspect", files / "model.onnx", "--json").stdout)["outputs"][0].split(
        ":"
    )[0]
    only = cir(
        "convert", files / "model.onnx", tmp_path / "y.onnx", "--output", output, "--validate", "no"
    )
    assert only.exit_code == 0 and "not validated" in only.stdout
    assert (
        cir("convert", files / "model.onnx", tmp_path / "z.onnx", "--profile", "portable").exit_code
        == 0
    )


def test_further_rows_and_strategies(nets: Path, tmp_path: Path) -> None:
    row = {
        "op": "aten.relu.default",
        "args": "self",
        "emit": "maximum(self, 0.0)",
        "samples": [["float32[2]"]],
    }
    (tmp_path / "rows.json").write_text(
        json.dumps({"framework": "pytorch", "family": "mine", "rows": [row]})
    )
    strategy = {
        "id": "mine", "schema": 1, "stage": "canonicalise", "summary": "x * x is its square",
        "inputs": {"x": "float[*]"}, "match": ["y = sqrt(square(x))"], "replace": ["y = abs(x)"],
        "numerics": "reassociate",
    }  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps(strategy))
    args = ("--mapping", tmp_path / "rows.json", "--strategy", tmp_path / "mine.json")
    done = cir("convert", f"{nets}:make", tmp_path / "m.onnx", "--input", "x:float32[2,4]", *args)
    assert done.exit_code == 0, done.output


ANY = ("--input", "float32[2,4]")


@pytest.mark.parametrize(
    ("args", "exit_code", "code"),
    [
        (("no.onnx", "m.onnx"), 4, "E101"),
        (("no.py:make", "m.onnx"), 4, "E101"),
        (("nets.py:nothing", "m.onnx"), 4, "E101"),
        (("nets.py", "m.onnx"), 2, "E100"),
        (("nets.py:broken", "m.onnx", *ANY), 4, "E105"),
        (("nets.py:wrong", "m.onnx", *ANY), 4, "E104"),
        (("nets.py:make", "m.onnx"), 4, "E103"),
        (("nets.py:make", "m.onnx", "--input", "x:float32"), 2, "E100"),
        (("nets.py:make", "m.onnx", "--input", "x:float31[2]"), 4, "E103"),
        (("nets.py:make", "m.tflite", *ANY), 3, "E503"),
        (("nets.py:make", "m.om", *ANY, "--soc-version", "Ascend9999"), 3, "E503"),
        (("nets.py:make", "m.onnx", *ANY, "--soc-version", "Ascend310P3"), 2, "E100"),
        (("nets.py:make", "m.onnx", *ANY, "--print-atc"), 2, "E100"),
        (("nets.py:make", "m.om", *ANY, "--print-atc"), 2, "E100"),
        (("nets.py:make", "m.ms", *ANY, "--option", "weights"), 2, "E100"),
        (("nets.py:make", "m.ms", *ANY, "--option", "validate=no"), 2, "E100"),
        (("nets.py:make", "m.onnx", *ANY, "--target", "coreml"), 3, "E503"),
        (("nets.py:make", "m.onnx", *ANY, "--framework", "caffe"), 4, "E104"),
        (("nets.py:make", "m.onnx", *ANY, "--fusion", "fastest"), 4, "E401"),
        (("nets.py:make", "m.onnx", *ANY, "--validate", "maybe"), 2, "E100"),
        (("nets.py:make", "m.onnx", *ANY, "--input-layout", "nhwc"), 2, "E100"),
        (("nets.py:make", "m.onnx", *ANY, "--opset", "3"), 3, "E503"),
        (("nets.py:make", "m.onnx", *ANY, "--mapping", "no.json"), 4, "E101"),
        (("nets.py:make", "m.onnx", *ANY, "--strategy", "no.json"), 4, "E401"),
        (("nets.py:make", "helper.py/m.onnx", *ANY), 3, "E502"),
    ],
)
def test_errors_of_convert(
    args: tuple[str, ...], exit_code: int, code: str, nets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nets.parent)
    before = sorted(p for p in nets.parent.rglob("*") if "__pycache__" not in p.parts)
    done = cir("convert", *args, "--json")
    assert done.exit_code == exit_code, done.output
    assert isinstance(done.exception, SystemExit)  # nothing got past the handler
    errors = json.loads(done.stdout)["errors"]
    assert errors[0]["code"] == code
    assert done.stderr.splitlines()[-1] == f"  more: cir explain {code}"
    assert sorted(p for p in nets.parent.rglob("*") if "__pycache__" not in p.parts) == before


def test_the_users_own_code_is_blamed_with_its_line(nets: Path, tmp_path: Path) -> None:
    done = process("convert", "nets.py:broken", "m.onnx", cwd=tmp_path)
    line = NETS.splitlines().index("    return undefined_name") + 1
    assert done.returncode == 4 and f"nets.py:{line}" in done.stderr
    assert "NameError" in done.stderr and "Traceback" not in done.stderr and not done.stdout


def test_precision_failure_is_exit_code_1(
    nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from framework_adapter import samples

    monkeypatch.setattr(samples, "prove", lambda table, rows: [])
    row = {
        "op": "aten.relu.default",
        "args": "self",
        "emit": "neg(self)",
        "samples": [["float32[2]"]],
    }
    (tmp_path / "rows.json").write_text(
        json.dumps({"framework": "pytorch", "family": "mine", "rows": [row]})
    )
    args = ("--mapping", tmp_path / "rows.json", "--report", tmp_path / "r.html", *ANY)
    done = cir("convert", f"{nets}:make", tmp_path / "m.onnx", *args)
    assert done.exit_code == 1 and "E601" in done.stderr
    assert (tmp_path / "r.html").exists() and not (tmp_path / "m.onnx").exists()


def test_out_of_memory_is_exit_code_6(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(model: str) -> None:
        raise MemoryError("Unable to allocate 12.5 GiB")

    monkeypatch.setattr(convert, "load", full)
    done = cir("convert", "m.onnx", "n.onnx")
    assert done.exit_code == 6 and "E960" in done.stderr and "12.5 GiB" in done.stderr


def test_interrupt_is_exit_code_130(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    run = [sys.executable, "-c", MAIN, "convert", "slow.py:make", "m.onnx"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(run, cwd=tmp_path, env=env, stdout=-1, stderr=-1, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
    assert child.returncode == 130 and "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["slow.py"]


@pytest.mark.parametrize("name", ["junk.pt2", "junk.keras", "junk.pb", "junk.mindir", "junk.onnx"])
def test_no_traceback_for_a_broken_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("junk")
    done = process("convert", name, "m.onnx", cwd=tmp_path)
    assert done.returncode == 4 and "E105" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
    assert [p.name for p in tmp_path.iterdir()] == [name]


# -- inspect ---------------------------------------------------------------------------------------
def test_inspect(files: Path) -> None:
    shown = cir("inspect", files / "model.cir.json")
    assert shown.exit_code == 0
    assert re.search(r"^input +input: float32\[2, 4\]$", shown.stdout, re.M)
    assert "2 nodes, 200 parameters, digest" in shown.stdout and "gelu" in shown.stdout
    data = json.loads(cir("inspect", files / "model.cir.json", "--json").stdout)
    assert data["ops"] == {"gelu": 1, "linear": 1} and data["parameters"] == 200
    assert data == json.loads(cir("inspect", files / "model.onnx", "--json").stdout)
    import cir as ir

    text = cir("inspect", files / "model.cir.json", "--text").stdout
    assert text.rstrip("\n") == ir.print_text(ir.load(files / "model.cir.json")).rstrip("\n")


def test_inspect_into_a_closed_pipe(files: Path) -> None:
    code = f"{sys.executable} -c '{MAIN}' inspect {files}/model.cir.json --text | head -1"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(code, shell=True, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "cir 1.0\n" and "Traceback" not in done.stderr


def _without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k != key}


@pytest.mark.parametrize(
    ("code", "corrupt"),
    [
        ("E301", lambda text: "junk"),
        ("E301", lambda text: text.replace('"name"', '"cir": "1.0", "name"', 1)),
        ("E301", lambda text: json.dumps({**json.loads(text), "extra": 1})),
        ("E301", lambda text: json.dumps(_without(json.loads(text), "nodes"))),
        ("E302", lambda text: json.dumps({**json.loads(text), "cir": "7.0"})),
        ("E303", lambda text: json.dumps({**json.loads(text), "outputs": ["nowhere"]})),
        ("E303", lambda text: text.replace('["linear"]', '["nowhere"]', 1)),
        ("E304", lambda text: text.replace('"gelu"', '"gelou"')),
    ],
)
def test_corrupt_programs(code: str, corrupt: Any, files: Path, tmp_path: Path) -> None:
    text = (files / "model.cir.json").read_text()
    (tmp_path / "model.cir.json").write_text(corrupt(text))
    (tmp_path / "model.safetensors").write_bytes((files / "model.safetensors").read_bytes())
    done = cir("inspect", tmp_path / "model.cir.json", "--json")
    assert done.exit_code == 4, done.output
    assert json.loads(done.stdout)["errors"][0]["code"] == code


def test_corrupt_weights(files: Path, tmp_path: Path) -> None:
    (tmp_path / "model.cir.json").write_text((files / "model.cir.json").read_text())
    done = cir("inspect", tmp_path / "model.cir.json")
    assert done.exit_code == 4 and "E305" in done.stderr
    data = bytearray((files / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    done = cir("inspect", tmp_path / "model.cir.json")
    assert done.exit_code == 4 and "E305" in done.stderr


def test_inspect_what_is_not_there(tmp_path: Path) -> None:
    done = cir("inspect", tmp_path / "no.cir.json")
    assert done.exit_code == 4 and "E101" in done.stderr
    (tmp_path / "model.txt").write_text("x")
    done = cir("inspect", tmp_path / "model.txt")
    assert done.exit_code == 4 and "E104" in done.stderr


# -- explain and doctor ----------------------------------------------------------------------------
def test_explain() -> None:
    everything = cir("explain").stdout.splitlines()
    assert [line.split()[0] for line in everything] == sorted(diagnostics.pages())
    assert len(everything) > 25 and all(len(line.split()) > 1 for line in everything)
    for code in ("E201", "e201"):
        assert cir("explain", code).stdout.startswith("# E201 ")
    done = cir("explain", "E2O1")
    assert done.exit_code == 2 and "nearest: E20" in done.stderr


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = cir("doctor")
    assert shown.exit_code == 0 and "ok numpy" in shown.stdout
    assert json.loads(cir("doctor", "--json").stdout)["numpy"] == np.__version__
    from framework_adapter.cli import doctor

    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    shown = cir("doctor", "--run")
    assert shown.exit_code == 0 and 'pip install "framework-adapter[mindspore]"' in shown.stdout


def test_doctor_survives_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATC", "/no/such/atc")
    shown = cir("doctor")
    assert shown.exit_code == 0 and "/no/such/atc is no program" in shown.stdout
    assert json.loads(cir("doctor", "--json").stdout)["atc"] == ""


def test_doctor_runs_what_is_there() -> None:
    found = json.loads(cir("doctor", "--run", "--json").stdout)
    here = [m for m in ("torch", "tensorflow", "mindspore") if found[m]]
    assert found["run"] == dict.fromkeys(here, "PASS")


# -- the commands for contributors -----------------------------------------------------------------
def test_samples_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from framework_adapter import samples

    row = {
        "op": "aten.hardshrink.default",
        "args": "self, lambd=0.5",
        "samples": [["float32[2,3]"], ["float32[4]", 0.1]],
    }
    right = {**row, "emit": "where(greater(abs(self), lambd), self, 0.0)"}

    def prove(rows: Any, framework: str = "pytorch") -> tuple[int, str, str]:
        (tmp_path / "rows.json").write_text(
            json.dumps({"framework": framework, "family": "mine", "rows": rows})
        )
        code = samples.main([str(tmp_path / "rows.json")])
        return (code, *capsys.readouterr())

    assert prove([right]) == (0, "aten.hardshrink.default: 2 of 2 samples\n", "")
    for rows, code in (
        ([{**row, "emit": "relu(self)"}], "E204"),
        ([{**right, "samples": [["float32[2,3]", "wide"]]}], "E204"),
        ([{**right, "op": "aten.hardshrunk.default"}], "E203"),
        ([{**right, "emit": "shrink(self)"}], "E203"),
    ):
        exit_code, _, err = prove(rows)
        assert exit_code == 3 and err.startswith(code) and "rows.json" in err
    assert "E104" in prove([right], "caffe")[2]
    assert samples.main([str(tmp_path / "no.json")]) == 4
    assert samples.main([]) == 2


def test_proof_of_a_strategy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fusion_db import prove

    right = {
        "id": "mine", "schema": 1, "stage": "canonicalise", "summary": "sqrt of a square",
        "inputs": {"x": "float[*]"}, "match": ["y = sqrt(square(x))"], "replace": ["y = abs(x)"],
        "numerics": "reassociate",
    }  # fmt: skip
    for change, code, exit_code in (
        ({}, "", 0),
        ({"replace": ["y = identity(x)"]}, "E402", 4),
        ({"match": ["y = squrt(x)"]}, "E401", 4),
    ):
        (tmp_path / "mine.json").write_text(json.dumps({**right, **change}))
        assert prove.main([str(tmp_path / "mine.json")]) == exit_code
        out, err = capsys.readouterr()
        assert err.startswith(code) and ("mine: fires on" in out or code == "E401")
    assert prove.main([str(tmp_path / "no.json")]) == 4
    assert prove.main([]) == 2


def test_the_command_that_compiles_onnx(
    nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    args = ("--soc-version", "Ascend310P3", "--profile", "ge-safe", "--print-atc", *ANY)
    done = cir("convert", f"{nets}:make", str(tmp_path / "npu.onnx"), *args)
    assert done.exit_code == 0, done.output
    command = shlex.split(done.stdout.splitlines()[-1])
    assert "--framework=5" in command and f"--model={tmp_path / 'npu.onnx'}" in command


@pytest.mark.parametrize("name", ["npu.om", "npu.air"])
def test_the_command_that_compiles(
    name: str, nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no compiler
    args = ("--soc-version", "Ascend310P3", "--print-atc", *ANY)
    done = cir("convert", f"{nets}:make", str(tmp_path / name), *args)
    assert done.exit_code == 0, done.output
    command = shlex.split(done.stdout.splitlines()[-1])
    air = tmp_path / "npu.air"
    assert command[0] == "atc" and f"--model={air}" in command and air.is_file()
    assert "--framework=1" in command and "--soc_version=Ascend310P3" in command


def test_a_graph_only_om_says_so(
    nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    done = cir("convert", f"{nets}:make", str(tmp_path / "m.om"), "--json", *ANY)
    (note,) = json.loads(done.stdout)["diagnostics"]
    assert note["code"] == "N501" and "not compiled" in note["what"]
