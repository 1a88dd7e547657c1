"""Read and write pictures: their pixels in full depth, upright, and what their files say about them.

Every format goes through the library that reads it truly. Pillow decodes what has 8 bits (to the same pixels as
OpenCV, which the original uses), OpenCV what is deeper, tifffile TIFF. OpenCV encodes, as in the original.
"""
from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ..errors import ImageError
from . import png, tiff
from .metadata import Metadata, header_size, header_with, read_metadata, resolution_as_exif

logger = logging.getLogger(__name__)

__all__ = ['WRITABLE_EXTENSIONS', 'ImageError', 'Metadata', 'Picture', 'decode', 'encode', 'holds_alpha', 'is_picture',
           'write']

#: What Pillow may open. It knows more, but those are no pictures, or start other programs.
_PILLOW_FORMATS = ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP', 'DIB', 'TIFF', 'AVIF', 'JPEG2000', 'PPM', 'TGA', 'ICO',
                   'PSD', 'QOI', 'PCX', 'DDS', 'SUN', 'ICNS')
#: Of these, what may be deeper than Pillow reads.
_OPENCV_FORMATS = ('JPEG2000', 'PPM', 'SUN')
_TIFF_SIGNATURES = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_PNM_HEADER_BYTES = 4096
_ENOUGH_TO_STREAM = 1 << 30  # bytes of pixels from which a file is not put together in memory

# As many pixels as OpenCV reads; the default warns from 89 megapixels on, which scanned posters have.
Image.MAX_IMAGE_PIXELS = 1 << 29
# What these log to stderr, the errors raised here say in one line.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class Picture:
    """A picture as it is meant to be seen.

    Attributes:
        pixels: HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16.
        metadata: What came with it.
    """

    pixels: np.ndarray
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def has_alpha(self) -> bool:
        return self.pixels.ndim == 3 and self.pixels.shape[2] == 4


# ---- reading ----

def decode(data: bytes) -> Picture:
    """Decode a picture file: upright, the first frame or page only, in 8 or 16 bits.

    Raises:
        ImageError: not a picture, damaged, or of a kind whose pixels could not be given truly.
    """
    if not data:
        raise ImageError('the file is empty')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of Pillow, about metadata it can't parse
        image = _opened(io.BytesIO(data))
        metadata, orientation = (Metadata(), 1) if image is None else read_metadata(image)
        pixels, own_orientation, converted = _decoded(data, image)
    if converted or (metadata.icc and not _profile_fits(metadata.icc, pixels)):
        metadata = replace(metadata, icc=None)
    return Picture(_upright(_in_integers(pixels), own_orientation or orientation), metadata)


def is_picture(file: Path | bytes) -> bool:
    """Tell whether a file, or its beginning, looks like a picture's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            image = _opened(io.BytesIO(file) if isinstance(file, bytes) else file)
            if image is not None:
                image.close()
            return image is not None
    except (ImageError, OSError):
        return False


def _opened(file: io.BytesIO | Path) -> Image.Image | None:
    """Open a picture with Pillow, without decoding it; None if Pillow doesn't know it."""
    try:
        return Image.open(file, formats=_PILLOW_FORMATS)
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError as error:
        raise ImageError(f'too large to read: {error}') from None
    except Exception as error:  # of a damaged file Pillow's plugins raise nearly anything
        raise ImageError(f'damaged: {error}') from None


def _decoded(data: bytes, image: Image.Image | None) -> tuple[np.ndarray, int | None, bool]:
    """Return the pixels, the orientation if the decoder knows it, and whether the colours were converted to sRGB."""
    kind = None if image is None else image.format
    if kind != 'MPO' and (frames := getattr(image, 'n_frames', 1)) > 1:  # MPO: the previews of a camera
        logger.warning('only the first of %d frames or pages is used', frames)
    if kind == 'PNG':
        return png.decode(data), None, False
    if kind == 'TIFF' or data[:4] in _TIFF_SIGNATURES:
        decoded = tiff.decode(data)
        if decoded is not None:
            return *decoded, False
    if image is None or (kind in _OPENCV_FORMATS and image.mode not in ('LA', 'La')):
        pixels = _decoded_by_opencv(data)
        return _spread_pnm(data, pixels) if kind == 'PPM' else pixels, None, False
    return _decoded_by_pillow(image)


