"""Show a result beside its input."""
from __future__ import annotations

import cv2
import numpy as np

_BACKGROUND = 128  # behind transparent pixels
_LONGEST_PANEL = 2000  # pixels; comparisons are for looking at, and the place that is enlarged keeps its pixels
_PLACE = 192  # side of the place that is enlarged, in pixels of the result
_GAP = 8
_RED = 48, 48, 230


def convert_to_bgr8(picture: np.ndarray) -> np.ndarray:
    """Return a picture as HxWx3, BGR, uint8, over gray where it is transparent.

    Args:
        picture: HxW, HxWx3 or HxWx4, BGR; uint8, uint16 of full range, or floating point from 0 to 1.
    """
    if picture.dtype == np.uint16:
        picture = np.rint(picture / np.float32(257)).astype(np.uint8)
    elif picture.dtype != np.uint8:
        picture = np.rint(np.nan_to_num(picture, posinf=1, neginf=0).clip(0, 1) * 255).astype(np.uint8)
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if picture.shape[2] == 3:
        return picture
    alpha = picture[..., 3:].astype(np.float32) / 255
    return np.rint(picture[..., :3] * alpha + _BACKGROUND * (1 - alpha)).astype(np.uint8)


def enlarge(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return an input enlarged by bicubic to the size of its result, both as `convert_to_bgr8` returns them."""
    return cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def find_largest_difference(enlarged: np.ndarray, after: np.ndarray, side: int) -> tuple[slice, slice]:
    """Return rows and columns of the square where two pictures of one size differ most.

    The pictures are HxWx3, uint8; the square has `side` pixels, or as many as they have.
    """
    height, width = (min(side, length) for length in after.shape[:2])
    difference = cv2.absdiff(enlarged, after).max(2)
    mean = cv2.boxFilter(difference, cv2.CV_32F, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = mean[:mean.shape[0] - height + 1, :mean.shape[1] - width + 1]
    y, x = map(int, np.unravel_index(int(inside.argmax()), inside.shape))
    return slice(y, y + height), slice(x, x + width)


def compare(before: np.ndarray, after: np.ndarray, name: str) -> np.ndarray:
    """Return a picture of an input and its result, labelled, and below it the place where they differ most, enlarged.

    Args:
        before, after: The input and the result, as `convert_to_bgr8` takes them.
        name: What the result is labelled with, in ASCII.

    Returns:
        HxWx3, BGR, uint8; two panels of at most 2000 pixels side by side, and two below them.
    """
    after = convert_to_bgr8(after)
    enlarged = enlarge(convert_to_bgr8(before), after)
    rows, columns = find_largest_difference(enlarged, after, max(min(_PLACE, min(after.shape[:2]) // 2), 1))
    shrink = min(_LONGEST_PANEL / max(after.shape[:2]), 1)
    wholes, places = [], []
    for picture in (enlarged, after):
        place = picture[rows, columns]
        whole = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        corner, opposite = ((round(x * shrink), round(y * shrink)) for x, y in (
            (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)))
        wholes.append(cv2.rectangle(whole, corner, opposite, _RED, max(round(whole.shape[1] / 400), 1)))
        size = whole.shape[1], max(round(place.shape[0] * whole.shape[1] / place.shape[1]), 1)
        places.append(cv2.resize(place, size, interpolation=cv2.INTER_NEAREST))
    return stack(put_side_by_side(wholes[0], wholes[1], name), stack(*places, axis=1), axis=0)


def put_side_by_side(enlarged: np.ndarray, after: np.ndarray, name: str) -> np.ndarray:
    """Return two pictures of one size, HxWx3, uint8, labelled side by side."""
    panels = [panel.copy() for panel in (enlarged, after)]
    for panel, text in zip(panels, ('bicubic', name), strict=True):
        label(panel, text)
    return stack(*panels, axis=1)


def label(panel: np.ndarray, text: str) -> None:
    """Write a label into the upper left corner of a picture, in place; nothing where it would not fit."""
    size = min(max(panel.shape[1] / 900, 0.4), 1.5)
    thickness = max(round(size * 1.5), 1)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    margin = height // 2
    if width + 2 * margin > panel.shape[1] or height + base + 2 * margin > panel.shape[0]:
        return
    cv2.rectangle(panel, (0, 0), (width + 2 * margin, height + base + 2 * margin), (0, 0, 0), cv2.FILLED)
    cv2.putText(panel, text, (margin, height + margin), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thickness,
                cv2.LINE_AA)


def encode_sheet(picture: np.ndarray, extension: str) -> bytes:
    """Return a picture, HxWx3, BGR, uint8, as a file, of '.png' or '.jpg'."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if extension == '.jpg' else []  # OpenCV warns where it has no use for it
    return cv2.imencode(extension, picture, quality)[1].tobytes()


def stack(first: np.ndarray, second: np.ndarray, *, axis: int) -> np.ndarray:
    shape = list(first.shape)
    shape[axis] = _GAP
    return np.concatenate((first, np.full(shape, 255, np.uint8), second), axis)
