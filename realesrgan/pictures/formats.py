"""The table of picture formats: one row holds all there is to know about a format.

The parser, the search for inputs, the names of results, reading, writing and metadata all ask this table, each time
they need to know. A new row is therefore all that a new format takes.

This module imports neither numpy, OpenCV nor Pillow, because the parser takes the choices of `--ext` from here and
`--help` must answer at once.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from ..errors import ImageError

#: What inputs may have unless the caller says otherwise: OpenCV reads twice as many.
MOST_PIXELS = 1 << 29


class Reader(Enum):
    """The decoders of pixels."""

    PILLOW = auto()
    OPENCV = auto()  # for formats whose pixels are deeper than Pillow reads them
    JPEG = auto()  # Pillow, also where the end of the file is missing
    BMP = auto()  # Pillow; `bmp` where it refuses the masks of colours
    PNM = auto()  # OpenCV, after which values are scaled from the maximum that the file states; `pnm` for PFM
    SGI = auto()  # `sgi`
    SUN_RASTER = auto()  # `sun_raster`
    PNG = auto()  # imagecodecs, behind checks that leave out what libpng complains about
    DEEP = auto()  # Pillow for 8 bits, imagecodecs for any other depth
    TIFF = auto()  # tifffile; Pillow where colours need converting


class Writer(Enum):
    """The encoders of pixels."""

    OPENCV = auto()
    TIFF = auto()  # tifffile


class MetadataStyle(Enum):
    """How metadata gets into the files of a format."""

    NONE = auto()
    PNG_CHUNKS = auto()  # added to the header that OpenCV wrote
    JPEG_SEGMENTS = auto()  # likewise
    BMP_HEADER = auto()  # likewise
    OPENCV = auto()  # by OpenCV, together with the pixels
    TIFF_TAGS = auto()  # by tifffile, together with the pixels


@dataclass(frozen=True)
class Format:
    """A row of the table. Extensions are in lower case and without the dot.

    Attributes:
        extensions: What results of the format may be called; none if it can only be read.
        input_extensions: Further extensions that inputs of the format have. Their results become `FALLBACK` when the
            format of the results is 'auto'.
        offered: Whether `--ext` offers the format; its key in the table must then be one of `extensions`.
        pillow_names: What Pillow calls the format, if Pillow may open it.
        signature: Regular expression for the first bytes of files that belong to the format even where Pillow does not
            know them.
        refused: Why files of the format are not read, and what to do.
        plugin: Module that makes Pillow read the format nevertheless, where the user has installed it.
        reader: What decodes its pixels.
        writer: What encodes its pixels; None if it can only be read.
        alpha: Whether results hold transparency.
        deep: Whether results hold 16 bits; otherwise they hold 8.
        gray: Whether results hold gray as gray; otherwise gray is written as colours.
        always_opaque: Whether no file of the format has transparency, so that none is expected of an input.
        quality_setting: OpenCV's name for the setting that `--quality` goes to; None if the format has no quality.
        metadata: How metadata gets into results.
        holds: Which fields of `picture.Metadata` results hold.
        longest_side: Pixels that a side of results may have; None for any number.
    """

    extensions: tuple[str, ...] = ()
    input_extensions: tuple[str, ...] = ()
    offered: bool = False
    pillow_names: tuple[str, ...] = ()
    signature: bytes | None = None
    refused: str | None = None
    plugin: str | None = None
    reader: Reader = Reader.PILLOW
    writer: Writer | None = None
    alpha: bool = False
    deep: bool = False
    gray: bool = True
    always_opaque: bool = False
    quality_setting: str | None = None
    metadata: MetadataStyle = MetadataStyle.NONE
    holds: frozenset[str] = frozenset()
    longest_side: int | None = None


#: The formats by name. Pillow tries them in this order, so the format without a clear signature (tga) comes last.
#: Pillow knows more formats; the rest are not pictures, or reading them starts other programs.
FORMATS: dict[str, Format] = {
    'jpg': Format(
        extensions=('jpg', 'jpeg', 'jpe'), input_extensions=('jfif',), offered=True, pillow_names=('JPEG',),
        signature=rb'\xFF\xD8\xFF', reader=Reader.JPEG, writer=Writer.OPENCV, always_opaque=True,
        quality_setting='IMWRITE_JPEG_QUALITY', metadata=MetadataStyle.JPEG_SEGMENTS,
        holds=frozenset(('icc', 'exif', 'xmp', 'dpi', 'iptc', 'comment')), longest_side=65500),
    'png': Format(
        extensions=('png',), input_extensions=('apng',), offered=True, pillow_names=('PNG',),
        signature=rb'\x89PNG\r\n\x1a\n', reader=Reader.PNG, writer=Writer.OPENCV, alpha=True, deep=True,
        metadata=MetadataStyle.PNG_CHUNKS,
        holds=frozenset(('icc', 'exif', 'xmp', 'dpi', 'iptc', 'comment', 'texts', 'colour')), longest_side=1_000_000),
    'webp': Format(
        extensions=('webp',), offered=True, pillow_names=('WEBP',), writer=Writer.OPENCV, alpha=True, gray=False,
        quality_setting='IMWRITE_WEBP_QUALITY', metadata=MetadataStyle.OPENCV,
        holds=frozenset(('icc', 'exif', 'xmp', 'dpi')), longest_side=16383),
    'gif': Format(input_extensions=('gif',), pillow_names=('GIF',)),
    'bmp': Format(
        extensions=('bmp',), input_extensions=('dib',), pillow_names=('BMP', 'DIB'), signature=b'BM',
        reader=Reader.BMP, writer=Writer.OPENCV, metadata=MetadataStyle.BMP_HEADER, holds=frozenset(('dpi',))),
    # Most raw files are TIFFs as well, whose first picture is a preview; `tiff` knows those without a signature.
    'raw': Format(
        input_extensions=('3fr', 'arw', 'cr2', 'cr3', 'crw', 'dcr', 'dng', 'erf', 'fff', 'iiq', 'kdc', 'mef', 'mos',
                          'mrw', 'nef', 'nrw', 'orf', 'pef', 'raf', 'rw2', 'rwl', 'sr2', 'srf', 'srw', 'x3f'),
        # An uncompressed TIFF may have pixels in byte 8, so two letters there would say nothing.
        signature=rb'II\*\0\x10\0{3}CR\x02|II\*\0.{4}IIII.waR|II(RO|RS|U\0)|MMOR|II\x1A\0{3}HEAPCCDR|'
                  rb'FUJIFILMCCD-RAW|FOVb|\0MRM|.{4}ftypcrx ',
        refused='a camera\'s raw file: develop it first, to png or tiff'),
    'tiff': Format(
        extensions=('tif', 'tiff'), offered=True, pillow_names=('TIFF',),
        signature=rb'II[*+]\0|MM\0[*+]', reader=Reader.TIFF, writer=Writer.TIFF, alpha=True,
        deep=True, metadata=MetadataStyle.TIFF_TAGS, holds=frozenset(('icc', 'exif', 'xmp', 'dpi', 'iptc'))),
    'avif': Format(input_extensions=('avif',), pillow_names=('AVIF',), reader=Reader.DEEP),
    'heic': Format(
        input_extensions=('heic', 'heif', 'hif'), pillow_names=('HEIF',), plugin='pillow_heif.HeifImagePlugin',
        signature=rb'.{4}ftyp(he[iv][cmsx]|m[is]f1.{4}(.{4}){0,15}?he[iv][cmsx])',
        refused='HEIC: "pip install pillow-heif" lets it be read, or save it as jpg or png first'),
    'jxl': Format(
        input_extensions=('jxl',), pillow_names=('JXL',), plugin='pillow_jxl',
        signature=rb'\xFF\x0A|\0\0\0\x0CJXL \r\n\x87\n',
        refused='JPEG XL: "pip install pillow-jxl-plugin" lets it be read, or save it as jpg or png first'),
    'jp2': Format(
        input_extensions=('jp2', 'j2k', 'jpx'), pillow_names=('JPEG2000',), reader=Reader.DEEP),
    'ppm': Format(
        input_extensions=('ppm', 'pgm', 'pbm', 'pnm', 'pfm'), pillow_names=('PPM',), signature=b'PF',
        reader=Reader.PNM),
    'ico': Format(input_extensions=('ico',), pillow_names=('ICO',)),
    'psd': Format(input_extensions=('psd',), pillow_names=('PSD',)),
    'qoi': Format(input_extensions=('qoi',), pillow_names=('QOI',)),
    'pcx': Format(input_extensions=('pcx',), pillow_names=('PCX',)),
    'dds': Format(input_extensions=('dds',), pillow_names=('DDS',)),
    'ras': Format(
        input_extensions=('ras',), pillow_names=('SUN',), signature=rb'\x59\xA6\x6A\x95', reader=Reader.SUN_RASTER),
    'sgi': Format(input_extensions=('sgi', 'rgb', 'rgba', 'bw'), pillow_names=('SGI',), reader=Reader.SGI),
    'icns': Format(pillow_names=('ICNS',)),
    'tga': Format(input_extensions=('tga',), pillow_names=('TGA',)),  # Pillow takes icons for it, too
    'hdr': Format(input_extensions=('hdr',), reader=Reader.OPENCV),
    # OpenCV reads exr only where its build allows it. The row stays so that such files in a folder end as errors, where
    # otherwise they would be skipped as no pictures.
    'exr': Format(input_extensions=('exr',), reader=Reader.OPENCV),
}

#: The extension of results whose own format can't be written or can't hold alpha. It holds alpha and 16 bits.
FALLBACK = 'png'


def list_choices() -> list[str]:
    """Return what `--ext` takes: 'auto' for the format of each input, and the names of the formats it offers."""
    return ['auto', *(name for name, row in FORMATS.items() if row.offered)]


def list_choices_with_quality() -> list[str]:
    """Return which of the names that `--ext` takes stand for formats with a quality."""
    return [name for name, row in FORMATS.items() if row.offered and row.quality_setting]


def list_writable_extensions() -> list[str]:
    """Return all extensions that results may have."""
    return [extension for row in FORMATS.values() for extension in row.extensions]


def list_pillow_names() -> list[str]:
    """Return what Pillow may open without plug-ins, by Pillow's names, in the order it should try them."""
    return [name for row in FORMATS.values() if not row.plugin for name in row.pillow_names]


