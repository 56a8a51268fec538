"""The deploy guide: its blocks run in order, its paths exist, its code calls what is generated."""

from __future__ import annotations

import re
from pathlib import Path

from framework_adapter.mindspore.lite import BACKEND
from framework_adapter.mindspore.lite.emit import RUNTIME
from framework_adapter.mindspore.lite.package import TOLERANCE
from tests.docs.test_docs import test_paths_exist as paths_exist
from tests.docs.test_docs import test_snippets_run_in_order as snippets_run

ROOT = Path(__file__).parents[3]
PAGE = "framework_adapter/mindspore/mobile_deploy_guide.md"
TEMPLATES = ROOT / "framework_adapter/mindspore/lite/templates"


def test_blocks_and_paths(tmp_path: Path) -> None:
    snippets_run(PAGE, tmp_path)
    paths_exist(PAGE)


def test_code_is_that_of_the_templates() -> None:
    """Each call on the generated class is a method of it, and each library and option is named as it is."""
    text = (ROOT / PAGE).read_text()
    for lang, suffix in (("java", "java"), ("typescript", "ets"), ("c", "h")):
        (block,) = re.findall(rf"```{lang}\n(.*?)```", text, re.S)
        code = (TEMPLATES / f"model.{suffix}").read_text().replace("${name}", "net_fp16")
        calls = re.findall(r"\bmodel\.(\w+)\(|Model\.(\w+)\(|\b(net_fp16_\w+)\(", block)
        assert calls
        for name in filter(None, (n for found in calls for n in found)):
            assert re.search(rf"\b{name}\(", code), f"{lang}: {name}"
    assert "libmindspore_lite_ndk.so" in (TEMPLATES / "model.h").read_text()
    for option in BACKEND.options:
        assert f"`{option}=" in text
    assert (
        f"default {RUNTIME}" in text
        and f"tolerance of {TOLERANCE:.0e}".replace("e-03", "e-3") in text
    )
