"""Reading pictures: pixel values of every format, frames, orientation, and files that are no good."""
from __future__ import annotations

import io
import struct
import subprocess
import sys
import types
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from realesrgan.errors import ImageError
from realesrgan.pictures.reading import decode, looks_like_picture
from realesrgan.pictures.writing import encode
from tests.support.made_pictures import (
    CASES,
    MAKE,
    ORIENTATION,
    assert_same,
    build_icon,
    build_one_tag,
    build_palette_dds,
    build_palette_tiff,
    build_red_paper_icc,
    build_tiff_with_preview,
    make_blocks,
    make_exif,
    make_noise,
    read_by_opencv,
    read_by_pillow,
    read_exif,
    save_by_opencv,
    save_by_pillow,
    save_by_tifffile,
    store_turned,
    swap_red_blue,
)

PROJECT = Path(__file__).parent.parent.parent

# ---- pixels ----

NOISE = {channels: make_noise(40, 48, *channels) for channels in ((), (3,), (4,))}
DEEP = {channels: make_noise(40, 48, *channels, dtype=np.uint16) for channels in ((), (3,), (4,))}


@pytest.mark.parametrize(('data', 'pixels'), [
    *((save_by_opencv(pixels, kind), pixels) for kind in ('png', 'tiff')
      for pixels in (*NOISE.values(), *DEEP.values())),
    *((save_by_opencv(pixels, 'bmp'), pixels) for pixels in NOISE.values()),
    (save_by_opencv(NOISE[()], 'pgm'), NOISE[()]),
    *((save_by_pillow(NOISE[channels], kind, **options), NOISE[channels]) for channels in ((3,), (4,))
      for kind, options in (('TGA', {}), ('JPEG2000', {}), ('QOI', {}), ('WEBP', {'lossless': True, 'exact': True}))),
    (save_by_pillow(Image.fromarray(DEEP[()]), 'JPEG2000'), DEEP[()])],
    ids=lambda value: str(value[:4]) if isinstance(value, bytes) else f'{value.shape} {value.dtype}')
def test_lossless_formats_are_read_exactly(data, pixels):
    assert_same(decode(data).pixels, pixels)


@pytest.mark.parametrize('extension', ['jpg', 'webp'])
@pytest.mark.parametrize('shape', [(33, 47), (33, 47, 3)])
def test_lossy_pictures_are_what_opencv_reads(extension, shape):
    data = save_by_opencv(make_noise(*shape), extension)
    assert_same(decode(data).pixels, read_by_opencv(data))


@pytest.mark.parametrize('channels', [3, 4])
def test_avif_is_what_pillow_reads(channels):
    data = save_by_pillow(make_blocks(channels=channels), 'AVIF')
    assert_same(decode(data).pixels, read_by_pillow(data, 'RGBA' if channels == 4 else 'RGB'))


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP', 'GIF', 'PPM'])
def test_black_and_white_becomes_0_and_255(kind):
    white = make_noise(5, 9) > 127
    assert_same(decode(save_by_pillow(Image.fromarray(white), kind)).pixels, np.where(white, 255, 0).astype(np.uint8))


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP', 'TGA', 'GIF'])
def test_palette_becomes_its_colours(kind):
    palette = Image.fromarray(make_noise(9, 11, 3)).quantize(16)
    assert_same(decode(save_by_pillow(palette, kind)).pixels, swap_red_blue(np.array(palette.convert('RGB'))))


def test_transparent_colour_of_gif_becomes_alpha():
    palette = Image.fromarray(make_noise(9, 11, 3)).quantize(16)
    data = save_by_pillow(palette, 'GIF', transparency=3)
    expected = np.dstack([swap_red_blue(np.array(palette.convert('RGB'))), np.where(np.array(palette) == 3, 0, 255)])
    assert_same(decode(data).pixels, expected.astype(np.uint8))


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_without_profile_is_converted_as_pillow_does(kind):
    data = save_by_pillow(Image.fromarray(make_blocks()).convert('CMYK'), kind)
    assert_same(decode(data).pixels, read_by_pillow(data, 'RGB'))


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_is_converted_by_its_profile_which_is_then_dropped(kind):
    data = save_by_pillow(Image.fromarray(make_blocks()).convert('CMYK'), kind, icc_profile=build_red_paper_icc())
    picture = decode(data)
    assert np.abs(picture.pixels - np.array((0.0, 0.0, 255.0))).max() <= 3
    assert picture.metadata.icc is None


