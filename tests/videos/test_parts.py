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
from tests.support.clips import (
    EXACT,
    LOSSLESS,
    OPEN_GOPS,
    counted,
    counts,
    files,
    hashes,
    make,
    parts,
    picture,
    sound,
    video,
)

SCRIPT = Path(__file__).parents[2] / 'inference_realesrgan_video.py'
CHUNKS = '-i', 'a.mp4', *LOSSLESS, '--chunk', '1'
PARTS = Path('results/a_out_parts')


class Stop(KeyboardInterrupt):
    """Ctrl-C, told apart from a real one."""


@pytest.fixture
def at_chunk(monkeypatch):
    """Let something happen before chunks are upscaled that have one of some indices."""
    upscale = ChunkWorker.__call__

    def arrange(indices, what):
        def upscale_then(self, chunk, report):
            if chunk.index in indices:
                what()
            return upscale(self, chunk, report)
        monkeypatch.setattr(ChunkWorker, '__call__', upscale_then)
    return arrange


@pytest.fixture
def stopped(run, tmp_path, at_chunk):
    """Four chunks, and a run of them that was interrupted in the third."""
    def stop():
        raise Stop
    make(tmp_path / 'a.mp4', *counted('10', '4'), *sound('4'), *EXACT)
    at_chunk([2], stop)
    status, _, err = run(*CHUNKS)
    at_chunk([], None)
    assert (status, parts()) == (130, ['00000000.mp4', '00000010.mp4'])
    assert 'warning: a.mp4: 0 frames lost, 2 parts kept; the same command resumes' in err


@pytest.fixture
def whole(upscale, stopped):
    """The frames of a run in one go."""
    upscale('-i', 'a.mp4', *LOSSLESS, '-o', 'whole')
    return hashes('whole/a_out.mp4')


def test_the_same_command_goes_on(upscale, whole):
    before = [(PARTS / name).stat().st_mtime_ns for name in parts()]
    text = upscale(*CHUNKS, '--keep_parts')
    assert text.startswith('results/a_out.mp4: 40 frames (20 of them from an earlier run), ')
    assert 'reusing 2 parts of an earlier run' in text
    assert [(PARTS / name).stat().st_mtime_ns for name in parts()][:2] == before
    assert hashes('results/a_out.mp4') == whole
    assert len(parts()) == 4
    Path('results/a_out.mp4').unlink()
    assert 'reusing 4 parts of an earlier run' in upscale(*CHUNKS)
    assert hashes('results/a_out.mp4') == whole
    assert files('results') == ['a_out.mp4']


def test_other_options_or_another_source_are_refused(upscale, fail, run, stopped):
    assert fail('-i', 'a.mp4', '-s', '2', '--crf', '0', '--preset', 'fast', '--chunk', '1').splitlines()[-1] == (
        'error: a.mp4: results/a_out_parts: holds parts of another run: outscale was 1, is 2, preset was ultrafast, is '
        'fast. Repeat that run to finish a_out.mp4, or start anew with --restart')
    assert run(*CHUNKS, network='tiny')[2].count('weights was ') == 1
    shutil.copyfile('a.mp4', 'b.mp4')
    Path('b.mp4').replace('a.mp4')
    assert 'modified was ' in fail(*CHUNKS)
    assert len(parts()) == 2
    assert upscale('-i', 'a.mp4', '-s', '2', '--chunk', '1', '--restart').startswith('results/a_out.mp4: 40 frames, ')
    assert video('results/a_out.mp4')['size'] == (128, 64)
    assert files('results') == ['a_out.mp4']


@pytest.mark.parametrize('asked', [(['-s', '4'], []), ([], ['-s', '4'])])
def test_the_networks_own_scale_is_the_same_asked_for_or_not(upscale, fail, tmp_path, asked):
    make(tmp_path / 'a.mp4', *counted('10', '2'), *EXACT)
    first, second = ([*arguments, '--chunk', '1', '--keep_parts'] for arguments in asked)
    upscale('-i', 'a.mp4', *first)
    assert 'reusing 2 parts of an earlier run' in upscale('-i', 'a.mp4', *second)
    assert 'holds parts of another run: outscale was 4, is 2.' in fail('-i', 'a.mp4', '--chunk', '1', '-s', '2')


def test_workers_devices_and_memory_may_differ(upscale, stopped):
    assert '(20 of them from an earlier run)' in upscale(*CHUNKS, '--num_process_per_gpu', '2', '--max_memory', '1')
    assert counts('results/a_out.mp4') == list(range(40))


