"""How pictures of any depth, gray or with alpha, pass through a network that knows RGB only.

A `Pixels` object turns a window of its picture into a batch for a network, and the network's result back into pixels of
the picture's own kind, so that only one tile at a time is in floating point. Alpha is upscaled as a gray picture of its
own; `fill_hidden_colours` goes before that and `settle_alpha` after it.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .tiles import Tile

_HARDLY_VISIBLE = 16  # an alpha below a sixteenth


def check_picture(img: np.ndarray) -> None:
    """Check that a picture is of a kind that can be upscaled.

    Raises:
        TypeError: it is no array, or its dtype is not uint8, uint16 or floating point.
        ValueError: its shape is not HxW, HxWx1, HxWx3 or HxWx4, or it is empty.
    """
    if img is None:
        raise TypeError('the picture is None, which cv2.imread returns for a file that is not there or no picture: '
                        'check its path')
    if not isinstance(img, np.ndarray):
        raise TypeError(f'a picture of type {type(img).__name__}; it must be a numpy array, as cv2.imread returns')
    channels = img.shape[2] if img.ndim == 3 else 1
    if img.ndim not in (2, 3) or channels not in (1, 3, 4) or img.size == 0:
        raise ValueError(f'a picture of shape {img.shape}; allowed are HxW, HxWx1, HxWx3 and HxWx4, none of them 0')
    if img.dtype not in (np.uint8, np.uint16) and img.dtype.kind != 'f':
        raise TypeError(f'a picture of dtype {img.dtype}; allowed are uint8, uint16 and floating point')


def choose_depth(img: np.ndarray) -> np.dtype:
    """Return the dtype of the result: the picture's own; for floating point uint16 if any value is above 256.

    Source: the rule for floating point is that of Real-ESRGAN 0.3.0.
    """
    if img.dtype.kind == 'f':
        return np.dtype(np.uint16 if img.max() > 256 else np.uint8)
    return img.dtype


def normalise_layout(img: np.ndarray) -> np.ndarray:
    """Return a contiguous picture without a last axis of one; floating point becomes float32."""
    img = img[..., 0] if img.ndim == 3 and img.shape[2] == 1 else img
    return np.ascontiguousarray(img, np.float32 if img.dtype.kind == 'f' else img.dtype)


def quantise(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Map values in 0..1 to the full range of an unsigned integer type, rounded half to even as 0.3.0 does."""
    return np.rint(values * np.float32(np.iinfo(dtype).max)).astype(dtype)


