"""MindSpore's own shape functions over a ``.ms`` file: does each node give what the file declares?

The MindSpore wheel ships ``libnnacl.so``, the kernel library that MindSpore Lite's CPU runtime is built on, with its
headers. For each node in order the official infer function of its op runs on the tensors inferred so far; the
parameter structs are filled at offsets that gcc finds in the headers. A symbolic batch is inferred for a size.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from framework_adapter.mindspore.lite import flat

#: What stands for an unknown size.
SIZE = 3
INFER_INVALID = 4
#: struct -> fields that are filled.
STRUCTS: Mapping[str, tuple[str, str]] = {
    "OpParameter": ("op_base", "type_"),
    "ConvParameter": ("conv_parameter", "kernel_h_ kernel_w_ stride_h_ stride_w_ dilation_h_ dilation_w_ pad_u_ pad_d_ "
                      "pad_l_ pad_r_ group_ input_channel_ output_channel_ pad_mode_ act_type_ output_padding_w_ "
                      "output_padding_h_"),
    "PoolingParameter": ("pooling_parameter", "pool_mode_ round_type_ pad_mode_ global_ window_w_ window_h_ stride_w_ "
                         "stride_h_ pad_u_ pad_d_ pad_l_ pad_r_"),
    "MatMulParameter": ("matmul_parameter", "has_bias_ use_axis_ a_transpose_ b_transpose_ act_type_ axis_"),
    "ReduceParameter": ("reduce_parameter", "keep_dims_ mode_ reduce_to_end_"),
    "SoftmaxParameter": ("softmax_parameter", "axis_"),
    "SplitParameter": ("split_parameter", "num_split_ split_sizes_ split_dim_ split_count_"),
    "StridedSliceParameter": ("strided_slice_parameter", "begins_mask_ ends_mask_ ellipsisMask_ newAxisMask_ "
                              "shrinkAxisMask_"),
    "LayerNormParameter": ("layer_norm_parameter", "elementwise_affine_ begin_norm_axis_ begin_params_axis_"),
    "ArgMinMaxParameter": ("arg_min_max_parameter", "axis_ topk_ keep_dims_ out_value_"),
    "SqueezeParameter": ("squeeze_parameter", "axis_ axis_size_"),
    "UnSqueezeParameter": ("unsqueeze_parameter", "dims_ num_dim_"),
    "ConcatParameter": ("concat_parameter", "axis_"),
    "ResizeParameter": ("resize_parameter", "method_ new_height_ new_width_ coordinate_transform_mode_"),
    "TopkParameter": ("fp32/topk_fp32", "k_ axis_ sorted_"),
    "TileParameter": ("tile_parameter", "dims_ dims_size_"),
    "BroadcastToParameter": ("broadcast_to_parameter", "shape_ shape_size_"),
    "FlattenParameter": ("flatten_parameter", "axis_"),
    "UnstackParameter": ("unstack_parameter", "axis_ num_"),
    "SliceParameter": ("slice_parameter", "axis_"),
    "StackParameter": ("stack_parameter", "axis_"),
    "OneHotParameter": ("one_hot_parameter", "axis_"),
    "RangeParameter": ("range_parameter", "dtype_ start_ limit_ delta_"),
    "ConstantOfShapeParameter": ("constant_of_shape_parameter", "data_type_"),
    "DepthToSpaceParameter": ("depth_to_space_parameter", "block_size_ mode_"),
    "SpaceToDepthParameter": ("space_to_depth_parameter", "block_size_"),
    "LstmParameter": ("lstm_parameter", "bidirectional_ hidden_size_ input_size_"),
}  # fmt: skip


class Tensor(ctypes.Structure):
    """TensorC of nnacl/tensor_c.h."""

    _fields_ = [
        ("shape_changed_", ctypes.c_bool), ("data_type_", ctypes.c_int), ("format_", ctypes.c_int),
        ("category_", ctypes.c_int), ("data_", ctypes.c_void_p), ("shape_size_", ctypes.c_size_t),
        ("shape_", ctypes.c_int * 8), ("name_", ctypes.c_char_p),
    ]  # fmt: skip

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.shape_[: self.shape_size_])

    @shape.setter
    def shape(self, dims: tuple[int, ...]) -> None:
        self.shape_size_ = len(dims)
        for i, d in enumerate(dims):
            self.shape_[i] = d


@cache
def _wheel() -> Path:
    return Path(str(metadata.distribution("mindspore").locate_file("mindspore")))


@cache
def library() -> ctypes.CDLL:
    """libnnacl.so of the MindSpore wheel."""
    lib = ctypes.CDLL(str(_wheel() / "lib" / "libnnacl.so"))
    lib.GetInferFunc.restype = ctypes.c_void_p
    return lib


@cache
def offsets() -> dict[str, dict[str, tuple[int, int]]]:
    """struct -> field -> (offset, size), and "" -> (0, size of the struct), by gcc from the wheel's headers."""
    lines = ["#include <stdio.h>", "#include <stddef.h>", '#include "nnacl/tensor_c.h"']
    lines += sorted({f'#include "nnacl/{header}.h"' for header, _ in STRUCTS.values()})
    lines += ["int main(void) {", '  printf("TensorC . 0 %zu\\n", sizeof(TensorC));']
    for struct, (_, fields) in STRUCTS.items():
        lines.append(f'  printf("{struct} . 0 %zu\\n", sizeof({struct}));')
        for f in fields.split():
            where = f"offsetof({struct}, {f}), sizeof((({struct} *)0)->{f})"
            lines.append(f'  printf("{struct} {f} %zu %zu\\n", {where});')
    lines += ["  return 0;", "}"]
    with tempfile.TemporaryDirectory() as tmp:
        source, program = Path(tmp) / "offsets.c", Path(tmp) / "offsets"
        source.write_text("\n".join(lines))
        include = _wheel() / "include" / "mindspore" / "ops" / "kernel" / "cpu"
        subprocess.run(
            ["gcc", f"-I{include}", str(source), "-o", str(program)], check=True, timeout=60
        )
        text = subprocess.run(
            [str(program)], check=True, capture_output=True, text=True, timeout=60
        ).stdout
    out: dict[str, dict[str, tuple[int, int]]] = {}
    for line in text.splitlines():
        struct, name, at, size = line.split()
        out.setdefault(struct, {})[name.strip(".")] = (int(at), int(size))
    assert out["TensorC"][""][1] == ctypes.sizeof(Tensor)
    return out