def test_cmyk_with_a_broken_profile_is_converted_without_it():
    data = save_by_pillow(Image.fromarray(make_blocks()).convert('CMYK'), 'JPEG', icc_profile=b'rubbish' * 30)
    assert_same(decode(data).pixels, read_by_pillow(data, 'RGB'))
    assert decode(data).metadata.icc is None


@pytest.mark.parametrize(('top', 'dtype'), [(1023, np.uint16), (65535, np.uint16), (100, np.uint8), (255, np.uint8)])
@pytest.mark.parametrize('channels', [1, 3])
def test_the_values_of_pnm_are_scaled_from_their_own_maximum(top, dtype, channels):
    samples = np.random.default_rng(0).integers(0, top + 1, (4, 5, channels)).astype(dtype)
    header = f'P{5 if channels == 1 else 6}\n# made by hand\n5 4\n{top}\n'.encode()
    data = header + (samples.astype('>u2') if dtype == np.uint16 else samples).tobytes()
    full = np.iinfo(dtype).max
    expected = np.rint(samples * (full / top)).astype(dtype)
    assert_same(decode(data).pixels, expected[..., 0] if channels == 1 else swap_red_blue(expected))


@pytest.mark.parametrize('header', ['PF\n7 5\n-1.0\n', 'PF\n7 5\n1\n', 'Pf\n7 5\n-2.5\n', 'Pf\n7 5\n0.5\n'])
def test_pfm_is_read_in_its_order_of_bytes_and_divided_by_its_scale(header):
    pixels, scale = make_noise(5, 7, 3 if header[1] == 'F' else 1, dtype=np.uint16), float(header.split()[-1])
    rows = pixels[::-1, :, ::-1] / 65535 * abs(scale)  # stored from the bottom up
    data = header.encode() + rows.astype('<f4' if scale < 0 else '>f4').tobytes()
    assert_same(decode(data).pixels, np.squeeze(pixels))
    with pytest.raises(ImageError, match='not a picture, or a damaged one'):
        decode(data[:-1])


# ---- SUN raster, SGI, BMP, DDS ----

@pytest.mark.parametrize('data', [
    save_by_opencv(NOISE[3,], 'ras'), save_by_pillow(NOISE[3,], 'SGI'), save_by_pillow(NOISE[4,], 'SGI')],
    ids=lambda data: str(data[:4]))
def test_the_usual_kinds_of_old_formats_are_read_exactly(data):
    assert_same(decode(data).pixels, NOISE[4 if data[10:12] == b'\0\4' else 3,])


@pytest.mark.parametrize(('data', 'message'), [
    (struct.pack('>8I', 0x59A66A95, 4, 2, 24, 24, 2, 0, 0), 'SUN raster with run lengths or 32 bits a pixel: '),
    (struct.pack('>8I', 0x59A66A95, 4, 2, 32, 32, 1, 0, 0), 'SUN raster with run lengths or 32 bits a pixel: '),
    (save_by_pillow(make_noise(5, 7), 'SGI', bpc=2), 'SGI with 16 bits a channel: save it as png or tiff first$'),
    (save_by_opencv(NOISE[4,], 'bmp').replace(struct.pack('<3I', 0xFF0000, 0xFF00, 0xFF),
                                              struct.pack('<3I', 0x3FF00000, 0xFFC00, 0x3FF)),
     "damaged, or of a kind that can't be read: Unsupported BMP bitfields layout$")],
    ids=['run lengths', '32 bits', '16 bits', 'masks'])
def test_kinds_that_pillow_reads_wrong_or_not_at_all_are_refused(data, message):
    with pytest.raises(ImageError, match=f'^{message}'):
        decode(data + bytes(32))


def test_the_palette_of_dds_keeps_its_alpha():
    indices, palette = make_noise(6, 8), make_noise(256, 4, seed=1)
    assert_same(decode(build_palette_dds(indices, palette)).pixels, swap_red_blue(palette[indices]))
    palette[:, 3] = 0  # not used
    assert_same(decode(build_palette_dds(indices, palette)).pixels, swap_red_blue(palette[indices][..., :3]))


def test_the_maximum_of_pnm_is_found_behind_long_comments():
    data = b'P5 #' + b'9 ' * 3000 + b'\n3 #1\n#2\n 1\n100\n' + bytes([0, 60, 100])
    assert_same(decode(data).pixels, np.array([[0, 153, 255]], np.uint8))


# ---- JPEG 2000, AVIF, icons ----

