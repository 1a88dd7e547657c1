"""Which pictures inputs mean, and in which order."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from realesrgan.errors import InputError
from realesrgan.pictures import formats
from realesrgan.pictures.inputs import InputFile, find_pictures, list_folder, make_natural_key
from tests.support.made_pictures import make_noise, save_by_pillow


def make_file(kind='PNG', **options):
    """Return a picture file of more than 4096 bytes."""
    return save_by_pillow(make_noise(100, 100, 3), kind, **options)


def fill(folder, *names, content=b'damaged'):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def list_names(files):
    return [file.path.name for file in files]


def test_a_file_is_taken_whatever_it_is_called(tmp_path):
    fill(tmp_path, 'notes.txt')
    assert find_pictures([str(tmp_path / 'notes.txt')]) == [InputFile(tmp_path / 'notes.txt', Path())]


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path):
    fill(tmp_path, '10.png', '2.png', '1.JPG', 'B.webp', 'a.tif', 'x10y2.bmp', 'x9y10.bmp')
    assert list_names(find_pictures([str(tmp_path)])) == ['1.JPG', '2.png', '10.png', 'a.tif', 'B.webp', 'x9y10.bmp',
                                                     'x10y2.bmp']


@pytest.mark.parametrize(('name', 'place'), [
    ('٣.png', 0), ('٢٠.png', 2), ('1²2.png', 0), ('20²1.png', 2), ('²', 2)])
def test_names_with_other_digits_are_sorted_too(name, place):
    assert sorted([Path('10'), Path('9'), Path(name)], key=make_natural_key).index(Path(name)) == place


def test_what_is_not_a_picture_is_skipped_with_a_warning(tmp_path, logged):
    fill(tmp_path, 'a.png', 'notes.txt', 'empty.dat', content=b'P1 party, GIF and all')
    fill(tmp_path, 'sub/b.png', '.realesrgan-a.png', '._a.jpg')
    (tmp_path / 'empty.dat').write_bytes(b'')
    assert find_pictures([str(tmp_path)]) == [InputFile(tmp_path / 'a.png', found=True)]
    assert sorted(logged.messages) == sorted([
        f'{tmp_path / ".realesrgan-a.png"}: skipped, left behind by an interrupted run',
        f'{tmp_path / "._a.jpg"}: skipped, a file that macOS adds on other disks',
        f'{tmp_path / "empty.dat"}: skipped, not a picture',
        f'{tmp_path / "notes.txt"}: skipped, not a picture',
        f'{tmp_path / "sub"}: skipped, a folder (-r goes into folders)'])


@pytest.mark.parametrize(('kind', 'options'), [
    ('PNG', {}), ('JPEG', {}), ('BMP', {}), ('GIF', {}), ('TIFF', {}), ('WEBP', {'lossless': True}),
    ('AVIF', {'quality': 100}), ('JPEG', {'exif': b'Exif\0\0' + bytes(9000)}), ('TIFF', {'compression': 'tiff_lzw'})])
@pytest.mark.parametrize('name', ['picture', 'picture.dat'])
def test_a_picture_is_found_under_an_odd_extension(tmp_path, kind, options, name):
    fill(tmp_path, name, content=make_file(kind, **options))
    assert list_names(find_pictures([str(tmp_path)])) == [name]


def test_a_pattern_gives_its_matches_in_natural_order(tmp_path, logged):
    fill(tmp_path, '10.png', '2.png', '3.jpg', 'sub.png/x.png')
    assert list_names(find_pictures([str(tmp_path / '*.png')])) == ['2.png', '10.png']
    assert logged.messages == [f'{tmp_path / "sub.png"}: skipped, a folder']


@pytest.mark.parametrize('pattern', [
    'Show [1080p]/*.png', 'Show [1080p]/a [1].png', 'Sh*/*.png', '*/a [[]1].png', 'Show [1080p]/**/a*', '*/a [1].*'])
def test_brackets_in_the_name_of_a_folder_are_no_pattern(tmp_path, monkeypatch, pattern):
    fill(tmp_path, 'Show [1080p]/a [1].png')
    for place in (str(tmp_path / pattern), pattern):
        monkeypatch.chdir(tmp_path)
        assert [file.path.resolve() for file in find_pictures([place])] == [tmp_path / 'Show [1080p]/a [1].png']


def test_brackets_are_the_name_of_a_folder_first_and_else_a_pattern(tmp_path):
    fill(tmp_path, 'a[12]/x.png', 'a1/y.png', 'b1/z.png', 'b3/z.png')
    assert list_names(find_pictures([str(tmp_path / 'a[12]/*.png')])) == ['x.png']
    assert [file.path.parent.name for file in find_pictures([str(tmp_path / 'b[12]/*.png')])] == ['b1']


def test_a_picture_named_twice_is_taken_once_at_its_first_place(tmp_path, monkeypatch):
    fill(tmp_path, 'a.png', 'b.png', 'c.png')
    monkeypatch.chdir(tmp_path)
    found = find_pictures(['b.png', '.', str(tmp_path), '*.png', str(tmp_path / '..' / tmp_path.name / 'c.png')])
    assert list_names(found) == ['b.png', 'a.png', 'c.png']


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


def test_links_in_circles_end_and_real_folders_come_first(tmp_path, logged):
    fill(tmp_path, 'sub/a.png')
    for name in ('a', 'z'):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / 'self.png').symlink_to(tmp_path / 'self.png')
    found = find_pictures([str(tmp_path)], recursive=True)
    assert found == [InputFile(tmp_path / 'self.png', found=True),  # which fails when it is read
                     InputFile(tmp_path / 'sub/a.png', Path('sub'), found=True)]
    assert logged.messages == [f'{tmp_path / name}: skipped, a folder that was visited, or that of the results'
                               for name in 'az']


def test_the_folder_of_the_results_is_not_an_input(tmp_path):
    fill(tmp_path, 'a.png', 'results/a_out.png')
    assert find_pictures([str(tmp_path)], recursive=True, exclude=tmp_path / 'results') == [
        InputFile(tmp_path / 'a.png', found=True)]


def test_a_missing_input_is_reported_and_the_others_are_found(tmp_path):
    fill(tmp_path, 'a.png')
    errors = {}
    found = find_pictures(['nope.png', str(tmp_path / 'a.png')], on_error=errors.__setitem__)
    assert found == [InputFile(tmp_path / 'a.png')]
    assert {name: str(error) for name, error in errors.items()} == {'nope.png': 'nope.png: no such file or folder'}


def test_what_the_system_refuses_ends_neither_the_other_inputs_nor_the_folder(tmp_path):
    fill(tmp_path, 'a.png', 'z.png')
    (tmp_path / 'link.png').symlink_to('x' * 300)  # stat() fails, as in a folder that is locked
    errors, name = {}, 'y' * 300
    found = find_pictures([name, str(tmp_path)], on_error=errors.__setitem__)
    assert list_names(found) == ['a.png', 'link.png', 'z.png']  # of which one fails when it is read
    assert {name: str(error) for name, error in errors.items()} == {name: f'{name}: File name too long'}
    with pytest.raises(InputError, match='yyy: File name too long'):
        find_pictures([name])


def test_a_video_names_the_other_script_and_our_readme_nothing(tmp_path, logged):
    fill(tmp_path, 'in/a.mp4', 'in/README.md')
    fill(tmp_path, 'in/really.ts', content=make_file())
    video, words = tmp_path / 'in/a.mp4', 'a video (inference_realesrgan_video.py upscales videos)'
    with pytest.raises(InputError, match=f'^{video}: is a video; inference_realesrgan_video.py upscales videos$'):
        find_pictures([str(video)])
    for source in ('in', 'in/*.[mt]*[4s]'):
        assert [file.path.name for file in find_pictures([str(tmp_path / source)])] == ['really.ts']
    assert logged.messages == [f'{video}: skipped, {words}'] * 2


def test_a_pipe_in_a_folder_is_skipped(tmp_path, logged):
    fill(tmp_path, 'a.png')
    os.mkfifo(tmp_path / 'pipe')
    assert list_names(find_pictures([str(tmp_path)])) == ['a.png']
    assert logged.messages == [f'{tmp_path / "pipe"}: skipped, not a file']


@pytest.mark.parametrize('extension', sorted(
    extension for row in formats.FORMATS.values() for extension in row.extensions + row.input_extensions))
def test_a_damaged_file_of_every_known_extension_is_listed(tmp_path, extension):
    fill(tmp_path, f'a.{extension}', f'B.{extension.upper()}')
    assert list_names(find_pictures([str(tmp_path)])) == [f'a.{extension}', f'B.{extension.upper()}']


# ---- bytes in memory ----

def test_a_file_reads_its_path_or_gives_its_own_bytes(tmp_path):
    fill(tmp_path, 'a.png', content=b'on disk')
    assert InputFile(tmp_path / 'a.png').read() == b'on disk'
    assert InputFile(tmp_path / 'a.png', data=b'in memory').read() == b'in memory'
    assert InputFile(Path('stdin'), data=b'').read() == b''
    assert 'memory' not in repr(InputFile(Path('stdin'), data=b'in memory'))


def test_bytes_are_an_input_like_others_and_never_the_file_of_their_name(tmp_path, monkeypatch):
    fill(tmp_path, 'stdin', 'a.png')
    monkeypatch.chdir(tmp_path)
    given = InputFile(Path('stdin'), data=b'bytes')
    other = InputFile(Path('stdin'), data=b'other bytes')
    assert find_pictures(['stdin', given, 'a.png', other, given]) == [
        InputFile(Path('stdin')), given, InputFile(Path('a.png')), other]


# ---- one folder ----

def test_a_folder_is_listed_with_every_link_to_one_file(tmp_path, logged):
    fill(tmp_path, '10.png', '9.png', 'notes.txt', 'sub/1.png')
    (tmp_path / '11.png').symlink_to('9.png')
    assert [path.name for path in list_folder(tmp_path)] == ['9.png', '10.png', '11.png']
    assert sorted(logged.messages) == [f'{tmp_path / "notes.txt"}: skipped, not a picture',
                                       f'{tmp_path / "sub"}: skipped, a folder (-r goes into folders)']
    fill(tmp_path, 'empty/sub/1.png')
    assert list_folder(tmp_path / 'empty') == []


def test_each_link_to_a_picture_has_its_result(tmp_path, logged):
    fill(tmp_path, 'orig.png')
    (tmp_path / 'd').mkdir()
    for name in ('link.png', 'd/l2.png'):
        (tmp_path / name).symlink_to(tmp_path / 'orig.png')
    found = find_pictures([str(tmp_path), str(tmp_path / 'link.png')], recursive=True)
    assert sorted(list_names(found)) == ['l2.png', 'link.png', 'orig.png']
    assert logged.messages == [f'{tmp_path}/link.png: named twice, upscaled once']


def test_a_device_is_never_read(tmp_path, logged):
    fill(tmp_path, 'a.png')
    (tmp_path / 'zero.png').symlink_to('/dev/zero')
    assert list_names(find_pictures([str(tmp_path)])) == ['a.png']
    assert list_names(find_pictures([str(tmp_path / '*.png')])) == ['a.png']
    assert logged.messages == [f'{tmp_path}/zero.png: skipped, not a file'] * 2
    for name in ('/dev/zero', str(tmp_path / 'zero.png')):
        with pytest.raises(InputError, match=f'^{name}: neither a file nor a pipe nor a folder$'):
            find_pictures([name])


def test_a_pipe_that_is_named_is_read(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    assert find_pictures([str(tmp_path / 'pipe')]) == [InputFile(tmp_path / 'pipe')]
