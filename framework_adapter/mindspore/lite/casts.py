"""Between which dtypes the runtime's Cast kernel converts, and the way where it does not."""

from __future__ import annotations

from functools import cache

#: From, to: as the kernel has them; integers of 64 bits are stored as such of 32.
_DIRECT: frozenset[tuple[str, str]] = frozenset(
    {
        ("bool", "float32"), ("uint8", "float32"), ("int32", "float32"), ("float16", "float32"),
        ("float32", "float16"), ("float32", "int32"), ("float32", "bool"), ("bool", "int32"),
    }
)  # fmt: skip
_NODES = tuple(sorted({d for pair in _DIRECT for d in pair}))


def stored(dtype: str) -> str:
    """The dtype that a value has inside a file."""
    return "int32" if dtype == "int64" else dtype


@cache
def route(have: str, want: str) -> tuple[str, ...]:
    """Dtypes to cast to in turn, the last one ``want``; a single one when nothing changes.

    Raises LookupError when there is no way.
    """
    start, goal = stored(have), stored(want)
    if start == goal:
        return (want,)
    ways: dict[str, tuple[str, ...]] = {start: ()}
    queue = [start]
    while queue:
        at = queue.pop(0)
        for to in _NODES:
            if (at, to) in _DIRECT and to not in ways:
                ways[to] = (*ways[at], to)
                queue.append(to)
    if goal not in ways:
        raise LookupError(f"no cast from {have} to {want}")
    return (*ways[goal][:-1], want)


def castable(have: str, want: str) -> bool:
    """Whether there is a way."""
    try:
        return bool(route(have, want))
    except LookupError:
        return False
