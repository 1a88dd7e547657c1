"""Long videos: chunks, several workers, and runs that go on where an earlier one was stopped."""
import atexit
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import clips
import cv2
import numpy as np
import psutil
import pytest
from clips import EXACT, make, picture, sound, video
from test_video_script import SCRIPT, files, networks, run  # noqa: F401  # fixtures

from realesrgan.errors import MediaError, WorkerError
from realesrgan.ffmpeg.mux import join, write_list
from realesrgan.ffmpeg.probe import probe
from realesrgan.ffmpeg.timing import collect_time_stamps
from realesrgan.videos import checkpoint as parts_module
from realesrgan.videos import chunks, disk
from realesrgan.videos.chunks import cut
from realesrgan.videos.plan import VideoOptions, plan_video
from realesrgan.workers.pool import ProcessPool

# ruff: noqa: F811  # fixtures are given by name

LOSSLESS = ['-s', '1', '--crf', '0', '--preset', 'ultrafast']
OPEN_GOPS = ['-c:v', 'libx264', '-crf', '5', '-bf', '3', '-x264-params', 'open-gop=1:keyint=40:scenecut=0', '-pix_fmt',
             'yuv420p']


def counted(rate='30000/1001', seconds='20', size='64x32'):
    """Arguments of frames that hold their number, in ten fields of black or white."""
    return ['-f', 'lavfi', '-i', f'color=gray:size={size}:rate={rate}:duration={seconds},'
            'geq=lum=16+219*mod(floor(N/pow(2\\,floor(X/6)))\\,2):cb=128:cr=128']


def counts(path):
    """The numbers in the frames of such a video."""
    light = clips.frames(path, 'rgb24')[..., 0][:, 8:24, :60].reshape(-1, 16, 10, 6)[..., 1:5].mean((1, 3))
    assert (np.abs(light - 127.5) > 60).all()
    return ((light > 127.5) @ (1 << np.arange(10))).tolist()


def hashes(path):
    """A hash of each decoded frame, in order, with its time."""
    lines = clips.ffmpeg('-i', f'file:{path}', '-map', '0:v:0', *clips.ALL_FRAMES, '-f', 'framemd5', '-').decode()
    return [line.split(',')[2].strip() + line.split(',')[5] for line in lines.splitlines() if line[0] != '#']


def parts(folder='results/a_out_parts'):
    return sorted(path.name for path in Path(folder).glob('[0-9]*.mp4'))


@pytest.fixture
def same(run, tmp_path):
    """Run with other numbers of workers and lengths of chunks, and compare what comes out with a run in one go."""
    def compare(name, ways, *more):
        assert run('-i', name, *LOSSLESS, '--chunk', '0', '-o', 'whole', *more, network='plain')[0] == 0
        expected = hashes('whole/a_out.mp4')
        for workers, chunk in ways:
            status, _, err = run('-i', name, *LOSSLESS, '--num_process_per_gpu', workers, '--chunk', chunk, *more,
                                 network='plain')
            assert (status, 'finished parts' in err) == (0, False), err
            assert hashes('results/a_out.mp4') == expected
            assert video('results/a_out.mp4')['rate'] == video('whole/a_out.mp4')['rate']
            if clips.streams('whole/a_out.mp4', 'audio'):
                assert clips.packets('results/a_out.mp4', 'a:0') == clips.packets('whole/a_out.mp4', 'a:0')
            assert files(Path('results')) == ['a_out.mp4']
        return expected
    return compare


# ---- the same frames, however they are cut ----

def test_chunks_and_workers_do_not_change_a_frame(same, tmp_path):
    make(tmp_path / 'a.mp4', *counted(), *sound('20'), *OPEN_GOPS)
    expected = same('a.mp4', [(1, 3), (2, 1), (5, 3)])
    assert clips.packets('whole/a_out.mp4', 'a:0') == clips.packets('a.mp4', 'a:0')
    assert counts('whole/a_out.mp4') == list(range(600))
    assert len(expected) == 600
    assert video('whole/a_out.mp4')['rate'] == ('30000/1001', '30000/1001')


