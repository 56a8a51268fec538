"""Whether a converted model may be trusted: three-way comparison, localisation, report."""

from framework_adapter.validate.conversion import validate_conversion
from framework_adapter.validate.metrics import Metrics, judge, measure
from framework_adapter.validate.report import Artefact, OutputCheck, Report
from framework_adapter.validate.runner import Edges, compare

__all__ = [
    "Artefact",
    "Edges",
    "Metrics",
    "OutputCheck",
    "Report",
    "compare",
    "judge",
    "measure",
    "validate_conversion",
]
