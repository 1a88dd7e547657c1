"""Which pictures an input means, in which order, and the names of their results."""
from __future__ import annotations

import io
import itertools
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realesrgan.errors import InputError
from realesrgan.pictures.inputs import InputFile, Job, find_pictures, natural_key, plan

OUT = Path('results')


@pytest.fixture
def logged(caplog, monkeypatch):
    """The log of the package, whatever the scripts' own logging did to it."""
    monkeypatch.setattr(logging.getLogger('realesrgan'), 'propagate', True)
    caplog.set_level(logging.INFO, 'realesrgan')
    return caplog


def picture(kind='PNG', **options):
    """A picture file of more than 4096 bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def fill(folder, *names, content=b'damaged'):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(files):
    return [file.path.name for file in files]


def targets(files, suffix='out', extension='auto'):
    """Names of the results of pictures without alpha, below the output folder."""
    jobs = plan([InputFile(Path(file)) for file in files], OUT, suffix, extension)
    assert [job.source for job in jobs] == [Path(file) for file in files]
    return [job.target(alpha=False).relative_to(OUT).as_posix() for job in jobs]


# ---- finding ----

def test_a_file_is_taken_whatever_it_is_called(tmp_path):
    fill(tmp_path, 'notes.txt')
    assert find_pictures([str(tmp_path / 'notes.txt')]) == [InputFile(tmp_path / 'notes.txt', Path())]


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path):
    fill(tmp_path, '10.png', '2.png', '1.JPG', 'B.webp', 'a.tif', 'x10y2.bmp', 'x9y10.bmp')
    assert names(find_pictures([str(tmp_path)])) == ['1.JPG', '2.png', '10.png', 'a.tif', 'B.webp', 'x9y10.bmp',
                                                     'x10y2.bmp']


@pytest.mark.parametrize(('name', 'place'), [
    ('٣.png', 0), ('٢٠.png', 2), ('1²2.png', 0), ('20²1.png', 2), ('²', 2)])
def test_names_with_other_digits_are_sorted_too(name, place):
    assert sorted([Path('10'), Path('9'), Path(name)], key=natural_key).index(Path(name)) == place


def test_what_is_not_a_picture_is_logged_and_left_out(tmp_path, logged):
    fill(tmp_path, 'a.png', 'notes.txt', 'empty.dat', content=b'P1 party, GIF and all')
    fill(tmp_path, 'sub/b.png', '.realesrgan-a.png')
    (tmp_path / 'empty.dat').write_bytes(b'')
    assert find_pictures([str(tmp_path)]) == [InputFile(tmp_path / 'a.png', Path())]
    assert sorted(logged.messages) == sorted([
        f'{tmp_path / ".realesrgan-a.png"}: skipped, left behind by an interrupted run',
        f'{tmp_path / "empty.dat"}: skipped, not a picture',
        f'{tmp_path / "notes.txt"}: skipped, not a picture',
        f'{tmp_path / "sub"}: skipped, a folder (-r goes into folders)'])


def test_recursion_keeps_the_structure(tmp_path, logged):
    fill(tmp_path, 'a.png', 'sub/b.png', 'sub/deep/c.png', 'other/b.png')
    found = find_pictures([str(tmp_path)], recursive=True)
    assert sorted((file.path.relative_to(tmp_path).as_posix(), file.folder.as_posix()) for file in found) == [
        ('a.png', '.'), ('other/b.png', 'other'), ('sub/b.png', 'sub'), ('sub/deep/c.png', 'sub/deep')]
    assert logged.messages == []


@pytest.mark.parametrize(('kind', 'options'), [
    ('PNG', {}), ('JPEG', {}), ('BMP', {}), ('GIF', {}), ('TIFF', {}), ('WEBP', {'lossless': True}),
    ('AVIF', {'quality': 100}), ('JPEG', {'exif': b'Exif\0\0' + bytes(9000)}), ('TIFF', {'compression': 'tiff_lzw'})])
@pytest.mark.parametrize('name', ['picture', 'picture.dat'])
def test_a_picture_is_found_under_an_odd_extension(tmp_path, kind, options, name):
    fill(tmp_path, name, content=picture(kind, **options))
    assert names(find_pictures([str(tmp_path)])) == [name]


@pytest.mark.parametrize('content', [b'', b'damaged', picture()[:3000]])
def test_a_damaged_picture_is_still_listed(tmp_path, content):
    fill(tmp_path, 'a.png', content=content)
    assert names(find_pictures([str(tmp_path)])) == ['a.png']


def test_a_pattern_gives_its_matches_in_natural_order(tmp_path, logged):
    fill(tmp_path, '10.png', '2.png', '3.jpg', 'sub.png/x.png')
    assert names(find_pictures([str(tmp_path / '*.png')])) == ['2.png', '10.png']
    assert logged.messages == [f'{tmp_path / "sub.png"}: skipped, a folder']


def test_a_pattern_goes_through_folders(tmp_path):
    fill(tmp_path, 'a.png', 'sub/b.png', 'sub/deep/c.png')
    found = find_pictures([str(tmp_path / '**' / '*.png')])
    assert names(found) == ['a.png', 'b.png', 'c.png']
    assert {file.folder for file in found} == {Path()}


def test_brackets_in_the_name_of_a_file_are_no_pattern(tmp_path):
    fill(tmp_path, 'a[1].png', 'a1.png')
    assert names(find_pictures([str(tmp_path / 'a[1].png')])) == ['a[1].png']


def test_a_picture_named_twice_is_taken_once_at_its_first_place(tmp_path, monkeypatch):
    fill(tmp_path, 'a.png', 'b.png', 'c.png')
    monkeypatch.chdir(tmp_path)
    found = find_pictures(['b.png', '.', str(tmp_path), '*.png', str(tmp_path / '..' / tmp_path.name / 'c.png')])
    assert names(found) == ['b.png', 'a.png', 'c.png']


@pytest.mark.parametrize('name', ['missing.png', 'missing*.png', 'no/such/folder'])
def test_an_input_that_does_not_exist_is_an_error(tmp_path, name):
    fill(tmp_path, 'a.png')
    with pytest.raises(InputError) as error:
        find_pictures([str(tmp_path / 'a.png'), str(tmp_path / name)])
    assert str(error.value) == f'{tmp_path / name}: no such file or folder'


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(InputError) as error:
        find_pictures([str(tmp_path)])
    assert str(error.value) == f'no pictures in {tmp_path}'


# ---- naming ----

@pytest.mark.parametrize(('source', 'extension', 'expected'), [
    ('in/a.png', 'auto', 'a_out.png'), ('a.jpg', 'auto', 'a_out.jpg'), ('a.JPG', 'auto', 'a_out.JPG'),
    ('a.Tiff', 'auto', 'a_out.Tiff'), ('a.webp', 'auto', 'a_out.webp'), ('a.gif', 'auto', 'a_out.png'),
    ('a.avif', 'auto', 'a_out.png'), ('a', 'auto', 'a_out.png'), ('a.jpg', 'png', 'a_out.png'),
    ('a.png', 'jpg', 'a_out.jpg'), ('a.b.c.png', 'auto', 'a.b.c_out.png'), ('v1.5', 'webp', 'v1_out.webp')])
def test_name_of_one_result(source, extension, expected):
    assert targets([source], extension=extension) == [expected]


def test_an_empty_suffix_leaves_the_name():
    assert targets(['a.png', 'b.c.jpg'], suffix='') == ['a.png', 'b.c.jpg']


def test_folders_of_the_input_are_kept_below_the_output():
    files = [InputFile(Path('in/a.png')), InputFile(Path('in/sub/a.png'), Path('sub'))]
    assert [job.target(alpha=False) for job in plan(files, OUT, 'out', 'auto')] == [OUT / 'a_out.png',
                                                                                    OUT / 'sub/a_out.png']


def test_sources_of_one_name_and_different_extensions_keep_theirs_in_the_name():
    assert targets(['a.jpg', 'a.png', 'b.png'], extension='png') == ['a_jpg_out.png', 'a_png_out.png', 'b_out.png']


def test_results_that_only_case_tells_apart_get_other_names():
    first, second = targets(['a.png', 'A.png'])
    assert first.casefold() != second.casefold()


def test_transparency_may_turn_a_result_into_a_png_of_another_name():
    assert targets(['a.bmp', 'a.png']) == ['a_bmp_out.bmp', 'a_png_out.png']


def test_a_jpeg_and_a_png_keep_their_names_and_extensions():
    assert targets(['a.jpg', 'a.png']) == ['a_out.jpg', 'a_out.png']


def test_the_second_of_a_name_from_two_folders_gets_a_number():
    assert targets(['x/a.png', 'y/a.png', 'x/b.png']) == ['a_png_out.png', 'a_png_2_out.png', 'b_out.png']


def test_the_first_of_every_name_stays_without_a_number():
    assert targets(['x/a.png', 'y/a.png', 'x/b.png', 'y/b.png']) == ['a_png_out.png', 'a_png_2_out.png',
                                                                     'b_png_out.png', 'b_png_2_out.png']


def test_names_stay_short_however_many_collide():
    found = targets([f'{number}/cover.png' for number in range(150)])
    assert len(set(found)) == 150
    assert max(map(len, found)) <= len('cover_png_out.png') + 10


SOURCES = [f'{folder}/{name}' for folder in 'xy' for name in (
    'a.jpg', 'a.png', 'A.PNG', 'a.gif', 'a.bmp', 'a', 'a_png.png', 'a_png_2.png', 'a_jpg.webp', 'a_gif.JPG')]


def possible_names(job):
    """What a result may be called, case folded: a jpg has no alpha that would turn its result into a png."""
    alphas = [False] if job.source.suffix.lower() == '.jpg' else [False, True]
    return {str(job.target(alpha=alpha)).casefold() for alpha in alphas}


@pytest.mark.parametrize('suffix', ['', 'out', '2'])
@pytest.mark.parametrize('extension', ['auto', 'png', 'jpg', 'webp'])
def test_two_results_never_share_a_name(extension, suffix):
    groups = itertools.chain(itertools.permutations(SOURCES, 2), itertools.combinations(SOURCES, 3),
                             [SOURCES, SOURCES[::-1]])
    for group in groups:
        jobs = plan([InputFile(Path(name)) for name in group], OUT, suffix, extension)
        found = [name for job in jobs for name in possible_names(job)]
        assert len(found) == len(set(found)), (group, found)
        assert {Path(name).parent for name in found} == {OUT}


@pytest.mark.parametrize(('extension', 'opaque', 'transparent'), [
    ('jpg', 'a_out.jpg', 'a_out.png'), ('JPG', 'a_out.JPG', 'a_out.png'), ('bmp', 'a_out.bmp', 'a_out.png'),
    ('png', 'a_out.png', 'a_out.png'), ('PNG', 'a_out.PNG', 'a_out.PNG'), ('webp', 'a_out.webp', 'a_out.webp'),
    ('tiff', 'a_out.tiff', 'a_out.tiff')])
def test_a_transparent_result_goes_where_alpha_is_held(extension, opaque, transparent):
    job = Job(Path('a.gif'), OUT / 'a_out', extension)
    assert job.target(alpha=False) == OUT / opaque
    assert job.target(alpha=True) == OUT / transparent
    assert job.possible_targets == list(dict.fromkeys([OUT / opaque, OUT / transparent]))


def test_dots_in_the_name_are_no_extension():
    assert Job(Path('v1.5.png'), OUT / 'v1.5_out', 'jpg').target(alpha=True) == OUT / 'v1.5_out.png'


def test_links_in_circles_end_and_real_folders_come_first(tmp_path, logged):
    fill(tmp_path, 'sub/a.png')
    for name in ('a', 'z'):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / 'self.png').symlink_to(tmp_path / 'self.png')
    found = find_pictures([str(tmp_path)], recursive=True)
    assert InputFile(tmp_path / 'sub/a.png', Path('sub')) in found
    assert len(found) == 2  # self.png fails when it is read


def test_the_folder_of_the_results_is_not_an_input(tmp_path):
    fill(tmp_path, 'a.png', 'results/a_out.png')
    assert find_pictures([str(tmp_path)], recursive=True, exclude=tmp_path / 'results') == [
        InputFile(tmp_path / 'a.png', Path())]


def test_what_is_missing_is_reported_and_the_rest_found(tmp_path):
    fill(tmp_path, 'a.png')
    errors = []
    assert len(find_pictures([str(tmp_path / 'a.png'), 'nope.png'], on_error=errors.append)) == 1
    assert [str(error) for error in errors] == ['nope.png: no such file or folder']


def test_a_pipe_in_a_folder_is_skipped(tmp_path, logged):
    fill(tmp_path, 'a.png')
    os.mkfifo(tmp_path / 'pipe')
    assert len(find_pictures([str(tmp_path)])) == 1
    assert 'pipe: skipped, not a file' in logged.text
