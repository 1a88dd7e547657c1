"""Where a face goes: to the upright square that the networks take, and back into the large picture.

Source: the numbers are those of `FaceRestoreHelper` in facexlib 0.3.0; at 8 bits the pixels are the same too.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..upscaling.pixels import to_unit

#: Where the faces of FFHQ have their landmarks in a square of 512 pixels, x and y: the eyes, the one on the picture's
#: left first, the nose, the corners of the mouth.
_TEMPLATE = np.array([[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043],
                      [313.08905, 371.15118]])
#: Side in pixels of the square that a face is brought to; the networks take no other.
FACE_SIDE = 512
#: The colour of what lies outside the picture, BGR in 0..255.
_OUTSIDE = (135, 133, 132)
#: ParseNet's classes that are no part of a face: background, hat, two of the neck, clothes.
_NOT_FACE = (0, 14, 16, 17, 18)
#: Pixels along each side of the square that the mask leaves out, and the sigma of its blur.
_BORDER = 10
_BLUR_SIGMA = 11
#: Pixels from which on `paste_face` no longer starts at the picture's corner, and the rows it blends at once.
_LARGE = 8192
_BAND = 64


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        box: Left, top, right, bottom in pixels of the picture.
        landmarks: 5 x 2 (x, y) in pixels: left eye, right eye, nose, left and right corner of the mouth, as seen in
            the picture.
    """

    box: np.ndarray
    landmarks: np.ndarray

    @property
    def size(self) -> float:
        """The longer side of the box, in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    @property
    def eye_distance(self) -> float:
        """Pixels between the eyes."""
        return float(np.linalg.norm(self.landmarks[0] - self.landmarks[1]))

    def distance(self, x: float, y: float) -> float:
        """Return how far the middle of the box is from a point, in pixels."""
        return float(np.hypot((self.box[0] + self.box[2]) / 2 - x, (self.box[1] + self.box[3]) / 2 - y))


def align(face: Face) -> np.ndarray | None:
    """Return the similarity, 2 x 3, from the picture to the upright square; None if the landmarks coincide."""
    matrix: np.ndarray | None = cv2.estimateAffinePartial2D(face.landmarks, _TEMPLATE, method=cv2.LMEDS)[0]
    return matrix


def crop_face(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the upright square with a face.

    Args:
        picture: HxWx3, BGR, uint8 or uint16.
        matrix: From `align`.

    Returns:
        512 x 512 x 3 of the same dtype.
    """
    step = np.iinfo(picture.dtype).max // 255
    return cv2.warpAffine(picture, matrix, (FACE_SIDE, FACE_SIDE), borderMode=cv2.BORDER_CONSTANT,
                          borderValue=[value * step for value in _OUTSIDE])


def draw_mask(classes: np.ndarray) -> np.ndarray:
    """Return by how much each pixel belongs to the face.

    Args:
        classes: 512 x 512, ParseNet's class of each pixel.

    Returns:
        512 x 512, float64 in 0..1, with a soft outline, and 0 along the square's sides.
    """
    mask = np.where(np.isin(classes, _NOT_FACE), 0.0, 255.0)
    for _ in range(2):
        mask = cv2.GaussianBlur(mask, (101, 101), _BLUR_SIGMA)
    inside = np.zeros_like(mask)
    inside[_BORDER:-_BORDER, _BORDER:-_BORDER] = mask[_BORDER:-_BORDER, _BORDER:-_BORDER]
    return inside / 255


def paste_face(large: np.ndarray, square: np.ndarray, mask: np.ndarray, matrix: np.ndarray, scale: float) -> None:
    """Lay a restored face over the enlarged picture, in place; no pixel changes where the mask is 0.

    Args:
        large: HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA, whose alpha stays); uint8 or uint16.
        square: 512 x 512 x 3, BGR, of the dtype of `large`; with three equal channels if `large` is gray.
        mask: 512 x 512, float64 in 0..1.
        matrix: From `align`.
        scale: Size of `large` as a multiple of the picture's.
    """
    back = cv2.invertAffineTransform(matrix) * scale
    if scale > 1:
        back[:, 2] += 0.5 * scale
    rows, columns = _find_extent(back, large.shape)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    # cv2.warpAffine rounds positions to 1/32 of a pixel, differently for each origin. To get facexlib's pixels it has
    # to start at the picture's corner, as facexlib does, unless that would take much memory, or more than the 32767
    # pixels that warpAffine can do.
    origin = np.zeros(2, int)
    if max(rows.stop, columns.stop) > _LARGE:
        origin[:] = columns.start, rows.start
    back[:, 2] -= origin
    size = columns.stop - origin[0], rows.stop - origin[1]
    part = slice(rows.start - origin[1], None), slice(columns.start - origin[0], None)
    face = cv2.warpAffine(square, back, size)[part]
    share = cv2.warpAffine(mask, back, size, flags=cv2.INTER_LINEAR)[part]
    if large.ndim == 2:
        target, face = large[rows, columns], face[..., 0]
    else:
        target, share = large[rows, columns, :3], share[..., None]
    for start in range(0, len(target), _BAND):  # the face of a portrait, in float64 all at once, would take gigabytes
        band = slice(start, start + _BAND)
        # Truncated, not rounded, as in facexlib.
        target[band] = share[band] * face[band] + (1 - share[band]) * target[band]


def _find_extent(back: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of the large picture that the square reaches."""
    side = FACE_SIDE
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ back.T
    left, top = np.floor(corners.min(0)).astype(int) - 1
    right, bottom = np.ceil(corners.max(0)).astype(int) + 2
    return slice(max(top, 0), min(bottom, shape[0])), slice(max(left, 0), min(right, shape[1]))


def to_network(square: np.ndarray) -> np.ndarray:
    """Turn 512 x 512 x 3 BGR into 1 x 3 x 512 x 512 RGB in -1..1, float32."""
    unit = to_unit(square, square.dtype)
    return np.ascontiguousarray((unit[None, :, :, ::-1].transpose(0, 3, 1, 2) - 0.5) / 0.5)


def from_network(result: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Turn 1 x 3 x 512 x 512 RGB in -1..1 into 512 x 512 x 3 BGR of `dtype`."""
    unit = (result[0, ::-1].transpose(1, 2, 0).clip(-1, 1) + 1) / 2
    return np.rint(unit * np.iinfo(dtype).max).astype(dtype)