@pytest.mark.parametrize(('name', 'arguments'), [
    ('a.ts', ['-output_ts_offset', '1234.5']),
    ('a.mkv', []),
    ('a.mov', ['-bf', '2', '-g', '30']),
    ('a.m2ts', ['-x264-params', 'intra-refresh=1:keyint=30']),
    ('a.avi', ['-c:v', 'mpeg4', '-bf', '2', '-q:v', '2']),
    ('a.mpg', ['-c:v', 'mpeg2video', '-bf', '2', '-q:v', '2', '-c:a', 'mp2']),
    ('a.webm', ['-c:v', 'libvpx', '-b:v', '1M', '-auto-alt-ref', '1', '-lag-in-frames', '16', '-c:a', 'libopus']),
    ('a.flv', [])])
def test_containers(same, tmp_path, name, arguments):
    make(tmp_path / name, *counted('25', '6'), *sound('6'), *OPEN_GOPS, '-c:a', 'aac', *arguments)
    expected = same(name, [(1, '0.7')])
    assert len(expected) == 150
    assert counts('whole/a_out.mp4') == list(range(150))


def test_without_time_stamps_there_are_twenty_parts_at_most(same, run, tmp_path):
    make(tmp_path / 'a.avi', *counted('25', '3.16'), '-c:v', 'mpeg4', '-bf', '2', '-q:v', '2')
    for more, frames, parts in ([], 79, 20), (['--start', '1'], 54, 18):
        out = run('-i', 'a.avi', '-s', '1', '--dry_run', '--chunk', '0.1', *more)[1].splitlines()
        assert out[1].startswith(f'frames   {frames}, ')
        assert out[2] == f'chunks   {parts}'
    same('a.avi', [(1, '0.5')], '--start', '1')
    assert counts('whole/a_out.mp4') == list(range(24, 79))  # ffmpeg takes the first frame of such a file for late


@pytest.mark.parametrize('name', ['a.mkv', 'a.mp4', 'a.ts'])
def test_a_variable_rate(same, tmp_path, name):
    make(tmp_path / name, *counted('30', '8'), *sound('8'), '-vf', "select='not(between(mod(n,40),7,19))'",
         *clips.ALL_FRAMES, *OPEN_GOPS)
    expected = same(name, [(1, '0.7'), (2, '1.7')])
    assert len(expected) in (240, 241)


@pytest.mark.parametrize('more', [['--fps', '50'], ['--fps', '11'], ['--start', '1.5', '--end', '5.1'],
                                  ['--start', '2.02', '--fps', '29.97'], ['--deinterlace', 'on'],
                                  ['--extract_frame_first']])
def test_options_that_choose_frames(same, tmp_path, more):
    make(tmp_path / 'a.mp4', *counted('25', '6'), *OPEN_GOPS)
    same('a.mp4', [(1, '0.7')], *more)


@pytest.mark.parametrize(('container', 'codec'), [('mkv', 'ffv1'), ('mkv', 'libx264'), ('webm', 'libvpx'),
                                                  ('webm', 'libvpx-vp9'), ('mov', 'prores_ks')])
def test_results_of_every_container_are_joined_in_time(run, tmp_path, container, codec):
    make(tmp_path / 'a.mp4', *counted(seconds='5'), *OPEN_GOPS)
    for chunk in ('0', '0.7'):
        status, _, err = run('-i', 'a.mp4', '-s', '1', '--vcodec', codec, '--ext', container, '--chunk', chunk, '-o',
                             f'x{chunk}', network='plain')
        assert status == 0, err
    times = [clips.times(f'x{chunk}/a_out.{container}') for chunk in ('0', '0.7')]
    assert len(times[0]) == 150
    assert np.abs(np.subtract(*times)).max() <= 0.0011
    assert counts(f'x0.7/a_out.{container}') == list(range(150))


def test_a_folder_of_frames_in_chunks(run, tmp_path):
    make(tmp_path / 'a.mp4', *counted('24', '3'), *EXACT)
    (tmp_path / 'shots').mkdir()
    clips.ffmpeg('-i', 'a.mp4', 'shots/%d.png')
    for workers, chunk in ((1, 0), (1, 1), (2, '0.5')):
        status, _, err = run('-i', 'shots', *LOSSLESS, '--num_process_per_gpu', workers, '--chunk', chunk,
                               network='plain')
        assert status == 0, err
        assert counts('results/shots_out.mp4') == list(range(72))
        assert video('results/shots_out.mp4')['rate'] == ('24/1', '24/1')
        assert files(Path('results')) == ['shots_out.mp4']


