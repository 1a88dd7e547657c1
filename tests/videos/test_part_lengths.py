"""How much work a part holds, and that no more than that is lost, by a clock that only the network moves on."""
from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import inference_realesrgan_video
from realesrgan import RealESRGANer
from realesrgan.videos.parts import Parts
from realesrgan.videos.worker import ChunkWorker
from tests.support.clips import EXACT, LOSSLESS, OPEN_GOPS, counted, counts, files, hashes, make

PARTS = Path('results/a_out_parts')


@pytest.fixture
def pace(monkeypatch):
    """Let each frame take some seconds, and let something happen at one of them; return the frames computed so far."""
    submit = RealESRGANer.submit

    def arrange(seconds, at=None, what=None):
        clock, calls = SimpleNamespace(now=0.0), []

        def submit_slowly(upsampler, picture, *options, **more):
            calls.append(picture)
            if len(calls) == at:
                what()
            clock.now += seconds
            return submit(upsampler, picture, *options, **more)
        monkeypatch.setattr(RealESRGANer, 'submit', submit_slowly)
        monkeypatch.setitem(ChunkWorker.__init__.__kwdefaults__, 'clock', lambda: clock.now)
        return calls
    return arrange


@pytest.fixture(scope='module')
def undisturbed(networks, tmp_path_factory):
    """Twelve seconds of five frames each, and the frames that a run in one go makes of them."""
    folder = tmp_path_factory.mktemp('undisturbed')
    clip = make(folder / 'a.mp4', *counted('5', '12'), *EXACT)
    arguments = ['-i', clip, *LOSSLESS, '--chunk', '0', '-o', folder, '--model_path', networks['plain'], '--fp32']
    assert inference_realesrgan_video.main([*map(str, arguments), '--engine', 'torch']) == 0
    return clip, hashes(folder / 'a_out.mp4')


@pytest.fixture
def whole(undisturbed, tmp_path):
    """Bring the clip; return the frames of a run in one go."""
    shutil.copyfile(undisturbed[0], tmp_path / 'a.mp4')
    return undisturbed[1]


def interrupt_when(*names):
    """Wait until files are in the folder of parts, then press Ctrl-C."""
    def interrupt():
        deadline = time.monotonic() + 60
        while not all((PARTS / name).exists() for name in names) and time.monotonic() < deadline:
            time.sleep(0.01)
        raise KeyboardInterrupt
    return interrupt


def lengths():
    return [part.frames for part in Parts(PARTS, 'mp4').find()]


@pytest.fixture
def interrupted(run):
    """Run the script, which Ctrl-C ends; return the warning before its last line."""
    def interrupted(*arguments):
        status, _, err = run('-i', *arguments)
        *_, warning, last = err.splitlines()
        assert (status, last) == (130, 'error: interrupted'), err
        return warning
    return interrupted


@pytest.mark.parametrize(('seconds', 'more', 'expected'), [
    (0.01, [], [50, 10]),
    (1.19, [], [50, 10]),  # a minute for ten seconds
    (1.3, [], [45, 5, 10]),
    (3, [], [20, 20, 10, 10]),
    (6.1, [], [5] * 12),
    (99, [], [5] * 12),
    (99, ['--chunk', '10'], [50, 10]),
    (99, ['--chunk', '0'], [60])])
def test_a_part_holds_about_a_minute_of_work(upscale, pace, whole, seconds, more, expected):
    pace(seconds)
    upscale('-i', 'a.mp4', *LOSSLESS, '--keep_parts', *more)
    assert lengths() == expected
    assert list(PARTS.glob('*.raw')) == []
    assert hashes('results/a_out.mp4') == whole


def test_what_ctrl_c_keeps_and_loses(upscale, interrupted, pace, whole):
    pace(6.1, 14, interrupt_when('00000005.mp4'))
    assert interrupted('a.mp4', *LOSSLESS) == (
        'warning: a.mp4: 3 frames lost, 2 parts kept; the same command resumes')
    calls = pace(6.1)
    text = upscale('-i', 'a.mp4', *LOSSLESS)
    assert text.startswith('results/a_out.mp4: 60 frames (10 of them from an earlier run), ')
    assert ('reusing 2 parts of an earlier run' in text, len(calls)) == (True, 50)
    assert hashes('results/a_out.mp4') == whole
    assert files('results') == ['a_out.mp4']


