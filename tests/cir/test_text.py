"""The text form: what it looks like, round trips, and errors with their line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cir.diagnostics import CirError
from cir.graph import Graph, Model
from cir.serde import encode
from cir.text import parse_text, print_text
from tests.cir import samples

MLP = """\
cir 1.0

graph mlp
symbol batch: 1..64 sizes 1, 8
input x: float32[batch, 8]
const fc1.weight: float32[8, 8] = ...
const fc1.bias: float32[8] = [-1.0, -0.71428573, -0.42857143, -0.14285715, 0.14285715, 0.42857143, 0.71428573, 1.0]
const fc2.weight: float32[8, 8] = ...
const c: float32[] = 0.1
fc1 = linear(x, fc1.weight, fc1.bias)  # float32[batch, 8]
act = gelu(fc1)  # float32[batch, 8]
norm = layer_norm(act, None, fc1.bias)  # float32[batch, 8]
fc2 = linear(norm, fc2.weight)  # float32[batch, 8]
y = mul(fc2, c)  # float32[batch, 8]
return y
"""


def blobs(graph: Graph) -> dict[str, object]:
    found = {c.digest: c for c in graph.consts.values()}
    for _, node in graph.walk():
        for region in node.regions:
            found.update((c.digest, c) for c in region.consts.values())
    return found


def same(a: Model, b: Model) -> bool:
    return encode(a, meta=False) == encode(b, meta=False)


def test_what_it_looks_like() -> None:
    assert print_text(samples.mlp(), digests=False) == MLP


@pytest.mark.parametrize("name", samples.all_models())
def test_round_trip(name: str) -> None:
    model = samples.all_models()[name]
    text = print_text(model)
    again = parse_text(text, blobs(model.graph))  # type: ignore[arg-type]
    assert same(again, model)
    assert print_text(again) == text


@settings(max_examples=60, deadline=None)
@given(samples.models())
def test_round_trip_of_random_models(model: Model) -> None:
    assert same(parse_text(print_text(model), blobs(model.graph)), model)  # type: ignore[arg-type]


def test_regions_are_indented_below_their_node() -> None:
    lines = print_text(samples.loop()).splitlines()
    at = next(i for i, line in enumerate(lines) if "while_loop" in line)
    assert lines[at] == (
        "loop.0, loop.1 = while_loop(i, acc, n, k, carried=2)  # int64[], float32[2]"
    )
    assert lines[at + 1] == "  graph cond" and "  return next_i, next_acc" in lines
    assert lines[-1] == "state acc -> loop.1"


def test_types_are_inferred_when_a_person_leaves_them_out() -> None:
    m = parse_text(
        """
        # a comment

        cir 1.0
        """.replace(" ", "").replace("cir", "cir ")
        + """
