"""Imports point one way: framework_adapter -> fusion_db -> cir; frameworks only inside functions."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "cir": {"cir"},
    "fusion_db": {"cir", "fusion_db"},
    "framework_adapter": {"cir", "fusion_db", "framework_adapter"},
}
HEAVY = (
    "torch tensorflow keras mindspore onnx onnxruntime sympy jsonschema jinja2 ml_dtypes safetensors "
    "transformers google"
).split()
#: Command-line libraries are imported by the command line only.
CLI_ONLY = ("typer", "rich")


def sources() -> list[Path]:
    return [p for package in ALLOWED for p in sorted((ROOT / package).rglob("*.py"))]


def imports(tree: ast.Module, top_only: bool) -> list[str]:
    nodes = tree.body if top_only else list(ast.walk(tree))
    if top_only:  # `if TYPE_CHECKING:` does not run; try blocks do
        nodes = [n for b in nodes for n in (b.body if isinstance(b, ast.Try) else [b])]
    found = []
    for n in nodes:
        if isinstance(n, ast.Import):
            found += [a.name for a in n.names]
        elif isinstance(n, ast.ImportFrom) and n.module and not n.level:
            found.append(n.module)
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    tree = ast.parse(path.read_text())
    ours = {m.split(".")[0] for m in imports(tree, top_only=False)} & set(ALLOWED)
    assert ours <= ALLOWED[package], f"{path}: {ours - ALLOWED[package]}"
    top = {m.split(".")[0] for m in imports(tree, top_only=True)}
    banned = set(HEAVY) | (set() if "cli" in path.parts else set(CLI_ONLY))
    assert not top & banned, f"{path} imports {top & banned} at module level"
    if package == "cir":
        third = {m for m in top if m not in sys.stdlib_module_names} - {"cir", "numpy", "__future__"}
        assert not third, f"cir needs numpy only, {path} imports {third}"


def _python(code: str) -> str:
    run = [sys.executable, "-c", code]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_import_is_fast_and_framework_free() -> None:
    code = (
        "import time, sys; t = time.perf_counter(); import framework_adapter; "
        "framework_adapter.convert; print(time.perf_counter() - t); "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    times = []
    for _ in range(5):
        seconds, loaded = _python(code).split("\n", 1)
        assert loaded.strip() == "[]"
        times.append(float(seconds))
    print(f"import framework_adapter: median {sorted(times)[2]:.3f} s of 5 processes")
    assert sorted(times)[2] < 0.3


def test_nothing_heavy_for_cir_alone() -> None:
    start = time.perf_counter()
    out = _python(f"import sys, cir.ops; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert out.strip() == "[]"
    assert time.perf_counter() - start < 5