@pytest.mark.parametrize('name', ['my own.txt', '01 intro.mp4'])
def test_a_folder_that_is_not_ours_is_left_alone(fail, tmp_path, name):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    mine = tmp_path / PARTS / name
    mine.parent.mkdir(parents=True)
    mine.write_text('x')
    assert "results/a_out_parts: can't be used for the parts of a_out.mp4" in fail('-i', 'a.mp4')
    assert files(tmp_path) == ['a.mp4', f'results/a_out_parts/{name}']


def lose_content(path, share):
    """Fill the end of a file with zeros, as a loss of power may, and keep its size."""
    data = path.read_bytes()
    kept = int(len(data) * (1 - share))
    path.write_bytes(data[:kept] + bytes(len(data) - kept))


@pytest.mark.parametrize(('name', 'damage', 'warns'), [
    ('00000010.mp4', lambda path: path.write_bytes(b'x' * 99), False),
    ('00000010.json', lambda path: path.write_bytes(b''), False), ('00000010.json', Path.unlink, False),
    ('00000010.mp4', lambda path: lose_content(path, 0.2), True),
    ('00000010.mp4', lambda path: lose_content(path, 1), True)])
def test_a_damaged_part_is_made_again(upscale, whole, name, damage, warns):
    damage(PARTS / name)
    text = upscale(*CHUNKS)
    assert '(10 of them from an earlier run)' in text
    assert not warns or ('warning: a.mp4: results/a_out_parts/00000010.mp4: damaged since it was written; it is made '
                         'again') in text
    assert hashes('results/a_out.mp4') == whole
    assert files('results') == ['a_out.mp4']


def test_a_part_that_loses_its_content_while_the_run_goes_on_is_not_joined(upscale, fail, tmp_path, at_chunk):
    make(tmp_path / 'a.mp4', *counted('10', '3'), *EXACT)
    at_chunk([2], lambda: lose_content(PARTS / '00000000.mp4', 0.2))
    assert ('error: a.mp4: results/a_out_parts/00000000.mp4: damaged since it was written, so the disk may be failing; '
            'the same command makes it again') in fail(*CHUNKS).splitlines()
    assert not Path('results/a_out.mp4').exists()
    at_chunk([], None)
    assert '(20 of them from an earlier run)' in upscale(*CHUNKS)
    assert counts('results/a_out.mp4') == list(range(30))


@pytest.mark.parametrize('text', ['{"vers', '[1]'])
def test_a_damaged_manifest_means_a_new_start(upscale, stopped, text):
    (PARTS / 'manifest.json').write_text(text)
    assert upscale(*CHUNKS).startswith('results/a_out.mp4: 40 frames, ')


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


def test_two_runs_of_one_result(upscale, tmp_path, at_chunk):
    make(tmp_path / 'a.mp4', *picture(seconds='0.5'), *EXACT)
    command = [sys.executable, SCRIPT, '-i', 'a.mp4', '-n', 'realesr-animevideov3']
    seen = []
    at_chunk([0], lambda: seen.append(subprocess.run(command, capture_output=True, text=True)))
    upscale('-i', 'a.mp4', '-s', '1')
    assert (seen[0].returncode, seen[0].stderr.splitlines()[-1]) == (
        1, 'error: a.mp4: results/a_out.mp4: another run is writing it; wait until it ends, or choose another --suffix '
        'or -o')
    assert files(tmp_path) == ['a.mp4', 'results/a_out.mp4']


def test_damage_in_the_middle_of_chunks(fail, tmp_path):
    source = make(tmp_path / 'whole.mkv', *picture('128x96', seconds='6'), *OPEN_GOPS)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 3000] = np.random.default_rng(0).bytes(3000)
    (tmp_path / 'a.mkv').write_bytes(data)
    text = fail('-i', 'a.mkv', '-s', '0.5', '--chunk', '1')
    found = re.search(r'error: a.mkv: damaged at about 0:00:0(\d\.\d+); (\d+) frames could be decoded', text)
    assert 2 <= float(found[1]) <= 4, text
    assert video('results/a_out.mp4')['frames'] == int(found[2]) > 100


def test_the_manifest_names_what_pixels_depend_on(upscale, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    upscale('-i', 'a.mp4', '--keep_parts', '--crf', '20')
    manifest = json.loads((tmp_path / 'results/a_out_parts/manifest.json').read_text())
    assert {name: manifest[name] for name in ('outscale', 'crf', 'fp32', 'tile', 'source', 'chunk')} == {
        'outscale': '4', 'crf': '20', 'fp32': True, 'tile': 0, 'source': 'a.mp4', 'chunk': None}
    assert {'version', 'weights', 'modified', 'bytes', 'content', 'ffmpeg', 'container', 'vcodec'} < set(manifest)
    assert not {'max_memory', 'model_path', 'gpu_id', 'face_model'} & set(manifest)