# ---- a seek that fails ----

def test_frames_that_a_seek_misses_are_decoded_from_the_start(run, tmp_path, monkeypatch):
    make(tmp_path / 'a.mkv', *counted('25', '4'), *OPEN_GOPS)
    info = probe(clips.FFMPEG, str(tmp_path / 'a.mkv'))
    plan = plan_video(clips.FFMPEG, info, VideoOptions())
    monkeypatch.setattr(type(plan), '_seek', lambda self, start: start + Fraction(1))
    status, _, err = run('-i', 'a.mkv', *LOSSLESS, '--chunk', '1', network='plain')
    assert status == 0, err
    assert counts('results/a_out.mp4') == list(range(100))


# ---- going on after an interruption ----

class Stop(KeyboardInterrupt):
    pass


@pytest.fixture
def stopped(run, tmp_path, monkeypatch):
    """Run and be interrupted in the third of four chunks."""
    def stop(name='a.mp4', *more):
        real = chunks.upscale_chunk

        def fails_at_the_third(chunk):
            if chunk.index == 2:
                raise Stop
            return real(chunk)
        with monkeypatch.context() as patch:
            patch.setattr('realesrgan.videos.run.upscale_chunk', fails_at_the_third)
            status, _, err = run('-i', name, *LOSSLESS, '--chunk', '1', *more, network='plain')
        assert status == 130
        assert '2 finished parts stay in results/a_out_parts; the same command goes on from there' in err
        assert parts() == ['000000.mp4', '000001.mp4']
    make(tmp_path / 'a.mp4', *counted('25', '4'), *sound('4'), *EXACT)
    return stop


def test_the_same_command_goes_on(run, tmp_path, stopped):
    assert run('-i', 'a.mp4', *LOSSLESS, '-o', 'whole', network='plain')[0] == 0
    stopped()
    before = [Path('results/a_out_parts', name).stat().st_mtime_ns for name in parts()]
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', '--keep_parts', network='plain')
    assert status == 0
    assert '2 of 4 parts are there from an earlier run' in err
    assert out.startswith('results/a_out.mp4: 100 frames (50 of them from an earlier run), ')
    assert [Path('results/a_out_parts', name).stat().st_mtime_ns for name in parts()][:2] == before
    assert hashes('results/a_out.mp4') == hashes('whole/a_out.mp4')
    assert len(parts()) == 4
    Path('results/a_out.mp4').unlink()
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert '4 of 4 parts are there from an earlier run' in err
    assert hashes('results/a_out.mp4') == hashes('whole/a_out.mp4')
    assert files(Path('results')) == ['a_out.mp4']


def test_other_options_or_another_source_are_refused(run, tmp_path, stopped):
    stopped()
    status, _, err = run('-i', 'a.mp4', '-s', '2', '--crf', '0', '--preset', 'fast', '--chunk', '1', network='plain')
    assert status == 1
    assert err.splitlines()[-1] == (
        'error: results/a_out_parts: holds parts of another run: outscale was 1, is 2, preset was ultrafast, is '
        'fast. Repeat that run to finish a_out.mp4, or start anew with --restart')
    assert run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1')[2].count('weights was ') == 1
    shutil.copyfile('a.mp4', 'b.mp4')
    Path('b.mp4').replace('a.mp4')
    assert 'modified was ' in run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')[2]
    assert len(parts()) == 2
    status, out, _ = run('-i', 'a.mp4', '-s', '2', '--chunk', '1', '--restart', network='plain')
    assert (status, out.startswith('results/a_out.mp4: 100 frames, ')) == (0, True)
    assert video('results/a_out.mp4')['size'] == (128, 64)
    assert files(Path('results')) == ['a_out.mp4']


def test_workers_devices_and_memory_may_differ(run, tmp_path, stopped):
    stopped()
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', '--num_process_per_gpu', '2', '--max_memory', '1',
                           network='plain')
    assert (status, '(50 of them from an earlier run)' in out) == (0, True), err
    assert counts('results/a_out.mp4') == list(range(100))