def to_unit(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Map values in the range of an unsigned integer type, of any dtype, to float32 in 0..1."""
    return values.astype(np.float32) / np.float32(np.iinfo(dtype).max)


class Pixels:
    """A picture on its way through a network. A gray one is shown as RGB, and gets the luma of what comes back.

    Integers go to the engine as they are, all else in floating point.

    Attributes:
        picture: HxW or HxWx3 (BGR); uint8 or uint16, or float32 in the range of `dtype`.
        dtype: uint8 or uint16, the dtype of the result.
        channels: Shape of one pixel of the result: () or (3,).
    """

    def __init__(self, picture: np.ndarray, dtype: np.dtype) -> None:
        self.picture = picture
        self.dtype = np.dtype(dtype)
        self.channels = picture.shape[2:]

    def to_batch(self, tile: Tile | None = None) -> np.ndarray:
        """Return a tile's window, or all, as 1 x H x W x 3, BGR; uint8, uint16, or float32 in 0..1."""
        window = self.picture if tile is None else self.picture[tile.rows.window, tile.columns.window]
        if not self.channels:
            import cv2  # only where it is needed, because it takes a tenth of a start
            return cv2.cvtColor(to_unit(window, self.dtype), cv2.COLOR_GRAY2BGR)[None]
        return (to_unit(window, self.dtype) if window.dtype.kind == 'f' else window)[None]

    def from_batch(self, upscaled: np.ndarray) -> np.ndarray:
        """Turn a network's result, 1 x sH x sW x 3 of the batch's dtype, into pixels of `dtype`."""
        if not self.channels:
            import cv2
            return quantise(cv2.cvtColor(upscaled[0], cv2.COLOR_BGR2GRAY), self.dtype)
        return upscaled[0] if upscaled.dtype == self.dtype else quantise(upscaled[0], self.dtype)


def fill_hidden_colours(picture: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Replace the colours of transparent pixels by those of the visible pixels around them.

    Nobody sees hidden colours, but a network or a filter would let them bleed into visible edges. Each gets the mean,
    weighted by alpha, of the smallest block of a power of two around it that shows anything, smoothly interpolated.
    Pixels that are hardly visible get part of it. Passing premultiplied colours through the network, and dividing them
    by the new alpha, leaves a dark or bright rim wherever the network draws the two edges differently; this is 1 to 7
    dB better at the edges of cut-outs.

    Args:
        picture: HxWx4, BGRA, of `dtype` or float32 in its range.
        dtype: uint8 or uint16.

    Returns:
        HxWx3, BGR, of the picture's own dtype; pixels with an alpha of a sixteenth or more are unchanged.
    """
    colours = np.ascontiguousarray(picture[..., :3])
    hidden = picture[..., 3] * _HARDLY_VISIBLE < np.iinfo(dtype).max
    if not hidden.any() or not picture[..., 3].any():
        return colours
    unit = to_unit(picture, dtype)
    unit[..., :3] *= unit[..., 3:]
    filled = _average_around(unit)[hidden]
    scaled = filled * np.iinfo(dtype).max
    colours[hidden] = scaled if colours.dtype.kind == 'f' else np.rint(scaled)
    return colours


def _average_around(premultiplied: np.ndarray) -> np.ndarray:
    """Return the colours of HxWx4 premultiplied BGRA, which fade into the mean of a block around as alpha falls to 0.

    One level of a pyramid: the picture at half its size, treated likewise, gives the means. Because the colours are
    premultiplied, averaging them weighs each by its alpha, and dividing by the averaged alpha undoes it.
    """
    height, width = premultiplied.shape[:2]
    alpha = premultiplied[..., 3:]
    own = np.divide(premultiplied[..., :3], alpha, out=np.zeros_like(premultiplied[..., :3]), where=alpha > 0)
    if height == width == 1:
        return own
    import cv2
    halved = cv2.resize(premultiplied, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    around = cv2.resize(_average_around(halved), (width, height), interpolation=cv2.INTER_LINEAR)
    share = np.minimum(alpha * _HARDLY_VISIBLE, 1)
    return share * own + (1 - share) * around


def enlarge_by_cubic(alpha: np.ndarray, dtype: np.dtype, size: Sequence[int]) -> np.ndarray:
    """Enlarge HxW, in the range of `dtype`, to (width, height) by cubic interpolation; the result is of `dtype`."""
    import cv2
    large = cv2.resize(to_unit(alpha, dtype), size, interpolation=cv2.INTER_CUBIC)
    return quantise(large.clip(0, 1), dtype)


def mix_with_input(result: np.ndarray, picture: np.ndarray, strength: float) -> None:
    """Mix a result with its input, resized to it by bicubic or, where both sides become smaller, by area; in place.

    Args:
        result: HxW, HxWx3 (BGR) or HxWx4 (BGRA, whose alpha stays); uint8 or uint16.
        picture: The input, hxw or hxwx3; of the result's dtype or float32 in its range.
        strength: The share of the result, 0..1.
    """
    import cv2
    top = np.iinfo(result.dtype).max
    if picture.dtype != result.dtype:
        picture = np.rint(picture.clip(0, top)).astype(result.dtype)
    shrinks = all(after < before for after, before in zip(result.shape[:2], picture.shape[:2], strict=True))
    resized = cv2.resize(picture, result.shape[1::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    colours = result if result.ndim == 2 else result[..., :3]
    cv2.addWeighted(np.ascontiguousarray(colours), strength, resized, 1 - strength, 0, dst=resized)
    colours[...] = resized


def settle_alpha(upscaled: np.ndarray, alpha: np.ndarray) -> None:
    """Make `upscaled` exactly opaque, or transparent, wherever `alpha` is so with its eight neighbours; in place.

    Args:
        upscaled: HxW, of any size, uint8 or uint16.
        alpha: The input's alpha, in the range of `upscaled`'s dtype.
    """
    import cv2
    top = np.iinfo(upscaled.dtype).max
    for reached, value in ((alpha >= top, top), (alpha <= 0, 0)):
        inside = cv2.erode(reached.astype(np.uint8), np.ones((3, 3), np.uint8))
        upscaled[cv2.resize(inside, upscaled.shape[::-1], interpolation=cv2.INTER_NEAREST) != 0] = value
