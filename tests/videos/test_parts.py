"""Runs that resume where an earlier one stopped, and what is refused."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from realesrgan.errors import PartsError
from realesrgan.videos.parts import OpenParts, Part, find_reusable
from realesrgan.videos.worker import ChunkWorker
from tests.support.clips import EXACT, files, make, picture, sound, video
from tests.support.numbered_frames import LOSSLESS, OPEN_GOPS, counted, counts, hashes, parts

SCRIPT = Path(__file__).parents[2] / 'inference_realesrgan_video.py'


class Stop(KeyboardInterrupt):
    """Ctrl-C, told apart from a real one."""


@pytest.fixture
def stopped(run, tmp_path, monkeypatch):
    """Run and be interrupted in the third of four chunks."""
    def stop(name='a.mp4', *more):
        upscale = ChunkWorker.__call__

        def fails_at_the_third(self, chunk, report):
            if chunk.index == 2:
                raise Stop
            return upscale(self, chunk, report)
        with monkeypatch.context() as patch:
            patch.setattr(ChunkWorker, '__call__', fails_at_the_third)
            status, _, err = run('-i', name, *LOSSLESS, '--chunk', '1', *more, network='plain')
        assert status == 130
        assert 'warning: a.mp4: 0 frames lost, 2 parts kept; the same command goes on from there' in err
        assert parts() == ['00000000.mp4', '00000025.mp4']
    make(tmp_path / 'a.mp4', *counted('25', '4'), *sound('4'), *EXACT)
    return stop


def test_the_same_command_goes_on(run, tmp_path, stopped):
    assert run('-i', 'a.mp4', *LOSSLESS, '-o', 'whole', network='plain')[0] == 0
    stopped()
    before = [Path('results/a_out_parts', name).stat().st_mtime_ns for name in parts()]
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', '--keep_parts', network='plain')
    assert status == 0
    assert 'reusing 2 parts of an earlier run' in err
    assert out.startswith('results/a_out.mp4: 100 frames (50 of them from an earlier run), ')
    assert [Path('results/a_out_parts', name).stat().st_mtime_ns for name in parts()][:2] == before
    assert hashes('results/a_out.mp4') == hashes('whole/a_out.mp4')
    assert len(parts()) == 4
    Path('results/a_out.mp4').unlink()
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert 'reusing 4 parts of an earlier run' in err
    assert hashes('results/a_out.mp4') == hashes('whole/a_out.mp4')
    assert files(Path('results')) == ['a_out.mp4']


def test_other_options_or_another_source_are_refused(run, tmp_path, stopped):
    stopped()
    status, _, err = run('-i', 'a.mp4', '-s', '2', '--crf', '0', '--preset', 'fast', '--chunk', '1', network='plain')
    assert status == 1
    assert err.splitlines()[-1] == (
        'error: a.mp4: results/a_out_parts: holds parts of another run: outscale was 1, is 2, preset was ultrafast, is '
        'fast. Repeat that run to finish a_out.mp4, or start anew with --restart')
    assert run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='tiny')[2].count('weights was ') == 1
    shutil.copyfile('a.mp4', 'b.mp4')
    Path('b.mp4').replace('a.mp4')
    assert 'modified was ' in run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')[2]
    assert len(parts()) == 2
    status, out, _ = run('-i', 'a.mp4', '-s', '2', '--chunk', '1', '--restart', network='plain')
    assert (status, out.startswith('results/a_out.mp4: 100 frames, ')) == (0, True)
    assert video('results/a_out.mp4')['size'] == (128, 64)
    assert files(Path('results')) == ['a_out.mp4']


@pytest.mark.parametrize('asked', [(['-s', '4'], []), ([], ['-s', '4'])])
def test_the_networks_own_scale_is_the_same_asked_for_or_not(run, tmp_path, asked):
    make(tmp_path / 'a.mp4', *counted('25', '2'), *EXACT)
    first, second = ([*arguments, '--chunk', '1', '--keep_parts'] for arguments in asked)
    assert run('-i', 'a.mp4', *first)[0] == 0
    assert 'reusing 2 parts of an earlier run' in run('-i', 'a.mp4', *second)[2]
    assert 'holds parts of another run: outscale was 4, is 2.' in run('-i', 'a.mp4', '--chunk', '1', '-s', '2')[2]


def test_workers_devices_and_memory_may_differ(run, quick_engine, tmp_path, stopped):
    stopped('a.mp4', '--engine', quick_engine)
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', '--num_process_per_gpu', '2', '--max_memory', '1',
                           '--engine', quick_engine, network='plain')
    assert (status, '(50 of them from an earlier run)' in out) == (0, True), err
    assert counts('results/a_out.mp4') == list(range(100))


@pytest.mark.parametrize('name', ['my own.txt', '01 intro.mp4'])
def test_a_folder_that_is_not_ours_is_left_alone(run, tmp_path, name):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    mine = tmp_path / f'results/a_out_parts/{name}'
    mine.parent.mkdir(parents=True)
    mine.write_text('x')
    status, _, err = run('-i', 'a.mp4')
    assert (status, "results/a_out_parts: can't be used for the parts of a_out.mp4" in err) == (1, True)
    assert files(tmp_path) == ['a.mp4', f'results/a_out_parts/{name}']


@pytest.mark.parametrize(('name', 'data'), [
    ('00000025.mp4', b'x' * 99), ('00000025.json', b''), ('00000025.json', None)])
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


def lose_content(path, share):
    """Fill the end of a file with zeros, as a loss of power may, and keep its size."""
    size = path.stat().st_size
    with path.open('rb+') as file:
        file.seek(int(size * (1 - share)))
        file.write(bytes(size - file.tell()))
    assert path.stat().st_size == size


@pytest.mark.parametrize('share', [0.2, 1])
def test_a_part_that_lost_its_content_is_made_again(run, tmp_path, stopped, share):
    assert run('-i', 'a.mp4', *LOSSLESS, '-o', 'whole', network='plain')[0] == 0
    stopped()
    lose_content(tmp_path / 'results/a_out_parts/00000025.mp4', share)
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert (status, '(25 of them from an earlier run)' in out) == (0, True), err
    assert 'warning: a.mp4: results/a_out_parts/00000025.mp4: damaged since it was written; it is made again' in err
    assert hashes('results/a_out.mp4') == hashes('whole/a_out.mp4')


def test_a_part_that_loses_its_content_while_the_run_goes_on_is_not_joined(run, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *counted('25', '3'), *EXACT)
    upscale = ChunkWorker.__call__

    def damages_the_first(self, chunk, report):
        if chunk.index == 2:
            lose_content(tmp_path / 'results/a_out_parts/00000000.mp4', 0.2)
        return upscale(self, chunk, report)
    with monkeypatch.context() as patch:
        patch.setattr(ChunkWorker, '__call__', damages_the_first)
        status, _, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert status == 1
    assert ('error: a.mp4: results/a_out_parts/00000000.mp4: damaged since it was written, so the disk may be failing; '
            'the same command makes it again') in err.splitlines()
    assert not Path('results/a_out.mp4').exists()
    status, out, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert (status, '(50 of them from an earlier run)' in out) == (0, True), err
    assert counts('results/a_out.mp4') == list(range(75))


@pytest.mark.parametrize('text', ['{"vers', '[1]'])
def test_a_damaged_manifest_means_a_new_start(run, tmp_path, stopped, text):
    stopped()
    (tmp_path / 'results/a_out_parts/manifest.json').write_text(text)
    status, out, _ = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert (status, out.startswith('results/a_out.mp4: 100 frames, ')) == (0, True)


def test_an_option_that_was_not_given_makes_no_difference_once_it_is_gone(tmp_path):
    target, part = tmp_path / 'a.mp4', Part(0, 1, 1, is_last=False)
    opened = OpenParts(target, 'mp4', {'x': 1, 'gone': None})
    opened.parts.path(0).write_bytes(b'xy')
    opened.parts.seal(part, opened.parts.path(0))
    opened.close(keep=True)
    assert find_reusable(target, 'mp4', {'x': 1}) == [part]
    assert find_reusable(target, 'mp4', {'x': 2}) == []
    opened = OpenParts(target, 'mp4', {'x': 1})
    assert opened.parts.find() == [part]
    opened.close(keep=True)
    with pytest.raises(PartsError, match='gone was not given, is 3'):
        OpenParts(target, 'mp4', {'x': 1, 'gone': 3})


def test_parts_are_known_as_ours_while_they_are_removed(tmp_path, monkeypatch):
    opened = OpenParts(tmp_path / 'a.mp4', 'mp4', {'x': 1})
    made = [Part(first, 1, 1, is_last=False) for first in range(3)]
    for part in made:
        opened.parts.path(part.first).write_bytes(b'xy')
        opened.parts.seal(part, opened.parts.path(part.first))
    assert opened.parts.find() == made
    removed, unlink = [], Path.unlink
    monkeypatch.setattr(Path, 'unlink', lambda path, **more: removed.append(path.name) or unlink(path, **more))
    opened.close(keep=False)
    assert removed.index('manifest.json') == 6
    assert not opened.parts.folder.exists()


def test_two_runs_of_one_result(run, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *picture(seconds='0.5'), *EXACT)
    upscale, seen = ChunkWorker.__call__, []

    def another_run_meanwhile(self, chunk, report):
        command = [sys.executable, SCRIPT, '-i', 'a.mp4', '-n', 'realesr-animevideov3']
        seen.append(subprocess.run(command, capture_output=True, text=True))
        return upscale(self, chunk, report)
    monkeypatch.setattr(ChunkWorker, '__call__', another_run_meanwhile)
    assert run('-i', 'a.mp4', '-s', '1')[0] == 0
    assert seen[0].returncode == 1
    assert seen[0].stderr.splitlines()[-1] == (
        'error: a.mp4: results/a_out.mp4: another run is writing it; wait until it ends, or choose another --suffix or '
        '-o')
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


def test_the_manifest_names_what_pixels_depend_on(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    run('-i', 'a.mp4', '--keep_parts', '--crf', '20')
    manifest = json.loads((tmp_path / 'results/a_out_parts/manifest.json').read_text())
    assert {name: manifest[name] for name in ('outscale', 'crf', 'fp32', 'tile', 'source', 'chunk')} == {
        'outscale': '4', 'crf': '20', 'fp32': True, 'tile': 0, 'source': 'a.mp4', 'chunk': None}
    assert {'version', 'weights', 'modified', 'bytes', 'content', 'ffmpeg', 'container', 'vcodec'} < set(manifest)
    assert not {'max_memory', 'model_path', 'gpu_id', 'face_model'} & set(manifest)