def test_what_is_lost_if_no_part_is_finished(interrupted, pace, whole):
    pace(0.1, 31, interrupt_when())
    assert interrupted('a.mp4') == 'warning: a.mp4: 30 frames lost, no part was finished'
    assert files('.') == ['a.mp4']


def test_frames_that_are_kept_do_not_pile_up_from_run_to_run(upscale, interrupted, pace, whole):
    """Those of earlier runs take no time in this one, and yet a part does not get longer for that."""
    pace(13, 4, interrupt_when('00000002.raw'))
    interrupted('a.mp4', *LOSSLESS)
    calls = pace(13)
    upscale('-i', 'a.mp4', *LOSSLESS, '--keep_parts')
    assert (len(calls), lengths()) == (57, [5] * 12)
    assert hashes('results/a_out.mp4') == whole


def swap(one, other):
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])


@pytest.mark.parametrize(('damage', 'remade'), [
    (lambda folder: None, 0),
    (lambda folder: (folder / '00000006.raw').write_bytes((folder / '00000006.raw').read_bytes()[:-1] + b'x'), 1),
    (lambda folder: (folder / '00000006.raw').write_bytes(b''), 1),
    (lambda folder: swap(folder / '00000005.raw', folder / '00000007.raw'), 2)])
def test_frames_that_take_long_are_kept_one_by_one(upscale, interrupted, pace, whole, damage, remade):
    pace(20, 9, interrupt_when('00000000.mp4'))
    assert interrupted('a.mp4', *LOSSLESS) == (
        'warning: a.mp4: 0 frames lost, 1 part and 3 frames kept; the same command resumes')
    assert files(PARTS) == ['00000000.json', '00000000.mp4', *(f'0000000{number}.raw' for number in (5, 6, 7)),
                            'lock', 'manifest.json']
    damage(PARTS)
    calls = pace(20)
    text = upscale('-i', 'a.mp4', *LOSSLESS)
    assert text.startswith(f'results/a_out.mp4: 60 frames ({8 - remade} of them from an earlier run), ')
    assert ('reusing 1 part and 3 frames of an earlier run' in text, len(calls)) == (True, 52 + remade)
    assert hashes('results/a_out.mp4') == whole
    assert files('results') == ['a_out.mp4']


def test_frames_are_not_kept_where_the_disk_is_nearly_full(interrupted, pace, whole, monkeypatch):
    monkeypatch.setattr('realesrgan.videos.worker.measure_free_disk', lambda folder: 128 << 20)
    pace(20, 9, interrupt_when('00000000.mp4'))
    assert 'warning: a.mp4: 3 frames lost, 1 part kept; ' in interrupted('a.mp4', *LOSSLESS)


def test_16_bits(upscale, interrupted, pace, tmp_path):
    make(tmp_path / 'a.mp4', *counted('5', '2'), '-vf', 'format=yuv420p10le', '-c:v', 'libx265', '-x265-params',
         'lossless=1:log-level=none')
    common = 'a.mp4', '-s', '2', '--vcodec', 'ffv1', '--ext', 'mkv'
    pace(20, 4, interrupt_when())
    assert '0 frames lost, 3 frames kept' in interrupted(*common)
    calls = pace(20)
    upscale('-i', *common)
    resumed = hashes('results/a_out.mkv')
    assert len(calls) == 7
    upscale('-i', *common)
    assert resumed == hashes('results/a_out.mkv')


def test_a_part_in_the_middle_that_is_damaged(upscale, interrupted, pace, whole):
    pace(6.1, 26, interrupt_when('00000020.mp4'))
    interrupted('a.mp4', *LOSSLESS)
    for name in ('00000005.mp4', '00000010.mp4'):
        (PARTS / name).write_bytes(b'x')
    pace(1)
    assert '(15 of them from an earlier run)' in upscale('-i', 'a.mp4', *LOSSLESS, '--keep_parts')
    assert lengths() == [5, 10, 5, 5, 25, 10]
    assert hashes('results/a_out.mp4') == whole


def test_what_a_worker_has_finished_before_it_broke_is_not_made_again(upscale, pace, whole):
    def fail():
        raise MemoryError('no room')
    calls = pace(20, 9, fail)
    assert 'failed: frame 9: no room; it is tried again' in upscale('-i', 'a.mp4', *LOSSLESS)
    assert len(calls) == 61
    assert hashes('results/a_out.mp4') == whole