graph g
input x: float32[b, 2*n]
input m: bool[4]
w = nonzero(m)
y = reshape(x, shape=("2*n", "b"))
h = sum(y, axis=0)
return y, h, w
"""
    )
    assert str(m.graph.types["h"]) == "float32[1, b]"
    assert str(m.graph.types["w"]) == "int64[u0, 1]"


def test_made_up_symbols_avoid_written_ones() -> None:
    m = parse_text(
        "cir 1.0\ngraph g\ninput m: bool[4]\n"
        "a = nonzero(m)  # int64[u1, 1]\nb = nonzero(m)\nc = nonzero(m)\nreturn a, b, c"
    )
    found = [m.graph.types[n].shape[0] for n in "abc"]
    assert found[0] == "u1" and len(set(found)) == 3


def test_nested_lists_and_arrays_as_weights() -> None:
    m = parse_text(
        "cir 1.0\ngraph g\nconst w: int32[2, 2] = [[1, 2], [3, 4]]\n"
        f"const v: float32[20] = sha256:{'0' * 64}\nreturn w, v",
        {"0" * 64: np.arange(20.0)},
    )
    np.testing.assert_array_equal(m.graph.consts["w"].numpy(), [[1, 2], [3, 4]])
    assert m.graph.consts["v"].numpy().dtype == np.float32


def test_a_value_may_be_called_none() -> None:
    text = (
        "cir 1.0\n\ngraph g\ninput None: float32[2]\nconst b: float32[2] = [1.0, 2.0]\n"
        'y = layer_norm("None", None, b)  # float32[2]\nreturn y\n'
    )
    assert print_text(parse_text(text)) == text


HEAD = "cir 1.0\ngraph g\ninput x: float32[2]\n"


@pytest.mark.parametrize(
    ("text", "code", "line", "what"),
    [
        ("", "E301", 1, "header"),
        ("graph g", "E301", 1, "header"),
        ("cir 2.0\ngraph g\nreturn", "E302", 1, "version 2.0"),
        (HEAD, "E301", 3, "expected 'return'"),
        (HEAD + "y = relu x\nreturn y", "E301", 4, "not a statement"),
        (HEAD + "y = relu(x\nreturn y", "E301", 4, "not closed"),
        (HEAD + "y = relu(x) and more\nreturn y", "E301", 4, "unexpected"),
        (HEAD + "y = relu(x)  # float\nreturn y", "E301", 4, "not a type"),
        (HEAD + "y, z = relu(x)\nreturn y", "E304", 4, "gives 1 results"),
        (HEAD + "y = relu(x)  # int8[2], int8[2]\nreturn y", "E301", 4, "gives 1 results"),
        (HEAD + "y = clip(x, min=open)\nreturn y", "E301", 4, "not a number"),
        (HEAD + "y = clip(min=0.0, x)\nreturn y", "E301", 4, "values come before"),
        (HEAD + "y = relu(z)\nreturn y", "E303", 4, "no value 'z'"),
        (HEAD + "x = relu(x)\nreturn x", "E303", 4, "defined twice"),
        (HEAD + "input x: float32[3]\nreturn x", "E303", 4, "defined twice"),
        (HEAD + "y = rleu(x)\nreturn y", "E304", 4, "nearest: relu"),
        (HEAD + "y = relu(x, alpha=1)\nreturn y", "E304", 4, "no attribute"),
        (HEAD + "y = reshape(x, shape=(3,))\nreturn y", "E304", 4, "elements"),
        (HEAD + "const w: float32[2] = [1.0]\nreturn w", "E301", 4, "1 elements"),
        (HEAD + "const w: float32[2] = [1.0, tru]\nreturn w", "E301", 4, ""),
        (HEAD + "const w: wrong[2] = [1.0, 2.0]\nreturn w", "E301", 4, "dtype"),
        (HEAD + "const w: float32[-] = [1.0]\nreturn w", "E301", 4, "not a dimension"),
        (HEAD + f"const w: float32[20] = sha256:{'0' * 64}\nreturn w", "E305", 4, "no weights"),
        (HEAD + "return x\nstate x", "E301", 5, "state"),
    ],
)
def test_errors_name_the_line(text: str, code: str, line: int, what: str) -> None:
    with pytest.raises(CirError) as info:
        parse_text(text)
    d = info.value.diagnostics[0]
    assert (d.code, d.where.split(":")[0]) == (code, f"line {line}")
    assert what in d.what


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        ("y = relu(x)  # float32[3]\nreturn y", "E304"),
        ("return y", "E303"),
        ("return x\nstate x -> y", "E303"),
    ],
)
def test_the_result_is_verified(tail: str, code: str) -> None:
    with pytest.raises(CirError) as info:
        parse_text(HEAD + tail)
    assert info.value.code == code


TEXTS = [print_text(m) for m in samples.all_models().values()]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_any_text_is_a_model_or_a_coded_error(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        to = at + data.draw(st.integers(0, 12))
        new = data.draw(st.text("abxyu019_. \n,:=()[]{}\"'#-*/@", max_size=8))
        text = text[:at] + new + text[to:]
    try:
        parse_text(text)
    except CirError as exc:
        assert {d.code for d in exc.diagnostics} <= {"E301", "E302", "E303", "E304", "E305"}
