"""NIQE, a measure of how natural a picture looks that needs no other picture to compare it with.

Source: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE SPL 2013; computed
by basicsr, which brings the model's parameters.
"""
from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable

import numpy as np

logger = logging.getLogger(__name__)

_LEAST_SIDE = 288  # three of NIQE's blocks of 96 pixels; fewer say little
_MOST_SIDE = 1024  # of the square in the middle that is measured, because it takes a second for each megapixel


def measure_niqe(picture: np.ndarray) -> float | None:
    """Return the NIQE of the middle of a picture; lower is better.

    Args:
        picture: HxWx3, BGR, uint8.

    Returns:
        The measure; None of a picture that is too small or too even, or where basicsr is not installed.
    """
    calculate = _import_niqe() if min(picture.shape[:2]) >= _LEAST_SIDE else None
    if calculate is None:
        return None
    window = tuple(slice((side - min(side, _MOST_SIDE)) // 2, (side + min(side, _MOST_SIDE)) // 2)
                   for side in picture.shape[:2])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            value = float(calculate(picture[window], 0))
    except (np.linalg.LinAlgError, ValueError):  # of areas of one colour it has no statistics
        return None
    return value if np.isfinite(value) else None


@functools.cache
def _import_niqe() -> Callable[[np.ndarray, int], float] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            from basicsr.metrics.niqe import calculate_niqe
    except ImportError as error:
        logger.info('no NIQE in the report: %s', error)
        return None
    return calculate_niqe
