"""Compare the engine with plain numpy on this machine: `python -m realesrgan.engines.kernel.self_test LIBRARY`.

The build does this in a process of its own, because a library may crash or hang.
"""
from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...archs.architecture import Layers
from ...archs.loaded import LoadedNetwork
from ...archs.rrdbnet import RRDBNetConfig
from ...archs.srvgg import SRVGGNetCompactConfig
from ...errors import NonFiniteError
from ..cpu import list_cpu_features
from ..devices import CPU
from .library import TAPS, Kernel, list_variants

#: The exit status where a library computes something else, or nothing.
FAILED = 3

#: The largest differences that are allowed, of 0..1: far more than rounding gives, and less than 8-bit pictures show.
BOUNDS = {'float32': 1e-4, 'int16': 1.5e-3}

# Batches (N, H, W). They cover the engine's special cases: sides below a tile of 4, sides that are no multiple of it,
# several waves, bands and tasks, pictures that are turned, inputs of more channels than are multiplied at a time, V
# that is kept.
_CASES: tuple[tuple[RRDBNetConfig | SRVGGNetCompactConfig, tuple[tuple[int, int, int], ...]], ...] = (
    (SRVGGNetCompactConfig(4, 20, 2), ((1, 1, 1), (2, 9, 14), (1, 37, 70))),
    (RRDBNetConfig(2, 16, 1, 8), ((1, 2, 2), (2, 10, 14), (1, 38, 22), (1, 134, 138))),
)
_THREADS = 2
_RESIZED = 31, 18  # height and width
_LEAST_TILES = 1  # so that rows roll in pictures as small as these

Weights = Mapping[str, np.ndarray]


def main(library: str) -> int:
    """Test a library and print the largest difference; return the exit status, `FAILED` if it failed."""
    variant = Path(library).stem.split('-')[1]
    if variant not in list_variants(list_cpu_features()):
        print(f'not tested: this processor has no {variant}')
        return 0
    try:
        kernel = Kernel(Path(library))
        for precision in ('float32', 'int16') if kernel.has_ints else ('float32',):
            difference, bound = measure_difference(kernel, precision), BOUNDS[precision]
            print(f'largest difference in {precision}: {difference:.3g}')
            if not difference <= bound:
                print(f'in {precision} a pixel is wrong by {difference:.3g} of 1; allowed are {bound:g}',
                      file=sys.stderr)
                return FAILED
        if not resizes_exactly(kernel):
            print('it resizes a picture to something else', file=sys.stderr)
            return FAILED
    except (OSError, NonFiniteError) as error:  # it can't be loaded, or computes NaN
        print(error, file=sys.stderr)
        return FAILED
    return 0


def measure_difference(kernel: Kernel, precision: str) -> float:
    """Return the largest difference from `compute`, of 0..1; infinity if a result has another shape or holds NaN."""
    from ..winograd import WinogradEngine
    largest = 0.0
    for config, batches in _CASES:
        random, layers = np.random.default_rng(0), config.layers()
        weights = make_weights(layers, random)
        engine = WinogradEngine(LoadedNetwork(config, weights), CPU, precision, _THREADS, kernel=kernel,
                                least_tiles=_LEAST_TILES)
        for batch_shape in batches:
            batch = random.random((*batch_shape, 3), np.float32)
            result, expected = engine(batch), np.stack([compute(layers, weights, picture) for picture in batch])
            if result.shape != expected.shape or not np.isfinite(result).all():
                return float('inf')
            largest = max(largest, float(np.abs(result - expected).max()))
    return largest


def resizes_exactly(kernel: Kernel) -> bool:
    """Return whether a picture is resized to what sums of integers give."""
    from ..lanczos import ONE, find_taps, resize_by_kernel
    picture = np.random.default_rng(0).integers(0, 256, (23, 37, 3), np.uint8)
    result = picture.astype(np.int64)
    for axis, size in enumerate(_RESIZED):
        taps = find_taps(picture.shape[axis], size)
        pixels = (taps['first'][:, None] + np.arange(TAPS)).clip(0, picture.shape[axis] - 1)
        result = np.stack([np.tensordot(weights, result.take(some, axis), (0, axis))
                           for some, weights in zip(pixels, taps['weights'], strict=True)], axis)
    expected = ((result + ONE ** 2 // 2) // ONE ** 2).clip(0, 255)
    return np.array_equal(resize_by_kernel(kernel, picture, _RESIZED[::-1], _THREADS), expected)


def make_weights(layers: Layers, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Return random weights with which results spread over 0..1."""
    weights = {}
    for name, sizes in layers.parameter_shapes().items():
        deviation = 1.5 / np.sqrt(np.prod(sizes[1:])) if len(sizes) == 4 else 0.2
        weights[name] = random.normal(0, deviation, sizes).astype(np.float32)
    last = layers.convolutions[-1].name
    weights[f'{last}.weight'] *= np.float32(0.1)
    weights[f'{last}.bias'][:] = 0 if layers.adds_picture else 0.5
    return weights


# ---- a network in plain numpy, in double precision; features are channels x height x width ----

def compute(layers: Layers, weights: Weights, picture: np.ndarray) -> np.ndarray:
    """Return a network's result for a picture; both are H x W x 3, BGR, in 0..1."""
    rgb = picture[:, :, ::-1].transpose(2, 0, 1).astype(np.float64)
    fold, height, width = layers.fold, rgb.shape[1] // layers.fold, rgb.shape[2] // layers.fold
    blocks = rgb.reshape(3, height, fold, width, fold).transpose(0, 2, 4, 1, 3)
    features = [blocks.reshape(3 * fold ** 2, height, width)]
    for layer in layers.convolutions:
        x = np.concatenate([features[feature] for feature in layer.inputs])
        x = _convolve(weights, layer.name, _enlarge(x, 2) if layer.doubles else x)
        slope = weights[layer.slope][:, None, None] if isinstance(layer.slope, str) else layer.slope
        x = np.where(x > 0, x, slope * x)
        for feature, share in layer.residuals:
            x = features[feature] + share * x
        features.append(x)
    shuffle, (height, width) = layers.shuffle, features[-1].shape[1:]
    result = features[-1].reshape(3, shuffle, shuffle, height, width).transpose(0, 3, 1, 4, 2)
    result = result.reshape(3, height * shuffle, width * shuffle)
    if layers.adds_picture:
        result = result + _enlarge(rgb, shuffle)
    return result.transpose(1, 2, 0)[:, :, ::-1].clip(0, 1)


def _convolve(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))
    result = np.einsum('oiyx,ihwyx->ohw', weights[f'{name}.weight'].astype(np.float64), windows, optimize=True)
    return result + weights[f'{name}.bias'][:, None, None]


def _enlarge(x: np.ndarray, scale: int) -> np.ndarray:
    return x.repeat(scale, 1).repeat(scale, 2)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
