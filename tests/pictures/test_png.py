"""PNG: every colour type and depth, transparency in all its forms, and damage."""
from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from made_pictures import (
    assert_same,
    build_png,
    compress_rows,
    make_noise,
    save_by_opencv,
    save_by_pillow,
    swap_red_blue,
)
from PIL import Image

from realesrgan.errors import ImageError
from realesrgan.pictures.reading import decode


def test_a_dark_sixteen_bit_picture_stays_sixteen_bit():
    pixels = make_noise(5, 7, 3).astype(np.uint16)
    assert_same(decode(save_by_opencv(pixels, 'png')).pixels, pixels)


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
    (b'', 'damaged: a PNG without header or pixels'), (b'rubbish' * 9, 'damaged: Error -3 while decompressing data'),
    (zlib.compress(bytes(22)), 'damaged: it holds 22 bytes of pixels and needs 110$')],
    ids=['none', 'no zlib stream', 'too short'])
def test_a_png_without_its_pixels_is_an_error_that_says_so(stream, message, capfd):
    with pytest.raises(ImageError, match=message):
        decode(build_png(7, 5, 8, 2, stream))
    assert capfd.readouterr() == ('', '')


def test_a_wrong_checksum_is_an_error_that_names_its_place():
    data = bytearray(build_png(7, 5, 8, 0, compress_rows(make_noise(5, 7))))
    data[45] ^= 1  # in the pixels
    with pytest.raises(ImageError, match='^damaged: wrong checksum of the chunk at byte 33$'):
        decode(bytes(data))
