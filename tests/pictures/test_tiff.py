"""TIFF: its layouts, depths, kinds of alpha and orientations, and what is refused."""
from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image
from tifffile import EXTRASAMPLE

from realesrgan.errors import ImageError
from realesrgan.pictures.picture import Picture
from realesrgan.pictures.reading import decode
from realesrgan.pictures.writing import encode
from tests.support.made_pictures import (
    ORIENTATION,
    assert_same,
    build_palette_tiff,
    make_blocks,
    make_noise,
    read_exif,
    save_by_opencv,
    save_by_pillow,
    save_by_tifffile,
    store_turned,
    swap_red_blue,
)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize('options', [
    {}, {'byteorder': '>'}, {'compression': 'zlib', 'predictor': True}, {'bigtiff': True}, {'tile': (16, 16)},
], ids=str)
def test_every_layout_of_tiff_is_read_exactly(dtype, shape, options):
    pixels = make_noise(*shape, dtype=dtype)
    assert_same(decode(save_by_tifffile(swap_red_blue(pixels), **options)).pixels, pixels)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_tiff_with_a_plane_for_each_colour(dtype):
    pixels = make_noise(5, 7, 3, dtype=dtype)
    planes = np.ascontiguousarray(swap_red_blue(pixels).transpose(2, 0, 1))
    assert_same(decode(save_by_tifffile(planes, photometric='rgb', planarconfig='separate')).pixels, pixels)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_tiff_whose_zero_is_white(dtype):
    pixels = make_noise(5, 7, dtype=dtype)
    assert_same(decode(save_by_tifffile(np.iinfo(dtype).max - pixels, photometric='miniswhite')).pixels, pixels)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_premultiplied_tiff_is_divided_by_its_alpha(dtype):
    top = int(np.iinfo(dtype).max)
    pixels = make_noise(5, 7, 4, dtype=dtype)
    pixels[..., 3] |= 1 << (8 * pixels.itemsize - 1)  # so that at most one value is lost
    colours = np.rint(pixels[..., :3] * (pixels[..., 3:] / top)).astype(dtype)
    data = save_by_tifffile(swap_red_blue(np.dstack([colours, pixels[..., 3]])), extrasamples=['assocalpha'])
    found = decode(data).pixels
    assert np.array_equal(found[..., 3], pixels[..., 3])
    assert np.abs(found.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('shape', [(256, 256), (64, 256, 4)])
@pytest.mark.parametrize('off', [-0.4, 0, 0.4])
def test_floating_point_of_0_to_1_becomes_the_nearest_of_sixteen_bits(dtype, shape, off):
    pixels = np.arange(65536, dtype=np.uint16).reshape(shape)
    samples = ((swap_red_blue(pixels) + off) / 65535).clip(0, 1).astype(dtype)
    assert_same(decode(save_by_tifffile(samples)).pixels, pixels)


def test_half_floats_do_not_overflow():
    samples = np.linspace(0, 1, 60, dtype=np.float16).reshape(4, 5, 3)
    expected = np.rint(samples.astype(np.float32) * 65535).astype(np.uint16)
    assert_same(decode(save_by_tifffile(samples)).pixels, swap_red_blue(expected))


@pytest.mark.parametrize(('value', 'told'), [
    (1.5, 'from 0 to 1.5;'), (-0.5, 'from -0.5 to 0;'), (np.inf, 'from 0 to inf;'), (np.nan, 'nan')])
@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3)])
def test_floating_point_beyond_0_to_1_is_refused_with_its_range(value, told, shape):
    samples = np.zeros(shape, np.float32)
    samples[2, 3] = value
    with pytest.raises(ImageError, match=f'floating-point values .*{told}.* only 0 to 1'):
        decode(save_by_tifffile(samples))


@pytest.mark.parametrize('dtype', [np.int16, np.int32, np.uint32])
def test_other_integers_are_refused(dtype):
    with pytest.raises(ImageError, match=f'^values of type {np.dtype(dtype).name}; only 8 bits, 16 bits and'):
        decode(save_by_tifffile(np.ones((5, 7, 3), dtype)))