def _decoded_by_opencv(data: bytes) -> np.ndarray:
    pixels = None
    with contextlib.suppress(cv2.error):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError('not a picture, or a damaged one')
    return pixels


def _spread_pnm(data: bytes, pixels: np.ndarray) -> np.ndarray:
    """Bring the values of a PGM or PPM, which names its own maximum, to the full range."""
    words = re.sub(rb'#[^\n]*', b' ', data[:_PNM_HEADER_BYTES]).split(None, 4)
    top = np.iinfo(pixels.dtype).max
    if words[0] in (b'P1', b'P4') or not words[3].isdigit() or int(words[3]) == top:
        return pixels
    return np.rint(pixels * (top / int(words[3]))).clip(0, top).astype(pixels.dtype)


def _in_integers(pixels: np.ndarray) -> np.ndarray:
    """Return 8- and 16-bit pixels as they are and floating point of 0..1 as 16 bits; refuse all else."""
    if pixels.dtype.kind == 'f':
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # NaN too
            raise ImageError(f'floating-point values from {low:g} to {high:g}; only 0 to 1 can be read')
        return np.rint(pixels.astype(np.float32) * 65535).astype(np.uint16)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f'values of type {pixels.dtype}; only 8 and 16 bits and floating point can be read')
    return pixels


def _decoded_by_pillow(image: Image.Image) -> tuple[np.ndarray, int | None, bool]:
    # Pillow turns TIFF by itself.
    orientation = 1 if image.format == 'TIFF' else None
    try:
        image.load()
        if image.mode == 'CMYK':
            return _bgr(_from_cmyk(image)), orientation, True
        if image.mode in ('1', 'L') and 'transparency' not in image.info:
            return np.array(image.convert('L')), orientation, False
        if image.mode == 'LAB' or image.mode.startswith(('I', 'F')):
            raise ImageError(f'pixels of Pillow\'s mode {image.mode} in {image.format} can\'t be read truly')
        alpha = 'transparency' in image.info or image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La')
        return _bgr(image.convert('RGBA' if alpha else 'RGB')), orientation, image.mode == 'YCbCr'
    except ImageError:
        raise
    except Exception as error:  # of a damaged file Pillow's plugins raise nearly anything
        raise ImageError(f'damaged: {error}') from None


def _from_cmyk(image: Image.Image) -> Image.Image:
    """Convert CMYK to sRGB, by the picture's own profile if it has one."""
    profile = image.info.get('icc_profile')
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError):  # a damaged profile
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), ImageCms.createProfile('sRGB'), outputMode='RGB')
            if converted is not None:
                return converted
    return image.convert('RGB')


def _bgr(image: Image.Image) -> np.ndarray:
    pixels = np.array(image)
    return cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror pixels as the EXIF orientation (1..8) says."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    quarter_turns = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def _profile_fits(icc: bytes, pixels: np.ndarray) -> bool:
    """Tell whether an ICC profile is for this kind of pixels: its header names its colour space at byte 16."""
    return icc[16:20] == (b'GRAY' if pixels.ndim == 2 else b'RGB ')


# ---- writing ----

#: Extensions that can be written, with whether they hold alpha and 16 bits.
_HOLDS = {
    'png': (True, True), 'tif': (True, True), 'tiff': (True, True), 'webp': (True, False),
    'jpg': (False, False), 'jpeg': (False, False), 'jpe': (False, False), 'bmp': (False, False),
}
WRITABLE_EXTENSIONS = tuple(_HOLDS)


def holds_alpha(extension: str) -> bool:
    """Tell whether files of a writable extension (without the dot) hold transparency."""
    return _HOLDS[extension.lower()][0]


