"""Compressed attributes of OM files that atc writes: names and texts replaced by numbers.

The model then holds ``om_compress_version``, ``attr_name_enum``, ``attr_value_enum`` and
``attrs_use_string_value``. A key that starts with a zero byte is an index into the names: the bytes
after it are its digits to base 127, the least significant first, each stored one higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir.diagnostics import error
from framework_adapter.cann.proto import value_of

_MARK = "om_compress_version"


def expanded(model: Any) -> Any:
    """The ModelDef with plain attributes; itself when they are not compressed.

    Raises:
        CirError E105: a number that stands for nothing.
    """
    if _MARK not in model.attr:
        return model
    lists = ("attr_name_enum", "attr_value_enum", "attrs_use_string_value")
    names, values, texts = (value_of(model.attr[k]) if k in model.attr else () for k in lists)
    for graph in model.graph:
        for op in graph.op:
            holders = [op, *op.input_desc, *op.output_desc]
            if "value" in op.attr and op.attr["value"].WhichOneof("value") == "t":
                holders.append(op.attr["value"].t.desc)
            for holder in holders:
                _expand(holder.attr, names, values, texts)
    return model


def _expand(attrs: Any, names: Sequence[str], values: Sequence[str], texts: Sequence[bool]) -> None:
    for key in [k for k in attrs if k.startswith("\0")]:
        index = 0
        for digit in reversed(key[1:].encode()):
            index = index * 127 + digit - 1
        name = _pick(names, index)
        attr = attrs[name]
        attr.CopyFrom(attrs[key])
        del attrs[key]
        if index < len(texts) and texts[index]:
            if attr.WhichOneof("value") == "list":
                found = [_pick(values, i).encode() for i in attr.list.i]
                attr.list.Clear()
                attr.list.val_type = 1
                attr.list.s.extend(found)
            else:
                attr.s = _pick(values, attr.i).encode()


def _pick(items: Sequence[str], index: int) -> str:
    if not 0 <= index < len(items):
        what = f"the OM's lists of {len(items)} have no entry {index}"
        raise error("E105", what, fix="compile the model again")
    return str(items[index])
