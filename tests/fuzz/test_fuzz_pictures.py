"""Damaged and hostile picture files of every format: a picture, or an `ImageError`."""
from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from realesrgan.errors import ImageError
from realesrgan.pictures.reading import decode
from realesrgan.pictures.writing import encode
from tests.support.made_pictures import (
    CASES,
    SRGB,
    XMP,
    build_icon,
    build_palette_dds,
    make_noise,
    save_by_opencv,
    save_by_pillow,
    save_by_tifffile,
    swap_red_blue,
)
from tests.support.mutations import mutated

MOST_PIXELS = 1 << 20
COLOURS, GRAY, ALPHA = make_noise(9, 13, 3), make_noise(9, 13), make_noise(9, 13, 4)
DEEP = make_noise(9, 13, 3, dtype=np.uint16)


def animate(kind):
    frames = [Image.fromarray(make_noise(9, 13, 3, seed=seed)) for seed in range(3)]
    return save_by_pillow(frames[0], kind, save_all=True, append_images=frames[1:])


def make_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


FILES = {
    'png': [save_by_opencv(COLOURS, 'png'), save_by_opencv(DEEP, 'png'), save_by_opencv(ALPHA, 'png'),
            save_by_pillow(Image.fromarray(COLOURS).quantize(8), 'PNG', transparency=1),
            save_by_pillow(COLOURS, 'PNG', icc_profile=SRGB, exif=make_exif()), animate('PNG'),
            *((CASES / name).read_bytes() for name in ('cicp.png', 'chrm.png', 'prompt.png'))],
    'jpg': [save_by_pillow(COLOURS, 'JPEG', exif=make_exif(), xmp=XMP.encode()), save_by_pillow(GRAY, 'JPEG'),
            save_by_pillow(Image.fromarray(ALPHA, 'CMYK'), 'JPEG'), save_by_pillow(COLOURS, 'JPEG', progressive=True),
            animate('MPO'), *((CASES / name).read_bytes() for name in ('iptc.jpg', 'gainmap.jpg'))],
    'webp': [save_by_pillow(COLOURS, 'WEBP'), save_by_pillow(ALPHA, 'WEBP', lossless=True), animate('WEBP')],
    'gif': [save_by_pillow(COLOURS, 'GIF'), animate('GIF')],
    'bmp': [save_by_pillow(COLOURS, 'BMP'), save_by_pillow(GRAY, 'BMP'), save_by_opencv(ALPHA, 'bmp')],
    'tiff': [save_by_tifffile(COLOURS), save_by_tifffile(DEEP, compression='zlib'),
             save_by_tifffile(ALPHA, tile=(16, 16)), save_by_tifffile(GRAY, compression='lzw', predictor=True),
             save_by_tifffile(COLOURS, bigtiff=True),
             save_by_pillow(Image.fromarray(ALPHA, 'CMYK'), 'TIFF'), animate('TIFF'),
             save_by_pillow(Image.fromarray(COLOURS).quantize(8), 'TIFF')],
    'pnm': [save_by_opencv(COLOURS, 'ppm'), save_by_opencv(GRAY, 'pgm'), b'P3\n2 2\n15\n' + b'1 2 3 ' * 4,
            b'PF\n2 2\n-1.0\n' + struct.pack('<12f', *np.linspace(0, 1, 12)),
            b'Pf\n2 2\n1.0\n' + struct.pack('>4f', *np.linspace(0, 1, 4))],
    'hdr': [save_by_opencv(COLOURS.astype(np.float32) / 255, 'hdr')],
    'others': [save_by_pillow(COLOURS, 'TGA'), save_by_pillow(COLOURS, 'ICO'), save_by_pillow(COLOURS, 'PCX'),
               save_by_pillow(COLOURS, 'DDS'), save_by_pillow(ALPHA, 'DDS'), save_by_pillow(COLOURS, 'ICNS'),
               save_by_pillow(COLOURS, 'SGI'), save_by_opencv(COLOURS, 'ras'), save_by_pillow(COLOURS, 'QOI'),
               build_palette_dds(GRAY, make_noise(256, 4)), build_icon([ALPHA]),
               b'8BPS\0\1' + bytes(6) + struct.pack('>HIIHH', 3, 9, 13, 8, 3) + bytes(12) + b'\0\0'
               + swap_red_blue(COLOURS).transpose(2, 0, 1).tobytes()],
    'jp2': [save_by_pillow(COLOURS, 'JPEG2000'), imagecodecs.jpeg2k_encode(DEEP, codecformat='jp2')]
    if features.check('jpg_2000') else [],
    'avif': [save_by_pillow(COLOURS, 'AVIF'), imagecodecs.avif_encode(DEEP >> 6, bitspersample=10)]
    if features.check('avif') else [],
}


def check(data):
    try:
        picture = decode(data, MOST_PIXELS)
    except ImageError as error:
        assert '\n' not in str(error)
        return
    pixels = picture.pixels
    assert pixels.dtype in (np.uint8, np.uint16)
    assert pixels.ndim == 2 or pixels.shape[2] in (3, 4)
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MOST_PIXELS
    for extension in ('png', 'tiff') if picture.has_alpha else ('png', 'tiff', 'jpg'):
        assert len(encode(picture, extension)) > 0  # its metadata included


@pytest.mark.parametrize('kind', [kind for kind, files in FILES.items() if files])
def test_a_damaged_picture_is_read_or_refused(kind, no_hang):
    for file in FILES[kind]:
        decode(file)  # or there would be nothing to damage

    @given(mutated(FILES[kind]))
    def run(data):
        with no_hang():
            check(data)
    run()


@given(st.binary(max_size=200))
def test_what_is_no_picture_is_refused(data):
    check(data)


@given(st.sampled_from([file[:12] for files in FILES.values() for file in files]), st.binary(max_size=300))
def test_the_beginning_of_a_picture_with_anything_behind_it(beginning, rest):
    check(beginning + rest)