def encode(picture: Picture, extension: str, quality: int = 95) -> bytes:
    """Encode a picture as a file of the given extension.

    Args:
        picture: BGRA only where `holds_alpha(extension)`; 16 bits become 8, with a log line, where the format has no
            more.
        extension: One of `WRITABLE_EXTENSIONS`, in any case.
        quality: 1..100, for jpg and webp.

    Returns:
        The file's bytes, with as much of the metadata as the format takes.

    Raises:
        ImageError: the picture can't be encoded, for instance because it is too large for the format.
    """
    kind = extension.lower()
    pixels = _in_depth(picture.pixels, kind)
    if kind in ('tif', 'tiff'):
        file = io.BytesIO()
        tiff.write(file, pixels, picture.metadata)
        return file.getvalue()
    kinds, chunks = _webp_chunks(picture) if kind == 'webp' else ([], [])
    try:
        done, buffer = cv2.imencodeWithMetadata(f'.{kind}', pixels, kinds, chunks, _settings(kind, quality))
    except cv2.error as error:
        raise ImageError(f'OpenCV can\'t encode it as {kind}: {error.err or error}') from None
    if not done:
        raise _too_large(pixels, kind)
    size = header_size(kind)
    header = header_with(buffer[:size].tobytes(), kind, picture.metadata)
    return header + buffer[size:].tobytes()


def write(picture: Picture, path: Path, extension: str, quality: int = 95) -> None:
    """Write a picture to a file; very large ones without a second copy in memory. The arguments are `encode`'s.

    Raises:
        ImageError: see `encode`.
        OSError: the file can't be written.
    """
    kind = extension.lower()
    if picture.pixels.nbytes < _ENOUGH_TO_STREAM or kind == 'webp':
        path.write_bytes(encode(picture, kind, quality))
        return
    pixels = _in_depth(picture.pixels, kind)
    if kind in ('tif', 'tiff'):
        tiff.write(path, pixels, picture.metadata)
        return
    body = path.with_name(f'{path.stem}-body.{kind}')
    try:
        if not cv2.imwrite(str(body), pixels, _settings(kind, quality)):
            raise _too_large(pixels, kind)
        with body.open('rb') as source, path.open('wb') as target:
            target.write(header_with(source.read(header_size(kind)), kind, picture.metadata))
            while piece := source.read(_ENOUGH_TO_STREAM >> 6):
                target.write(piece)
    except cv2.error as error:
        raise ImageError(f'OpenCV can\'t encode it as {kind}: {error.err or error}') from None
    finally:
        body.unlink(missing_ok=True)


def _in_depth(pixels: np.ndarray, kind: str) -> np.ndarray:
    if pixels.dtype == np.uint16 and not _HOLDS[kind][1]:
        logger.warning('%s holds 8 bits only: the 16-bit picture is converted', kind)
        return np.rint(pixels / 257).astype(np.uint8)
    return pixels


def _settings(kind: str, quality: int) -> list[int]:
    if kind == 'webp':
        return [cv2.IMWRITE_WEBP_QUALITY, quality]
    return [cv2.IMWRITE_JPEG_QUALITY, quality] if kind.startswith('j') else []


def _webp_chunks(picture: Picture) -> tuple[list[int], list[np.ndarray]]:
    """Return what OpenCV writes of the metadata, with its name for each kind; webp has colours only."""
    metadata = picture.metadata
    icc = metadata.icc if picture.pixels.ndim == 3 else None
    present = [(kind, chunk) for kind, chunk in (
        (cv2.IMAGE_METADATA_EXIF, metadata.exif or resolution_as_exif(metadata)), (cv2.IMAGE_METADATA_ICCP, icc),
        (cv2.IMAGE_METADATA_XMP, metadata.xmp)) if chunk]
    return [kind for kind, _ in present], [np.frombuffer(chunk, np.uint8) for _, chunk in present]


def _too_large(pixels: np.ndarray, kind: str) -> ImageError:
    height, width = pixels.shape[:2]
    return ImageError(f'OpenCV can\'t encode it as {kind}; is {width}x{height} too large for the format?')
