"""Write pictures, with as much of their metadata as the format holds.

OpenCV encodes, as in Real-ESRGAN 0.3.0, so files hold the same bytes, but for PNG (see `png.encode`) and TIFF, which
tifffile encodes. To JPEG and BMP, metadata is added behind the header that OpenCV wrote; WebP gets it from OpenCV.
"""
from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import ImageError
from . import colour, formats, png
from .formats import Format
from .picture import EXIF_PREFIX, XMP_PREFIX, Metadata, Picture, import_opencv

logger = logging.getLogger(__name__)

#: The size of pixels from which a picture counts as very large.
STREAMED_BYTES = 1 << 30
_PIECE_BYTES = 1 << 24
_LABELS = {'icc': 'the colour profile', 'exif': 'EXIF', 'xmp': 'XMP', 'dpi': 'the resolution', 'iptc': 'IPTC',
           'comment': 'the comment', 'texts': 'texts'}
# The bytes of a new file up to where metadata goes: SOI and APP0, the JFIF segment; all headers.
_HEADER_BYTES = {'jpeg': 20, 'bmp': 54, None: 0}
_ICC_PREFIX = b'ICC_PROFILE\0'
_SEGMENT_BYTES = 65533  # of a JPEG segment, beside its own length
_MOST_DPI_OF_JPEG = 65535
_METRES_PER_INCH = 0.0254
_HEX_DIGITS = 72  # in a line


def encode(picture: Picture, extension: str, quality: int = 95) -> bytes:
    """Encode a picture as a file.

    Args:
        picture: With alpha only where the format holds it. 16 bits become 8, with a warning, where it holds no more.
        extension: Names the format; one of `formats.list_writable_extensions()`, in any case.
        quality: 1..100, for formats that have a quality.

    Returns:
        The bytes of the file.

    Raises:
        ImageError: the extension can't be written, or the picture can't be encoded, for instance because it is too
            large for the format.
    """
    extension = extension.lower()
    row = formats.find_writable(extension)
    picture = _fit_to_format(picture, extension, row)
    if row.writer == 'png':
        return b''.join(png.encode(picture.pixels, _build_png_chunks(picture.metadata)))
    if row.writer == 'tiff':
        from . import tiff
        file = io.BytesIO()
        tiff.write(file, picture.pixels, picture.metadata)
        return file.getvalue()
    metadata, cv2 = picture.metadata, import_opencv()
    kinds = {
        cv2.IMAGE_METADATA_EXIF: metadata.exif or _build_exif_resolution(metadata),
        cv2.IMAGE_METADATA_ICCP: metadata.icc,
        cv2.IMAGE_METADATA_XMP: metadata.xmp} if row.header is None else {}
    present = {kind: np.frombuffer(content, np.uint8) for kind, content in kinds.items() if content}
    try:
        done, encoded = cv2.imencodeWithMetadata(f'.{extension}', picture.pixels, list(present), list(present.values()),
                                                 _list_settings(row, quality))
    except cv2.error as error:
        raise ImageError(f'OpenCV can\'t encode it as {extension}: {error.err or error}') from None
    _require_done(done, picture, extension)
    size = _HEADER_BYTES[row.header]
    return _add_to_header(encoded[:size].tobytes(), row, metadata) + encoded[size:].tobytes()


