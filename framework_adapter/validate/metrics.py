"""How far two arrays are apart, and whether rounding explains it.

The scaled error of an array is ``max|a - b| / max(max|b|, 1e-6)``, computed in float64: relative
error divides by near-zero elements and cosine does not see a wrong scale, so neither is a verdict.
Integers and booleans must be equal; for them the "error" is the share of elements that differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cir import dtype as dt

#: Scaled error that always passes: about a hundred float32 roundings.
TOLERANCE = 1e-5
#: Two float32 engines sum in different orders; each may be this many times as far from the exact
#: result as one float32 run of the reference is.
NOISE_FACTOR = 4.0
#: Up to this many times the bound is a warning, beyond it a failure.
WARN_BAND = 10.0
#: Smallest magnitude that errors are scaled by.
TINY = 1e-6

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"
_ORDER = (PASS, WARN, FAIL)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Distance of an array from a reference.

    Attributes:
        max_abs: largest absolute difference of finite elements.
        scaled: scaled error; for exact dtypes the share of elements that differ.
        rel_l2: ``|a - b|_2 / |b|_2``.
        cosine: cosine similarity; 1 for two zero arrays.
        snr_db: ``20 log10(|b|_2 / |a - b|_2)``, inf for equal arrays.
        exact: integers or booleans, which must be equal.
        problem: why the arrays cannot be compared, "" when they can.
    """

    max_abs: float = 0.0
    scaled: float = 0.0
    rel_l2: float = 0.0
    cosine: float = 1.0
    snr_db: float = float("inf")
    exact: bool = False
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping; numbers that are not finite become strings."""
        out: dict[str, Any] = {
            k: json_number(getattr(self, k))
            for k in ("max_abs", "scaled", "rel_l2", "cosine", "snr_db")
        }
        out["exact"] = self.exact
        if self.problem:
            out["problem"] = self.problem
        return out


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the bound it was measured against and the reason in words."""

    verdict: str
    bound: float
    reason: str


def measure(actual: Any, reference: Any) -> Metrics:
    """Distance of ``actual`` from ``reference``, two arrays of one shape and one kind of dtype.

    NaN and infinities must be at the same places; the rest of the figures is over finite elements.
    """
    a, b = np.asarray(actual), np.asarray(reference)
    if a.shape != b.shape:
        return _broken(f"shape {list(a.shape)} instead of {list(b.shape)}")
    exact = _is_exact(b)
    if _is_exact(a) != exact:
        return _broken(f"dtype {a.dtype.name} instead of {b.dtype.name}")
    if exact:
        return _measure_exact(a, b)
    x, y = _as_float64(a), _as_float64(b)
    finite = np.isfinite(y)
    if not finite.all() or not np.isfinite(x).all():
        u, v = np.where(np.isfinite(x), 0, x), np.where(finite, 0, y)
        wrong = int((~((u == v) | (np.isnan(u) & np.isnan(v)))).sum())
        if wrong:
            return _broken(f"NaN or infinity at {wrong} places where only one side has it")
        x, y = x[finite], y[finite]
    if not y.size:
        return Metrics()
    gap = x - y
    worst = float(np.abs(gap).max())
    # Norms of arrays scaled to 1: squares of large elements must not overflow.
    scale = max(float(np.abs(y).max()), float(np.abs(x).max()), np.finfo(np.float64).tiny)
    nx, ny, ne = (float(np.linalg.norm((v / scale).ravel())) for v in (x, y, gap))
    dot = float(np.vdot(x / scale, y / scale))
    return Metrics(
        max_abs=worst,
        scaled=worst / max(float(np.abs(y).max()), TINY),
        rel_l2=ne / ny if ny else (0.0 if not ne else float("inf")),
        cosine=dot / (nx * ny) if nx and ny else float(nx == ny),
        snr_db=20 * float(np.log10(ny / ne)) if ne and ny else float("-inf" if ne else "inf"),
    )


def judge(m: Metrics, floor: float, tolerance: float = TOLERANCE) -> Judgement:
    """PASS, WARN or FAIL for a distance, given the noise floor of the same computation.

    Args:
        m: the distance.
        floor: scaled error that float32 rounding alone was measured to cause in this network.
        tolerance: scaled error that passes whatever the floor is; not used for exact dtypes.
    """
    noise = NOISE_FACTOR * floor
    if m.problem:
        return Judgement(FAIL, max(tolerance, noise), m.problem)
    if m.exact:
        if not m.scaled:
            return Judgement(PASS, 0.0, "all elements equal")
        share = f"{m.scaled:.2%} of the elements differ"
        if m.scaled <= noise:
            return Judgement(WARN, noise, f"{share}, but rounding alone flips {floor:.2%}")
        return Judgement(FAIL, noise, f"{share}; this dtype must be equal")
    bound = max(tolerance, noise)
    basis = (
        f"{NOISE_FACTOR:g} x the measured noise floor {floor:.1e}"
        if noise > tolerance
        else f"tolerance {tolerance:.0e}"
    )
    if m.scaled <= bound:
        return Judgement(PASS, bound, f"scaled error {m.scaled:.1e} is within {basis}")
    times = f"scaled error {m.scaled:.1e} is {ratio(m.scaled / bound)} times {basis}"
    return Judgement(WARN if m.scaled <= WARN_BAND * bound else FAIL, bound, times)


def worst(verdicts: Any) -> str:
    """The most severe of some verdicts; PASS for none."""
    return max(verdicts, key=_ORDER.index, default=PASS)


def ratio(value: float) -> str:
    """``2.3``, ``41``, ``2,300``: a ratio for people."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def json_number(value: float) -> float | str:
    """The number itself, or its name when JSON has no such number."""
    return value if np.isfinite(value) else str(value)


def _measure_exact(a: np.ndarray, b: np.ndarray) -> Metrics:
    differ = a != b
    share = float(differ.mean()) if b.size else 0.0
    if not share:
        return Metrics(exact=True)
    # Python integers: the difference of two int64 may not fit an int64.
    gap = max(abs(int(x) - int(y)) for x, y in zip(a[differ].tolist(), b[differ].tolist()))
    x, y = a.astype(np.float64), b.astype(np.float64)
    ne, nx, ny = (float(np.linalg.norm(v.ravel())) for v in (x - y, x, y))
    return Metrics(
        max_abs=float(gap),
        scaled=share,
        rel_l2=ne / ny if ny else float("inf"),
        cosine=float(np.vdot(x, y)) / (nx * ny) if nx and ny else float(nx == ny),
        snr_db=20 * float(np.log10(ny / ne)) if ny and ne else float("-inf" if ne else "inf"),
        exact=True,
    )


def _broken(problem: str) -> Metrics:
    inf = float("inf")
    return Metrics(inf, inf, inf, 0.0, -inf, problem=problem)


def _is_exact(x: np.ndarray) -> bool:
    name = x.dtype.name
    return name == "bool" or dt.is_int(name) or name in ("int4", "uint4")


def _as_float64(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "c":
        x = np.stack([x.real, x.imag])
    return x.astype(np.float64)
