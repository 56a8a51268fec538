"""One road from PyTorch, TensorFlow and MindSpore models to the places they are served.

Nothing of a framework is imported here; each is imported when a model of it is converted.
"""

from __future__ import annotations

from typing import Any

#: Public name -> module that holds it; imported on first use so that the package imports fast.
_PUBLIC = {
    "CANNInferenceSession": "framework_adapter.cann.session",
    "CirError": "cir.diagnostics",
    "ConvertedModel": "framework_adapter.converters",
    "InputSpec": "framework_adapter.source",
    "MindSporeConverter": "framework_adapter.converters",
    "Result": "framework_adapter.api",
    "TFConverter": "framework_adapter.converters",
    "TorchConverter": "framework_adapter.converters",
    "convert": "framework_adapter.api",
    "export_for_serving": "framework_adapter.tensorflow.serving",
}

__version__ = "0.1.0"
__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
