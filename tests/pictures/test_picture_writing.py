"""Writing pictures: the exact bytes, every depth and channel the table of formats promises, very large pictures."""
from __future__ import annotations

import io
import re
import struct

import cv2
import numpy as np
import pytest
import tifffile

from realesrgan.errors import ImageError
from realesrgan.pictures import formats, writing
from realesrgan.pictures.picture import Metadata, Picture
from realesrgan.pictures.reading import decode
from realesrgan.pictures.writing import encode, write
from tests.support.made_pictures import (
    MAKE,
    SRGB,
    XMP,
    assert_same,
    build_gray_icc,
    build_one_tag,
    make_blocks,
    make_exif,
    make_noise,
    save_by_opencv,
    swap_red_blue,
)

WRITABLE = {extension: formats.find_writable(extension) for extension in formats.list_writable_extensions()}


def make_ramps(*shape, dtype=np.uint8):
    """Return gentle ramps, which lossy formats keep almost exactly."""
    height, width, channels = (*shape, 1)[:3]
    slopes = np.linspace(0.4, 0.6, width)[None, :, None] + np.linspace(-0.1, 0.1, height)[:, None, None]
    ramps = np.dstack([slopes, 1 - slopes, slopes / 2, slopes])[..., :channels]
    return np.rint(ramps.reshape(shape) * np.iinfo(dtype).max).astype(dtype)


# ---- what the table promises ----

@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize(('extension', 'shape'), [
    (extension, shape) for extension, row in WRITABLE.items()
    for shape in ((48, 64), (48, 64, 3), *([(48, 64, 4)] if row.alpha else []))])
def test_what_is_written_is_read_as_the_row_says(tmp_path, extension, shape, dtype):
    row, path = WRITABLE[extension], tmp_path / 'picture'
    write(Picture(make_ramps(*shape, dtype=dtype)), path, extension, 100)
    found = decode(path.read_bytes()).pixels
    expected = make_ramps(*shape, dtype=dtype if row.deep else np.uint8)
    if len(shape) == 2 and not row.gray:
        expected = np.dstack([expected] * 3)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    # Lossy formats lose a few levels to YCbCr even at quality 100: 3 of jpg and 4 of webp were measured.
    assert np.abs(found.astype(int) - expected).max() <= (5 if row.quality_setting else 0)
    if shape[2:] == (4,):
        assert np.array_equal(found[..., 3], expected[..., 3])


@pytest.mark.parametrize('extension', WRITABLE)
def test_metadata_is_written_as_the_row_says(extension, logged):
    row = WRITABLE[extension]
    given = Metadata(
        icc=SRGB, exif=build_one_tag(MAKE, 2, 4, b'abc\0')[6:], xmp=XMP.format('Größe').encode(), dpi=(300, 150),
        iptc=b'\x1C\2\5\0\5title', comment='Größe'.encode(), texts=((b'tEXt', b'Title\0a'), (b'tEXt', b'Title\0b')),
        colour=((b'gAMA', struct.pack('>I', 100_000)),))
    found = decode(encode(Picture(make_blocks(), given), extension)).metadata
    for name in row.holds:
        if name != 'dpi':
            assert getattr(found, name) == getattr(given, name), name
        elif row.header or row.writer == 'tiff':  # which has EXIF as the only place for it
            assert found.dpi == pytest.approx(given.dpi, abs=0.02)
    labels = {'icc': 'the colour profile', 'exif': 'EXIF', 'xmp': 'XMP', 'iptc': 'IPTC', 'comment': 'the comment',
              'texts': 'texts'}
    missing = [label for name, label in labels.items() if name not in row.holds]
    missing += ['the description of its colours'] if not {'colour', 'icc'} & set(row.holds) else []
    assert logged.messages == [f'not kept in {extension}: {", ".join(missing)}; --ext png keeps it'] * bool(missing)


@pytest.mark.parametrize('extension', WRITABLE)
def test_a_gray_profile_is_kept_where_gray_is(extension, logged):
    row = WRITABLE[extension]
    found = decode(encode(Picture(make_noise(5, 7), Metadata(icc=build_gray_icc())), extension)).metadata
    keeps = row.gray and 'icc' in row.holds
    assert found.icc == (build_gray_icc() if keeps else None)
    assert bool(logged.messages) is not keeps


