"""The atc driver: the command from a program's dims, the process, its errors."""

from __future__ import annotations

import json
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import cir
from cir.diagnostics import CirError
from cir.graph import Meta, Model, Range, Source
from framework_adapter.cann import atc
from framework_adapter.cann.atc_command import command, parse_gears, shown

STAND_IN = Path(__file__).parent / "stand_ins" / "atc.py"


def model(symbols: dict[str, Range] | None = None, **inputs: tuple[Any, ...]) -> Model:
    """A program with these inputs, each of which goes through a relu."""
    b = cir.Builder("m")
    values = [b.input(n, "float32", shape) for n, shape in inputs.items()]
    outs = [b.emit("relu", [v], name=f"{v}_relu")[0] for v in values]
    return cir.Model(b.finish(outs), symbols=symbols or {})


def flags(m: Model, source: str = "m.onnx", soc: str = "Ascend310P3", **how: Any) -> dict[str, str]:
    parts = command(m, source, "out/m.om", soc, **how)
    return dict(p.removeprefix("--").split("=", 1) for p in parts[1:])


# -- the command -----------------------------------------------------------------------------------
def test_static_shapes() -> None:
    found = flags(model(x=(1, 3, 224, 224), scalar=()))
    assert found == {
        "framework": "5",
        "model": "m.onnx",
        "output": "out/m",
        "soc_version": "Ascend310P3",
        "input_shape": "x:1,3,224,224;scalar:",
        "input_format": "NCHW",
        "precision_mode": "allow_fp32_to_fp16",
    }
    assert flags(model(x=(1, 4)), "m.air")["framework"] == "1"


@pytest.mark.parametrize(
    ("rank", "source", "layout"),
    [(2, "m.onnx", "ND"), (3, "m.onnx", "ND"), (4, "m.onnx", "NCHW"), (5, "m.onnx", "NCDHW"),
     (2, "m.air", "NCHW"), (5, "m.air", "NCHW")],
)  # fmt: skip
def test_input_format(rank: int, source: str, layout: str) -> None:
    assert flags(model(x=(1,) * rank), source)["input_format"] == layout


def test_ranges() -> None:
    m = model({"b": Range(1, 8), "s": Range(16, None)}, x=("b", "s"), y=("b", "2*s + 1", 4))
    assert flags(m)["input_shape"] == "x:1~8,-1;y:1~8,-1,4"
    assert flags(model(x=("n", 4)))["input_shape"] == "x:-1,4"
    assert flags(model({"n": Range(0, 4)}, x=("n", 4)))["input_shape"] == "x:1~4,4"
    assert flags(model({"n": Range(4, 4)}, x=("n", 4)))["input_shape"] == "x:4,4"


def test_gears_of_the_batch() -> None:
    m = model({"n": Range(1, 8, (4, 1, 2))}, x=("n", 3, 8, 8), mask=("n", 5), table=(7, 7))
    for source in ("m.onnx", "m.air"):
        found = flags(m, source)
        assert found["dynamic_batch_size"] == "1,2,4"
        assert found["input_shape"] == "x:-1,3,8,8;mask:-1,5;table:7,7"
        assert found["input_format"] == "NCHW"
        assert "dynamic_dims" not in found


def test_gears_of_several_dims() -> None:
    m = model({"b": Range(sizes=(1, 2)), "s": Range(sizes=(8, 16))}, ids=("b", "s"), y=("2*s", 3))
    found = flags(m)
    assert found["input_shape"] == "ids:-1,-1;y:-1,3"
    assert found["dynamic_dims"] == "1,8,16;1,16,32;2,8,16;2,16,32"
    assert found["input_format"] == "ND"
    with pytest.raises(CirError) as exc:
        flags(m, "m.air")
    assert exc.value.code == "E505" and "ge-safe" in str(exc.value)


def test_gears_as_an_argument() -> None:
    m = model(x=("n", 4))
    assert flags(m, gears=parse_gears("n=1,8"))["dynamic_batch_size"] == "1,8"
    assert flags(m, gears={"n": (8,)})["input_shape"] == "x:8,4"
    assert "dynamic_batch_size" not in flags(m, gears={"n": (8,)})
    assert parse_gears("batch=1,2; seq=128") == {"batch": (1, 2), "seq": (128,)}
    for text in ("n", "n=", "n=0", "n=1,", "1=2", "n=a"):
        with pytest.raises(CirError) as exc:
            parse_gears(text)
        assert exc.value.code == "E100"


