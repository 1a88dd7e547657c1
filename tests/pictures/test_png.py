"""PNG: every colour type and depth, transparency in all its forms, and damage."""
from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from realesrgan.errors import ImageError
from realesrgan.pictures import png
from realesrgan.pictures.reading import decode
from tests.support.made_pictures import (
    assert_same,
    build_png,
    compress_rows,
    make_noise,
    save_by_pillow,
    swap_red_blue,
)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_gray_and_alpha_of_png_become_colours_and_alpha(dtype):
    gray, alpha = make_noise(5, 7, dtype=dtype), make_noise(5, 7, dtype=dtype, seed=1)
    data = build_png(7, 5, 8 * gray.itemsize, 4, compress_rows(np.dstack([gray, alpha])))
    assert_same(decode(data).pixels, np.dstack([gray, gray, gray, alpha]))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_transparent_gray_value_becomes_alpha(dtype):
    gray = make_noise(5, 7, dtype=dtype)
    data = build_png(7, 5, 8 * gray.itemsize, 0, compress_rows(gray), (b'tRNS', struct.pack('>H', gray[2, 3])))
    alpha = np.where(gray == gray[2, 3], 0, np.iinfo(dtype).max).astype(dtype)
    assert_same(decode(data).pixels, np.dstack([gray, gray, gray, alpha]))


def test_transparent_gray_value_of_few_bits_becomes_alpha():
    data = build_png(4, 1, 2, 0, compress_rows(np.array([[0b00011011]], np.uint8)), (b'tRNS', struct.pack('>H', 2)))
    assert_same(decode(data).pixels, np.array([[[0, 0, 0, 255], [85, 85, 85, 255], [170, 170, 170, 0],
                                                [255, 255, 255, 255]]], np.uint8))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_transparent_colour_becomes_alpha(dtype):
    pixels = make_noise(5, 7, 3, dtype=dtype)
    data = build_png(7, 5, 8 * pixels.itemsize, 2, compress_rows(swap_red_blue(pixels)),
                     (b'tRNS', struct.pack('>3H', *pixels[2, 3, ::-1])))
    alpha = np.where((pixels == pixels[2, 3]).all(axis=2), 0, np.iinfo(dtype).max).astype(dtype)
    assert_same(decode(data).pixels, np.dstack([pixels, alpha]))


@pytest.mark.parametrize(('depth', 'packed', 'values'), [
    (1, [0b10100101], [255, 0, 255, 0, 0, 255, 0, 255]),
    (2, [0b00011011, 0b11100100], [0, 85, 170, 255, 255, 170, 85, 0]),
    (4, [0x01, 0x23, 0x9A, 0xEF], [0, 17, 34, 51, 153, 170, 238, 255]),
])
def test_gray_of_few_bits_is_scaled_to_255(depth, packed, values):
    data = build_png(8, 1, depth, 0, compress_rows(np.array([packed], np.uint8)))
    assert_same(decode(data).pixels, np.array([values], np.uint8))


def test_palette_with_transparency_keeps_every_alpha():
    palette = Image.fromarray(make_noise(9, 11, 3)).quantize(16)
    alphas = make_noise(16, seed=1)
    expected = np.dstack([swap_red_blue(np.array(palette.convert('RGB'))), alphas[np.array(palette)]])
    assert_same(decode(save_by_pillow(palette, 'PNG', transparency=alphas.tobytes())).pixels, expected)


@pytest.mark.parametrize(('stream', 'message'), [
    (b'', 'damaged: '),
    (b'rubbish' * 9, 'damaged: IDAT: incorrect header check'),
    (zlib.compress(bytes(22)), 'damaged: Not enough image data$'),
    (zlib.compress(bytes(109)), 'damaged: Not enough image data$'),
    (zlib.compress(bytes(110))[:-4] + bytes(4), 'damaged: IDAT: incorrect data check$')],
    ids=['none', 'no zlib stream', 'too short', 'short of a byte', 'checksum'])
def test_a_png_without_its_pixels_is_an_error_that_says_so(stream, message, capfd):
    with pytest.raises(ImageError, match=message):
        decode(build_png(7, 5, 8, 2, stream))
    assert capfd.readouterr() == ('', '')


PIXELS = make_noise(5, 7, 3)
INDICES = make_noise(5, 7) % 4
ROWS, INDEX_ROWS = compress_rows(swap_red_blue(PIXELS)), compress_rows(INDICES)
PALETTE = make_noise(4, 3, seed=1)
COLOURS = swap_red_blue(PALETTE[INDICES])