@pytest.mark.parametrize('name', ['my own.txt', '01 intro.mp4'])
def test_a_folder_that_is_not_ours_is_left_alone(run, tmp_path, name):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    mine = tmp_path / f'results/a_out_parts/{name}'
    mine.parent.mkdir(parents=True)
    mine.write_text('x')
    status, _, err = run('-i', 'a.mp4')
    assert (status, 'results/a_out_parts: is in the way' in err) == (1, True)
    assert files(tmp_path) == ['a.mp4', f'results/a_out_parts/{name}']


@pytest.mark.parametrize(('name', 'data'), [('000001.mp4', b'x' * 99), ('000001.json', b''), ('000001.json', None)])
def test_a_damaged_part_is_made_again(run, tmp_path, stopped, name, data):
    stopped()
    damaged = tmp_path / 'results/a_out_parts' / name
    damaged.unlink()
    if data is not None:
        damaged.write_bytes(data)
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert (status, '(25 of them from an earlier run)' in out) == (0, True), err
    assert counts('results/a_out.mp4') == list(range(100))
    assert files(Path('results')) == ['a_out.mp4']


@pytest.mark.parametrize('text', ['{"vers', '[1]'])
def test_a_damaged_manifest_means_a_new_start(run, tmp_path, stopped, text):
    stopped()
    (tmp_path / 'results/a_out_parts/manifest.json').write_text(text)
    status, out, _ = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert (status, out.startswith('results/a_out.mp4: 100 frames, ')) == (0, True)


def test_parts_are_known_as_ours_while_they_are_removed(tmp_path, monkeypatch):
    with contextlib.suppress(Stop), parts_module.opened(tmp_path / 'a.mp4', 'mp4', {'x': 1}) as opened:
        for index in range(3):
            opened.path(index).write_bytes(b'xy')
            opened.path(index).with_suffix('.json').write_text('{"bytes": 2}')
        assert opened.whole() == [0, 1, 2]
        removed, unlink = [], Path.unlink
        monkeypatch.setattr(Path, 'unlink', lambda path, **more: removed.append(path.name) or unlink(path, **more))
    assert removed.index('manifest.json') == 6
    assert not opened.folder.exists()


def test_joining_a_part_that_can_not_be_read_is_an_error(tmp_path):
    good = make(tmp_path / '000000.mp4', *picture(), *EXACT)
    bad = tmp_path / '000001.mp4'
    bad.write_bytes(b'no video')
    write_list(tmp_path / 'parts.ffconcat', [(good, 24), (bad, 24)], Fraction(24))
    with pytest.raises(MediaError, match="a part can't be read: .*000001.mp4"):
        join(clips.FFMPEG, tmp_path / 'parts.ffconcat', tmp_path / 'a.mp4', 'mp4')


def test_two_runs_of_one_result(run, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *picture(seconds='0.5'), *EXACT)
    real, seen = chunks.upscale_chunk, []

    def another_run_meanwhile(chunk):
        command = [sys.executable, SCRIPT, '-i', 'a.mp4', '-n', 'realesr-animevideov3']
        seen.append(subprocess.run(command, capture_output=True, text=True))
        return real(chunk)
    monkeypatch.setattr('realesrgan.videos.run.upscale_chunk', another_run_meanwhile)
    assert run('-i', 'a.mp4', '-s', '1')[0] == 0
    assert seen[0].returncode == 1
    assert seen[0].stderr.splitlines()[-1] == (
        'error: results/a_out.mp4: another run is writing it; wait for that one, or choose another --suffix or -o')
    assert files(tmp_path) == ['a.mp4', 'results/a_out.mp4']


def test_damage_in_the_middle_of_chunks(run, tmp_path):
    source = make(tmp_path / 'whole.mkv', *picture('128x96', seconds='6'), *OPEN_GOPS)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 3000] = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
    (tmp_path / 'a.mkv').write_bytes(data)
    status, _, err = run('-i', 'a.mkv', '-s', '0.5', '--chunk', '1')
    assert status == 1
    found = re.search(r'error: a.mkv: damaged at about 0:00:0(\d\.\d+); (\d+) frames could be decoded', err)
    assert 2 <= float(found[1]) <= 4, err
    assert video('results/a_out.mp4')['frames'] == int(found[2]) > 100


# ---- workers and their ends ----

