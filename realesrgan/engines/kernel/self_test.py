"""Compare the engine with plain numpy on this machine: `python -m realesrgan.engines.kernel.self_test LIBRARY`.

The build does this in a process of its own, which a library may crash or hold up.
"""
from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...archs.architecture import NetworkShape
from ...archs.loaded import LoadedNetwork
from ...archs.rrdbnet import RRDBNetShape
from ...archs.srvgg import SRVGGNetCompactShape
from ...errors import NonFiniteError
from ..cpu import list_cpu_features
from .library import Kernel, list_variants

#: The exit status where a library computes something else, or nothing.
FAILED = 3

#: The largest difference that is allowed, of 0..1: far more than rounding gives, and less than 8-bit pictures show.
BOUND = 1e-4

# Batches (N, H, W). They reach the engine's special cases: sides below a tile of 4, sides that are no multiple of it,
# several bands and tasks, inputs of more channels than are multiplied at a time.
_CASES: tuple[tuple[NetworkShape, tuple[tuple[int, int, int], ...]], ...] = (
    (SRVGGNetCompactShape(4, 20, 2), ((1, 1, 1), (2, 9, 14), (1, 37, 70))),
    (RRDBNetShape(2, 16, 1, 8), ((1, 2, 2), (2, 10, 14), (1, 38, 22))),
)
_THREADS = 2

Weights = Mapping[str, np.ndarray]


def main(library: str) -> int:
    """Test a library and print the largest difference; return the exit status, `FAILED` if it failed."""
    variant = Path(library).stem.split('-')[1]
    if variant not in list_variants(list_cpu_features()):
        print(f'not tested: this processor has no {variant}')
        return 0
    try:
        kernel = Kernel(Path(library))
        difference = measure_difference(kernel)
    except (OSError, NonFiniteError) as error:  # it can't be loaded, or computes NaN
        print(error, file=sys.stderr)
        return FAILED
    print(f'largest difference: {difference:.3g}')
    if difference <= BOUND:
        return 0
    print(f'a pixel is wrong by {difference:.3g} of 1; allowed are {BOUND:g}', file=sys.stderr)
    return FAILED


def measure_difference(kernel: Kernel) -> float:
    """Return the largest difference from `compute`, of 0..1; infinity if a result has another shape or holds NaN."""
    from ..winograd import WinogradEngine
    largest = 0.0
    for shape, batches in _CASES:
        random = np.random.default_rng(0)
        weights = make_weights(shape, random)
        engine = WinogradEngine(LoadedNetwork.from_arrays(shape, weights), kernel, threads=_THREADS)
        for batch_shape in batches:
            batch = random.random((*batch_shape, 3), np.float32)
            result, expected = engine(batch), np.stack([compute(shape, weights, picture) for picture in batch])
            if result.shape != expected.shape or not np.isfinite(result).all():
                return float('inf')
            largest = max(largest, float(np.abs(result - expected).max()))
    return largest


def make_weights(shape: NetworkShape, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Return random weights with which results spread over 0..1."""
    shapes = shape.parameter_shapes()
    weights = {}
    for name, sizes in shapes.items():
        deviation = 1.5 / np.sqrt(np.prod(sizes[1:])) if len(sizes) == 4 else 0.2
        weights[name] = random.normal(0, deviation, sizes).astype(np.float32)
    last = [name for name in shapes if name.endswith('.bias')][-1].removesuffix('.bias')
    weights[f'{last}.weight'] *= np.float32(0.1)
    weights[f'{last}.bias'][:] = 0 if isinstance(shape, SRVGGNetCompactShape) else 0.5
    return weights


# ---- the networks in plain numpy, in double precision; pictures are channels x height x width ----

def compute(shape: NetworkShape, weights: Weights, picture: np.ndarray) -> np.ndarray:
    """Return what a network makes of a picture: H x W x 3, BGR, in 0..1, in and out.

    Raises:
        TypeError: it is of another architecture.
    """
    rgb = picture[:, :, ::-1].transpose(2, 0, 1).astype(np.float64)
    if isinstance(shape, SRVGGNetCompactShape):
        result = _compute_srvgg(shape, weights, rgb)
    elif isinstance(shape, RRDBNetShape):
        result = _compute_rrdbnet(shape, weights, rgb)
    else:
        raise TypeError(f'{shape.architecture} is not among the self-tests')
    return result.transpose(1, 2, 0)[:, :, ::-1].clip(0, 1)


def _compute_srvgg(shape: SRVGGNetCompactShape, weights: Weights, rgb: np.ndarray) -> np.ndarray:
    x = rgb
    for index in range(0, 2 * shape.num_conv + 2, 2):
        x = _leak(_convolve(weights, f'body.{index}', x), weights[f'body.{index + 1}.weight'][:, None, None])
    x = _convolve(weights, f'body.{2 * shape.num_conv + 2}', x)
    scale, (height, width) = shape.scale, rgb.shape[1:]
    shuffled = x.reshape(3, scale, scale, height, width).transpose(0, 3, 1, 4, 2)
    return shuffled.reshape(3, height * scale, width * scale) + _enlarge(rgb, scale)


def _compute_rrdbnet(shape: RRDBNetShape, weights: Weights, rgb: np.ndarray) -> np.ndarray:
    fold, height, width = shape.multiple, *rgb.shape[1:]
    blocks = rgb.reshape(3, height // fold, fold, width // fold, fold).transpose(0, 2, 4, 1, 3)
    first = x = _convolve(weights, 'conv_first', blocks.reshape(3 * fold ** 2, height // fold, width // fold))
    for block in range(shape.num_block):
        start = x
        for dense in range(1, 4):
            name, features = f'body.{block}.rdb{dense}.conv', [x]
            for index in range(1, 5):
                features.append(_leak(_convolve(weights, f'{name}{index}', np.concatenate(features)), 0.2))
            x = x + 0.2 * _convolve(weights, f'{name}5', np.concatenate(features))
        x = start + 0.2 * x
    x = first + _convolve(weights, 'conv_body', x)
    for name in ('conv_up1', 'conv_up2'):
        x = _leak(_convolve(weights, name, _enlarge(x, 2)), 0.2)
    return _convolve(weights, 'conv_last', _leak(_convolve(weights, 'conv_hr', x), 0.2))


def _convolve(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    kernel = weights[f'{name}.weight'].astype(np.float64)
    result = np.zeros((len(kernel), height, width)) + weights[f'{name}.bias'][:, None, None]
    for y in range(3):
        for z in range(3):
            result += np.tensordot(kernel[:, :, y, z], padded[:, y:y + height, z:z + width], 1)
    return result


def _leak(x: np.ndarray, slope: np.ndarray | float) -> np.ndarray:
    return np.where(x > 0, x, slope * x)


def _enlarge(x: np.ndarray, scale: int) -> np.ndarray:
    return x.repeat(scale, 1).repeat(scale, 2)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
