"""What must hold before and after extraction, so that a conversion fails early and says why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cir.diagnostics import CirError, Diagnostic, error
from framework_adapter import registry
from framework_adapter.output import check_writable

if TYPE_CHECKING:
    from framework_adapter.backend import Backend
    from framework_adapter.mapping import MappingTable
    from framework_adapter.source import Frontend, InputSpec, SourceGraph


def check_output(
    backend: Backend,
    out: Path,
    validate: str | bool,
    report: str | Path | None,
    options: Mapping[str, Any],
) -> None:
    """Find before the work what would stop it at its end. Raises CirError E100, E502, E901."""
    from framework_adapter.options import check_choices

    check_choices(validate=validate)
    unknown = [k for k, v in options.items() if v is not None and k not in backend.options]
    if unknown:
        known = ", ".join(backend.options)
        raise error(
            "E100",
            f"target {backend.name!r} has no option {', '.join(unknown)}",
            nearest=known,
            fix=f"its options are {known}" if known else "leave it out: the target has no options",
        )
    check_writable(out, folder=backend.folder)
    if report is not None and validate is False:
        raise error(
            "E100",
            "a report of a conversion that is not validated cannot be written",
            fix="leave out validate=False, or leave out the report",
        )
    if (problem := not_runnable(backend)) and must_validate(validate, report):
        raise CirError(replace(problem, code="E901"))
    if report is not None:
        check_writable(Path(report))
        registry.require("jinja2", "report")


def check_samples(table: MappingTable, paths: Sequence[str | Path]) -> None:
    """Run the samples of the user's rows, where the framework is here. Raises CirError E204."""
    from importlib.util import find_spec

    from framework_adapter.samples import prove

    known = next(
        (v for k, v in registry.FRAMEWORKS.items() if registry.room(k) == table.room), None
    )
    if known is not None and find_spec(known[2]) is not None:
        origins = {str(Path(p)) for p in paths}
        prove(table, [row for row in table.unique_rows() if row.origin in origins])


def must_validate(validate: str | bool, report: str | Path | None) -> bool:
    """Whether a conversion that cannot be validated is an error rather than a warning."""
    return validate == "full" or report is not None


def not_runnable(backend: Backend) -> Diagnostic | None:
    """W901 when nothing here runs the target."""
    if backend.runnable:
        return None
    return Diagnostic(
        "W901",
        f"target {backend.name!r} cannot be validated: what runs it is not installed",
        fix=f'pip install "framework-adapter[{backend.extra}]"',
    )


def extracted(
    frontend: Frontend,
    model: Any,
    specs: Sequence[InputSpec] | None,
    outputs: Sequence[str] | None,
    custom: Collection[str],
) -> tuple[SourceGraph, tuple[int, ...] | None]:
    """The model's graph with the results asked for, and their places among all its results.

    The places are () for all of them, and None when a value inside the model is asked for.

    Raises:
        CirError: E1xx.
    """
    source = frontend.extract(model, specs, custom=custom)
    names = list(source.output_names)
    if not outputs:
        if not source.outputs:
            raise error("E105", "the model gives no tensor", fix="return its results")
        return source, ()
    if set(outputs) <= set(names):
        places = tuple(names.index(n) for n in outputs)
        kept = tuple(source.outputs[i] for i in places)
        state = tuple(pair for pair in source.state if pair[1] in kept)
        chosen = {"outputs": kept, "output_names": tuple(outputs), "state": state}
        return replace(source, **chosen), places  # type: ignore[arg-type]
    source = frontend.extract(model, specs, outputs=outputs, custom=custom)
    if len(source.outputs) != len(outputs):
        raise error(
            "E103",
            f"the model has not all of the outputs {', '.join(outputs)}",
            nearest=", ".join(names),
        )
    return source, None


def blamed(
    exc: CirError, frontend: Frontend, model: Any, specs: Sequence[InputSpec] | None
) -> CirError:
    """The error to raise: E103 when the source model itself does not run on these inputs."""
    given = list(specs or ())
    known = given and all(
        s.example is not None or all(isinstance(d, int) for d in s.shape) for s in given
    )
    by_name = len(given) > 1 and any(s.name for s in given)  # how to call it is not known here
    is_path = isinstance(model, (str, Path))  # an E105 of a file is about the file
    suspect = exc.code == "E202" or (exc.code == "E105" and not is_path)
    if not suspect or not known or by_name:
        return exc
    from framework_adapter.options import feeds_for

    try:
        frontend.run(model, feeds_for(given, 0))
    except Exception as own:  # a framework's errors are of many types
        why = f"{type(own).__name__}: {own}"
        if isinstance(own, CirError):
            why = own.diagnostics[0].why or own.diagnostics[0].what
        return error(
            "E103",
            "the source model does not run on the inputs given",
            where=type(model).__name__,
            why=why.splitlines()[0],
            fix="give inputs the model was made for",
        )
    return exc


def ordered(source: SourceGraph, names: Sequence[str]) -> tuple[SourceGraph, tuple[int, ...]]:
    """The graph with its inputs in the order of ``names``, and each input's place among them.

    TensorFlow's ``:0`` may be written. Raises CirError E103.
    """
    asked = [n if n in source.inputs else n.removesuffix(":0") for n in names]
    if sorted(asked) != sorted(source.inputs):
        raise error(
            "E103",
            f"the inputs are not {', '.join(names)}",
            nearest=", ".join(source.inputs),
            fix="name every input of the model once",
        )
    order = tuple(asked.index(n) for n in source.inputs)
    return replace(source, inputs={n: source.inputs[n] for n in asked}), order
