"""Fit a profile's coefficients to steps: non-negative least squares on relative errors, robustly.

Weights are 1 / measured time, so that a decode of a millisecond counts as much as a prefill of a second; refits with
Huber's weights (Huber, "Robust estimation of a location parameter", 1964) keep pauses of the machine from bending
the slopes. A robust fit predicts the middle; total time is what throughput depends on, so one last factor makes
predicted and measured totals agree, of steps that were not held up: other programs' work is in `residuals` and
`drift`, not in what a step costs.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.api.step_samples import Sample
from headway.errors import MissingExtraError, WorkloadError
from headway.timing import KindFit, Pieces, Profile

Floats = npt.NDArray[np.float64]

LEAST_STEPS = 30
_DECODE_KNEES = (1, 4, 8, 16, 32, 64, 128, 256)
_TOKEN_KNEES = (16, 64, 256, 1024, 4096)
_HELD_OUT_EVERY, _HELD_OUT_RUN = 5, 20  # each fifth run of 20 steps: neighbours are alike
_HUBER = 1.345
_REFITS = 30  # at most: until the coefficients stay
_HELD_UP = 2.0  # so many times the predicted time, and somebody else had the machine
_PAUSE = 5.0  # ... and it is no step but a pause
_QUANTILES, _PARTS = 41, 20


@dataclass(frozen=True)
class Design:
    """Where the piecewise-linear functions bend: only where enough steps lie on either side."""

    decode_knees: tuple[int, ...]
    token_knees: tuple[int, ...]

    @classmethod
    def of(cls, samples: Seq[Sample]) -> Design:
        """Choose the knees."""
        decodes = np.array([sample.shape.decodes for sample in samples])
        tokens = np.array([sample.shape.chunk_tokens for sample in samples])
        return cls(_knees(decodes, _DECODE_KNEES), _knees(tokens, _TOKEN_KNEES))

    def matrix(self, samples: Seq[Sample]) -> Floats:
        """One row a step; columns in the order that `profile` reads."""
        shapes = np.array([sample.shape for sample in samples], np.float64).reshape(-1, 6)
        decodes, context, chunks, tokens, pairs, rows = shapes.T
        columns = [np.ones(len(shapes)), chunks, context, pairs, rows]
        columns += _segments(decodes, self.decode_knees) + _segments(tokens, self.token_knees)
        return np.stack(columns, axis=1)

    def profile(self, coefficients: Floats, **known: Any) -> Profile:
        """The coefficients by name."""
        base, chunk, context, pair, row, *slopes = (round(float(one), 6) for one in coefficients)
        bend = len(self.decode_knees) + 1
        return Profile(
            base_ns=base,
            chunk_ns=chunk,
            context_ns=context,
            pair_ns=pair,
            row_ns=row,
            decodes=Pieces(self.decode_knees, tuple(slopes[:bend])),
            tokens=Pieces(self.token_knees, tuple(slopes[bend:])),
            **known,
        )


def fit_profile(samples: Seq[Sample], **known: Any) -> Profile:
    """Fit all steps; what the profile says of its own errors comes from a fit that had not seen them.

    Raises:
        WorkloadError: too few steps.
        MissingExtraError: scipy is not installed.
    """
    if len(samples) < LEAST_STEPS:
        raise WorkloadError(
            f"{len(samples)} steps that ran through cannot be fitted, {LEAST_STEPS} can: record a longer run"
        )
    held = np.arange(len(samples)) // _HELD_OUT_RUN % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    if held.sum() < LEAST_STEPS // 3:
        held = np.arange(len(samples)) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    seen = [sample for sample, out in zip(samples, held, strict=True) if not out]
    unseen = [sample for sample, out in zip(samples, held, strict=True) if out]
    measured, design = _times(unseen), Design.of(seen)
    predicted = design.matrix(unseen) @ _coefficients(design.matrix(seen), _times(seen))
    errors = _errors([sample.shape.kind for sample in unseen], predicted, measured)
    design = Design.of(samples)
    matrix, measured = design.matrix(samples), _times(samples)
    coefficients = _coefficients(matrix, measured)
    predicted = matrix @ coefficients
    return design.profile(
        coefficients,
        steps=len(samples),
        most_decodes=max(sample.shape.decodes for sample in samples),
        most_tokens=max(sample.shape.chunk_tokens for sample in samples),
        residuals=_quantiles(measured / predicted),
        drift=_drift(measured, predicted),
        fit=errors,
        **known,
    )


def non_negative(matrix: Floats, target: Floats) -> Floats:
    """Least squares with no coefficient below 0; columns may differ by orders of magnitude.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        nnls = importlib.import_module("scipy.optimize").nnls
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("fitting a profile", "scipy", "calibrate") from error
    size = np.linalg.norm(matrix, axis=0)
    used = size > 0
    found = np.zeros(matrix.shape[1])
    solved, _ = nnls(matrix[:, used] / size[used], target)
    found[used] = solved / size[used]
    return found


def _coefficients(matrix: Floats, measured: Floats) -> Floats:
    relative = matrix / measured[:, None]
    ones = np.ones(len(measured))
    found = non_negative(relative, ones)
    for _ in range(_REFITS):
        errors = relative @ found - 1
        scale = 1.4826 * float(np.median(np.abs(errors))) + 1e-9
        weights = np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(errors), 1e-12))
        root = np.sqrt(weights)
        before, found = found, non_negative(relative * root[:, None], root)
        if np.allclose(before, found, rtol=1e-4):
            break
    predicted = matrix @ found
    steps = measured < _HELD_UP * predicted
    return found * float(measured[steps].sum() / predicted[steps].sum())


def _errors(kinds: Seq[str], predicted: Floats, measured: Floats) -> dict[str, KindFit]:
    """By kind of step, and of all."""
    names = np.array(kinds)
    found = {}
    for name in (*sorted(set(kinds)), "all"):
        mine = names == name if name != "all" else np.ones(len(names), bool)
        relative = np.abs(predicted[mine] / measured[mine] - 1)
        found[name] = KindFit(
            int(mine.sum()),
            round(float(relative.mean()), 6),
            round(float(np.quantile(relative, 0.9)), 6),
            round(float(predicted[mine].sum() / measured[mine].sum() - 1), 6),
        )
    return found


def _knees(values: npt.NDArray[np.int64], candidates: tuple[int, ...]) -> tuple[int, ...]:
    enough = max(10, len(values) // 200)
    return tuple(
        knee
        for below, knee in zip((0, *candidates), candidates, strict=False)
        if (values > knee).sum() >= enough and ((values > below) & (values <= knee)).sum() >= enough
    )


def _segments(values: Floats, knees: tuple[int, ...]) -> list[Floats]:
    edges = (0, *knees, np.inf)
    return [np.clip(values, low, high) - low for low, high in itertools.pairwise(edges)]


def _quantiles(ratios: Floats) -> tuple[float, ...]:
    shares = np.linspace(0, 1, _QUANTILES)
    kept = ratios[ratios < _PAUSE]
    return tuple(round(float(ratio), 6) for ratio in np.quantile(kept, shares))


def _drift(measured: Floats, predicted: Floats) -> tuple[float, ...]:
    """Measured over predicted time of successive parts of the run: how much the machine itself wavers."""
    parts = np.array_split(np.arange(len(measured)), min(_PARTS, len(measured) // 10))
    return tuple(
        round(
            float(
                np.minimum(measured[part], _PAUSE * predicted[part]).sum() / predicted[part].sum()
            ),
            6,
        )
        for part in parts
    )


def _times(samples: Seq[Sample]) -> Floats:
    return np.array([sample.duration_ns for sample in samples], np.float64)