@pytest.mark.parametrize('form', ['jp2', 'j2k'])
@pytest.mark.parametrize('bits', [1, 4, 8, 10, 12, 16])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_jpeg2000_of_every_depth_is_scaled_to_the_full_range(channels, bits, form):
    dtype, full = (np.uint8, 255) if bits <= 8 else (np.uint16, 65535)
    samples = (make_noise(40, 48, channels, dtype=np.uint16) >> (16 - bits)).astype(dtype)
    data = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat=form, bitspersample=bits)
    expected = np.rint(samples * (full / (2 ** bits - 1))).astype(dtype)
    assert_same(decode(data).pixels, expected[..., 0] if channels == 1 else swap_red_blue(expected))


@pytest.mark.parametrize(('mode', 'options'), [
    ('RGB', {'offset': (5, 7), 'tile_size': (32, 32), 'tile_offset': (3, 3)}), ('RGB', {'signed': True}),
    ('CMYK', {}), ('YCbCr', {})], ids=str)
def test_jpeg2000_that_opencv_refuses_or_gets_wrong_is_what_pillow_reads(mode, options):
    data = save_by_pillow(Image.fromarray(make_noise(40, 48, 3)).convert(mode), 'JPEG2000', **options)
    assert_same(decode(data).pixels, read_by_pillow(data, 'RGB'))


def test_gray_and_alpha_of_jpeg2000_keep_their_depth():
    samples = make_noise(40, 48, 2, dtype=np.uint16)
    data = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat='j2k')
    assert_same(decode(data).pixels, samples[..., [0, 0, 0, 1]])


@pytest.mark.parametrize('bits', [10, 12])
@pytest.mark.parametrize('channels', [3, 4])
def test_avif_of_more_than_eight_bits_becomes_sixteen(channels, bits):
    samples = np.kron(make_noise(3, 4, channels, dtype=np.uint16), np.ones((16, 16, 1), np.uint16)) >> (16 - bits)
    data = imagecodecs.avif_encode(samples, level=100, bitspersample=bits, pixelformat='444', matrix=0)
    expected = np.rint(samples * (65535 / (2 ** bits - 1)))
    picture = decode(data)
    assert picture.pixels.dtype == np.uint16
    assert np.abs(picture.pixels - swap_red_blue(expected)).max() <= 2 * 65535 / 2 ** bits


def test_a_jpeg2000_larger_inside_than_it_says_is_not_decoded():
    data = imagecodecs.jpeg2k_encode(make_noise(40, 48, 3, dtype=np.uint16), level=0, codecformat='jp2')
    place = data.index(b'\xFF\x4F\xFF\x51') + 8
    with pytest.raises(ImageError, match='^damaged: it says that it has 48x40 and 4000000000x40 pixels$'):
        decode(data[:place] + struct.pack('>I', 4_000_000_000) + data[place + 4:])


@pytest.mark.parametrize('sizes', [(16, 32, 48, 128, 256), (256, 128, 48, 32, 16), (128, 256, 48, 32, 16)], ids=str)
def test_of_an_icon_the_largest_picture_is_read_with_its_alpha(sizes):
    """An icon that begins with 128x128 pixels has the header of a TGA, too."""
    pictures = {size: make_noise(size, size, 4, seed=size) for size in sizes}
    for stated_bits in (32, 0):
        assert_same(decode(build_icon(pictures.values(), stated_bits)).pixels, pictures[256])


def test_an_icon_whose_alpha_is_not_used_is_opaque():
    pixels = make_noise(16, 16, 4)
    pixels[..., 3] = 0
    assert_same(decode(build_icon([pixels])).pixels, np.ascontiguousarray(pixels[..., :3]))


# ---- frames ----

@pytest.mark.parametrize(('kind', 'options'), [
    ('GIF', {}), ('PNG', {}), ('TIFF', {}), ('WEBP', {'lossless': True})])