def write(picture: Picture, path: Path, extension: str, quality: int = 95) -> None:
    """Write a picture to a file; from `STREAMED_BYTES` on without a second copy of it in memory.

    Args:
        picture: See `encode`, as for `extension` and `quality`.
        path: The file. Another file beside it may be written on the way.
        extension: Names the format, whatever `path` is called.
        quality: 1..100.

    Raises:
        ImageError: see `encode`.
        OSError: the file can't be written.
    """
    extension = extension.lower()
    row = formats.find_writable(extension)
    if picture.pixels.nbytes < STREAMED_BYTES or (row.writer == 'opencv' and row.header is None):
        path.write_bytes(encode(picture, extension, quality))  # OpenCV puts metadata into files in memory only
        return
    picture = _fit_to_format(picture, extension, row)
    if row.writer == 'png':
        with path.open('wb') as file:
            file.writelines(png.encode(picture.pixels, _build_png_chunks(picture.metadata)))
        return
    if row.writer == 'tiff':
        from . import tiff
        tiff.write(path, picture.pixels, picture.metadata)
        return
    body, cv2 = path.with_name(f'{path.stem}-body.{extension}'), import_opencv()
    try:
        _require_done(cv2.imwrite(str(body), picture.pixels, _list_settings(row, quality)), picture, extension)
        with body.open('rb') as source, path.open('wb') as target:
            target.write(_add_to_header(source.read(_HEADER_BYTES[row.header]), row, picture.metadata))
            while piece := source.read(_PIECE_BYTES):
                target.write(piece)
    except cv2.error as error:
        raise ImageError(f'OpenCV can\'t encode it as {extension}: {error.err or error}') from None
    finally:
        body.unlink(missing_ok=True)


def _list_settings(row: Format, quality: int) -> list[int]:
    return [getattr(import_opencv(), row.quality_setting), quality] if row.quality_setting else []


def _require_done(done: bool, picture: Picture, extension: str) -> None:
    if not done:
        height, width = picture.pixels.shape[:2]
        raise ImageError(f'OpenCV can\'t encode it as {extension}; is {width}x{height} too large for the format?')


def _fit_to_format(picture: Picture, extension: str, row: Format) -> Picture:
    """Return the picture with the depth, channels and metadata that the format holds, with a warning of the rest."""
    pixels, metadata = picture.pixels, picture.metadata
    if pixels.dtype == np.uint16 and not row.deep:
        logger.warning('%s holds 8 bits only: the 16-bit picture is converted', extension)
        pixels = np.rint(pixels / 257).astype(np.uint8)
    if pixels.ndim == 2 and not row.gray:
        if metadata.icc:
            logger.warning('%s has colours only: the profile for gray is left out', extension)
        pixels, metadata = np.dstack([pixels] * 3), metadata._replace(icc=None)
    left_out = [label for name, label in _LABELS.items() if getattr(metadata, name) and name not in row.holds]
    if metadata.colour and 'colour' not in row.holds:
        is_srgb, profile, clipped = colour.describe(metadata.colour, gray=pixels.ndim == 2)
        if not is_srgb and (profile is None or 'icc' not in row.holds):
            left_out.append('the description of its colours')
        elif profile and (not metadata.icc or b'cICP' in dict(metadata.colour)):  # which counts before it
            metadata = metadata._replace(icc=profile)
            if clipped:
                logger.warning('is HDR, which %s does not hold: highlights above white are clipped; --ext %s keeps '
                               'them', extension, formats.FALLBACK)
    if left_out:
        logger.warning('not kept in %s: %s; --ext %s keeps it', extension, ', '.join(left_out), formats.FALLBACK)
    return Picture(pixels, metadata)


# ---- metadata in headers ----

def _add_to_header(header: bytes, row: Format, metadata: Metadata) -> bytes:
    """Add metadata to the first `_HEADER_BYTES` of a file that OpenCV wrote without any.

    Whatever is too long for a JPEG is left out with a warning.
    """
    if row.header == 'jpeg':
        if metadata.dpi and max(metadata.dpi) > _MOST_DPI_OF_JPEG:
            logger.warning('its resolution of %g x %g dpi is too high for jpg and is left out', *metadata.dpi)
        elif metadata.dpi:  # the JFIF segment holds unit and densities from byte 13 of the file on
            header = header[:13] + struct.pack('>BHH', 1, *map(round, metadata.dpi)) + header[18:]
        return header + b''.join(_build_jpeg_segments(metadata))
    if row.header == 'bmp' and metadata.dpi:  # pixels per metre from byte 38 of the file on
        return header[:38] + struct.pack('<2i', *_count_per_metre(metadata.dpi)) + header[46:]
    return header


