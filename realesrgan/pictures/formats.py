"""The table of picture formats: one row holds all there is to know about a format.

The parser, the search for inputs, the names of results, reading, writing and metadata look it up whenever they need
it, so a new row is all that a new format takes.

This module imports neither numpy, OpenCV nor Pillow, because the parser takes the choices of `--ext` from here and
`--help` must answer at once.
"""
from __future__ import annotations

import re
from typing import Literal, NamedTuple

from ..errors import ImageError

#: The limit of inputs unless the caller says otherwise. OpenCV reads twice as many.
MOST_PIXELS = 1 << 29


class Format(NamedTuple):
    """A row of the table. Extensions are in lower case and without the dot.

    Attributes:
        extensions: Those of results; none if the format can only be read.
        input_extensions: Further extensions that inputs of the format have. Their results become `FALLBACK` when the
            format of the results is 'auto'.
        offered: Whether `--ext` offers the format; its key in the table must then be one of `extensions`.
        pillow_names: Pillow's names of the format, if Pillow may open it.
        signature: Regular expression for the first bytes of files, for kinds of the format that Pillow does not know.
        refused: The reason why files of the format are not read, and a way out.
        plugin: A module that makes Pillow read the format after all, if the user has installed it.
        reader: The decoder of its pixels. 'jpeg' is Pillow, also where the end of the file is missing; 'deep' Pillow
            for 8 bits and imagecodecs for any other depth; 'opencv' is for pixels deeper than Pillow reads them.
        writer: The encoder of its pixels; None if it can only be read.
        alpha: Whether results hold transparency.
        deep: Whether results hold 16 bits; otherwise they hold 8.
        gray: Whether results hold gray as gray; otherwise gray is written as colours.
        always_opaque: Whether no file of the format has transparency, so that none is expected of an input.
        quality_setting: OpenCV's name for the setting that `--quality` goes to; None if the format has no quality.
        header: The kind of header that metadata is added to, after OpenCV has written the file; None where the writer
            puts it in together with the pixels.
        holds: The fields of `picture.Metadata` that results hold.
        longest_side: Pixels that a side of results may have; None for any number.
        result_bits: About how many bits a pixel of an upscaled photo takes, in 8 bits and colours.
    """

    extensions: tuple[str, ...] = ()
    input_extensions: tuple[str, ...] = ()
    offered: bool = False
    pillow_names: tuple[str, ...] = ()
    signature: bytes | None = None
    refused: str | None = None
    plugin: str | None = None
    reader: Literal['pillow', 'jpeg', 'deep', 'opencv', 'png', 'tiff'] = 'pillow'
    writer: Literal['opencv', 'png', 'tiff'] | None = None
    alpha: bool = False
    deep: bool = False
    gray: bool = True
    always_opaque: bool = False
    quality_setting: str | None = None
    header: Literal['jpeg', 'bmp'] | None = None
    holds: tuple[str, ...] = ()
    longest_side: int | None = None
    result_bits: float = 12


