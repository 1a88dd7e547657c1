"""Read and write pictures with what belongs to them: depth, alpha, orientation, colour profile, EXIF, XMP, resolution.

OpenCV decodes and encodes, as the original does, and also deep pictures; Pillow reads what surrounds the pixels and
decodes what OpenCV can't (palettes with transparency, CMYK, GIF, AVIF, ...); tifffile writes TIFF.
"""
from __future__ import annotations

import contextlib
import io
import logging
import struct
import warnings
import zlib
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from .errors import RealESRGANError

logger = logging.getLogger(__name__)

_OPENCV_MODES = ('L', 'RGB', 'RGBA', 'I;16', 'I;16B', 'F')
_OPENCV_FORMATS = ('PNG', 'JPEG', 'MPO', 'WEBP', 'BMP', 'DIB', 'TIFF', 'PPM', 'JPEG2000')
_BASIC_TAGS = (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software,
               ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright)
_JPEG_SEGMENT_BYTES = 65533
_XMP_IN_JPEG = b'http://ns.adobe.com/xap/1.0/\0'
_METRES_PER_INCH = 0.0254

# As many pixels as OpenCV reads; the default warns from 89 megapixels on, which scanned posters have.
Image.MAX_IMAGE_PIXELS = 1 << 29
# What these log to stderr, the errors raised here say in one line.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class ImageError(RealESRGANError):
    """A picture that can't be read or written; the message does not name the file."""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture.

    Attributes:
        icc: ICC profile.
        exif: EXIF as TIFF bytes, without the "Exif" prefix; its orientation is 1, for the pixels are upright.
        xmp: XMP packet.
        dpi: Resolution in pixels an inch, horizontal and vertical.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """A picture as it is meant to be seen.

    Attributes:
        pixels: HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16.
        metadata: What came with it.
    """

    pixels: np.ndarray
    metadata: Metadata = Metadata()

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
        image = _opened(data)
        pixels, converted = _pixels(data, image)
        if image is None:
            return Picture(pixels)
        metadata, orientation = _metadata(image)
    if image.format == 'TIFF':
        orientation = 1  # libtiff and Pillow have turned it already
    if converted or (metadata.icc and not _profile_fits(metadata.icc, pixels)):
        metadata = replace(metadata, icc=None)
    return Picture(_upright(pixels, orientation), metadata)


def is_picture(data: bytes) -> bool:
    """Tell whether the beginning of a file looks like a picture's."""
    return _opened(data, check=False) is not None


def _opened(data: bytes, *, check: bool = True) -> Image.Image | None:
    """Open a picture with Pillow, without decoding it; None if Pillow doesn't know the format."""
    try:
        image = Image.open(io.BytesIO(data))
        if check and image.format == 'PNG':  # OpenCV's decoder would print of a damaged one
            image.verify()
            image = Image.open(io.BytesIO(data))
        return image
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError as error:
        raise ImageError(f'too large to read: {error}') from None
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ImageError(f'damaged: {error}') from None


def _pixels(data: bytes, image: Image.Image | None) -> tuple[np.ndarray, bool]:
    """Return the pixels, and whether their colours were converted from another space to sRGB."""
    pixels = None
    frames = getattr(image, 'n_frames', 1)
    if image is None or (image.format in _OPENCV_FORMATS and image.mode in _OPENCV_MODES
                         and 'transparency' not in image.info and (frames == 1 or image.format in ('MPO', 'TIFF'))):
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            pixels = None
        if pixels is not None:
            pixels = _in_integers(pixels)
    if frames > 1 and image is not None and image.format != 'MPO':
        logger.warning('only the first of %d frames or pages is used', frames)
    if pixels is not None:
        return pixels, False
    if image is None:
        raise ImageError('not a picture, or a damaged one')
    return _decoded_by_pillow(image)


def _in_integers(pixels: np.ndarray) -> np.ndarray:
    """Return 8- and 16-bit pixels as they are and floating point of 0..1 as 16 bits; refuse all else."""
    if pixels.dtype.kind == 'f':
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # NaN too
            raise ImageError(f'floating-point values from {low:g} to {high:g}; only 0 to 1 can be read')
        return np.rint(pixels * 65535.0).astype(np.uint16)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f'values of type {pixels.dtype}; only 8 and 16 bits and floating point can be read')
    if pixels.ndim == 3 and pixels.shape[2] not in (3, 4):
        raise ImageError(f'{pixels.shape[2]} channels; only 1, 3 and 4 can be read')
    return pixels


def _decoded_by_pillow(image: Image.Image) -> tuple[np.ndarray, bool]:
    if image.mode == 'LAB' or image.mode.startswith(('I', 'F')):
        raise ImageError(f'pixels of Pillow\'s mode {image.mode} in {image.format} can\'t be read truly')
    try:
        image.load()
        if image.mode == 'CMYK':
            return _bgr(_from_cmyk(image)), True
        if image.mode in ('1', 'L') and 'transparency' not in image.info:
            return np.array(image.convert('L')), False
        alpha = 'transparency' in image.info or image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La')
        if image.mode == 'La':
            image = image.convert('LA')
        return _bgr(image.convert('RGBA' if alpha else 'RGB')), image.mode not in ('P', 'PA', 'RGB', 'RGBA')
    except Image.DecompressionBombError as error:
        raise ImageError(f'too large to read: {error}') from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
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


