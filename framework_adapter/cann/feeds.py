"""What a session takes and gives: ports, feeds checked against them, results by place or name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cir import dtype as dt
from cir.diagnostics import CirError, Collector, error
from framework_adapter.options import to_numpy


class Port(NamedTuple):
    """An input or output of a session.

    Attributes:
        name: as in the model.
        dtype: such as ``float32``; what is no plain tensor has the runtime's own word for it.
        shape: for each axis its size, or a symbol (equal symbols are equal sizes), or None.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name}: {self.dtype}[{dims}]"


class Results(list[np.ndarray]):
    """Arrays in the order of the outputs; ``results["name"]`` and ``dict(results)`` work too."""

    __slots__ = ("_names",)

    def __init__(self, names: Sequence[str], arrays: Iterable[np.ndarray]) -> None:
        super().__init__(arrays)
        self._names = names

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._names:
                raise KeyError(key)
            key = self._names.index(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        # As of a mapping for names; arrays have no truth value to compare them by.
        if isinstance(key, str):
            return key in self._names
        return any(key is array for array in self)

    def keys(self) -> Sequence[str]:
        """Names of the outputs, in order."""
        return self._names

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, array) of each output, in order."""
        return zip(self._names, self)


@dataclass(frozen=True)
class _Want:
    """A port in the form that is quick to check."""

    dtype: np.dtype | None
    rank: int
    fixed: tuple[tuple[int, int], ...]
    symbols: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, port: Port) -> _Want:
        known = port.dtype in dt.ALL
        return cls(
            np.dtype(dt.to_numpy(port.dtype)) if known else None,
            len(port.shape),
            tuple((i, d) for i, d in enumerate(port.shape) if isinstance(d, int)),
            tuple(
                (i, d) for i, d in enumerate(port.shape) if isinstance(d, str) and d.isidentifier()
            ),
        )

    def takes(self, array: np.ndarray, sizes: dict[str, int]) -> bool:
        """Whether an array fits, given the symbols' sizes so far, which it adds to."""
        if self.dtype is None:
            return True
        shape = array.shape
        if array.dtype != self.dtype or len(shape) != self.rank:
            return False
        for axis, size in self.fixed:
            if shape[axis] != size:
                return False
        for axis, name in self.symbols:
            if sizes.setdefault(name, shape[axis]) != shape[axis]:
                return False
        return True


class Feeds:
    """Turns what a caller gives into arrays in the order of the inputs."""

    def __init__(self, ports: Sequence[Port]) -> None:
        self.ports = ports
        self._names = [p.name for p in ports]
        self._wants = [_Want.of(p) for p in ports]

    def arrays(self, feeds: Any) -> list[np.ndarray]:
        """Arrays of a mapping by name or a sequence in order, of NumPy arrays or tensors.

        Raises:
            CirError: E103 for every input that is missing, unknown, or of another dtype, rank or
                size than the model takes.
        """
        given = self._ordered(feeds)
        sizes: dict[str, int] = {}
        out = []
        for value, want, port in zip(given, self._wants, self.ports):
            array = value if type(value) is np.ndarray else _array(value, port)
            if not want.takes(array, sizes):
                # An array in the other byte order holds the right numbers in the wrong bytes.
                array = array.astype(array.dtype.newbyteorder("="), copy=False)
                if not want.takes(array, sizes):
                    raise self._complaint(given)
            out.append(array)
        return out

    def zeros(self) -> list[np.ndarray]:
        """Arrays of zeros that fit, 1 on every axis without a size. Raises CirError E103."""
        return [_zeros(p) for p in self.ports]

    def _ordered(self, feeds: Any) -> Sequence[Any]:
        if isinstance(feeds, Mapping):
            try:
                given = [feeds[n] for n in self._names]
            except KeyError:
                given = []
            if len(given) == len(feeds) == len(self._names):
                return given
            found = Collector()
            for name in self._names:
                if name not in feeds:
                    found.add("E103", f"input {name!r} is missing", fix=self._all())
            for name in feeds:
                if name not in self._names:
                    found.add("E103", f"the model has no input {name!r}", fix=self._all())
            found.raise_errors()
        if not isinstance(feeds, (list, tuple)):
            raise error(
                "E103",
                f"feeds are a mapping by name or a list in order, not a {type(feeds).__name__}",
                fix=self._all(),
            )
        if len(feeds) != len(self._names):
            raise error(
                "E103",
                f"the model has {len(self._names)} inputs, {len(feeds)} were given",
                fix=self._all(),
            )
        return feeds

    def _complaint(self, given: Sequence[Any]) -> CirError:
        found = Collector()
        sizes: dict[str, int] = {}
        for value, want, port in zip(given, self._wants, self.ports):
            array = _array(value, port)
            if array.dtype.newbyteorder("=") != want.dtype:
                what = f"input {port.name!r} takes {port.dtype}, {array.dtype} was given"
                found.add("E103", what, fix=f'convert it: .astype("{port.dtype}")')
            if array.ndim != want.rank:
                what = f"input {port.name!r} takes {want.rank} axes, {array.ndim} were given"
                found.add("E103", what, why=f"shape {list(array.shape)}", fix=str(port))
                continue
            for axis, size in (*want.fixed, *want.symbols):
                if isinstance(size, str):
                    size = sizes.setdefault(size, array.shape[axis])
                if array.shape[axis] != size:
                    what = (
                        f"input {port.name!r} takes size {size} on axis {axis}, "
                        f"{array.shape[axis]} was given"
                    )
                    found.add("E103", what, why=f"shape {list(array.shape)}", fix=str(port))
        return CirError(found.errors)

    def _all(self) -> str:
        return f"the inputs are {'; '.join(map(str, self.ports)) or 'none'}"


def _zeros(port: Port) -> np.ndarray:
    try:
        shape = [d if isinstance(d, int) else 1 for d in port.shape]
        return np.zeros(shape, dt.to_numpy(port.dtype))
    except (MemoryError, ValueError) as exc:  # no tensor, or larger than the memory
        raise error(
            "E103", f"no zeros can be made for {port}", why=str(exc), fix="pass feeds="
        ) from exc


def _array(value: Any, port: Port) -> np.ndarray:
    try:
        return to_numpy(value)
    except Exception as exc:  # frameworks' own exception types
        raise error(
            "E103",
            f"input {port.name!r} is no tensor: {type(value).__name__}",
            why=str(exc)[:200],
            fix=f"pass a NumPy array or a framework's tensor for {port}",
        ) from exc