#: The formats by name. Pillow tries them in this order, so the format without a clear signature (tga) comes last.
#: Pillow knows more formats; the rest are not pictures, or reading them starts other programs.
FORMATS: dict[str, Format] = {
    'jpg': Format(
        extensions=('jpg', 'jpeg', 'jpe'), input_extensions=('jfif',), offered=True, pillow_names=('JPEG',),
        signature=rb'\xFF\xD8\xFF', reader='jpeg', writer='opencv', always_opaque=True,
        quality_setting='IMWRITE_JPEG_QUALITY', header='jpeg',
        holds=('icc', 'exif', 'xmp', 'dpi', 'iptc', 'comment'), longest_side=65500, result_bits=1.7),
    'png': Format(
        extensions=('png',), input_extensions=('apng',), offered=True, pillow_names=('PNG',),
        signature=rb'\x89PNG\r\n\x1a\n', reader='png', writer='png', alpha=True, deep=True,
        holds=('icc', 'exif', 'xmp', 'dpi', 'iptc', 'comment', 'texts', 'colour'), longest_side=1_000_000),
    'webp': Format(
        extensions=('webp',), offered=True, pillow_names=('WEBP',), writer='opencv', alpha=True, gray=False,
        quality_setting='IMWRITE_WEBP_QUALITY',
        holds=('icc', 'exif', 'xmp', 'dpi'), longest_side=16383, result_bits=1.1),
    'gif': Format(input_extensions=('gif',), pillow_names=('GIF',)),
    'bmp': Format(
        extensions=('bmp',), input_extensions=('dib',), pillow_names=('BMP', 'DIB'), signature=b'BM',
        writer='opencv', header='bmp', holds=('dpi',), result_bits=24),
    # Most raw files are TIFFs too, whose first picture is a preview; `tiff` recognises those without a signature.
    'raw': Format(
        input_extensions=('3fr', 'arw', 'cr2', 'cr3', 'crw', 'dcr', 'dng', 'erf', 'fff', 'iiq', 'kdc', 'mef', 'mos',
                          'mrw', 'nef', 'nrw', 'orf', 'pef', 'raf', 'rw2', 'rwl', 'sr2', 'srf', 'srw', 'x3f'),
        # An uncompressed TIFF may have pixels in byte 8, so two letters there would say nothing.
        signature=rb'II\*\0\x10\0{3}CR\x02|II\*\0.{4}IIII.waR|II(RO|RS|U\0)|MMOR|II\x1A\0{3}HEAPCCDR|'
                  rb'FUJIFILMCCD-RAW|FOVb|\0MRM|.{4}ftypcrx ',
        refused='a camera\'s raw file: develop it first, to png or tiff'),
    'tiff': Format(
        extensions=('tif', 'tiff'), offered=True, pillow_names=('TIFF',),
        signature=rb'II[*+]\0|MM\0[*+]', reader='tiff', writer='tiff', alpha=True, deep=True,
        holds=('icc', 'exif', 'xmp', 'dpi', 'iptc')),
    'avif': Format(input_extensions=('avif',), pillow_names=('AVIF',), reader='deep'),
    'heic': Format(
        input_extensions=('heic', 'heif', 'hif'), pillow_names=('HEIF',), plugin='pillow_heif.HeifImagePlugin',
        signature=rb'.{4}ftyp(he[iv][cmsx]|m[is]f1.{4}(.{4}){0,15}?he[iv][cmsx])',
        refused='HEIC: "pip install pillow-heif" lets it be read, or save it as jpg or png first'),
    'jxl': Format(
        input_extensions=('jxl',), pillow_names=('JXL',), plugin='pillow_jxl',
        signature=rb'\xFF\x0A|\0\0\0\x0CJXL \r\n\x87\n',
        refused='JPEG XL: "pip install pillow-jxl-plugin" lets it be read, or save it as jpg or png first'),
    'jp2': Format(input_extensions=('jp2', 'j2k', 'jpx'), pillow_names=('JPEG2000',), reader='deep'),
    'ppm': Format(
        input_extensions=('ppm', 'pgm', 'pbm', 'pnm', 'pfm'), pillow_names=('PPM',), reader='opencv'),
    'ico': Format(input_extensions=('ico',), pillow_names=('ICO',)),
    'psd': Format(input_extensions=('psd',), pillow_names=('PSD',)),
    'qoi': Format(input_extensions=('qoi',), pillow_names=('QOI',)),
    'pcx': Format(input_extensions=('pcx',), pillow_names=('PCX',)),
    'dds': Format(input_extensions=('dds',), pillow_names=('DDS',)),
    # Pillow reads some kinds of the next two wrong, and says nothing.
    'other ras': Format(
        signature=rb'\x59\xA6\x6A\x95.{8}(\0{3}\x20|.{8}\0{3}\x02)',
        refused='SUN raster with run lengths or 32 bits a pixel: save it as png or tiff first'),
    'ras': Format(input_extensions=('ras',), pillow_names=('SUN',)),
    'other sgi': Format(
        signature=rb'\x01\xDA.\x02', refused='SGI with 16 bits a channel: save it as png or tiff first'),
    'sgi': Format(input_extensions=('sgi', 'rgb', 'rgba', 'bw'), pillow_names=('SGI',)),
    'icns': Format(pillow_names=('ICNS',)),
    'tga': Format(input_extensions=('tga',), pillow_names=('TGA',)),  # Pillow takes icons for it, too
    'hdr': Format(input_extensions=('hdr',), reader='opencv'),
    # OpenCV reads exr only where its build allows it. The row stays so that such files in a folder are reported as
    # errors, not skipped.
    'exr': Format(input_extensions=('exr',), reader='opencv'),
}

#: The extension of results whose own format can't be written or can't hold alpha. It holds alpha and 16 bits.
FALLBACK = 'png'


def list_choices() -> list[str]:
    """Return the choices of `--ext`: 'auto' for the format of each input, and the names of the formats it offers."""
    return ['auto', *(name for name, row in FORMATS.items() if row.offered)]


def list_choices_with_quality() -> list[str]:
    """Return those choices of `--ext` that have a quality."""
    return [name for name, row in FORMATS.items() if row.offered and row.quality_setting]


def list_writable_extensions() -> list[str]:
    """Return all extensions that results may have."""
    return [extension for row in FORMATS.values() for extension in row.extensions]


def list_pillow_names() -> list[str]:
    """Return Pillow's names of the formats that it may open without plug-ins, in the order it should try them."""
    return [name for row in FORMATS.values() if not row.plugin for name in row.pillow_names]


def find_by_extension(extension: str) -> Format | None:
    """Return the format of files with this extension, in any case; None if it is no picture's."""
    extension = extension.lower()
    return next((row for row in FORMATS.values() if extension in (*row.extensions, *row.input_extensions)), None)


def find_by_content(pillow_name: str | None, data: bytes) -> Format | None:
    """Return the format of a file, whatever its extension is.

    Args:
        pillow_name: Pillow's name for its format; None if Pillow could not open it.
        data: The file, or its first bytes.
    """
    for row in FORMATS.values():
        if pillow_name in row.pillow_names or (row.signature and re.match(row.signature, data, re.DOTALL)):
            return row
    return None


def find_writable(extension: str) -> Format:
    """Return the format that is written for this extension, in any case.

    Raises:
        ImageError: there is none.
    """
    row = find_by_extension(extension)
    if row is None or extension.lower() not in row.extensions:
        raise ImageError(f'{extension!r} can\'t be written: choose from {", ".join(list_writable_extensions())}')
    return row


def require_few_pixels(height: int, width: int, most: int) -> None:
    """Check the size that the header of an input states, before it is decoded.

    Raises:
        ImageError: it has more than `most` pixels.
    """
    if height * width > most:
        raise ImageError(f'is {width}x{height}, above the limit of {most} pixels; --max_pixels {height * width} '
                         'allows it')


def require_room(extension: str, height: int, width: int) -> None:
    """Check that a result of this size can be written, before it is computed for hours.

    Raises:
        ImageError: the format has no room for it, or the extension can't be written.
    """
    longest = find_writable(extension).longest_side
    if longest is not None and max(height, width) > longest:
        larger = [name for name, row in FORMATS.items() if row.offered and max(height, width) <= (
            row.longest_side or max(height, width))]
        raise ImageError(f'its result would be {width}x{height}, but {extension} is limited to {longest} pixels a side'
                         f'; choose --ext {" or ".join(larger)}, or a smaller size')
