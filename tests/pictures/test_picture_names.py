"""The names of results: names without conflicts for any results, and the paths that results of pictures get."""
from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from realesrgan.pictures.inputs import InputFile
from realesrgan.pictures.names import Job, Nameable, choose_names, list_jobs

OUT = Path('results')


# ---- any results ----

def list_videos(extension, folder, name):
    return [Path(folder) / f'{name}_out.{extension}']


def name_videos(*sources, extension='mp4', folder=OUT):
    return choose_names([Nameable(Path(source).stem, Path(source).suffix[1:], partial(list_videos, extension, folder))
                         for source in sources])


@pytest.mark.parametrize(('sources', 'names'), [
    ([], []),
    (['a.mkv'], ['a']),
    (['a.mkv', 'b.mkv'], ['a', 'b']),
    (['a.mkv', 'a.mp4'], ['a_mkv', 'a_mp4']),
    (['a.mkv', 'b.mp4', 'A.MP4'], ['a_mkv', 'b', 'A_MP4']),
    (['x/a.mkv', 'y/a.mkv', 'z/a.mkv', 'a.mp4'], ['a_mkv', 'a_mkv_2', 'a_mkv_3', 'a_mp4']),
    (['x/a.mkv', 'y/A.MKV'], ['a_mkv', 'A_MKV_2']),
    (['a_mkv.avi', 'a.mkv', 'a.mp4'], ['a_mkv', 'a_mkv_2', 'a_mp4']),
    (['a.mkv', 'a.mp4', 'a_mkv.avi'], ['a_mkv', 'a_mp4', 'a_mkv_2']),
    (['x/a.mkv', 'y/a.mkv', 'a_mkv_2.avi'], ['a_mkv', 'a_mkv_2', 'a_mkv_2_2']),
    (['a', 'a.mp4'], ['a_', 'a_mp4'])], ids=str)
def test_names_of_results_of_one_extension(sources, names):
    assert name_videos(*sources) == names


def test_inputs_of_other_folders_or_result_extensions_are_in_no_conflict():
    inputs = [Nameable('a', 'mkv', partial(list_videos, *to)) for to in (('mp4', 'x'), ('mp4', 'y'), ('mkv', 'x'))]
    assert choose_names(inputs) == ['a', 'a', 'a']


def test_one_folder_written_in_two_ways_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = [Nameable('a', extension, partial(list_videos, 'mp4', folder)) for extension, folder in (
        ('mkv', 'x'), ('mp4', 'x/../x'), ('avi', tmp_path / 'x'))]
    assert choose_names(inputs) == ['a_mkv', 'a_mp4', 'a_avi']


def test_one_possible_path_in_common_is_a_conflict():
    def list_both(name):
        return [OUT / f'{name}.mp4', OUT / f'{name}.mkv']

    inputs = [Nameable('a', 'mov', list_both), Nameable('a', 'avi', partial(list_videos, 'webm', OUT)),
              Nameable('a_out', 'webm', lambda name: [OUT / f'{name}.mkv', OUT / f'{name}.webm'])]
    assert choose_names(inputs) == ['a', 'a_avi', 'a_out_webm']


def test_names_stay_short_however_many_inputs_are_called_the_same():
    found = name_videos(*(f'{number}/cover.mkv' for number in range(500)))
    assert found == ['cover_mkv', *(f'cover_mkv_{number}' for number in range(2, 501))]


# ---- pictures ----

def list_targets(files, suffix='out', extension='auto'):
    """Return the names of the results of pictures without alpha, relative to the output folder."""
    jobs = list_jobs([InputFile(Path(file)) for file in files], OUT, suffix, extension)
    assert [job.source for job in jobs] == [Path(file) for file in files]
    return [job.target(alpha=False).relative_to(OUT).as_posix() for job in jobs]


