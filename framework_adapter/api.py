"""``convert``: the whole road on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cir.diagnostics import CirError, Diagnostic
from framework_adapter import registry
from framework_adapter.checks import (
    blamed,
    check_output,
    check_samples,
    extracted,
    must_validate,
    not_runnable,
    ordered,
)
from framework_adapter.output import staged

if TYPE_CHECKING:
    from cir.graph import Model
    from cir.passes import Context, Record
    from framework_adapter.backend import Backend
    from framework_adapter.emission import EmitResult
    from framework_adapter.source import Frontend, InputSpec, SourceGraph
    from framework_adapter.validate import Artefact, Report

Progress = Callable[[str], None]


@dataclass
class Result:
    """What a conversion gives.

    Attributes:
        artifact: the file written.
        model: the canonical, fused program (before anything target-specific).
        report: the validation report, None with ``validate=False``.
        diagnostics: warnings and notes.
        trace: what each pass did.
        digest: structure digest, equal for equal networks whatever framework they come from.
        stats: node counts by stage, seconds, emitted node names by program node.
    """

    artifact: Path
    model: Model
    report: Report | None
    diagnostics: tuple[Diagnostic, ...]
    trace: tuple[Record, ...]
    digest: str
    stats: dict[str, Any] = field(default_factory=dict)


@dataclass
class Program:
    """A model on its way: extracted, lowered, canonicalised and fused.

    Attributes:
        source, lowered, model: the stages; ``model`` is canonical and fused.
        specs: the program's inputs, with the examples that were given.
        ctx: trace and counts of the passes; ``digest``, ``stats``: see ``Result``.
        input_layout: as asked for.
        order: for each input of the source model its place among the program's, None when equal.
        results: for each output its place among the source model's results; () when they are
            these, None when one is a value that the model computes but does not return.
    """

    source: SourceGraph
    lowered: Model
    model: Model
    specs: list[InputSpec]
    ctx: Context
    digest: str
    stats: dict[str, Any]
    input_layout: str = "source"
    order: tuple[int, ...] | None = None
    results: tuple[int, ...] | None = ()

    def not_comparable(self) -> Diagnostic | None:
        """W901 when the source model does not return every output."""
        if self.results is not None:
            return None
        return Diagnostic(
            "W901",
            "not validated: an output is a value inside the model, which does not return it",
            fix="leave outputs= out once to have the conversion compared with the source framework",
        )

    def runner(self, frontend: Frontend, model: Any) -> Callable[[Sequence[Any]], list[Any]]:
        """A function that runs the source model: the program's inputs to the program's outputs."""

        def run(feeds: Sequence[Any]) -> list[Any]:
            given = list(feeds) if self.order is None else [feeds[i] for i in self.order]
            found = frontend.run(model, given)
            return [found[i] for i in self.results or range(len(found))]

        return run


def convert(
    model: Any,
    target: str,
    out: str | Path,
    *,
    inputs: Any = None,
    outputs: Sequence[str] | None = None,
    framework: str | None = None,
    fusion: str | Sequence[str] = "default",
    precision: str = "fp32",
    dynamic_shapes: Any = None,
    custom_ops_mapping: Mapping[str, Any] | None = None,
    mappings: Sequence[str | Path] = (),
    strategies: Sequence[str | Path] = (),
    validate: str | bool = "auto",
    report: str | Path | None = None,
    allow_approximate: bool = False,
    input_layout: str = "source",
    progress: Progress | None = None,
    **target_options: Any,
) -> Result:
    """Convert a model and check the result against the source framework.

    Args:
        model: a torch.nn.Module, keras.Model, tf.Module or function, mindspore.nn.Cell, or a path.
        target: ``onnx``, ``saved_model``, ``mslite``, ``air``, ``om`` or ``cir``.
        out: file to write (a folder for ``saved_model``); its folder is made. Nothing is written
            when anything fails.
        inputs: example tensors (tuple or mapping, of framework or NumPy tensors), ``InputSpec``
            with symbolic dims, or tensor names for graph files. The order is kept.
        outputs: names of the results to keep, for graph files.
        framework: ``pytorch`` | ``tensorflow`` | ``mindspore`` | ``onnx``; default: found out.
        fusion: name of a preset (``fusion_db/presets.json``), or ids and tags of strategies.
        precision: ``fp32``.
        dynamic_shapes: {input name or position: {axis: symbol}}; equal symbols are equal sizes.
        custom_ops_mapping: {source op: row or function(context, node, **args)}.
        mappings: further op table files; each row must pass its samples.
        strategies: further strategy files, or folders of them; each must prove itself.
        validate: ``auto``, ``full`` (3 seeds, per-node errors) or False.
        report: HTML file to write the report to, also when validation fails.
        allow_approximate: also use strategies that change results beyond rounding.
        input_layout: ``source`` keeps the framework's layout at the graph's edges,
            ``channels_first`` gives channels-first inputs and outputs.
        progress: called with a short text at the start of each stage.
        target_options: options of the target, e.g. ``opset`` and ``profile`` of ONNX; the
            backend's ``options`` says which. None means the target's default.

    Returns:
        Result.

    Raises:
        CirError: with all problems found and exit code 1 to 6; see ``cir explain CODE``.
    """
    from framework_adapter.options import check_choices

    say = progress or (lambda text: None)
    check_choices(precision=precision)
    backend = registry.backend(target)
    frontend = registry.detect(model, framework)
    check_output(backend, Path(out), validate, report, target_options)
    start = time.perf_counter()
    program = build(
        model,
        frontend,
        inputs=inputs,
        outputs=outputs,
        fusion=fusion,
        dynamic_shapes=dynamic_shapes,
        custom_ops_mapping=custom_ops_mapping,
        mappings=mappings,
        strategies=strategies,
        allow_approximate=allow_approximate,
        input_layout=input_layout,
        progress=say,
    )
    seconds = time.perf_counter() - start
    result = write(
        program,
        frontend,
        model,
        backend,
        Path(out),
        validate=validate,
        report=report,
        progress=say,
        **target_options,
    )
    result.stats["convert_seconds"] += seconds
    return result


def write(
    program: Program,
    frontend: Frontend,
    model: Any,
    backend: Backend,
    out: Path,
    *,
    validate: str | bool = "auto",
    report: str | Path | None = None,
    progress: Progress | None = None,
    **target_options: Any,
) -> Result:
    """Emit a program, validate what was emitted, move it into place; arguments as in ``convert``.

    Raises:
        CirError: E5xx; E601 when validation fails (the report is written, the artefact is not).
    """
    say = progress or (lambda text: None)
    check_output(backend, out, validate, report, target_options)
    ctx = program.ctx  # a copy: a program may be written more than once
    ctx = replace(ctx, fired=ctx.fired.copy(), trace=list(ctx.trace), say=say)
    program = replace(program, ctx=ctx)
    stats = dict(program.stats)
    found: Report | None = None
    notes = [Diagnostic("N101", n) for n in program.source.notes]
    problem = not_runnable(backend) or program.not_comparable()
    if validate is not False and problem is not None:
        if must_validate(validate, report):
            raise CirError(replace(problem, code="E103"))
        notes.append(problem)
        validate = False
    with staged(out) as tmp:
        say("emit")
        start = time.perf_counter()
        emitted = backend.emit(
            program.model,
            tmp,
            digest=program.digest,
            versions=program.source.versions,
            ctx=ctx,
            **{k: v for k, v in target_options.items() if v is not None},
        )
        stats.update(nodes_emitted=emitted.node_count, mapping=emitted.mapping)
        notes += [Diagnostic("N501", n) for n in emitted.notes]
        stats["convert_seconds"] = time.perf_counter() - start
        if validate is not False:
            from framework_adapter.validate import validate_conversion

            say("validate")
            found = validate_conversion(
                program,
                source_run=program.runner(frontend, model),
                artifact_run=lambda feeds: backend.run(emitted.path, feeds),
                mode=str(validate),
                emitted=emitted,
                target=backend.name,
                progress=say,
            )
            found = replace(found, artefacts=(_artefact(backend, out, emitted, found, start),))
            if report is not None:
                with staged(Path(report)) as page:
                    found.write_html(page)
            found.raise_on_failure()
            notes = [*found.findings(), *notes]
    return Result(out, program.model, found, tuple(notes), tuple(ctx.trace), program.digest, stats)


def _artefact(
    backend: Backend, out: Path, emitted: EmitResult, report: Report, start: float
) -> Artefact:
    from framework_adapter.validate import Artefact

    files = (f for p in emitted.files for f in (p.rglob("*") if p.is_dir() else [p]))
    return Artefact(
        backend.name,
        str(out),
        sum(f.stat().st_size for f in files if f.is_file()),
        report.verdict,
        report.scaled_error,
        backend.checked_by,
        time.perf_counter() - start,
        " ".join(emitted.notes),
    )


def build(
    model: Any,
    frontend: Frontend,
    *,
    inputs: Any = None,
    outputs: Sequence[str] | None = None,
    fusion: str | Sequence[str] = "default",
    dynamic_shapes: Any = None,
    custom_ops_mapping: Mapping[str, Any] | None = None,
    mappings: Sequence[str | Path] = (),
    strategies: Sequence[str | Path] = (),
    allow_approximate: bool = False,
    input_layout: str = "source",
    progress: Progress | None = None,
) -> Program:
    """Extract, lower, canonicalise and fuse a model; arguments as in ``convert``.

    Raises:
        CirError: E1xx to E4xx.
    """
    from cir.passes import Context, channels_first_interface
    from cir.passes.manager import rewired
    from framework_adapter.lowering import lower, named_outputs
    from framework_adapter.mapping import load
    from framework_adapter.options import check_choices, normalise_inputs
    from framework_adapter.pipeline import front
    from fusion_db import select

    say = progress or (lambda text: None)
    # Cheap checks first: a wrong row or strategy is reported before the model is traced.
    check_choices(input_layout=input_layout)
    table = load(registry.room(frontend.name), mappings, custom_ops_mapping)
    if mappings:
        check_samples(table, mappings)
    extra = [Path(p) for p in strategies]
    canonical, fusions = (
        select(stage, fusion, extra=extra, approximate=allow_approximate)
        for stage in ("canonicalise", "fuse")
    )
    specs, names = normalise_inputs(inputs, dynamic_shapes)
    order = None
    try:
        say("extract")
        source, results = extracted(frontend, model, specs, outputs, table.rows)
        if names is not None:
            source, order = ordered(source, names)
        say("lower")
        lowered = lower(source, table)
    except CirError as exc:
        found = blamed(exc, frontend, model, specs)
        if found is exc:
            raise
        raise found from exc
    say("canonicalise and fuse")
    ctx = Context()
    fused = front(canonical, fusions).run(lowered, ctx)
    if input_layout == "channels_first" and source.layout == "channels_last":
        fused = rewired(fused, channels_first_interface(fused.graph))
    fused = rewired(fused, named_outputs(fused.graph, lowered.graph.outputs))
    stats = {
        "nodes_source": len(source.nodes),
        "nodes_lowered": len(lowered.graph.nodes),
        "nodes_canonical": _nodes_after(ctx, "canonicalise", len(lowered.graph.nodes)),
        "nodes_fused": len(fused.graph.nodes),
        "strategies": dict(sorted(ctx.fired.items())),
    }
    return Program(
        source,
        lowered,
        fused,
        complete_specs(source, specs),
        ctx,
        digest_of(fused),
        stats,
        input_layout,
        order,
        results,
    )


def digest_of(model: Model) -> str:
    """Structure digest with channels-first inputs and outputs."""
    from cir.digest import structure_digest
    from cir.passes import channels_first_interface
    from cir.passes.manager import rewired

    return structure_digest(rewired(model, channels_first_interface(model.graph))).hex


def complete_specs(source: SourceGraph, specs: Sequence[InputSpec] | None) -> list[InputSpec]:
    """Input specs in the order of the extracted graph, examples kept where they were given."""
    from framework_adapter.source import InputSpec

    given = list(specs or [])
    by_name = {s.name: s for s in given if s.name}
    out = []
    for i, (name, t) in enumerate(source.inputs.items()):
        spec = by_name.get(name) or (given[i] if i < len(given) else None)
        example = spec.example if spec is not None else None
        out.append(InputSpec(name, t.dtype, t.shape, example))
    return out


def _nodes_after(ctx: Context, stage: str, default: int) -> int:
    counts = [r.after for r in ctx.trace if r.stage == stage]
    return counts[-1] if counts else default
