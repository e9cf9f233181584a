"""The generalised Pareto distribution: how far scores exceed a high bar.

P(excess > x) = (1 + shape x / scale)^(-1 / shape) for x >= 0, exp(-x / scale) where the shape is 0; with a negative shape
the excess ends at -scale / shape. Two fits (likelihood, moments), and what intervals are made of. Promise: closed forms,
smooth through shape 0. Shapes below -1 have no maximum of the likelihood and are not fitted.

Sources: Hosking and Wallis 1987, Technometrics 29 (distribution, information, moments); Grimshaw 1993, Technometrics 35
(the likelihood with one parameter).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_FLAT = 1e-5
"""Shapes nearer to 0 than this are handled by their series."""
_LEAST_SHAPE = -1.0


def log_survival(x: NDArray[np.float64] | float, shape: float, scale: float) -> NDArray[np.float64]:
    """The logarithm of P(excess > x), x >= 0; -inf from the end of the tail on."""
    z = np.asarray(x, np.float64) / scale
    if abs(shape) < _FLAT:
        return np.asarray(-z + shape * z * z / 2.0)
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log1p(np.maximum(shape * z, -1.0)) / shape)


def quantile(log_s: float, shape: float, scale: float) -> float:
    """The excess that is exceeded with probability exp(log_s), log_s <= 0."""
    return scale * _unit_quantile(log_s, shape)


def _unit_quantile(log_s: float, shape: float) -> float:
    if abs(shape) < _FLAT:
        return -log_s + shape * log_s * log_s / 2.0
    return math.expm1(min(-shape * log_s, 700.0)) / shape


def log_likelihood(excess: NDArray[np.float64], shape: float, scale: float) -> float:
    """The log-likelihood of excesses; -inf where one lies beyond the end."""
    if scale <= 0.0 or shape * float(excess.max()) / scale <= -1.0:
        return -math.inf
    z = excess / scale
    n = len(excess)
    if abs(shape) < _FLAT:
        return float(-n * math.log(scale) - z.sum() * (1.0 + shape) + shape * (z * z).sum() / 2.0)
    return float(-n * math.log(scale) - (1.0 + 1.0 / shape) * np.log1p(shape * z).sum())


def maximum_likelihood(excess: NDArray[np.float64]) -> tuple[float, float] | None:
    """Shape and scale of greatest likelihood; ``None`` where it has no maximum with a shape above -1.

    With theta = shape / scale the best shape is mean(log(1 + theta x)), so one parameter is left to search.
    """
    mean, n = float(excess.mean()), len(excess)
    y = excess / mean
    top = float(y.max())

    def shape_of(v: float) -> float:
        return float(np.log1p(math.expm1(v) / top * y).mean())

    def value(v: float) -> float:
        theta = math.expm1(v) / top
        if abs(theta) < 1e-9:
            return -1.0
        shape = shape_of(v)
        return -math.log(shape / theta) - shape - 1.0 if shape > _LEAST_SHAPE else -math.inf

    # theta = expm1(v) / top covers -1 / top (v = -inf) to heavy tails; 0 is the exponential distribution
    grid = np.linspace(-12.0, math.log1p(20.0 * top), 97)
    values = np.array([value(float(v)) for v in grid])
    inner = values[1:-1]
    peaks = np.flatnonzero(np.isfinite(inner) & (inner >= values[:-2]) & (inner >= values[2:])) + 1
    if n < 2 or not len(peaks):
        return None
    best = int(peaks[np.argmax(values[peaks])])
    if not np.isfinite(values[best - 1]):  # the rise towards the shape of -1 is no maximum
        return None
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda v: -value(float(v)),
        bounds=(float(grid[best - 1]), float(grid[best + 1])),
        method="bounded",
        options={"xatol": 1e-9},
    )
    v = float(found.x)
    theta = math.expm1(v) / top
    if abs(theta) < 1e-9:
        return 0.0, mean
    shape = shape_of(v)
    return shape, shape / theta * mean


def moments(excess: NDArray[np.float64]) -> tuple[float, float] | None:
    """Shape and scale from probability-weighted moments; ``None`` where an excess lies beyond the end they give.

    a_s = E[x (1 - F)^s] with plotting positions (j - 0.35) / n: shape = 2 - a0 / (a0 - 2 a1), scale = 2 a0 a1 / (a0 - 2 a1).
    Meant for shapes below 1/2.
    """
    x = np.sort(excess)
    n = len(x)
    a0 = float(x.mean())
    a1 = float((x * (1.0 - (np.arange(1, n + 1) - 0.35) / n)).mean())
    if a0 - 2.0 * a1 <= 0.0:
        return None
    shape, scale = 2.0 - a0 / (a0 - 2.0 * a1), 2.0 * a0 * a1 / (a0 - 2.0 * a1)
    return (shape, scale) if shape * float(x[-1]) / scale > -1.0 else None


def scores(excess: NDArray[np.float64], shape: float, scale: float) -> NDArray[np.float64]:
    """[n, 2] derivatives of each log-density by shape and by log(scale)."""
    z = excess / scale
    r = z / (1.0 + shape * z)
    flat = abs(shape) < _FLAT
    bend = z * z / 2.0 - 2.0 * shape * z**3 / 3.0 if flat else np.log1p(shape * z) / shape**2 - r / shape
    return np.column_stack([bend - r, (1.0 + shape) * r - 1.0])


def log_survival_gradient(x: float, shape: float, scale: float) -> tuple[float, float]:
    """Derivatives of log P(excess > x) by shape and by log(scale), inside the tail."""
    z = x / scale
    r = z / (1.0 + shape * z)
    if abs(shape) < _FLAT:
        return z * z / 2.0 - 2.0 * shape * z**3 / 3.0, r
    return math.log1p(shape * z) / shape**2 - r / shape, r


def information(shape: float) -> NDArray[np.float64]:
    """Expected information of one excess on (shape, log(scale)), for shapes above -1/2 (below, that of -0.45)."""
    s = max(shape, -0.45)
    a, b = 1.0 + s, 1.0 + 2.0 * s
    return np.array([[2.0 / (a * b), 1.0 / (a * b)], [1.0 / (a * b), 1.0 / b]])


def profile(excess: NDArray[np.float64], x: float, log_s: float) -> float:
    """The greatest log-likelihood among all tails with log P(excess > x) = log_s, over shapes from -1 to 2."""
    from scipy.optimize import minimize_scalar

    if log_s > -1e-12:  # a rate of 1 above the tail's start
        return -1e300
    least = _LEAST_SHAPE + 1e-9
    top = float(excess.max())
    if x < top:  # a tail that ends must end beyond the highest score
        least = max(least, math.log1p(-x / top) / -log_s * (1.0 - 1e-12))

    def worse(shape: float) -> float:
        found = log_likelihood(excess, shape, x / _unit_quantile(log_s, shape))
        return -found if math.isfinite(found) else 1e300

    # far out the likelihood is flat or nothing over most shapes: find the hill before climbing it
    grid = np.linspace(least, 2.0, 25)
    best = int(np.argmin([worse(float(shape)) for shape in grid]))
    bounds = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(worse, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return -min(float(found.fun), worse(float(grid[best])))