def test_only_the_first_frame_is_read_with_a_warning(logged, kind, options):
    frames = [Image.fromarray(np.full((9, 11, 3), colour, np.uint8)) for colour in ((200, 30, 60), (0, 255, 0), 7)]
    data = save_by_pillow(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(np.unique(decode(data).pixels[..., :3].reshape(-1, 3), axis=0), [[60, 30, 200]])
    hint = '' if kind == 'TIFF' else '; inference_realesrgan_video.py upscales all of an animation'
    assert logged.messages == [f'only the first of 3 frames or pages is used{hint}']


@pytest.mark.parametrize('kind', ['GIF', 'PNG', 'JPEG', 'TIFF', 'WEBP', 'AVIF'])
def test_a_single_frame_logs_nothing(logged, kind):
    decode(save_by_pillow(make_blocks(), kind))
    assert logged.messages == []


def test_the_previews_in_a_camera_jpeg_log_nothing(logged):
    preview = Image.fromarray(make_noise(16, 16, 3))
    data = save_by_pillow(make_blocks(), 'MPO', save_all=True, append_images=[preview])
    assert_same(decode(data).pixels, read_by_opencv(data))
    assert logged.messages == []


# ---- orientation ----

@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(('kind', 'options'), [
    ('PNG', {}), ('WEBP', {'lossless': True}), ('JPEG', {'quality': 100, 'subsampling': 0})])
def test_every_orientation_is_turned_upright(kind, options, orientation):
    pixels = make_blocks()
    picture = decode(save_by_pillow(store_turned(pixels, orientation), kind, exif=make_exif(orientation), **options))
    assert picture.pixels.shape == pixels.shape
    assert np.abs(picture.pixels.astype(int) - pixels).max() <= (3 if kind == 'JPEG' else 0)
    assert picture.pixels.flags.c_contiguous
    again = read_exif(encode(picture, kind.lower()))
    assert again[0][ORIENTATION] == 1
    assert again[0][MAKE] == 'Maker'


@pytest.mark.parametrize('entry', [(ORIENTATION, 3, 1, b'\0\x09\0\0'), (ORIENTATION, 2, 2, b'6\0\0\0')])
def test_an_orientation_that_does_not_exist_is_ignored(entry):
    pixels, exif = make_noise(5, 7, 3), build_one_tag(*entry)
    picture = decode(save_by_pillow(pixels, 'PNG', exif=exif))
    assert_same(picture.pixels, pixels)
    assert picture.metadata.exif == exif.removeprefix(b'Exif\0\0')


# ---- files that are no good ----

DAMAGEABLE = {
    'png': lambda: save_by_opencv(make_blocks(), 'png'),
    'png of 16 bits': lambda: save_by_opencv(make_noise(9, 9, 3, dtype=np.uint16), 'png'),
    'png with palette': lambda: save_by_pillow(Image.fromarray(make_blocks()).quantize(16), 'PNG'),
    'jpg': lambda: save_by_opencv(make_blocks(), 'jpg'),
    'progressive jpg': lambda: save_by_pillow(make_blocks(), 'JPEG', progressive=True),
    'cmyk jpg': lambda: save_by_pillow(Image.fromarray(make_blocks()).convert('CMYK'), 'JPEG'),
    'webp': lambda: save_by_opencv(make_blocks(), 'webp'),
    'lossless webp': lambda: save_by_opencv(make_noise(9, 9, 4), 'webp', cv2.IMWRITE_WEBP_QUALITY, 101),
    'bmp': lambda: save_by_opencv(make_blocks(), 'bmp'),
    'gif': lambda: save_by_pillow(make_blocks(), 'GIF'),
    'tiff': lambda: save_by_tifffile(make_blocks()),
    'compressed tiff': lambda: save_by_tifffile(make_noise(20, 20, 3), compression='zlib'),
    'lzw tiff': lambda: save_by_opencv(make_blocks(), 'tiff'),
    'jp2 of 16 bits': lambda: imagecodecs.jpeg2k_encode(DEEP[3,], level=0, codecformat='jp2'),
    'gray tiff of 16 bits': lambda: save_by_tifffile(make_noise(20, 20, dtype=np.uint16)),
}


@pytest.mark.parametrize(('name', 'part'), [
    (name, part) for name in DAMAGEABLE for part in ((0.1,) if 'jpg' in name else (0.1, 0.5, 0.95))])
def test_a_truncated_file_is_an_error_in_one_line(name, part, capfd):
    data = DAMAGEABLE[name]()
    decode(data)
    with pytest.raises(ImageError, match='damaged|not a picture'):
        decode(data[:int(len(data) * part)])
    assert capfd.readouterr() == ('', '')


JPEGS = {
    'plain': lambda pixels: save_by_opencv(pixels, 'jpg'),
    'restarts': lambda pixels: save_by_opencv(pixels, 'jpg', cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    'progressive': lambda pixels: save_by_pillow(pixels, 'JPEG', progressive=True),
    'cmyk': lambda pixels: save_by_pillow(Image.fromarray(pixels).convert('CMYK'), 'JPEG'),
    'gray': lambda pixels: save_by_pillow(pixels[..., 0], 'JPEG'),
    'of a camera': lambda pixels: save_by_pillow(pixels, 'MPO'),
}
CUT_OFF = 'is cut off; the missing part is gray'


@pytest.mark.parametrize('name', [name for name in JPEGS if name != 'progressive'])
def test_a_jpeg_is_read_as_far_as_it_goes(name, logged):
    data = JPEGS[name](make_noise(96, 64, 3))
    start = data.index(b'\xFF\xDA')
    found, whole = decode(data[:start + (len(data) - start) * 2 // 3]).pixels, decode(data).pixels
    assert_same(found[:47], whole[:47])
    assert not np.array_equal(found[88:], whole[88:])
    assert (found[88:] == found[88:, :1]).all()
    assert CUT_OFF in logged.messages


@pytest.mark.parametrize('name', JPEGS)
def test_a_jpeg_may_be_cut_off_anywhere_behind_its_headers(name, logged, capfd):
    data = JPEGS[name](make_blocks())
    shape = decode(data).pixels.shape
    pixels_begin = data.index(b'\xFF\xDA') + 16
    for length in (*range(pixels_begin, len(data) - 2, 7), len(data) - 2, len(data) - 1):
        logged.clear()
        found = decode(data[:length]).pixels
        assert found.shape == shape
        assert logged.messages == [CUT_OFF]
    assert_same(found, decode(data).pixels)  # only the end marker is missing
    for length in range(2, data.index(b'\xFF\xDA') + 2, 31):
        with pytest.raises(ImageError, match='damaged|not a picture'):
            decode(data[:length])
    assert capfd.readouterr() == ('', '')


def test_stray_bytes_in_a_jpeg_are_passed_over_silently(capfd):
    data = save_by_opencv(make_blocks(), 'jpg')
    start = data.index(b'\xFF\xC0')
    assert_same(decode(data[:start] + bytes(4) + data[start:]).pixels, decode(data).pixels)
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('data', [bytes(500), b'hello world\n' * 20, b'%PDF-1.4 ' * 20])
def test_what_is_not_a_picture_is_an_error(data, capfd):
    with pytest.raises(ImageError, match='^not a picture'):
        decode(data)
    assert capfd.readouterr() == ('', '')


def test_an_empty_file_is_an_error(capfd):
    with pytest.raises(ImageError, match='^the file is empty$'):
        decode(b'')
    assert capfd.readouterr() == ('', '')


# The signatures are those of CR2, IIQ, CR3, ORF, RW2, RAF, X3F, CRW, MRW.
@pytest.mark.parametrize('data', [
    (CASES / 'camera_raw.dng').read_bytes(), build_tiff_with_preview('cfa'), build_tiff_with_preview('linear_raw'),
    b'II*\0\x10\0\0\0CR\2\0', b'II*\0\x90\0\0\1IIII\2waR', b'\0\0\0\x18ftypcrx ', b'IIRO\x08',
    b'IIU\0\x18', b'FUJIFILMCCD-RAW 0201', b'FOVb\3', b'II\x1A\0\0\0HEAPCCDR', b'\0MRM\0'],
    ids=lambda data: str(data[:10]))
def test_a_cameras_raw_file_is_refused_and_no_preview_taken_for_it(data, tmp_path):
    with pytest.raises(ImageError, match="^a camera's raw file: develop it first, to png or tiff$"):
        decode(data)
    (tmp_path / 'file').write_bytes(data)
    assert looks_like_picture(tmp_path / 'file') is True  # so that it is named, not skipped


@pytest.mark.parametrize('letters', [b'CR', b'IIII'])
def test_a_tiff_whose_first_pixels_spell_a_raw_file_is_none(letters):
    indices = np.resize(np.frombuffer(letters, np.uint8), (4, 4))
    colours = np.arange(256 * 3, dtype=np.uint16).reshape(256, 3) << 6
    data = build_palette_tiff(indices, 8, colours)
    assert data[8:].startswith(letters)
    assert_same(decode(data).pixels, (colours[indices] >> 8).astype(np.uint8)[..., ::-1])


def test_a_tiff_with_a_smaller_copy_of_itself_is_no_raw_file():
    assert decode(build_tiff_with_preview('minisblack')).pixels.shape == (6, 8, 3)


PLUGINS = [
    (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'pillow_heif.HeifImagePlugin', 'HEIF', 'pip install pillow-heif'),
    (b'\0\0\0\x18ftypmif1\0\0\0\0mif1heic', 'pillow_heif.HeifImagePlugin', 'HEIF', 'pip install pillow-heif'),
    (b'\xFF\x0A\0\0', 'pillow_jxl', 'JXL', 'pip install pillow-jxl-plugin'),
    (b'\0\0\0\x0CJXL \r\n\x87\n', 'pillow_jxl', 'JXL', 'pip install pillow-jxl-plugin')]


@pytest.mark.parametrize(('data', 'module', 'name', 'advice'), PLUGINS)
def test_heic_and_jpeg_xl_without_a_plugin_are_named_with_what_to_do(data, module, name, advice, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module.split('.')[0], None)
    with pytest.raises(ImageError, match=f'"{advice}" lets it be read, or save it as jpg or png first$'):
        decode(data)
    (tmp_path / 'file').write_bytes(data)
    assert looks_like_picture(tmp_path / 'file') is True


@pytest.mark.parametrize(('data', 'module', 'name', 'advice'), PLUGINS)
def test_heic_and_jpeg_xl_are_read_with_a_plugin(data, module, name, advice, monkeypatch, logged):
    pixels = make_noise(5, 7, 3)

    def open_file(file, _filename):
        assert file.read() == data
        image = Image.fromarray(swap_red_blue(pixels))
        image.format, image.info = name, {'bit_depth': 10, 'exif': make_exif(1).tobytes()}
        return image
    for part in (module.split('.')[0], module):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(Image.OPEN, name, (open_file, None))
    picture = decode(data)
    assert_same(picture.pixels, pixels)
    assert picture.metadata.exif == make_exif(1).tobytes().removeprefix(b'Exif\0\0')
    assert logged.messages == ['its 10 bits are read as 8']


@pytest.mark.parametrize(('data', 'expected'), [
    (b'', False), (b'hello', False), (bytes(4096), False), (save_by_opencv(make_noise(99, 99, 3), 'tiff'), True), *(
        (save_by_opencv(make_noise(99, 99, 3), extension)[:4096], True) for extension in ('png', 'jpg', 'bmp'))])
def test_the_beginning_of_a_file_tells_whether_it_is_a_picture(tmp_path, data, expected):
    (tmp_path / 'file').write_bytes(data)
    assert looks_like_picture(tmp_path / 'file') is expected


def test_a_file_that_is_not_there_is_no_picture(tmp_path):
    assert looks_like_picture(tmp_path / 'file.png') is False


def test_the_limit_of_pillow_stays_that_of_the_program(monkeypatch, tmp_path):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    data = save_by_pillow(make_noise(9, 9, 3), 'PNG')
    assert decode(data).pixels.shape == (9, 9, 3)
    (tmp_path / 'file').write_bytes(data)
    assert looks_like_picture(tmp_path / 'file')
    with pytest.raises(ImageError):
        decode(save_by_pillow(make_noise(9, 9, 3), 'BMP')[:40])
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))


def test_importing_the_package_changes_nothing_in_pillow():
    code = ('from PIL import Image; before = Image.MAX_IMAGE_PIXELS\n'
            'import realesrgan.pictures.worker\n'
            'print(Image.MAX_IMAGE_PIXELS == before)')
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert result.stdout == 'True\n'


# ---- damage of every kind ----

@pytest.mark.parametrize('kind', ['GIF', 'TIFF', 'WEBP', 'PNG', 'AVIF', 'MPO'])
def test_several_frames_cut_off_anywhere(kind):
    """Pillow's plugins raise IndexError, KeyError, SyntaxError and more. The first frame is read if it is whole."""
    frames = [Image.fromarray(np.roll(make_noise(13, 17, 3), index)).convert('P' if kind == 'GIF' else 'RGB')
              for index in range(3)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    whole = decode(file.getvalue()).pixels
    read = refused = 0
    for length in range(1, len(file.getvalue())):
        try:
            pixels = decode(file.getvalue()[:length]).pixels
        except ImageError:
            refused += 1
        else:
            assert pixels.shape[:2] == whole.shape[:2]
            read += 1
    assert refused > 0
    if kind == 'GIF':
        assert read > refused


def test_a_palette_of_tga_with_unused_alpha_is_opaque():
    """32 bits a colour, whose fourth byte is 0 where no alpha is meant."""
    palette = np.array([[10, 20, 30, 0], [200, 100, 50, 0]], np.uint8)  # BGRA
    header = struct.pack('<BBBHHBHHHHBB', 0, 1, 1, 0, 2, 32, 0, 0, 2, 1, 8, 0x20)
    assert_same(decode(header + palette.tobytes() + bytes([1, 0])).pixels, palette[[[1, 0]], :3])