@pytest.mark.parametrize(('source', 'extension', 'expected'), [
    ('in/a.png', 'auto', 'a_out.png'), ('a.jpg', 'auto', 'a_out.jpg'), ('a.JPG', 'auto', 'a_out.JPG'),
    ('a.jpe', 'auto', 'a_out.jpe'), ('a.jfif', 'auto', 'a_out.png'), ('a.dib', 'auto', 'a_out.png'),
    ('a.bmp', 'auto', 'a_out.bmp'), ('a.Tiff', 'auto', 'a_out.Tiff'), ('a.webp', 'auto', 'a_out.webp'),
    ('a.gif', 'auto', 'a_out.png'), ('a.avif', 'auto', 'a_out.png'), ('a', 'auto', 'a_out.png'),
    ('a.jpg', 'png', 'a_out.png'), ('a.png', 'jpg', 'a_out.jpg'), ('a.b.c.png', 'auto', 'a.b.c_out.png'),
    ('v1.5', 'webp', 'v1_out.webp')])
def test_name_of_one_result(source, extension, expected):
    assert list_targets([source], extension=extension) == [expected]


def test_folders_of_the_input_are_kept_below_the_output():
    files = [InputFile(Path('in/a.png')), InputFile(Path('in/sub/a.png'), Path('sub'))]
    assert [job.target(alpha=False) for job in list_jobs(files, OUT, 'out', 'auto')] == [OUT / 'a_out.png',
                                                                                    OUT / 'sub/a_out.png']


def test_a_job_carries_its_file():
    file = InputFile(Path('stdin'), data=b'bytes')
    job, = list_jobs([file], OUT, 'out', 'jpg')
    assert job == Job(file, OUT / 'stdin_out', 'jpg', to_stdout=False)
    assert (job.source, job.file.read()) == (Path('stdin'), b'bytes')


@pytest.mark.parametrize(('sources', 'extension', 'expected'), [
    (['a.jpg', 'a.png', 'b.png'], 'png', ['a_jpg_out.png', 'a_png_out.png', 'b_out.png']),
    (['a.png', 'A.png'], 'auto', ['a_png_out.png', 'A_png_2_out.png']),
    (['a.bmp', 'a.png'], 'auto', ['a_bmp_out.bmp', 'a_png_out.png']),  # with alpha, a.bmp becomes a PNG
    (['a.jpg', 'a.png'], 'auto', ['a_out.jpg', 'a_out.png']),  # a JPEG never has alpha
    (['a.jfif', 'a.png'], 'auto', ['a_jfif_out.png', 'a_png_out.png']),
    (['x/a.png', 'y/a.png', 'x/b.png'], 'auto', ['a_png_out.png', 'a_png_2_out.png', 'b_out.png']),
    (['x/a.png', 'y/a.png', 'x/b.png', 'y/b.png'], 'auto', ['a_png_out.png', 'a_png_2_out.png', 'b_png_out.png',
                                                            'b_png_2_out.png'])], ids=str)
def test_names_of_results_in_conflict(sources, extension, expected):
    assert list_targets(sources, extension=extension) == expected


@pytest.mark.parametrize(('extension', 'opaque', 'transparent'), [
    ('jpg', 'a_out.jpg', 'a_out.png'), ('JPG', 'a_out.JPG', 'a_out.png'), ('bmp', 'a_out.bmp', 'a_out.png'),
    ('png', 'a_out.png', 'a_out.png'), ('PNG', 'a_out.PNG', 'a_out.PNG'), ('webp', 'a_out.webp', 'a_out.webp'),
    ('tiff', 'a_out.tiff', 'a_out.tiff')])
def test_a_transparent_result_goes_where_alpha_is_held(extension, opaque, transparent):
    job = Job(InputFile(Path('a.gif')), OUT / 'a_out', extension)
    assert job.target(alpha=False) == OUT / opaque
    assert job.target(alpha=True) == OUT / transparent
    assert job.possible_targets == list(dict.fromkeys([OUT / opaque, OUT / transparent]))


@pytest.mark.parametrize('source', ['a.jpg', 'a.JPEG', 'a.jpe', 'a.jfif'])
def test_a_jpeg_has_one_possible_result(source):
    assert Job(InputFile(Path(source)), OUT / 'a_out', 'jpg').possible_targets == [OUT / 'a_out.jpg']


def test_dots_in_the_name_are_no_extension():
    assert Job(InputFile(Path('v1.5.png')), OUT / 'v1.5_out', 'jpg').target(alpha=True) == OUT / 'v1.5_out.png'