def test_frames_that_a_seek_misses(upscale, interrupted, pace, tmp_path, monkeypatch):
    """They are missed before any is computed."""
    make(tmp_path / 'a.mkv', *counted('25', '6'), *OPEN_GOPS)
    monkeypatch.setattr('realesrgan.videos.plan.find_key_frame', lambda stamps, start: start + 1)
    monkeypatch.setattr('realesrgan.videos.source.CHUNK_SECONDS', 3)
    pace(2, 115, interrupt_when('00000075.mp4'))  # in the second chunk
    assert '4 parts kept' in interrupted('a.mkv', *LOSSLESS)
    calls = pace(2)
    upscale('-i', 'a.mkv', *LOSSLESS)
    assert len(calls) == 50
    assert counts('results/a_out.mp4') == list(range(150))


@pytest.mark.parametrize('seconds', [2, 99])
def test_damage(fail, interrupted, pace, tmp_path, seconds):
    """Fewer frames come than the time stamps promise, so that parts can't be counted by those."""
    source = make(tmp_path / 'whole.mp4', *counted('25', '6', '128x64'), '-c:v', 'mpeg4', '-q:v', '2', '-bf', '2')
    data = bytearray(source.read_bytes())
    data[len(data) // 4:len(data) // 4 + 3000] = bytes(3000)
    (tmp_path / 'a.mp4').write_bytes(data)
    problem = fail('-i', 'a.mp4', *LOSSLESS, '-o', 'undisturbed').splitlines()[-1].split('; ', 1)
    assert problem[0][:31] == 'error: a.mp4: damaged at about '
    expected = hashes('undisturbed/a_out.mp4')
    assert 100 < len(expected) < 150
    for at in (60, 40):
        pace(seconds, at, interrupt_when('00000025.mp4'))
        assert 'kept; the same command resumes' in interrupted('a.mp4', *LOSSLESS)
    pace(seconds)
    assert fail('-i', 'a.mp4', *LOSSLESS).splitlines()[-1].split('; ', 1)[1] == problem[1]
    assert hashes('results/a_out.mp4') == expected


def test_parts_of_the_version_before_are_refused(upscale, fail, tmp_path):
    make(tmp_path / 'a.mp4', *counted('5', '1'), *EXACT)
    upscale('-i', 'a.mp4', '--keep_parts')
    manifest = json.loads((PARTS / 'manifest.json').read_text())
    (PARTS / 'manifest.json').write_text(json.dumps(manifest | {'version': '1.0.0'}))
    for suffix in ('.json', '.mp4'):
        (PARTS / f'00000000{suffix}').replace(PARTS / f'000000{suffix}')
    assert fail('-i', 'a.mp4').splitlines()[-1] == (
        f'error: a.mp4: {PARTS}: holds parts of another run: version was 1.0.0, is {manifest["version"]}. Repeat '
        'that run to finish a_out.mp4, or start anew with --restart')
    upscale('-i', 'a.mp4', '--restart')
    assert files('results') == ['a_out.mp4']


def test_a_comparison_and_samples_of_several_parts(upscale, pace, whole):
    pace(6.1)
    common = '-i', 'a.mp4', *LOSSLESS, '--compare', '--report', 'x.json'
    upscale(*common)
    compared, report = hashes('results/a_out_compare.mp4'), json.loads(Path('x.json').read_text())
    upscale(*common, '--chunk', '10', '--restart')
    assert compared == hashes('results/a_out_compare.mp4')
    assert len(compared) == 25
    assert [sample['frame'] for sample in report['files'][0]['samples']] == list(range(2, 60, 5))


@pytest.mark.parametrize(('seconds', 'expected'), [(0.1, 'of 10 s, about 0:00:05'), (3, 'of 4 s, about 0:01:00'),
                                                   (99, 'of 1 s, about 0:08:15')])
def test_a_dry_run_says_how_long_parts_will_be(upscale, pace, whole, seconds, expected, monkeypatch):
    calls = pace(seconds)
    monkeypatch.setattr('realesrgan.videos.dry_run.time', SimpleNamespace(perf_counter=lambda: seconds * len(calls)))
    text = upscale('-i', 'a.mp4', '--dry_run')
    assert f'parts    {expected} of work each\n' in text
    assert ('up to 0 MiB more for frames of unfinished parts' in text) == (seconds == 99)
    assert 'parts  ' not in upscale('-i', 'a.mp4', '--dry_run', '--chunk', '5')
