"""The table of formats: its rows make sense, and a row is all that a new format takes."""
from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import inference_realesrgan
from realesrgan.errors import ImageError
from realesrgan.pictures import formats
from realesrgan.pictures.formats import FALLBACK, FORMATS, Format, require_room
from realesrgan.pictures.inputs import find_pictures
from realesrgan.pictures.reading import decode
from tests.support.clips import save_network
from tests.support.made_pictures import assert_same, make_noise, save_by_opencv

PROJECT = Path(__file__).parent.parent.parent


# ---- rows ----

def test_what_ext_and_quality_offer():
    assert formats.list_choices() == ['auto', 'jpg', 'png', 'webp', 'tiff']
    assert formats.list_choices_with_quality() == ['jpg', 'webp']
    assert sorted(formats.list_writable_extensions()) == ['bmp', 'jpe', 'jpeg', 'jpg', 'png', 'tif', 'tiff', 'webp']


def test_an_extension_belongs_to_one_row():
    extensions = [extension for row in FORMATS.values() for extension in row.extensions + row.input_extensions]
    assert len(extensions) == len(set(extensions))
    assert all(extension == extension.lower().lstrip('.') for extension in extensions)


@pytest.mark.parametrize('name', FORMATS)
def test_a_row_is_whole(name):
    row = FORMATS[name]
    assert bool(row.extensions) == (row.writer is not None)
    assert not row.offered or name in row.extensions
    assert row.quality_setting is None or isinstance(getattr(cv2, row.quality_setting), int)


def test_pillow_can_open_each_name_once():
    Image.init()
    assert set(formats.list_pillow_names()) <= set(Image.OPEN)
    assert len(formats.list_pillow_names()) == len(set(formats.list_pillow_names()))


def test_no_format_may_be_opened_that_starts_programs():
    assert not {'EPS', 'WMF', 'FITS', 'GRIB', 'HDF5', 'BUFR', 'MPEG', 'FPX', 'MIC'} & set(formats.list_pillow_names())


def test_the_fallback_holds_every_picture():
    row = formats.find_writable(FALLBACK)
    assert (row.alpha, row.deep, row.gray, row.quality_setting) == (True, True, True, None)


@pytest.mark.parametrize(('extension', 'name', 'writable'), [
    ('jpg', 'jpg', True), ('JPE', 'jpg', True), ('jfif', 'jpg', False), ('apng', 'png', False), ('DIB', 'bmp', False),
    ('Tif', 'tiff', True), ('jpx', 'jp2', False), ('pgm', 'ppm', False), ('sgi', 'sgi', False)])
def test_extensions_are_found_in_any_case(extension, name, writable):
    assert formats.find_by_extension(extension) is FORMATS[name]
    assert (extension.lower() in formats.list_writable_extensions()) is writable


@pytest.mark.parametrize('extension', ['', 'txt', '.png', 'mp4'])
def test_other_extensions_are_no_pictures(extension):
    assert formats.find_by_extension(extension) is None


@pytest.mark.parametrize(('name', 'data', 'found'), [
    ('PNG', b'', 'png'), ('DIB', b'', 'bmp'), ('SUN', b'', 'ras'), (None, b'II*\0rest', 'tiff'),
    (None, b'MM\0+rest', 'tiff'), (None, b'II', None), (None, b'', None), ('MPO', b'\xFF\xD8', None)])
def test_content_is_found_by_the_name_that_pillow_gives_it_or_by_its_first_bytes(name, data, found):
    assert formats.find_by_content(name, data) is (FORMATS[found] if found else None)


def test_formats_and_names_import_nothing_large():
    code = ('import sys, realesrgan.pictures.formats, realesrgan.pictures.names\n'
            'print([name for name in ("torch", "cv2", "numpy", "PIL", "tifffile") if name in sys.modules])')
    result = subprocess.run([sys.executable, '-c', code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout == '[]\n'


# ---- a new row ----

@pytest.fixture
def run(run_script, tmp_path):
    """Run the image script with a small network, in single precision so that runs are alike."""
    return partial(run_script, inference_realesrgan, '--model_path', save_network(tmp_path / 'tiny.pth'), '--fp32')


@pytest.fixture
def writable_ppm(monkeypatch):
    """The row of ppm, as it would be if ppm were written."""
    row = FORMATS['ppm']._replace(extensions=('ppm',), input_extensions=('pgm', 'pbm', 'pnm', 'pfm'), offered=True,
                                  writer='opencv', deep=True, gray=False)
    monkeypatch.setitem(FORMATS, 'ppm', row)
    return row


def test_a_row_is_all_that_a_new_format_takes(run, tmp_path, writable_ppm):
    pictures = {'colour': make_noise(9, 7, 3), 'gray': make_noise(9, 7), 'alpha': make_noise(9, 7, 4),
                'deep': make_noise(9, 7, 3, dtype=np.uint16)}
    (tmp_path / 'in').mkdir()
    for name, pixels in pictures.items():
        (tmp_path / 'in' / f'{name}.png').write_bytes(save_by_opencv(pixels, 'png'))
    assert run('-i', 'in', '-o', 'large', '--ext', 'ppm')[0] == 0
    assert run('-i', 'in', '-o', 'pngs', '--ext', 'png')[0] == 0
    assert sorted(path.name for path in (tmp_path / 'large').iterdir()) == [
        'alpha_out.png', 'colour_out.ppm', 'deep_out.ppm', 'gray_out.ppm']
    for name in ('colour', 'deep', 'gray'):
        found = decode((tmp_path / f'large/{name}_out.ppm').read_bytes()).pixels
        expected = decode((tmp_path / f'pngs/{name}_out.png').read_bytes()).pixels
        assert_same(found, np.dstack([expected] * 3) if name == 'gray' else expected)


def test_a_row_makes_files_of_its_extension_pictures(tmp_path, monkeypatch):
    (tmp_path / 'a.png').write_bytes(b'damaged')
    (tmp_path / 'b.new').write_bytes(b'damaged')
    assert [file.path.name for file in find_pictures([str(tmp_path)])] == ['a.png']
    monkeypatch.setitem(FORMATS, 'new', Format(input_extensions=('new',)))
    assert [file.path.name for file in find_pictures([str(tmp_path)])] == ['a.png', 'b.new']


@pytest.mark.parametrize(('extension', 'sides', 'offered'), [
    ('jpg', (65501, 3), 'png or tiff'), ('webp', (3, 16384), 'jpg or png or tiff'), ('png', (1_000_001, 1), 'tiff')])
def test_a_result_too_large_for_its_format(extension, sides, offered):
    with pytest.raises(ImageError, match=f'^its result would be {sides[1]}x{sides[0]}, but {extension} is limited to '
                                         rf'\d+ pixels a side; choose --ext {offered}, or a smaller size$'):
        require_room(extension, *sides)
    require_room(extension, *(max(side - 1, 1) for side in sides))
    require_room('tiff', *sides)
    require_room('bmp', *sides)
