"""Command line ``cir``: one file per verb. Exit codes are documented in ``cir --help``."""

from __future__ import annotations

import sys

from cir.diagnostics import CirError

EPILOG = """Exit codes: 0 ok, 1 precision check failed, 2 wrong usage, 3 unsupported op or target,
4 bad input file, 5 environment (a missing package), 6 resource limit, 130 interrupted."""


def main() -> None:
    """Entry point of the console script; errors are printed as coded diagnostics, never tracebacks."""
    import typer

    from framework_adapter.cli.convert import convert
    from framework_adapter.cli.doctor import doctor
    from framework_adapter.cli.explain import explain
    from framework_adapter.cli.inspect import inspect

    app = typer.Typer(
        help="Convert PyTorch, TensorFlow, MindSpore and ONNX models; look at what came of it.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )
    for verb in (convert, inspect, explain, doctor):
        app.command()(verb)
    try:
        app()
    except CirError as exc:
        print(exc, file=sys.stderr)
        print(f"  more: cir explain {exc.code}", file=sys.stderr)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
