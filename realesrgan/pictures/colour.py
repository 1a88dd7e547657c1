"""Colours as PNG describes them without a profile: checked, and made into a profile for formats that have no other way.

The chunks are those of the PNG specification (third edition), the numbers in cICP those of ITU-T H.273.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np

from .picture import Chunks

#: The chunks that describe colours, with the bytes that each holds.
CHUNK_BYTES = {b'cICP': 4, b'gAMA': 4, b'cHRM': 32, b'sRGB': 1, b'mDCV': 24, b'cLLI': 8}

_SRGB_GAMMA = 45455  # times 100,000, as in gAMA
_D65 = 0.3127, 0.3290
_SRGB_PRIMARIES = 0.64, 0.33, 0.30, 0.60, 0.15, 0.06
_SAME_COLOUR = 0.002  # chromaticities are rounded
_PRIMARIES = {  # white, and red, green and blue
    1: (_D65, _SRGB_PRIMARIES),
    5: (_D65, (0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: (_D65, (0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    7: (_D65, (0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    9: (_D65, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    12: (_D65, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
}
_SRGB, _PQ, _HLG = 13, 16, 18
_WHITE_NITS = 203.0  # of the white of ordinary pictures among brighter highlights, ITU-R BT.2408
_STEPS = 1024
_FULL_RANGE_RGB = b'\x00\x01'


def _linearize_srgb(signal: np.ndarray) -> np.ndarray:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _linearize_bt709(signal: np.ndarray) -> np.ndarray:
    return np.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45))


def _linearize_pq(signal: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    root = signal ** (1 / 78.84375)
    return (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125) * (
        10000 / _WHITE_NITS)


def _linearize_hlg(signal: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 on a display of 1000 nits."""
    scene = np.where(signal <= 0.5, signal ** 2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return scene ** 1.2 * (1000 / _WHITE_NITS)


_TRANSFERS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: _linearize_bt709, 6: _linearize_bt709, 14: _linearize_bt709, 15: _linearize_bt709,
    4: lambda signal: signal ** 2.2, 5: lambda signal: signal ** 2.8, 8: lambda signal: signal,
    _SRGB: _linearize_srgb, _PQ: _linearize_pq, _HLG: _linearize_hlg}


def find_damaged(chunks: Chunks) -> set[bytes]:
    """Return the kinds of those chunks whose values are impossible."""
    damaged = {kind for kind, content in chunks if len(content) != CHUNK_BYTES[kind]}
    for kind, content in chunks:
        if kind == b'gAMA' and kind not in damaged and not 1000 <= _unpack(content)[0] <= 10_000_000:
            damaged.add(kind)
        elif kind == b'cHRM' and kind not in damaged:
            points = np.array(_unpack(content)).reshape(4, 2) / 1e5
            (x1, y1), (x2, y2), (x3, y3) = points[1:]
            area = abs((x2 - x1) * (y3 - y1) - (x3 - x1) * (y2 - y1)) / 2
            if (points[:, 1] <= 0).any() or (points.sum(axis=1) > 1.0001).any() or area < 1e-3:
                damaged.add(kind)
    return damaged


def describe(chunks: Chunks, *, gray: bool) -> tuple[bool, bytes | None, bool]:
    """Return the meaning of valid chunks that describe the colours of a picture, for files that are no PNG.

    Args:
        chunks: Kinds and contents.
        gray: Whether the picture is gray.

    Returns:
        Whether colours are sRGB, as everyone takes them anyway; otherwise an ICC profile that says the same, or None
        where none can; and whether highlights brighter than white are white under it, because it is for HDR.
    """
    by_kind = dict(chunks)
    if (cicp := by_kind.get(b'cICP')) is not None:
        primaries, transfer = cicp[:2]
        if (primaries, transfer) == (1, _SRGB):
            return True, None, False
        if primaries not in _PRIMARIES or transfer not in _TRANSFERS or cicp[2:] != _FULL_RANGE_RGB:
            return False, None, False
        return False, _build_profile(*_PRIMARIES[primaries], _TRANSFERS[transfer], gray), transfer in (_PQ, _HLG)
    gamma = _unpack(by_kind.get(b'gAMA', struct.pack('>I', _SRGB_GAMMA)))[0]
    points = [value / 1e5 for value in _unpack(by_kind.get(b'cHRM', b''))] or [*_D65, *_SRGB_PRIMARIES]
    if b'sRGB' in by_kind or (gamma == _SRGB_GAMMA and np.allclose(
            points, [*_D65, *_SRGB_PRIMARIES], rtol=0, atol=_SAME_COLOUR)):
        return True, None, False
    transfer_function = (lambda signal: signal ** (1e5 / gamma)) if b'gAMA' in by_kind else _linearize_srgb
    return False, _build_profile(points[:2], points[2:], transfer_function, gray), False


def _unpack(content: bytes) -> tuple[int, ...]:
    return struct.unpack(f'>{len(content) // 4}I', content)


def _build_profile(white: Sequence[float], primaries: Sequence[float],
                   linearize: Callable[[np.ndarray], np.ndarray], gray: bool) -> bytes:
    curve = np.rint(linearize(np.linspace(0, 1, _STEPS)).clip(0, 1) * 65535).astype(np.uint16)
    import imagecodecs
    return imagecodecs.cms_profile('gray' if gray else 'rgb', whitepoint=white, transferfunction=curve,
                                   primaries=None if gray else primaries)
