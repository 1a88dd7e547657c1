"""Decode and encode TIFF with tifffile: in full depth, and with alpha as it is meant."""
from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from ..errors import ImageError, flatten_message
from .formats import MOST_PIXELS, require_few_pixels
from .metadata import list_words
from .picture import Metadata, scale_to_full_range

logger = logging.getLogger(__name__)
_XMP_TAG, _IPTC_TAG, _DNG_VERSION_TAG = 700, 33723, 50706
_BYTES, _ASCII = 1, 2  # types of tags
# The tags that pixels depend on: sizes, types, places and compression, tables and kinds of colours.
_PIXEL_TAGS = frozenset((*range(254, 263), 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326),
                         *range(338, 348), *range(512, 533), 32997, 50674))
_PREVIEWS = 8  # the pages that are looked through for a camera's raw picture

logging.getLogger('tifffile').addHandler(logging.NullHandler())


@contextlib.contextmanager
def _collect_complaints() -> Iterator[list[str]]:
    """Collect the warnings of tifffile meanwhile: it reports damage in its log and goes on with a guess."""
    complaints: list[str] = []
    thread = threading.get_ident()

    def collect(record: logging.LogRecord) -> bool:
        if record.thread == thread:  # others read files, too
            complaints.append(record.getMessage())
        return False
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(collect)
    logging.getLogger('tifffile').addHandler(handler)
    try:
        yield complaints
    finally:
        logging.getLogger('tifffile').removeHandler(handler)


def is_camera_raw(data: bytes) -> bool:
    """Tell whether a TIFF has a camera's raw picture behind or below a preview."""
    try:
        with _collect_complaints(), tifffile.TiffFile(io.BytesIO(data)) as file:
            first = file.pages.first
            pages = itertools.chain([first], itertools.islice(first.pages or (), _PREVIEWS),
                                    itertools.islice(file.pages, 1, _PREVIEWS))
            return _DNG_VERSION_TAG in first.tags or any(
                page.aspage().photometric in (PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW) for page in pages)
    except Exception:  # tifffile raises nearly anything when a file is damaged
        return False


def decode(data: bytes, max_pixels: int = MOST_PIXELS) -> tuple[np.ndarray, int] | None:
    """Decode the first page of a TIFF file, not turned upright.

    Args:
        data: The file.
        max_pixels: How many pixels the page may have.

    Returns:
        The pixels as HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA), of the file's own type but scaled to the full range of 8
        or 16 bits, and the orientation (1..8). None for CMYK and YCbCr of 8 bits, which Pillow converts.

    Raises:
        ImageError: damaged, of too many pixels, or of a kind that can't be read.
    """
    try:
        with _collect_complaints() as complaints, tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            require_few_pixels(page.imagelength, page.imagewidth, max_pixels)
            needs_conversion = page.photometric == PHOTOMETRIC.SEPARATED or (
                page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG)
            if needs_conversion and page.bitspersample == 8:
                return None
            orientation = page.tags.valueof('Orientation', 1)
            pixels = _arrange_samples(page, page.asarray())
    except ImageError:
        raise
    except Exception as error:  # tifffile and its codecs raise nearly anything when a file is damaged
        raise ImageError(f'damaged, or of a kind that can\'t be read: {flatten_message(error)}') from None
    for complaint in complaints:
        tag = re.search(r'TiffTag (\d+)', complaint)
        if tag is None or int(tag[1]) in _PIXEL_TAGS:
            raise ImageError(f'damaged: {complaint}')
        logger.warning('its tag %s is damaged and is left out', tifffile.TIFF.TAGS.get(int(tag[1]), tag[1]))
    return pixels, orientation if orientation in range(1, 9) else 1


def _arrange_samples(page: tifffile.TiffPage, samples: np.ndarray) -> np.ndarray:
    """Return the samples of a page as gray, BGR or BGRA."""
    stored = np.atleast_3d(samples if samples.ndim < 3 or page.planarconfig == 1 else np.moveaxis(samples, 0, -1))
    samples = stored if stored.dtype.kind == 'f' else scale_to_full_range(stored, 2 ** page.bitspersample - 1)
    colours = 3 if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else 1
    base, extra = samples[..., :colours], samples[..., colours:]
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        base = (1 if base.dtype.kind == 'f' else np.iinfo(base.dtype).max) - base
    elif page.photometric == PHOTOMETRIC.PALETTE:
        base = (np.asarray(page.colormap) >> 8).astype(np.uint8).T[stored[..., 0].astype(np.intp)]
        extra = extra if extra.dtype == np.uint8 else np.rint(extra / 257).astype(np.uint8)
    elif page.photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR):
        raise ImageError(f'colours of kind {PHOTOMETRIC(page.photometric).name} can\'t be read')
    if extra.shape[2] > 1:
        logger.warning('%d further channels are left out', extra.shape[2] - 1)
    if not extra.shape[2]:
        return np.ascontiguousarray(base[..., 0] if base.shape[2] == 1 else base[..., ::-1])
    alpha = extra[..., :1]
    if page.extrasamples and page.extrasamples[0] == EXTRASAMPLE.ASSOCALPHA:  # where alpha is 0, colours become 0
        top = 1.0 if base.dtype.kind == 'f' else float(np.iinfo(base.dtype).max)
        divided = np.divide(base * top, alpha, out=np.zeros(base.shape), where=alpha > 0).clip(0, top)
        base = (divided if base.dtype.kind == 'f' else np.rint(divided)).astype(base.dtype)
    return np.dstack([base[..., ::-1] if base.shape[2] == 3 else np.repeat(base, 3, axis=2), alpha])


def write(file: BinaryIO | Path, pixels: np.ndarray, metadata: Metadata) -> None:
    """Write a deflated TIFF with profile, XMP, IPTC, resolution, and the words of EXIF.

    The rest of EXIF, about exposure and place, is left out with a warning.

    Args:
        file: A path, or a file open for writing.
        pixels: HxW, HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16.
        metadata: Metadata to write with them.
    """
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    words, more = list_words(metadata.exif) if metadata.exif else ({}, False)
    if more:
        logger.warning('not kept in tiff: exposure and place in EXIF; --ext png keeps them')
    content = [(_XMP_TAG, _BYTES, metadata.xmp), (_IPTC_TAG, _BYTES, metadata.iptc),
               *((tag, _ASCII, text) for tag, text in words.items())]
    tifffile.imwrite(
        file, pixels, photometric='minisblack' if pixels.ndim == 2 else 'rgb', metadata=None, software=False,
        extrasamples=['unassalpha'] if pixels.ndim == 3 and pixels.shape[2] == 4 else None,
        compression='zlib', predictor=True, iccprofile=metadata.icc, resolution=metadata.dpi,
        resolutionunit='INCH' if metadata.dpi else None,
        extratags=[(tag, kind, len(value), value, True) for tag, kind, value in content if value])
