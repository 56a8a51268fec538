"""A stand-in for CANN's Python binding: computes in plain memory, records calls, finds faults.

A test sets ``MODEL`` to what a file holds and puts this folder on ``sys.path``. ``CALLS`` has every
call in order, ``ALIVE`` what was made and not yet destroyed, ``FAULTS`` every misuse: a handle that
is unknown or freed twice, a run in a thread without a current context, a device given back while
something on it lives, a copy that does not fit. ``FAIL`` makes calls return a code.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np

DTYPES = {0: "float32", 1: "float16", 3: "int32", 9: "int64", 12: "bool"}
INVALID = 100000


@dataclass
class Model:
    """What an OM file holds: (name, aclDataType, dims) of each port, and what it computes."""

    inputs: Sequence[tuple[str, int, Sequence[int]]]
    outputs: Sequence[tuple[str, int, Sequence[int]]]
    compute: Callable[..., Sequence[np.ndarray]]
    batches: Sequence[int] = ()
    gears: Sequence[Sequence[int]] = ()
    most: int = 64  # bytes of a buffer whose shape gears decide
    chosen: list[int] = field(default_factory=list)


MODEL: Model | None = None
RUN_MODE = 1
FAIL: dict[str, int] = {}
CALLS: list[str] = []
ALIVE: Counter[tuple[str, Any]] = Counter()
FAULTS: list[str] = []
_memory: dict[int, Any] = {}
_buffers: dict[int, tuple[int, int]] = {}
_datasets: dict[int, list[int]] = {}
_contexts: dict[int, int] = {}
_here = threading.local()
_handles = count(1000)
_lock = threading.Lock()


def reset(model: Model | None = None) -> None:
    """Forget everything that was recorded; open this model from now on."""
    global MODEL, RUN_MODE
    MODEL, RUN_MODE = model, 1
    for store in (FAIL, CALLS, ALIVE, FAULTS, _memory, _buffers, _datasets, _contexts):
        store.clear()


def _record(name: str) -> int:
    with _lock:
        CALLS.append(name)
    return FAIL.get(name, 0)


def _make(name: str, kind: str) -> tuple[int, int]:
    if ret := _record(name):
        return 0, ret
    handle = next(_handles)
    ALIVE[kind, handle] += 1
    return handle, 0


def _end(name: str, kind: str, handle: int) -> int:
    ret = _record(name)
    if ALIVE[kind, handle] != 1:
        FAULTS.append(f"{name}: no such {kind} {handle}")
        return INVALID
    del ALIVE[kind, handle]
    return ret


def _current() -> int:
    context = getattr(_here, "context", None)
    if context is None or ALIVE["context", context] != 1:
        FAULTS.append(f"{CALLS[-1]}: this thread has no context")
        return INVALID
    return 0


def init(config: str = "") -> int:
    ret = _record("init")
    if ALIVE["acl", 0]:
        return 100002
    if not ret:
        ALIVE["acl", 0] += 1
    return ret


def finalize() -> int:
    if [kind for kind, _ in ALIVE if kind != "acl"]:
        FAULTS.append(f"finalize: alive are {sorted(map(str, ALIVE))}")
    return _end("finalize", "acl", 0)


def get_recent_err_msg() -> str:
    return "the stand-in was told to fail"


def create_data_buffer(address: int, size: int) -> int:
    handle, _ = _make("create_data_buffer", "data_buffer")
    if not any(a <= address and address + size <= a + len(m) for a, m in _memory.items()):
        FAULTS.append("create_data_buffer: not device memory")
    _buffers[handle] = (address, size)
    return handle


def destroy_data_buffer(buffer: int) -> int:
    return _end("destroy_data_buffer", "data_buffer", buffer)


# -- acl.rt ----------------------------------------------------------------------------------------
def _set_device(device: int) -> int:
    ret = _record("rt.set_device")
    if not ret:
        ALIVE["device", device] = 1
    return ret


def _reset_device(device: int) -> int:
    if [c for kind, c in ALIVE if kind == "context" and _contexts[c] == device]:
        FAULTS.append("rt.reset_device: a context on it is alive")
    return _end("rt.reset_device", "device", device)


def _set_context(context: int) -> int:
    _here.context = context
    return _record("rt.set_context") or _current()


def _create_context(device: int) -> tuple[int, int]:
    made, ret = _make("rt.create_context", "context")
    _here.context, _contexts[made] = made, device
    return made, ret


def _malloc(size: int, policy: int) -> tuple[int, int]:
    if ret := _record("rt.malloc") or _current():
        return 0, ret
    block = (ctypes.c_char * size)()
    address = ctypes.addressof(block)
    _memory[address] = block
    ALIVE["memory", address] += 1
    return address, 0


def _free(address: int) -> int:
    _memory.pop(address, None)
    return _end("rt.free", "memory", address)


def _memcpy(to: int, room: int, source: int, size: int, kind: int) -> int:
    ret = _record("rt.memcpy") or _current()
    if size > room or kind not in ((1, 2) if RUN_MODE else (3,)):
        FAULTS.append(f"rt.memcpy: {size} bytes to {room}, kind {kind}")
        return INVALID
    if not ret:
        ctypes.memmove(to, source, size)
    return ret


rt = SimpleNamespace(
    set_device=_set_device,
    reset_device=_reset_device,
    create_context=_create_context,
    destroy_context=lambda c: _end("rt.destroy_context", "context", c),
    set_context=_set_context,
    get_run_mode=lambda: (RUN_MODE, _record("rt.get_run_mode")),
    malloc=_malloc,
    free=_free,
    memcpy=_memcpy,
)


# -- acl.mdl ---------------------------------------------------------------------------------------
def _ports(side: str) -> Sequence[tuple[str, int, Sequence[int]]]:
    assert MODEL is not None
    return MODEL.inputs if side == "input" else MODEL.outputs


def _size(side: str) -> Callable[[int, int], int]:
    def size(desc: int, i: int) -> int:
        assert MODEL is not None
        _, code, dims = _ports(side)[i]
        if any(d < 0 for d in dims):
            return MODEL.most
        return int(np.prod(dims)) * np.dtype(DTYPES[code]).itemsize

    return size


def _dims(call: str, side: str) -> Callable[[int, int], tuple[dict[str, Any], int]]:
    def dims(desc: int, i: int) -> tuple[dict[str, Any], int]:
        name, _, shape = _ports(side)[i]
        if call == "mdl.get_cur_output_dims":
            assert MODEL is not None
            left = iter(MODEL.chosen)
            shape = [d if d >= 0 else next(left) for d in shape]
        return {"name": name, "dimCount": len(shape), "dims": list(shape)}, _record(call)

    return dims


def _add(dataset: int, buffer: int) -> tuple[int, int]:
    _datasets[dataset].append(buffer)
    return dataset, _record("mdl.add_dataset_buffer")


def _dataset() -> int:
    handle, _ = _make("mdl.create_dataset", "dataset")
    _datasets[handle] = []
    return handle


def _destroy_dataset(dataset: int) -> int:
    if any(ALIVE["data_buffer", b] for b in _datasets.get(dataset, ())):
        FAULTS.append("mdl.destroy_dataset: its data buffers are still alive")
    return _end("mdl.destroy_dataset", "dataset", dataset)


def _choose(call: str) -> Callable[..., int]:
    def choose(model: int, dataset: int, index: int, gear: Any) -> int:
        assert MODEL is not None
        MODEL.chosen[:] = [gear] if isinstance(gear, int) else gear["dims"]
        return _record(call)

    return choose


def _execute(model: int, given: int, wanted: int) -> int:
    assert MODEL is not None
    if ret := _record("mdl.execute") or _current():
        return ret
    if not (ALIVE["model", model] and ALIVE["dataset", given] and ALIVE["dataset", wanted]):
        FAULTS.append("mdl.execute: what it runs on is not alive")
        return INVALID
    sizes = iter(MODEL.chosen)
    arrays = []
    for (name, code, dims), buffer in zip(MODEL.inputs, _datasets[given]):
        if name == "ascend_mbatch_shape_data":
            continue
        all_dims = bool(MODEL.gears)
        shape = [next(sizes) if all_dims or d < 0 else d for d in dims]
        address, _ = _buffers[buffer]
        raw = ctypes.string_at(address, int(np.prod(shape)) * np.dtype(DTYPES[code]).itemsize)
        arrays.append(np.frombuffer(raw, DTYPES[code]).reshape(shape))
    for array, (_, code, _), buffer in zip(
        MODEL.compute(*arrays), MODEL.outputs, _datasets[wanted]
    ):
        address, room = _buffers[buffer]
        raw = np.ascontiguousarray(array, DTYPES[code]).tobytes()
        assert len(raw) <= room
        ctypes.memmove(address, raw, len(raw))
    return 0


mdl = SimpleNamespace(
    load_from_file=lambda path: _make("mdl.load_from_file", "model"),
    unload=lambda m: _end("mdl.unload", "model", m),
    create_desc=lambda: _make("mdl.create_desc", "desc")[0],
    destroy_desc=lambda d: _end("mdl.destroy_desc", "desc", d),
    get_desc=lambda desc, model: _record("mdl.get_desc"),
    get_num_inputs=lambda desc: len(_ports("input")),
    get_num_outputs=lambda desc: len(_ports("output")),
    get_input_name_by_index=lambda desc, i: _ports("input")[i][0],
    get_output_name_by_index=lambda desc, i: _ports("output")[i][0],
    get_input_data_type=lambda desc, i: _ports("input")[i][1],
    get_output_data_type=lambda desc, i: _ports("output")[i][1],
    get_input_size_by_index=_size("input"),
    get_output_size_by_index=_size("output"),
    get_input_dims=_dims("mdl.get_input_dims", "input"),
    get_output_dims=_dims("mdl.get_output_dims", "output"),
    get_cur_output_dims=_dims("mdl.get_cur_output_dims", "output"),
    create_dataset=_dataset,
    destroy_dataset=_destroy_dataset,
    add_dataset_buffer=_add,
    get_dynamic_batch=lambda desc: (
        {"batchCount": len(MODEL.batches), "batch": list(MODEL.batches)},  # type: ignore[union-attr]
        _record("mdl.get_dynamic_batch"),
    ),
    get_input_dynamic_gear_count=lambda desc, i: (
        len(MODEL.gears),  # type: ignore[union-attr]
        _record("mdl.get_input_dynamic_gear_count"),
    ),
    get_input_dynamic_dims=lambda desc, i, n: (
        [{"name": "", "dimCount": len(g), "dims": list(g)} for g in MODEL.gears],  # type: ignore[union-attr]
        _record("mdl.get_input_dynamic_dims"),
    ),
    set_dynamic_batch_size=_choose("mdl.set_dynamic_batch_size"),
    set_input_dynamic_dims=_choose("mdl.set_input_dynamic_dims"),
    execute=_execute,
)
