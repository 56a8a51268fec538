"""Sigmoid, softplus and the error functions, the latter to a few units in the last place.

W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), in
the arrangement of his SPECFUN routine CALERF: three ranges of |x|, with exp(-x^2) split so that the
squared argument's rounding error does not reach the tail.
"""

from __future__ import annotations

import numpy as np

_SMALL_P = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2,
            3.77485237685302021e2, 3.20937758913846947e3)  # fmt: skip
_SMALL_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2,
            1.28261652607737228e3, 2.84423683343917062e3)  # fmt: skip
_MID_P = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594,
          6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
          1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3)  # fmt: skip
_MID_Q = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
          1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
          3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip
_TAIL_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
           1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
_TAIL_Q = (1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1,
           6.05183413124413191e-2, 2.33520497626869185e-3)  # fmt: skip
_INV_SQRT_PI = 0.56418958354775628695
_SMALL, _MID = 0.46875, 4.0
#: Elements a block holds, so that the temporaries stay in cache.
_BLOCK = 32768


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + e**-x)``, elementwise; overflow of the exponential gives the right limit, 0."""
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    """``log(1 + e**x)``, elementwise, without overflow."""
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def erf(x: np.ndarray) -> np.ndarray:
    """Error function, elementwise, in the dtype of x (float32 or float64)."""
    return _blocked(x, complement=False)


def erfc(x: np.ndarray) -> np.ndarray:
    """1 - erf(x) without cancellation, elementwise, in the dtype of x (float32 or float64)."""
    return _blocked(x, complement=True)


def _blocked(x: np.ndarray, complement: bool) -> np.ndarray:
    x = np.asarray(x)
    flat = x.reshape(-1)
    out = np.empty(flat.shape, x.dtype)
    for i in range(0, flat.size, _BLOCK):
        out[i : i + _BLOCK] = _block(flat[i : i + _BLOCK], complement)
    return out.reshape(x.shape)


def _block(x: np.ndarray, complement: bool) -> np.ndarray:
    y = np.abs(x)
    small = np.clip(x, -_SMALL, _SMALL)
    near = small * _ratio(_SMALL_P, _SMALL_Q, small * small)  # erf
    t = np.minimum(y, 30.0)  # erfc(30) is below the smallest float64
    far = _ratio(_MID_P, _MID_Q, t)
    tail = t > _MID
    if tail.any():
        u = t[tail]
        z = 1.0 / (u * u)
        far[tail] = (_INV_SQRT_PI - z * _ratio(_TAIL_P, _TAIL_Q, z)) / u
    head = np.trunc(t * 16.0) / 16.0  # few enough bits for an exact square
    far *= np.exp(-head * head)
    far *= np.exp((head - t) * (head + t))  # erfc(|x|)
    if complement:
        return np.where(y <= _SMALL, 1.0 - near, np.where(x < 0, 2.0 - far, far))
    return np.where(y <= _SMALL, near, np.copysign(1.0 - far, x))


def _ratio(p: tuple[float, ...], q: tuple[float, ...], z: np.ndarray) -> np.ndarray:
    """``p(z) / q(z)`` by Horner's rule, highest power first."""
    return _horner(p, z) / _horner(q, z)


def _horner(c: tuple[float, ...], z: np.ndarray) -> np.ndarray:
    acc = z * c[0]
    for a in c[1:-1]:
        acc += a
        acc *= z
    acc += c[-1]
    return acc