def _number(enum: str, name: str) -> int:
    return flat.schema().enums[enum].members[name]


def parameters(op: str, a: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(struct, its fields) of an op with these attributes; a tuple fills an array."""

    def ints(name: str, *default: int) -> tuple[int, ...]:
        return tuple(int(x) for x in a[name]) if a.get(name) is not None else default

    if op in ("Conv2DFusion", "Conv2dTransposeFusion"):
        (kh, kw), (sh, sw), (dh, dw) = (
            ints("kernel_size", 0, 0),
            ints("stride"),
            ints("dilation", 1, 1),
        )
        up, down, left, right = ints("pad_list", 0, 0, 0, 0)
        out = dict(kernel_h_=kh, kernel_w_=kw, stride_h_=sh, stride_w_=sw, dilation_h_=dh, dilation_w_=dw, pad_u_=up,
                   pad_d_=down, pad_l_=left, pad_r_=right, group_=a["group"], input_channel_=a["in_channel"],
                   output_channel_=a["out_channel"], pad_mode_=_number("PadMode", a["pad_mode"]))  # fmt: skip
        if op == "Conv2dTransposeFusion":
            out["output_padding_h_"], out["output_padding_w_"] = ints("output_paddings")
        return "ConvParameter", out
    if op in ("AvgPoolFusion", "MaxPoolFusion"):
        (kh, kw), (sh, sw), (up, down, left, right) = (
            ints("kernel_size", 1, 1),
            ints("strides", 1, 1),
            ints("pad", 0, 0, 0, 0),
        )
        return "PoolingParameter", dict(
            window_h_=kh, window_w_=kw, stride_h_=sh, stride_w_=sw, pad_u_=up, pad_d_=down, pad_l_=left, pad_r_=right,
            pad_mode_=_number("PadMode", a["pad_mode"]), global_=a["global"], pool_mode_=1 if op[0] == "M" else 2,
            round_type_=1 if a["round_mode"] == "CEIL" else 2)  # fmt: skip
    if op == "FullConnection":
        return "MatMulParameter", dict(
            has_bias_=a["has_bias"], use_axis_=a["use_axis"], axis_=a["axis"]
        )
    if op in ("Flatten", "Unstack", "Stack", "OneHot"):
        return f"{op}Parameter", dict(axis_=a["axis"])
    if op == "SliceFusion":
        return "SliceParameter", dict(axis_=ints("axes"))
    if op == "Range":
        return "RangeParameter", dict(
            dtype_=a["d_type"], start_=a["start"], limit_=a["limit"], delta_=a["delta"]
        )
    if op == "ConstantOfShape":
        return "ConstantOfShapeParameter", dict(data_type_=a["data_type"])
    if op == "DepthToSpace":
        return "DepthToSpaceParameter", dict(
            block_size_=a["block_size"], mode_=int(a["mode"] == "CRD")
        )
    if op == "SpaceToDepth":
        return "SpaceToDepthParameter", dict(block_size_=a["block_size"])
    if op == "MatMulFusion":
        return "MatMulParameter", dict(a_transpose_=a["transpose_a"], b_transpose_=a["transpose_b"])
    if op == "ReduceFusion":
        mode = _number("ReduceMode", a["mode"])
        return "ReduceParameter", dict(
            keep_dims_=a["keep_dims"], mode_=mode, reduce_to_end_=a["reduce_to_end"]
        )
    if op == "Softmax":
        return "SoftmaxParameter", dict(axis_=ints("axis")[0])
    if op == "LogSoftmax":
        return "SoftmaxParameter", dict(axis_=a["axis"])
    if op == "Split":
        sizes = np.array([*ints("size_splits"), *[0] * 64], np.int32)
        return "SplitParameter", dict(num_split_=a["output_num"], split_sizes_=sizes, split_dim_=a["axis"],
                                      split_count_=len(ints("size_splits")))  # fmt: skip
    if op == "StridedSlice":
        return "StridedSliceParameter", dict(
            begins_mask_=a["begin_mask"], ends_mask_=a["end_mask"], ellipsisMask_=a["ellipsis_mask"],
            newAxisMask_=a["new_axis_mask"], shrinkAxisMask_=a["shrink_axis_mask"])  # fmt: skip
    if op == "LayerNormFusion":
        return "LayerNormParameter", dict(elementwise_affine_=a["elementwise_affine"],
                                          begin_norm_axis_=a["begin_norm_axis"],
                                          begin_params_axis_=a["begin_params_axis"])  # fmt: skip
    if op in ("ArgMaxFusion", "ArgMinFusion"):
        return "ArgMinMaxParameter", dict(axis_=a["axis"], topk_=a["top_k"], keep_dims_=a["keep_dims"],
                                          out_value_=a["out_max_value"])  # fmt: skip
    if op == "TopKFusion":
        return "TopkParameter", dict(axis_=a["axis"], sorted_=a["sorted"])
    if op == "Squeeze":
        return "SqueezeParameter", dict(axis_=ints("axis"), axis_size_=len(ints("axis")))
    if op == "Unsqueeze":
        return "UnSqueezeParameter", dict(dims_=ints("axis"), num_dim_=len(ints("axis")))
    if op == "Concat":
        return "ConcatParameter", dict(axis_=a["axis"])
    if op == "Resize":
        mode = _number("CoordinateTransformMode", a["coordinate_transform_mode"])
        return "ResizeParameter", dict(method_=_number("ResizeMethod", a["method"]), new_height_=a["new_height"],
                                       new_width_=a["new_width"], coordinate_transform_mode_=mode)  # fmt: skip
    if op == "TileFusion":
        return "TileParameter", dict(dims_=ints("dims"), dims_size_=len(ints("dims")))
    if op == "BroadcastTo":
        return "BroadcastToParameter", dict(shape_=ints("shape"), shape_size_=len(ints("shape")))
    if op == "LSTM":
        return "LstmParameter", dict(bidirectional_=a["bidirectional"], hidden_size_=a["hidden_size"],
                                     input_size_=a["input_size"])  # fmt: skip
    return "OpParameter", {}


def _pack(op: str, a: Mapping[str, Any], keep: list[Any]) -> Any:
    struct, fields = parameters(op, a)
    places = offsets()
    room = ctypes.create_string_buffer(max(1024, places[struct][""][1]))
    at, size = places["OpParameter"]["type_"]
    ctypes.memmove(
        ctypes.addressof(room) + at, flat.schema().ops[op][0].to_bytes(size, "little"), size
    )
    for name, value in fields.items():
        at, size = places[struct][name]
        if isinstance(value, np.ndarray):
            keep.append(value)
            value = value.ctypes.data
        if isinstance(value, tuple):
            data = b"".join(v.to_bytes(4, "little", signed=True) for v in value)
        else:
            data = int(value).to_bytes(size, "little", signed=int(value) < 0)
        ctypes.memmove(ctypes.addressof(room) + at, data, len(data))
    return room


_INFER = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
)


def check(path: Path | str) -> dict[str, Any]:
    """``agree`` and ``checkable`` nodes of a file, and ``problems``: nodes whose results differ or that are refused."""
    return check_model(flat.unpack(Path(path).read_bytes()))


def check_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The same of the tables of a file."""
    lib, keep = library(), []
    made = {int(o) for n in model["nodes"] for o in n["outputIndex"]}
    tensors = []
    for i, t in enumerate(model["allTensors"]):
        c = Tensor(
            data_type_=_widened(t),
            format_=_number("Format", t["format"]),
            category_=int(t["nodeType"] != 0),
        )
        if i not in made:
            c.shape = tuple(SIZE if d < 0 else int(d) for d in t["dims"])
        if t["data"] is not None and len(t["data"]):
            data = np.array(t["data"])
            keep.append(data)
            c.data_ = data.ctypes.data
        tensors.append(c)
    problems: list[dict[str, Any]] = []
    agree = checkable = 0
    for node in model["nodes"]:
        op, attrs = node["primitive"]["value"]
        ins, outs = ([tensors[int(i)] for i in node[k]] for k in ("inputIndex", "outputIndex"))
        wanted = [model["allTensors"][int(o)] for o in node["outputIndex"]]
        infer = lib.GetInferFunc(flat.schema().ops[op][0])
        code = INFER_INVALID
        if infer:
            given, got = (
                (ctypes.POINTER(Tensor) * len(x))(*map(ctypes.pointer, x)) for x in (ins, outs)
            )
            room = _pack(op, attrs, keep)
            code = _INFER(infer)(given, len(ins), got, len(outs), ctypes.addressof(room))
        open_ended = any(c.data_ is None and c.category_ == 1 for c in ins[1:])
        open_ended = open_ended or (op == "Where" and len(ins) == 1)
        open_ended = open_ended or any(int(d) < 0 for t in wanted for d in t["dims"])
        unknown = (
            code == INFER_INVALID and open_ended
        )  # a size that is computed when the model runs
        if infer and not unknown:
            checkable += 1
            found = [(c.shape, c.data_type_, c.format_) for c in outs]
            right = code == 0 and all(_fits(*f, t) for f, t in zip(found, wanted))
            agree += right
            if not right:
                declared = [
                    (tuple(map(int, t["dims"])), t["dataType"], t["format"]) for t in wanted
                ]
                problems.append(
                    {
                        "node": node["name"],
                        "op": op,
                        "code": code,
                        "inferred": found,
                        "declared": declared,
                    }
                )
        for c, t in zip(outs, wanted):
            if not (infer and code == 0):
                c.shape = tuple(SIZE if d < 0 else int(d) for d in t["dims"])
                c.data_type_, c.format_ = t["dataType"], _number("Format", t["format"])
        if op == "Shape":  # the one size that is known without running the model
            data = np.array(ins[0].shape, np.int32)
            keep.append(data)
            outs[0].data_ = data.ctypes.data
    return {"agree": agree, "checkable": checkable, "problems": problems}


def _widened(t: Mapping[str, Any]) -> int:
    """The runtime widens constants of half precision when it loads a model on a float32 kernel."""
    return 43 if t["dataType"] == 42 and t["nodeType"] == 0 else int(t["dataType"])


def _fits(shape: tuple[int, ...], dtype: int, form: int, t: Mapping[str, Any]) -> bool:
    dims = [int(d) for d in t["dims"]]
    return (
        len(shape) == len(dims)
        and all(d in (-1, n) for n, d in zip(shape, dims))
        and (dtype, form) == (t["dataType"], _number("Format", t["format"]))
    )