def start(tmp_path, networks, *more, workers=2):
    """Start the script in a process on a clip that takes some seconds, and return once frames are being computed."""
    command = [sys.executable, SCRIPT, '-i', 'a.mp4', '--model_path', networks['tiny'], '--engine', 'torch', '--fp32',
               *LOSSLESS, '--chunk', '0.5', '--num_process_per_gpu', str(workers), '-v', *more]
    return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def family(process):
    """The workers and the programs of ffmpeg."""
    found = {'worker': [], 'ffmpeg': []}
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = ' '.join(child.cmdline())
            if 'spawn_main' in command:
                found['worker'].append(child)
            elif 'pipe:' in command:
                found['ffmpeg'].append(child)
    return found


def wait_for_parts(process, tmp_path, count, pause):
    folder = tmp_path / 'results/a_out_parts'
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if folder.exists() and len(parts(folder)) >= count:
            time.sleep(pause)
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[0])


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, networks):
    folder = tmp_path_factory.mktemp('undisturbed')
    make(folder / 'a.mp4', *picture('160x120', seconds='10'), *sound('10'), *OPEN_GOPS)
    process = start(folder, networks)
    text = process.communicate()[0]
    assert process.returncode == 0, text
    return folder


@pytest.mark.parametrize('who', ['main -9', 'main INT', 'main TERM', 'worker -9', 'ffmpeg -9'])
@pytest.mark.parametrize('workers', [1, 2])
def test_killed_at_any_moment(tmp_path, networks, undisturbed, who, workers):
    if who == 'worker -9' and workers == 1:
        pytest.skip('the one worker is the main process')
    shutil.copy2(undisturbed / 'a.mp4', tmp_path / 'a.mp4')
    process = start(tmp_path, networks, workers=workers)
    wait_for_parts(process, tmp_path, 2, random.uniform(0, 0.5))
    children = family(process)
    name, number = who.split()
    victims = {'main': [process], **children}[name]
    if victims:  # between two chunks there is no ffmpeg
        random.choice(victims).send_signal({'-9': signal.SIGKILL, 'INT': signal.SIGINT, 'TERM': signal.SIGTERM}[number])
    text = process.communicate(timeout=60)[0]
    assert 'Traceback' not in text or name == 'ffmpeg'  # -v shows that of the error
    _, alive = psutil.wait_procs([child for found in children.values() for child in found], timeout=20)
    assert alive == []
    expected = {'main -9': (-9,), 'main INT': (130,), 'main TERM': (143,), 'worker -9': (0,), 'ffmpeg -9': (0, 1)}
    assert process.returncode in expected[who], text
    if process.returncode == 0:
        assert name == 'ffmpeg' or 'was killed' in text
    else:
        whole = len(parts(tmp_path / 'results/a_out_parts'))
        again = start(tmp_path, networks, workers=workers)
        text = again.communicate(timeout=120)[0]
        assert again.returncode == 0, text
        assert f'{whole} of 20 parts are there from an earlier run' in text
    result = tmp_path / 'results/a_out.mp4'
    assert hashes(result) == hashes(undisturbed / 'results/a_out.mp4')
    assert clips.packets(result, 'a:0') == clips.packets(undisturbed / 'a.mp4', 'a:0')
    assert files(tmp_path) == ['a.mp4', 'results/a_out.mp4']


def fails(task):
    raise RuntimeError('CUDA error:\n  out of luck')


def ends_slowly(device):
    atexit.register(time.sleep, 0.5)


def test_a_worker_that_fails_is_tried_again_and_ends_quietly(capfd, caplog):
    with pytest.raises(WorkerError, match='a worker on 7 failed: CUDA error: out of luck'), ProcessPool(
            [7], ends_slowly, ()) as pool:
        list(pool.imap_unordered(fails, [1]))
    assert caplog.messages == ['a worker on 7 failed: CUDA error: out of luck; its work is tried again on 7']
    assert 'Traceback' not in capfd.readouterr().err