def _build_png_chunks(metadata: Metadata) -> Iterator[bytes]:
    if metadata.icc:
        yield png.build_chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(metadata.icc))
    for kind, content in metadata.colour:
        if not (metadata.icc and kind == b'sRGB'):  # which must not stand beside a profile
            yield png.build_chunk(kind, content)
    if metadata.dpi:
        yield png.build_chunk(b'pHYs', struct.pack('>IIB', *_count_per_metre(metadata.dpi), 1))
    if metadata.exif:
        yield png.build_chunk(b'eXIf', metadata.exif)
    if metadata.xmp:  # in iTXt, because tEXt holds Latin-1 only
        yield png.build_chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + metadata.xmp)
    if metadata.iptc:  # as ImageMagick and ExifTool keep it
        digits = _build_iptc_resource(metadata.iptc).hex()
        lines = [digits[start:start + _HEX_DIGITS] for start in range(0, len(digits), _HEX_DIGITS)]
        text = '\n'.join(('', 'iptc', f'{len(digits) // 2:8}', *lines, ''))
        yield png.build_chunk(b'zTXt', b'Raw profile type iptc\0\0' + zlib.compress(text.encode()))
    for kind, content in metadata.texts:
        yield png.build_chunk(kind, content)
    if metadata.comment:  # behind others, as it was read
        yield _build_comment(metadata.comment)


def _build_comment(comment: bytes) -> bytes:
    """Return the chunk of a PNG for a comment: tEXt for ASCII, otherwise iTXt, which is UTF-8."""
    comment = comment.replace(b'\0', b'')
    if comment.isascii():
        return png.build_chunk(b'tEXt', b'Comment\0' + comment)
    try:
        text = comment.decode()
    except UnicodeDecodeError:
        text = comment.decode('latin-1')
    return png.build_chunk(b'iTXt', b'Comment\0\0\0\0\0' + text.encode())


def _build_jpeg_segments(metadata: Metadata) -> Iterator[bytes]:
    resource = metadata.iptc and _build_iptc_resource(metadata.iptc)
    for name, marker, prefix, content in (
            ('EXIF data', 0xE1, EXIF_PREFIX, metadata.exif), ('XMP data', 0xE1, XMP_PREFIX, metadata.xmp),
            ('IPTC data', 0xED, b'Photoshop 3.0\0', resource), ('comment', 0xFE, b'', metadata.comment)):
        if content and len(prefix) + len(content) > _SEGMENT_BYTES:
            logger.warning('the %s is too long for jpg and is left out', name)
        elif content:
            yield _build_jpeg_segment(marker, prefix + content)
    icc = metadata.icc or b''
    size = _SEGMENT_BYTES - len(_ICC_PREFIX) - 2
    count = -(-len(icc) // size)
    if count > 255:  # parts are numbered in one byte
        logger.warning('the ICC profile is too long for jpg and is left out')
        return
    for index in range(count):
        part = icc[index * size:(index + 1) * size]
        yield _build_jpeg_segment(0xE2, _ICC_PREFIX + bytes((index + 1, count)) + part)


def _build_jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content


def _build_iptc_resource(iptc: bytes) -> bytes:
    """Return IPTC records as one of Photoshop's resources."""
    return struct.pack('>4sH2xI', b'8BIM', 0x0404, len(iptc)) + iptc + bytes(len(iptc) % 2)


def _build_exif_resolution(metadata: Metadata) -> bytes | None:
    """Return EXIF that holds the resolution alone, for formats with no other place for it; None without resolution."""
    if not metadata.dpi:
        return None
    from PIL import ExifTags, Image
    tags = Image.Exif()
    tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = metadata.dpi
    tags[ExifTags.Base.ResolutionUnit] = 2  # inch
    return tags.tobytes().removeprefix(EXIF_PREFIX)


def _count_per_metre(dpi: tuple[float, float]) -> tuple[int, int]:
    return round(dpi[0] / _METRES_PER_INCH), round(dpi[1] / _METRES_PER_INCH)
