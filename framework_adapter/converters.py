"""The class-style API: one converter per framework, a converted model that saves itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework_adapter import api, registry
from framework_adapter.source import InputSpec

if TYPE_CHECKING:
    from framework_adapter.validate import Report


class ConvertedModel:
    """A canonical, fused program that can be saved in any format.

    Attributes:
        program: the program (``.program.model`` is the CIR).
        target: device or format the converter was made for.
    """

    def __init__(self, program: api.Program, frontend: Any, model: Any, target: str) -> None:
        self.program = program
        self.target = target
        self._frontend = frontend
        self._model = model

    @property
    def digest(self) -> str:
        """Structure digest; equal networks have equal digests."""
        return self.program.digest

    def save(self, path: str | Path, **options: Any) -> api.Result:
        """Write the model; the suffix picks the format. Validates as ``convert`` does.

        Args:
            path: ``.onnx``, ``.ms``, ``.air``, ``.om``, ``.cir.json``, or a folder for a
                SavedModel.
            options: ``validate``, ``report``, ``progress`` and options of the target, as in
                ``convert``. The device that the converter was made for is the ``soc``.

        Raises:
            CirError: E503 for an unknown format; E5xx, E601.
        """
        path = Path(path)
        backend = registry.backend(registry.format_of(path))
        if "soc" in backend.options and self.target not in registry.TARGETS:
            options.setdefault("soc", self.target)
        return api.write(self.program, self._frontend, self._model, backend, path, **options)

    def generate_validation_report(self, path: str | Path, mode: str = "full") -> Report:
        """Convert to ONNX in a temporary place, compare with the source, write the HTML report.

        Raises:
            CirError: E5xx; E601 when validation fails (the report is written).
        """
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            result = self.save(Path(folder) / "model.onnx", validate=mode, report=path)
        assert result.report is not None
        return result.report


class _Converter:
    framework = ""

    def __init__(
        self,
        target: str = "onnx",
        enable_aigc_opt: bool = False,
        custom_ops_mapping: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Set what all conversions share.

        Args:
            target: a device such as ``Ascend310P3``, kept for the backends, or a format.
            enable_aigc_opt: use the preset ``sd_optimized`` unless a call names another.
            custom_ops_mapping: {source op: row or function}.
            options: further arguments of ``framework_adapter.api.build`` (mappings, strategies,
                allow_approximate, input_layout).
        """
        self.target = target
        self.fusion = "sd_optimized" if enable_aigc_opt else "default"
        self.options = {"custom_ops_mapping": custom_ops_mapping, **options}

    def convert(
        self,
        model: Any,
        input_shape: Any = None,
        fusion_config: str | Sequence[str] | None = None,
        *,
        inputs: Any = None,
        dynamic_shapes: Any = None,
    ) -> ConvertedModel:
        """Extract, lower and optimise a model.

        Args:
            model: an object or path of this converter's framework.
            input_shape: shape of the one float32 input, or a sequence of shapes.
            fusion_config: preset name or strategy ids.
            inputs: instead of ``input_shape``: example tensors or InputSpecs.
            dynamic_shapes: as in ``convert``.

        Raises:
            CirError: E1xx to E4xx.
        """
        frontend = registry.detect(model, self.framework)
        if inputs is None and input_shape is not None:
            inputs = tuple(InputSpec(None, "float32", s) for s in _shapes(input_shape))
        program = api.build(
            model,
            frontend,
            inputs=inputs,
            fusion=fusion_config or self.fusion,
            dynamic_shapes=dynamic_shapes,
            **self.options,
        )
        return ConvertedModel(program, frontend, model, self.target)


def _shapes(given: Any) -> list[tuple[Any, ...]]:
    several = bool(given) and isinstance(given[0], (tuple, list))
    return [tuple(s) for s in given] if several else [tuple(given)]


class TorchConverter(_Converter):
    """Converts torch.nn.Module objects and ``.pt2`` files."""

    framework = "pytorch"


class TFConverter(_Converter):
    """Converts Keras models, tf.Module objects, SavedModel folders and frozen graphs."""

    framework = "tensorflow"


class MindSporeConverter(_Converter):
    """Converts mindspore.nn.Cell objects and ``.mindir`` files."""

    framework = "mindspore"