def test_what_fails_in_the_one_process_is_one_line(run, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    monkeypatch.setattr('realesrgan.videos.run.upscale_chunk', fails)
    assert run('-i', 'a.mp4', '-q')[::2] == (1, 'error: the work failed: CUDA error: out of luck\n')


# ---- room on the disk ----

def test_a_disk_that_fills_up(run, tmp_path, monkeypatch):
    """The disk says what it has left; a real small one was tried by hand."""
    make(tmp_path / 'a.mp4', *counted('25', '4'), *EXACT)
    usage = shutil.disk_usage

    def shrinks(folder):
        there = len(parts()) if Path('results/a_out_parts').exists() else 0
        return usage(folder)._replace(free=1 << 40 if there < 2 else 63 << 20)
    monkeypatch.setattr(disk, '_SECONDS_BETWEEN_LOOKS', 0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'disk_usage', shrinks)
        status, _, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert status == 1
    assert err.splitlines()[-2:] == [
        'warning: 2 finished parts stay in results/a_out_parts; the same command goes on from there',
        'error: results/a_out_parts: the disk has 63 MiB left, too little for the next frames (64 MiB stay free). Make '
        'room and run the same command again: it goes on from the parts that are there']
    status, out, _ = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert (status, '(50 of them from an earlier run)' in out) == (0, True)
    assert counts('results/a_out.mp4') == list(range(100))


def test_too_little_room_is_said_before(run, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    usage = shutil.disk_usage('.')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=100 << 20))
    monkeypatch.setattr('realesrgan.videos.run.estimated_bytes', lambda encoding, frames: 200 << 20)
    assert 'warning: about 400 MiB of disk will be needed, 100 MiB are free' in run('-i', 'a.mp4', '-s', '1')[2]


# ---- a plan without a run ----

def test_dry_run(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='25'), *EXACT)
    status, out, _ = run('-i', 'a.mp4', '-s', '2', '--dry_run', '--num_process_per_gpu', '2')
    assert status == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines['result'] == 'results/a_out.mp4'
    assert lines['frames'] == '600, 64x48 to 128x96, 24 frames/s, libx264 yuv420p'
    assert lines['chunks'] == '3'
    assert lines['workers'] == '2 on the CPU or the first GPU'
    assert re.fullmatch(r'[\d.e+-]+ frames/s, timed on 3 frames', lines['speed'])
    assert re.fullmatch(r'about \d+:\d\d:\d\d', lines['time'])
    assert re.fullmatch(r'about \d+ MiB, twice that before the parts are removed; \d+ [GM]iB are free', lines['disk'])
    assert re.fullmatch(r'\d+ MiB for each worker, beside that of a GPU', lines['memory'])
    assert ', 3 MiB of extracted frames; ' in run('-i', 'a.mp4', '--dry_run', '--extract_frame_first')[1]
    assert files(tmp_path) == ['a.mp4']


def test_dry_run_of_a_picture_and_of_a_pipe(run, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    assert run('-i', 'a.png', '--dry_run')[:2] == (0, 'result   results/a_out.png, a single picture\n')
    os.mkfifo(tmp_path / 'b.pipe')
    status, _, err = run('-i', 'b.pipe', '--dry_run')
    assert (status, err) == (2, 'error: b.pipe: --dry_run would use up what can be read once only; give a file\n')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'b.pipe']


# ---- the parts by themselves ----

@pytest.mark.parametrize(('total', 'length', 'last', 'expected'), [
    (10, 4, 9, [(0, 4), (4, 8), (8, None)]), (8, 4, 7, [(0, 4), (4, None)]), (8, 4, 3, [(0, None)]),
    (8, 0, 7, [(0, None)]), (None, 4, 0, [(0, None)]), (1, 4, 0, [(0, None)])])
def test_cut(total, length, last, expected):
    assert cut(total, length, last) == expected


def test_clocks_that_jump_are_noticed():
    assert collect_time_stamps([0, 3, 1, 2, 4], Fraction(1)).in_order
    assert not collect_time_stamps([*range(100), *range(50, 150)], Fraction(1)).in_order


def test_the_manifest_names_what_pixels_depend_on(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    run('-i', 'a.mp4', '--keep_parts', '--crf', '20')
    manifest = json.loads((tmp_path / 'results/a_out_parts/manifest.json').read_text())
    assert {name: manifest[name] for name in ('outscale', 'crf', 'half', 'tile', 'source', 'chunk')} == {
        'outscale': '4', 'crf': '20', 'half': False, 'tile': 0, 'source': 'a.mp4', 'chunk': '10'}
    assert {'version', 'weights', 'modified', 'bytes', 'content', 'ffmpeg'} < set(manifest)

