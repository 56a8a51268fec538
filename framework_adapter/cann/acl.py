"""The seam to CANN's Python binding (module ``acl``): load a compiled OM, run it, free it all.

Written from the documented calls of the binding, and run against a recording stand-in of it
(``tests/cann/stand_ins/acl.py``). It was not run on a device.

A process starts the binding once; each model has its own context, which every thread that runs it
makes its current one. What is acquired is released in reverse order, also when loading fails.
"""

from __future__ import annotations

import atexit
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np

from cir import dtype as dt
from cir.diagnostics import error
from framework_adapter.cann.feeds import Port
from framework_adapter.cann.proto import TYPE_NAMES
from framework_adapter.cann.workers import closed

#: aclInit when somebody else in the process has started the binding, who then also stops it.
_ALREADY_STARTED = 100002
#: aclrtMalloc's policy: huge pages where there are some.
_HUGE_FIRST = 0
#: aclrtMemcpyKind by run mode: (to the device, from it). Mode 0: this CPU is the device's own.
_COPIES = {0: (3, 3), 1: (1, 2)}
#: The input through which a model with gears is told which one to run.
_GEAR_INPUT = "ascend_mbatch_shape_data"


class AclError(Exception):
    """A call of the binding that failed, with the binding's own words."""


class _Buffer(NamedTuple):
    address: int
    size: int


_lock = threading.Lock()
_open: WeakSet[CompiledModel] = WeakSet()
_devices: Counter[int] = Counter()
_started = False


def missing() -> str:
    """Why the binding cannot be used here; "" when it can."""
    try:
        import acl
    except (ImportError, OSError) as exc:  # OSError: a library of CANN is not found
        return f"CANN's Python binding is not here ({exc})"
    return "" if hasattr(acl, "mdl") else f"the module {acl.__name__!r} here is not CANN's"