def find_by_extension(extension: str) -> Format | None:
    """Return the format of files with this extension, in any case; None if it is no picture's."""
    extension = extension.lower()
    return next((row for row in FORMATS.values() if extension in (*row.extensions, *row.input_extensions)), None)


def find_by_content(pillow_name: str | None, data: bytes) -> Format | None:
    """Return the format of a file, whatever its extension is.

    Args:
        pillow_name: What Pillow calls its format; None if Pillow could not open it.
        data: The file, or its first bytes.
    """
    for row in FORMATS.values():
        if pillow_name in row.pillow_names or (row.signature and re.match(row.signature, data, re.DOTALL)):
            return row
    return None


def is_writable(extension: str) -> bool:
    """Tell whether results may have this extension, in any case."""
    return extension.lower() in list_writable_extensions()


def find_writable(extension: str) -> Format:
    """Return the format that is written for this extension, in any case.

    Raises:
        ImageError: there is none.
    """
    row = find_by_extension(extension) if is_writable(extension) else None
    if row is None:
        raise ImageError(f'{extension!r} can\'t be written: choose from {", ".join(list_writable_extensions())}')
    return row


def holds_alpha(extension: str) -> bool:
    """Tell whether results with this extension hold transparency.

    Raises:
        ImageError: it can't be written.
    """
    return find_writable(extension).alpha


def require_few_pixels(height: int, width: int, most: int) -> None:
    """Check the size that the header of an input states, before it is decoded.

    Raises:
        ImageError: it has more than `most` pixels.
    """
    if height * width > most:
        raise ImageError(f'has {width}x{height} pixels, which is more than {most}; is it meant to? --max_pixels '
                         f'{height * width} allows it')


def require_room(extension: str, height: int, width: int) -> None:
    """Check that a result of this size can be written, before it is computed for hours.

    Raises:
        ImageError: the format has no room for it, or the extension can't be written.
    """
    longest = find_writable(extension).longest_side
    if longest is not None and max(height, width) > longest:
        larger = [name for name, row in FORMATS.items() if row.offered and max(height, width) <= (
            row.longest_side or max(height, width))]
        raise ImageError(f'its result would be {width}x{height}, and {extension} has room for {longest} pixels a side; '
                         f'choose --ext {" or ".join(larger)}, or a smaller -s')
