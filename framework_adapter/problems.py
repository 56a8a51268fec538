"""What is wrong with a graph, gathered node by node and reported once."""

from __future__ import annotations

from dataclasses import dataclass, field

from cir.diagnostics import Collector
from framework_adapter.mapping import MappingTable
from framework_adapter.source import SourceNode

#: Places a diagnostic lists before "and n more".
_SHOWN = 4


@dataclass
class Problems:
    """Problems of all nodes, grouped by (code, op, reason) with their places, in order."""

    groups: dict[tuple[str, str, str, str], list[str]] = field(default_factory=dict)

    def add(self, code: str, node: SourceNode, why: str = "", fix: str = "") -> None:
        """Record one node's problem."""
        place = f"{node.module or node.outputs[0]} ({node.place})" if node.place else node.module
        self.groups.setdefault((code, node.op, why, fix), []).append(
            place or (*node.outputs, node.op)[0]
        )

    def report(self, collector: Collector, framework: str, table: MappingTable) -> None:
        """Hand over one diagnostic for each group."""
        for (code, op, why, fix), places in self.groups.items():
            shown = ", ".join(places[:_SHOWN])
            if len(places) > _SHOWN:
                shown += f", and {len(places) - _SHOWN} more"
            times = f" (×{len(places)})" if len(places) > 1 else ""
            if code == "E201":
                collector.add(
                    code,
                    f"unsupported operator {op}{times}",
                    where=shown,
                    why=why,
                    nearest=table.nearest(op),
                    fix=fix
                    or f"pass custom_ops_mapping={{{op!r}: {{'args': ..., 'emit': ...}}}}, "
                    f"or add a row to framework_adapter/{framework}/ops/",
                )
            else:
                collector.add(code, f"{op}{times}: {why}", where=shown, fix=fix)