@pytest.mark.parametrize(
    ("m", "source", "soc", "how", "code"),
    [
        (model(x=(1,)), "m.onnx", "Ascend9000", {}, "E503"),
        (model(x=(1,)), "m.onnx", "", {}, "E503"),
        (model(x=(1,)), "m.onnx", "Ascend310P3; rm -rf ~", {}, "E503"),
        (model(x=(1,)), "m.pb", "Ascend310P3", {}, "E505"),
        (model(x=(1,)), "m.onnx", "Ascend310P3", {"precision": "int8"}, "E100"),
        (model(x=("n",)), "m.onnx", "Ascend310P3", {"gears": {"k": (1, 2)}}, "E100"),
        (model(x=("n", "k")), "m.onnx", "Ascend310P3", {"gears": {"k": (1, 2)}}, "E505"),
        (model(x=("n",)), "m.onnx", "Ascend310P3", {"gears": {"n": range(1, 200)}}, "E505"),
    ],
)
def test_commands_that_atc_would_not_take(
    m: Model, source: str, soc: str, how: dict[str, Any], code: str
) -> None:
    with pytest.raises(CirError) as exc:
        command(m, source, "m.om", soc, **how)
    assert exc.value.code == code


def test_one_family_takes_more_gears() -> None:
    found = flags(model(x=("n",)), soc="Ascend950PR", gears={"n": range(1, 200)})
    assert found["dynamic_batch_size"].endswith(",199")


def test_the_line_to_type_survives_a_shell(tmp_path: Path) -> None:
    import shlex

    m = model({"b": Range(sizes=(1, 2)), "s": Range(sizes=(8, 16))}, x=("b", "s"))
    parts = command(m, tmp_path / "my model.onnx", tmp_path / "o.om", "Ascend310P3")
    assert shlex.split(shown(parts)) == parts
    assert "'--dynamic_dims=1,8;1,16;2,8;2,16'" in shown(parts)
    line = atc.print_atc(model(x=(1, 4)), "net.om", "Ascend310P3", precision="fp16")
    assert line == (
        "atc --framework=1 --model=net.air --output=net --soc_version=Ascend310P3 "
        "--input_shape=x:1,4 --input_format=NCHW --precision_mode=force_fp16"
    )


