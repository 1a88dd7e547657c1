"""The upsampler of this process, which the tasks of a pool use."""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np


class Enhancer(Protocol):
    """Upscales pictures: a `RealESRGANer` or a `FaceEnhancer`."""

    def enhance(self, img: np.ndarray, outscale: float | None = None,
                alpha_upsampler: str = 'realesrgan') -> tuple[np.ndarray, str]: ...


_enhancer: Enhancer | None = None


def initialize(build: Callable[..., Enhancer], *arguments: object) -> None:
    """Make the upsampler of this process: `build` is called with the arguments."""
    global _enhancer
    _enhancer = build(*arguments)


def enhancer() -> Enhancer:
    """Return the upsampler of this process, once `initialize` was called."""
    assert _enhancer is not None
    return _enhancer