# ---- exact bytes ----

@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize('extension', ['png', 'PNG', 'tif', 'TIFF'])
def test_noise_survives_in_png_and_tiff(extension, shape, dtype):
    pixels = make_noise(*shape, dtype=dtype)
    data = encode(Picture(pixels), extension)
    assert_same(decode(data).pixels, pixels)
    if extension.lower() != 'png':
        assert_same(swap_red_blue(tifffile.imread(io.BytesIO(data))), pixels)


def test_webp_keeps_any_alpha_exactly():
    pixels = make_blocks(channels=4)
    pixels[..., 3] = make_noise(48, 64, seed=1)
    found = decode(encode(Picture(pixels), 'webp', 95)).pixels
    assert np.array_equal(found[..., 3], pixels[..., 3])


@pytest.mark.parametrize('shape', [(33, 47), (33, 47, 3)])
@pytest.mark.parametrize('quality', [1, 50, 95, 100])
@pytest.mark.parametrize(('extension', 'setting'), [
    ('jpg', cv2.IMWRITE_JPEG_QUALITY), ('jpeg', cv2.IMWRITE_JPEG_QUALITY), ('JPG', cv2.IMWRITE_JPEG_QUALITY),
    ('webp', cv2.IMWRITE_WEBP_QUALITY)])
def test_lossy_files_are_the_bytes_opencv_writes(extension, setting, quality, shape):
    pixels = make_noise(*shape)
    assert encode(Picture(pixels), extension, quality) == save_by_opencv(pixels, extension.lower(), setting, quality)


@pytest.mark.parametrize('extension', [extension for extension, row in WRITABLE.items() if not row.deep])
def test_sixteen_bits_become_the_nearest_eight_with_a_warning(extension, logged):
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    shallow = ((deep.astype(int) + 128) // 257).astype(np.uint8)
    assert encode(Picture(deep), extension) == encode(Picture(shallow), extension)
    assert logged.messages == [f'{extension} holds 8 bits only: the 16-bit picture is converted']


# ---- very large pictures ----

@pytest.mark.parametrize('extension', [*WRITABLE, 'PNG', 'Tiff'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_a_streamed_file_is_the_same_and_alone(tmp_path, monkeypatch, extension, dtype):
    monkeypatch.setattr(writing, 'STREAMED_BYTES', 1)
    exif = make_exif(1).tobytes().removeprefix(b'Exif\0\0')
    picture = Picture(make_noise(50, 70, 3, dtype=dtype), Metadata(SRGB, exif, XMP.format('a').encode(), (300, 150)))
    write(picture, tmp_path / 'picture', extension, 80)
    assert (tmp_path / 'picture').read_bytes() == encode(picture, extension, 80)
    assert [path.name for path in tmp_path.iterdir()] == ['picture']


@pytest.mark.parametrize('shape', [(70000, 1, 3), (1, 70000, 3)])
@pytest.mark.parametrize('extension', ['jpg', 'webp'])
def test_a_picture_too_large_for_its_format_is_an_error(extension, shape, capfd):
    with pytest.raises(ImageError, match=f'{extension}; is {shape[1]}x{shape[0]} too large for the format'):
        encode(Picture(np.zeros(shape, np.uint8)), extension)
    assert capfd.readouterr() == ('', '')


def test_a_streamed_picture_too_large_for_its_format_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(writing, 'STREAMED_BYTES', 1)
    with pytest.raises(ImageError, match='jpg; is 70000x1 too large for the format'):
        write(Picture(np.zeros((1, 70000, 3), np.uint8)), tmp_path / 'picture', 'jpg')
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ('', '')


# ---- refused ----

@pytest.mark.parametrize('extension', ['gif', 'jfif', '', 'txt'])
def test_an_extension_that_is_not_written_is_an_error_with_those_that_are(tmp_path, extension):
    message = f"^{re.escape(repr(extension))} can't be written: choose from .*jpg, .*png, .*tiff"
    for attempt in (lambda: encode(Picture(make_blocks()), extension),
                    lambda: write(Picture(make_blocks()), tmp_path / 'picture', extension)):
        with pytest.raises(ImageError, match=message):
            attempt()
    assert list(tmp_path.iterdir()) == []
