"""Pictures of every kind, and what PyTorch makes of them; computed once for all builds of the kernel."""
from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np

from realesrgan.weights import load_model
from tests.support.random_networks import reference

PROJECT = Path(__file__).parents[2]


def draw(kind):
    """An 8-bit picture of 72x80 pixels, as a batch."""
    rows, columns = np.mgrid[:72, :80]
    picture = np.full((72, 80, 3), {'white': 255}.get(kind, 0), np.uint8)
    if kind == 'photo':
        picture = cv2.imread(str(PROJECT / 'inputs' / 'astronaut.jpg'))[30:102, 80:160]
    elif kind == 'noise':
        picture = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    elif kind == 'gradient':
        picture[...] = np.dstack((rows * 3, columns * 3, rows + columns))
    elif kind == 'drawing':
        picture[...] = 230
        cv2.circle(picture, (40, 36), 25, (40, 90, 240), -1)
        cv2.circle(picture, (40, 36), 25, (0, 0, 0), 2)
    elif kind == 'text':
        cv2.putText(picture, 'Abg 42', (2, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)
    return picture[None]


@functools.cache
def load(name):
    return load_model(name)


@functools.cache
def upscale_by_pytorch(name, kind):
    return reference(load(name), draw(kind))