class CompiledModel:
    """A compiled OM on a device.

    Args:
        path: the OM file.
        device_id: which device.

    Attributes:
        providers: what runs it.
        inputs, outputs: the ports; a size that gears decide is None.

    Raises:
        AclError: the binding refuses a call; what was acquired until then is released.
    """

    providers = ("pyACL",)

    def __init__(self, path: Path, device_id: int) -> None:
        import acl

        self._acl = acl
        self._run_lock = threading.Lock()
        self._release = ExitStack()
        try:
            self._load(path, device_id)
        except BaseException:
            self._release.close()
            raise
        self._closed = False
        _open.add(self)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results for arrays that fit the inputs; one call at a time.

        Raises:
            AclError: the binding refuses a call.
            CirError: E103 for sizes that are none of the gears; E701 after ``close``.
        """
        acl = self._acl
        to_device, from_device = self._copies
        with self._run_lock:
            if self._closed:
                raise closed()
            self._check("rt.set_context", acl.rt.set_context(self._context))
            for buffer, array in zip(self._input_buffers, arrays):
                array = np.ascontiguousarray(array)
                self._copy(buffer.address, buffer.size, array.ctypes.data, array.nbytes, to_device)
            if self._choose_gear is not None:
                self._choose_gear(arrays)
            self._check("mdl.execute", acl.mdl.execute(self._model, self._in, self._out))
            out = []
            for i, (port, buffer) in enumerate(zip(self.outputs, self._output_buffers)):
                dims = port.shape
                if self._choose_gear is not None:
                    dims = tuple(self._value("mdl.get_cur_output_dims", self._desc, i)["dims"])
                array = np.empty(dims, dt.to_numpy(port.dtype))  # type: ignore[arg-type]
                self._copy(
                    array.ctypes.data, array.nbytes, buffer.address, array.nbytes, from_device
                )
                out.append(array)
            return out

    def close(self) -> None:
        """Release everything; again is nothing."""
        with self._run_lock:
            if self._closed:
                return
            self._closed = True
            self._acl.rt.set_context(self._context)
            self._release.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    # -- loading -----------------------------------------------------------------------------------
    def _load(self, path: Path, device_id: int) -> None:
        acl, later = self._acl, self._release.callback
        _start(self, device_id)
        later(_leave, acl, device_id)
        self._context = self._value("rt.create_context", device_id)
        later(acl.rt.destroy_context, self._context)
        mode = self._value("rt.get_run_mode")
        self._copies = _COPIES.get(mode, _COPIES[1])
        self._model = self._value("mdl.load_from_file", str(path))
        later(acl.mdl.unload, self._model)
        self._desc = acl.mdl.create_desc()
        later(acl.mdl.destroy_desc, self._desc)
        self._check("mdl.get_desc", acl.mdl.get_desc(self._desc, self._model))

        count = acl.mdl.get_num_inputs(self._desc)
        ports = [self._port("input", i) for i in range(count)]
        gears = [i for i, p in enumerate(ports) if p.name == _GEAR_INPUT]
        self.inputs = tuple(p for p in ports if p.name != _GEAR_INPUT)
        count = acl.mdl.get_num_outputs(self._desc)
        self.outputs = tuple(self._port("output", i) for i in range(count))
        self._choose_gear = self._gears(gears[0]) if gears else None
        open_ports = [p for p in self.inputs if None in p.shape]
        if open_ports and not gears:
            raise AclError(
                f"it was compiled for ranges of sizes ({'; '.join(map(str, open_ports))}), "
                "which this session does not run; compile it for gears"
            )
        self._in, buffers = self._dataset("input", len(ports))
        self._input_buffers = [b for i, b in enumerate(buffers) if i not in gears]
        self._out, self._output_buffers = self._dataset("output", len(self.outputs))

    def _port(self, side: str, index: int) -> Port:
        mdl = self._acl.mdl
        name = getattr(mdl, f"get_{side}_name_by_index")(self._desc, index)
        code = getattr(mdl, f"get_{side}_data_type")(self._desc, index)
        dims = self._value(f"mdl.get_{side}_dims", self._desc, index)["dims"]
        if code not in TYPE_NAMES:
            raise AclError(f"{side} {name!r} has data type {code}, which is not supported")
        *_, last = name.split(":")  # outputs are called node:index or node:index:name
        shape = tuple(d if d >= 0 else None for d in dims)
        return Port(name if last.isdigit() else last, TYPE_NAMES[code], shape)

    def _dataset(self, side: str, count: int) -> tuple[Any, list[_Buffer]]:
        acl, later = self._acl, self._release.callback
        dataset = acl.mdl.create_dataset()
        later(acl.mdl.destroy_dataset, dataset)
        buffers = []
        for i in range(count):
            size = getattr(acl.mdl, f"get_{side}_size_by_index")(self._desc, i)
            address = self._value("rt.malloc", max(size, 1), _HUGE_FIRST)
            later(acl.rt.free, address)
            data = acl.create_data_buffer(address, size)
            later(acl.destroy_data_buffer, data)
            self._value("mdl.add_dataset_buffer", dataset, data)
            buffers.append(_Buffer(address, size))
        return dataset, buffers

    def _gears(self, index: int) -> Callable[[Sequence[np.ndarray]], None]:
        """A function that tells the model the gear for some feeds."""
        acl = self._acl
        batches = self._value("mdl.get_dynamic_batch", self._desc)["batch"]
        count = self._value("mdl.get_input_dynamic_gear_count", self._desc, -1)
        if not batches and not count:
            raise AclError("it was compiled for image sizes, which this session does not run")
        if batches:
            known = [(b,) for b in sorted(batches)]
            axes = [(i, a) for i, p in enumerate(self.inputs) for a in _open_axes(p)][:1]
        else:
            dims = self._value("mdl.get_input_dynamic_dims", self._desc, -1, count)
            known = [tuple(d["dims"]) for d in dims]
            axes = [(i, a) for i, p in enumerate(self.inputs) for a in range(len(p.shape))]

        def choose(arrays: Sequence[np.ndarray]) -> None:
            sizes = tuple(arrays[i].shape[a] for i, a in axes)
            if sizes not in known:
                raise error(
                    "E103",
                    f"the model was not compiled for sizes {list(sizes)}",
                    nearest="; ".join(str(list(k)) for k in known),
                    fix="pad the feeds to a gear, or compile the model with this one as well",
                )
            if batches:
                ret = acl.mdl.set_dynamic_batch_size(self._model, self._in, index, sizes[0])
                self._check("mdl.set_dynamic_batch_size", ret)
            else:
                gear = {"name": "", "dimCount": len(sizes), "dims": list(sizes)}
                ret = acl.mdl.set_input_dynamic_dims(self._model, self._in, index, gear)
                self._check("mdl.set_input_dynamic_dims", ret)

        return choose

    # -- calls -------------------------------------------------------------------------------------
    def _copy(self, to: int, room: int, source: int, size: int, kind: int) -> None:
        if size:
            self._check("rt.memcpy", self._acl.rt.memcpy(to, room, source, size, kind))

    def _value(self, call: str, *args: Any) -> Any:
        """The first of what a call returns, after its return code."""
        family, name = call.split(".")
        value, ret = getattr(getattr(self._acl, family), name)(*args)
        self._check(call, ret)
        return value

    def _check(self, call: str, ret: int) -> None:
        if ret:
            said = getattr(self._acl, "get_recent_err_msg", str)()
            raise AclError(f"acl.{call} returned {ret}" + (f": {said}" if said else ""))


def _open_axes(port: Port) -> list[int]:
    return [axis for axis, size in enumerate(port.shape) if size is None]


# -- the process -----------------------------------------------------------------------------------
def _start(model: CompiledModel, device_id: int) -> None:
    """Start the binding once for the process, and use a device."""
    global _started
    acl = model._acl
    with _lock:
        if not _started:
            ret = acl.init()
            if ret != _ALREADY_STARTED:
                model._check("init", ret)
                atexit.register(_stop, acl)
            _started = True
        model._check("rt.set_device", acl.rt.set_device(device_id))
        _devices[device_id] += 1


def _leave(acl: Any, device_id: int) -> None:
    """Give a device back with its last model: doing so ends every context on it."""
    with _lock:
        _devices[device_id] -= 1
        if not _devices[device_id]:
            acl.rt.reset_device(device_id)


def _stop(acl: Any) -> None:
    for model in list(_open):
        model.close()
    acl.finalize()