@pytest.mark.parametrize(('data', 'expected'), [
    (build_png(7, 5, 8, 2, ROWS, (b'PLTE', bytes(4))), PIXELS),
    (build_png(7, 5, 8, 2, compress_rows(np.vstack([swap_red_blue(PIXELS)] * 2))), PIXELS),
    (build_png(7, 5, 8, 2, ROWS + b'rubbish'), PIXELS),
    (build_png(7, 5, 2, 3, zlib.compress((b'\0' + bytes(2)) * 5), (b'PLTE', PALETTE.tobytes() + bytes(9))),
     np.tile(PALETTE[0, ::-1], (5, 7, 1))),
], ids=['palette of colours', 'too many rows', 'bytes behind', 'long palette'])
def test_what_a_viewer_passes_over_is_passed_over_silently(data, expected, logged, capfd):
    assert_same(decode(data).pixels, expected)
    assert [record.message for record in logged.records if record.name.startswith('realesrgan')] == []
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize(('data', 'expected'), [
    (build_png(7, 5, 8, 2, ROWS, (b'tRNS', bytes(9))), PIXELS),
    (build_png(7, 5, 8, 0, compress_rows(PIXELS[..., 0]), (b'tRNS', bytes(3))), PIXELS[..., 0]),
    (build_png(7, 5, 8, 3, INDEX_ROWS, (b'PLTE', PALETTE.tobytes()), (b'tRNS', bytes(5))), COLOURS)],
    ids=['colour', 'gray', 'palette'])
def test_damaged_transparency_is_left_out_with_a_warning(data, expected, logged, capfd):
    assert_same(decode(data).pixels, expected)
    assert logged.messages == ['its transparency is damaged and is left out']
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize(('data', 'message'), [
    (build_png(7, 5, 3, 2, ROWS), 'Invalid IHDR data$'),
    (build_png(7, 5, 8, 1, ROWS), 'Invalid IHDR data$'),
    (build_png(7, 5, 8, 3, INDEX_ROWS), ''),
    (build_png(7, 5, 8, 3, INDEX_ROWS, (b'PLTE', bytes(4))), 'PLTE: invalid$'),
    (build_png(7, 5, 8, 2, zlib.compress(bytes(88) + b'\5' + bytes(21))), 'bad adaptive filter value$'),
    (b'\x89PNG\r\n\x1a\n', 'it ends after 8 bytes, in the middle of the picture$'),
], ids=['depth', 'colour', 'no palette', 'palette', 'filter', 'signature'])
def test_what_libpng_would_complain_about_is_an_error_of_ours(data, message, capfd):
    with pytest.raises(ImageError, match=f'^damaged: {message}'):
        decode(data)
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('shape', [(1, 1), (2, 3), (5, 7), (8, 8), (9, 17)])
def test_an_interlaced_png_is_read_if_it_is_whole(shape):
    gray = make_noise(*shape)
    rows = b''.join(b'\0' + row.tobytes() for y, x, down, across in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        for row in gray[y::down, x::across] if row.size)
    assert_same(decode(interlace(build_png(*shape[::-1], 8, 0, zlib.compress(rows)))).pixels, gray)
    with pytest.raises(ImageError, match='^damaged: Not enough image data$'):
        decode(interlace(build_png(*shape[::-1], 8, 0, zlib.compress(rows[:-1]))))


def interlace(data):
    """Return a PNG whose header says that it is interlaced."""
    header = data[12:28] + b'\1'
    return data[:12] + header + struct.pack('>I', zlib.crc32(header)) + data[33:]


def test_a_wrong_checksum_is_an_error_that_names_its_place():
    data = bytearray(build_png(7, 5, 8, 0, compress_rows(make_noise(5, 7))))
    data[45] ^= 1  # in the pixels
    with pytest.raises(ImageError, match='^damaged: wrong checksum of the chunk at byte 33$'):
        decode(bytes(data))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('shape', [(1, 2), (70, 3), (61, 40, 3), (7, 90, 4)])
def test_bands_inflate_to_the_rows_that_opencv_writes(shape, dtype, monkeypatch):
    monkeypatch.setattr(png, '_BAND_BYTES', 500)
    monkeypatch.setattr(png, '_MOST_BANDS', 3)
    pixels = make_noise(*shape, dtype=dtype)
    data = b''.join(png.encode(pixels))
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), pixels)
    opencvs = cv2.imencode('.png', pixels)[1].tobytes()
    ours, theirs = (zlib.decompress(b''.join(content for kind, content in png._iterate_chunks(file) if kind == b'IDAT'))
                    for file in (data, opencvs))
    assert ours == theirs
