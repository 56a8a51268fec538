"""Command line ``cir``: one file per verb. Exit codes are documented in ``cir --help``."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from cir.diagnostics import CirError, error

EXIT_CODES = """\b
Exit codes:
  0 ok                   1 precision check failed
  2 wrong usage          3 unsupported op or target
  4 bad input file       5 a package is missing
  6 resource limit     130 interrupted, 143 terminated"""
#: Set before a framework is imported: fewer log lines, and Keras on TensorFlow.
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GLOG_v": "3",
    "TORCH_LOGS": "-all",
    "KERAS_BACKEND": "tensorflow",
}


class Verbs(TyperGroup):
    """The verbs; their errors become coded diagnostics and exit codes, never tracebacks."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note whether the verb is asked for JSON, which its errors are then too."""
        ctx.meta["json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except CirError as exc:
            found = exc
        except MemoryError as exc:
            found = error(
                "E960", "out of memory", why=str(exc), fix="free memory, or use a larger machine"
            )
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from None
        print(found, file=sys.stderr)
        print(f"  more: cir explain {found.code}", file=sys.stderr)
        if ctx.meta["json"]:
            print(json.dumps({"errors": [d.as_dict() for d in found.diagnostics]}))
        raise typer.Exit(found.exit_code)


def app() -> typer.Typer:
    """The command-line application."""
    from framework_adapter.cli import convert, doctor, explain, inspect, package, serve

    made = typer.Typer(
        cls=Verbs,
        help="Convert PyTorch, TensorFlow, MindSpore and ONNX models; look at what came of it.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for verb, examples in (
        (convert.convert, convert.EXAMPLES),
        (inspect.inspect, inspect.EXAMPLES),
        (package.package, package.EXAMPLES),
        (serve.serve, serve.EXAMPLES),
        (explain.explain, explain.EXAMPLES),
        (doctor.doctor, doctor.EXAMPLES),
    ):
        made.command(epilog=f"\b\nExamples:\n  {examples}\n\n{EXIT_CODES}")(verb)
    return made


def main() -> None:
    """Entry point of the console script."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    # Being terminated is unwound like an error: nothing half-written stays, no compiler goes on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app()()