# -- the process -----------------------------------------------------------------------------------
@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in as a program, and no other way to find one."""
    for name in ("ATC", "ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setenv("STAND_IN_RECORD", str(tmp_path / "record.json"))
    program = tmp_path / "cann" / "compiler" / "bin" / "atc"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\n{STAND_IN.read_text()}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "m.onnx").write_bytes(b"the model")
    return program


def compiled(tmp_path: Path, program: Path | None, m: Model | None = None, **how: Any) -> Path:
    out = tmp_path / "out" / "m.om"
    m = m or model(x=(1, 4))
    return atc.compile(m, tmp_path / "m.onnx", out, "Ascend310P3", atc=program, **how)


def record(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "record.json").read_text())
    return found


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_success(compiler: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    out = compiled(tmp_path, compiler, log=lines.append)
    assert out == tmp_path / "out" / "m.om" and out.read_bytes() == b"the model"
    assert [p.name for p in out.parent.iterdir()] == ["m.om"], "what else atc wrote is gone"
    assert lines[0].startswith("ATC start") and lines[-1].startswith("ATC run success")
    argv = record(tmp_path)["argv"]
    assert argv[1:4] == ["--framework=5", f"--model={tmp_path / 'm.onnx'}", argv[3]]
    assert argv[3].startswith("--output=") and not argv[3].endswith(".om")
    assert "--input_shape=x:1,4" in argv
    assert Path(record(tmp_path)["cwd"]) != Path.cwd()


def test_it_is_found(compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert atc.find() is None
    assert atc.find(compiler) == compiler
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path / "cann"))
    assert atc.find() == compiler
    (tmp_path / "cann" / "bin").mkdir()
    moved = compiler.rename(tmp_path / "cann" / "bin" / "atc")
    assert atc.find() == moved
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME")
    monkeypatch.setenv("PATH", str(moved.parent))
    assert atc.find() == moved
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("ATC", str(moved))
    assert atc.find() == moved
    monkeypatch.setenv("ATC", str(tmp_path / "m.onnx"))  # not executable
    with pytest.raises(CirError) as exc:
        atc.find()
    assert exc.value.code == "E903"


def test_missing(compiler: Path, tmp_path: Path) -> None:
    with pytest.raises(CirError) as exc:
        compiled(tmp_path, None)
    assert exc.value.code == "E903" and exc.value.exit_code == 5
    assert f"atc --framework=5 --model={tmp_path}/m.onnx" in str(exc.value)
    assert not (tmp_path / "out").exists()


def test_errors_are_traced_to_nodes(
    compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = model(x=(1, 4), y=(1, 4))
    nodes = [n.with_(meta=Meta((Source("Relu", "net.act", "net.py:12"),))) for n in m.graph.nodes]
    m = m.with_graph(m.graph.with_(nodes=tuple(nodes)))
    monkeypatch.setenv("STAND_IN_ATC", "fail")
    monkeypatch.setenv("STAND_IN_SAYS", (
        "E16002: No parser is registered for Op [/act/Relu_7, optype [ai.onnx::18::Relu]].\n"
        "        Solution: Check the version of the installation package.\n"
        "        TraceBack (most recent call last):\n"
        "        No parser is registered for Op [y_relu, optype [ai.onnx::18::Relu]].\n"
        "        ATC model parse ret fail.[FUNC:ParseGraph][FILE:omg.cc][LINE:787]\n"
        "[PID: 4711] 2025-01-01-10:00:00.000.001 Invalid_Input(E10016): Opname [x] is not found\n"
        "E77777: something new\n"
        "        Solution: Turn it off and on again.\n"
        "EZ9999: Inner Error!"
    ))  # fmt: skip
    with pytest.raises(CirError) as exc:
        compiled(tmp_path, compiler, m, names={"x_relu": ("/act/Relu_7",)})
    first, second, third, fourth = exc.value.diagnostics
    assert {d.code for d in exc.value.diagnostics} == {"E505"} and exc.value.exit_code == 3
    assert first.where == "x_relu (net.py:12), y_relu (net.py:12)"
    assert first.what.startswith("atc: E16002 No parser") and "ge-safe" in first.fix
    assert second.where == "x" and second.what == "atc: E10016 Opname [x] is not found"
    assert third.fix == "Turn it off and on again."
    assert fourth.what == "atc: EZ9999 Inner Error!" and "user guide" in fourth.fix
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("does", ["crash", "nothing", "flood"])
def test_ends_without_a_coded_error(
    compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    monkeypatch.setenv("STAND_IN_ATC", does)
    longest = 0

    def log(line: str) -> None:
        nonlocal longest
        longest = max(longest, len(line))

    with pytest.raises(CirError) as exc:
        compiled(tmp_path, compiler, log=log)
    assert exc.value.code == "E505" and longest <= 4000 and len(str(exc.value)) < 5000
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("deaf", [False, True])
def test_hangs(compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool) -> None:
    monkeypatch.setenv("STAND_IN_ATC", "hang")
    monkeypatch.setattr(atc, "_GRACE", 0.5)
    if deaf:
        monkeypatch.setenv("STAND_IN_DEAF", "1")
    start = time.monotonic()
    with pytest.raises(CirError) as exc:
        compiled(tmp_path, compiler, timeout=2)
    assert time.monotonic() - start < 10
    assert exc.value.code == "E961" and exc.value.exit_code == 6
    assert "ATC start working" in str(exc.value)
    assert not (tmp_path / "out").exists()
    child = int((tmp_path / "record.json.child").read_text())
    deadline = time.monotonic() + 5
    while not (ended(record(tmp_path)["pid"]) and ended(child)):
        assert time.monotonic() < deadline, "a process of the compiler is still there"
        time.sleep(0.05)


def test_a_child_that_keeps_the_pipe_open_does_not_hold_us(
    compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_ATC", "detach")
    start = time.monotonic()
    assert compiled(tmp_path, compiler).is_file()
    assert time.monotonic() - start < 10


def test_a_callback_that_raises_stops_the_compiler(
    compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_ATC", "hang")

    def log(line: str) -> None:
        deadline = time.monotonic() + 5
        while not (tmp_path / "record.json.child").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled(tmp_path, compiler, log=log)
    assert ended(record(tmp_path)["pid"])
    assert not (tmp_path / "out").exists()


def test_a_program_that_is_none(compiler: Path, tmp_path: Path) -> None:
    compiler.write_bytes(b"\x7fELF nonsense")
    with pytest.raises(CirError) as exc:
        compiled(tmp_path, compiler)
    assert exc.value.code == "E903"


def test_output_that_cannot_be_written(compiler: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the way")
    with pytest.raises(CirError) as exc:
        compiled(tmp_path, compiler)
    assert exc.value.code == "E502"
    assert (tmp_path / "out").read_text() == "a file in the way"


def test_what_was_there_stays_when_compiling_fails(
    compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_ATC", "nothing")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m.om").write_bytes(b"earlier")
    with pytest.raises(CirError):
        compiled(tmp_path, compiler)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["m.om"]
    assert (tmp_path / "out" / "m.om").read_bytes() == b"earlier"


def test_every_remedy_is_for_a_code() -> None:
    assert all(c.startswith("E") and len(c) == 6 and t for c, t in atc.REMEDIES.items())
