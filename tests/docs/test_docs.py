"""The documents' snippets run as printed; the paths they list exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"<!-- (?P<what>run|file: (?P<name>\S+)) -->\n```(?P<lang>\w+)\n(?P<body>.*?)```", re.S
)


#: Pages with blocks that run, in order, in a folder of their own.
PAGES = (
    "CONTRIBUTING.md",
    "README.md",
    "framework_adapter/cann/session.md",
    "framework_adapter/tensorflow/serving.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_snippets_run_in_order(page: str, tmp_path: Path) -> None:
    blocks = list(BLOCK.finditer((ROOT / page).read_text()))
    assert blocks, f"{page} has no executable block"
    bin_dir = Path(sys.executable).parent
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    for m in blocks:
        if m["name"]:
            (tmp_path / m["name"]).write_text(m["body"])
            continue
        shell = (
            ["bash", "-euo", "pipefail", "-c"] if m["lang"] == "bash" else [sys.executable, "-c"]
        )
        done = subprocess.run(
            [*shell, m["body"]], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{page}:\n{m['body']}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for path in re.findall(
        r"`((?:cir|fusion_db|framework_adapter|tests|demos|\.ci)/[\w./-]*)`", text
    ):
        assert (ROOT / path).exists(), f"{page} names {path}, which does not exist"