def test_lab_is_refused():
    with pytest.raises(ImageError, match="^colours of kind CIELAB can't be read$"):
        decode(save_by_pillow(Image.fromarray(make_blocks()).convert('LAB'), 'TIFF'))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_gray_and_alpha_of_tiff_become_colours_and_alpha(dtype):
    gray, alpha = make_noise(5, 7, dtype=dtype), make_noise(5, 7, dtype=dtype, seed=1)
    data = save_by_tifffile(np.dstack([gray, alpha]), photometric='minisblack', planarconfig='contig',
                            extrasamples=['unassalpha'])
    assert_same(decode(data).pixels, np.dstack([gray, gray, gray, alpha]))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_every_orientation_of_tiff_is_turned_upright(dtype, shape, orientation):
    pixels = make_noise(*shape, dtype=dtype)
    data = save_by_tifffile(swap_red_blue(store_turned(pixels, orientation)),
                            extratags=[(ORIENTATION, 'H', 1, orientation, True)])
    picture = decode(data)
    assert_same(picture.pixels, pixels)
    assert ORIENTATION not in read_exif(encode(picture, 'png'))[0]


@pytest.mark.parametrize('bits', [1, 4, 10, 12])
def test_few_bits_are_scaled_to_the_full_range(bits):
    dtype = np.uint8 if bits < 8 else np.uint16
    samples = make_noise(16, 32, dtype=np.uint16) >> (16 - bits)
    data = save_by_tifffile(samples.astype(dtype), bitspersample=bits)
    expected = np.rint(samples * (np.iinfo(dtype).max / (2 ** bits - 1))).astype(dtype)
    assert_same(decode(data).pixels, expected)


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_a_palette_of_any_size_becomes_its_colours_and_keeps_alpha(bits):
    indices, colours = make_noise(5, 13) >> (8 - bits), make_noise(2 ** bits, 3, dtype=np.uint16, seed=1)
    stored = make_noise(5, 13, seed=2) >> (8 - bits)
    alpha = np.rint(stored * (255 / (2 ** bits - 1)))
    expected = np.dstack([(colours[indices] >> 8)[..., ::-1], alpha]).astype(np.uint8)
    found = decode(build_palette_tiff(indices, bits, colours, (EXTRASAMPLE.UNASSALPHA, stored))).pixels
    assert_same(found, expected)
    assert_same(decode(build_palette_tiff(indices, bits, colours)).pixels, np.ascontiguousarray(expected[..., :3]))


def test_channels_after_alpha_are_left_out_with_a_warning(logged):
    pixels = make_noise(5, 7, 4)
    samples = np.dstack([swap_red_blue(pixels), make_noise(5, 7, 2)])
    data = save_by_tifffile(samples, planarconfig='contig', extrasamples=['unassalpha', 'unspecified', 'unspecified'])
    assert_same(decode(data).pixels, pixels)
    assert logged.messages == ['2 further channels are left out']


def test_a_damaged_tiff_is_no_complaint_about_the_next():
    data = save_by_opencv(make_blocks(), 'tiff')  # compressed with LZW
    with pytest.raises(ImageError, match='^damaged'):
        decode(data[:len(data) // 2])
    assert_same(decode(data).pixels, make_blocks())


def test_damaged_tags_that_say_nothing_about_pixels_are_left_out_with_a_warning(logged):
    words = b'beyond the end\0'
    data = save_by_tifffile(swap_red_blue(make_blocks()), extratags=[
        (ORIENTATION, 'H', 1, 0, True), (33432, 's', len(words), words, True)])
    place = data.index((33432).to_bytes(2, 'little')) + 8
    data = data[:place] + b'\xFF\xFF\xFF\x7F' + data[place + 4:]
    assert_same(decode(data).pixels, make_blocks())
    assert [record.message for record in logged.records if record.name.startswith('realesrgan')] == [
        'its tag Orientation is damaged and is left out', 'its tag Copyright is damaged and is left out']


@pytest.mark.parametrize('lost', [1, 4, 10])
def test_a_deflated_tiff_that_lost_its_end_is_refused(lost):
    data = save_by_pillow(make_noise(64, 64, 3), 'TIFF', compression='tiff_deflate')
    with pytest.raises(ImageError, match='damaged'):
        decode(data[:-lost])


def test_the_alpha_of_a_tiff_is_marked_as_not_multiplied():
    with tifffile.TiffFile(io.BytesIO(encode(Picture(make_noise(5, 7, 4)), 'tiff'))) as file:
        assert file.pages[0].extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