def _metadata(image: Image.Image) -> tuple[Metadata, int]:
    """Return what an image file says, and the orientation that its EXIF asked for."""
    exif = image.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if image.format == 'TIFF':
        exif = _without_layout(exif)
    if ExifTags.Base.Orientation in exif:
        exif[ExifTags.Base.Orientation] = 1
    exif_bytes = exif.tobytes().removeprefix(b'Exif\0\0') if len(exif) else None
    xmp = image.info.get('xmp') or image.info.get('XML:com.adobe.xmp')
    dpi = image.info.get('dpi')
    return Metadata(
        icc=image.info.get('icc_profile') or None,
        exif=exif_bytes,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(value > 1 for value in dpi) else None), orientation


def _without_layout(exif: Image.Exif) -> Image.Exif:
    """Keep of a TIFF's tags those that describe the picture, not how its file is laid out."""
    kept = Image.Exif()
    for tag in _BASIC_TAGS:
        if tag in exif:
            kept[tag] = exif[tag]
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        kept.get_ifd(ifd).update(exif.get_ifd(ifd))
    return kept


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
    pixels = picture.pixels
    if pixels.dtype == np.uint16 and not _HOLDS[kind][1]:
        logger.warning('%s holds 8 bits only: the 16-bit picture is converted', kind)
        pixels = np.rint(pixels / 257).astype(np.uint8)
    if kind in ('tif', 'tiff'):
        return _encode_tiff(pixels, picture.metadata)
    settings = {'webp': [cv2.IMWRITE_WEBP_QUALITY, quality], 'png': [], 'bmp': []}.get(
        kind, [cv2.IMWRITE_JPEG_QUALITY, quality])
    kinds, chunks = [], []
    for chunk_kind, chunk in _chunks(picture.metadata, kind):
        kinds.append(chunk_kind)
        chunks.append(np.frombuffer(chunk, np.uint8))
    try:
        done, buffer = cv2.imencodeWithMetadata(f'.{kind}', pixels, kinds, chunks, settings)
    except cv2.error as error:
        raise ImageError(f'OpenCV can\'t encode it as {kind}: {error.err or error}') from None
    if not done:
        height, width = pixels.shape[:2]
        raise ImageError(f'OpenCV can\'t encode it as {kind}; is {width}x{height} too large for the format?')
    return _finished(buffer.tobytes(), kind, picture.metadata)


def _chunks(metadata: Metadata, kind: str) -> list[tuple[int, bytes]]:
    """Return what OpenCV writes of the metadata, with its name for each kind."""
    if kind == 'bmp':
        return []
    chunks = [(cv2.IMAGE_METADATA_EXIF, metadata.exif), (cv2.IMAGE_METADATA_ICCP, metadata.icc)]
    if kind in ('png', 'webp'):
        chunks.append((cv2.IMAGE_METADATA_XMP, metadata.xmp))
    elif metadata.exif and len(metadata.exif) + 6 > _JPEG_SEGMENT_BYTES:
        logger.warning('the EXIF data is too long for %s and is left out', kind)
        chunks.pop(0)
    return [(chunk_kind, chunk) for chunk_kind, chunk in chunks if chunk]


def _finished(data: bytes, kind: str, metadata: Metadata) -> bytes:
    """Add what OpenCV leaves out: the resolution of png and jpg, the XMP of jpg."""
    if kind == 'png' and metadata.dpi:
        per_metre = (round(value / _METRES_PER_INCH) for value in metadata.dpi)
        chunk = b'pHYs' + struct.pack('>IIB', *per_metre, 1)
        header_end = 33  # signature and IHDR
        return (data[:header_end] + struct.pack('>I', 9) + chunk + struct.pack('>I', zlib.crc32(chunk))
                + data[header_end:])
    if kind.startswith('j'):
        if metadata.dpi:  # JFIF: unit and densities stand at byte 13
            data = data[:13] + struct.pack('>BHH', 1, *(min(round(value), 65535) for value in metadata.dpi)) + data[18:]
        if metadata.xmp:
            segment = _XMP_IN_JPEG + metadata.xmp
            if len(segment) > _JPEG_SEGMENT_BYTES:
                logger.warning('the XMP data is too long for %s and is left out', kind)
            else:
                jfif_end = 20
                data = data[:jfif_end] + struct.pack('>HH', 0xFFE1, len(segment) + 2) + segment + data[jfif_end:]
    return data


def _encode_tiff(pixels: np.ndarray, metadata: Metadata) -> bytes:
    import tifffile
    if metadata.exif:
        logger.info('EXIF data is not written to tiff')
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    file = io.BytesIO()
    tifffile.imwrite(
        file, pixels, photometric='minisblack' if pixels.ndim == 2 else 'rgb', metadata=None, software=False,
        extrasamples=['unassalpha'] if pixels.ndim == 3 and pixels.shape[2] == 4 else None,
        compression='zlib', predictor=True, iccprofile=metadata.icc, resolution=metadata.dpi,
        resolutionunit='INCH' if metadata.dpi else None,
        extratags=[(700, 1, len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else [])
    return file.getvalue()
