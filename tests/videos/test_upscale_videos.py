"""`upscale_videos` as a program calls it: options, events, outcomes, cancelling, threads."""
from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan.errors import Cancelled, InputError, MediaError, UsageError
from realesrgan.events import Found, Outcome, Outlined, Progress, Warned
from realesrgan.videos import VideoOptions, upscale_videos
from tests.support import clips
from tests.support.clips import EXACT, counted, counts, files, hashes, make, parts, picture, sound, write_frames


@pytest.fixture
def options(networks, quick_engine):
    """Make options with a small network."""
    return lambda network='plain', **more: VideoOptions(
        model_path=networks[network], engine=quick_engine, fp32=True, **{'outscale': 1, 'crf': 0} | more)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def upscaled(folder, options):
    """Upscale videos in a folder of their own into `out`; return the outcomes and the events."""
    def upscale(*inputs, **more):
        events = []
        return upscale_videos(inputs, 'out', options(**more), on_event=events.append), events
    return upscale


def film(name, seconds='0.12'):
    return make(Path(name).absolute(), *counted('25', seconds), *EXACT)


def test_events_and_the_outcome(upscaled):
    film('a.mp4', '1')
    [outcome], events = upscaled('a.mp4', chunk=Fraction(1, 2))
    assert (outcome.source, outcome.target, outcome.frames, outcome.reused, outcome.failed) == (
        'a.mp4', Path('out/a_out.mp4'), 25, 0, False)
    assert outcome.seconds > 0
    assert (events[0], events[-1]) == (Found(1), outcome)
    progress = [event for event in events if isinstance(event, Progress)]
    assert (progress[0], progress[-1]) == (Progress('a.mp4', 0, 25), Progress('a.mp4', 25, 25))
    assert [event.done for event in progress] == sorted(event.done for event in progress)
    assert counts('out/a_out.mp4') == list(range(25))


def test_several_inputs_one_that_fails_does_not_hold_up_the_others(folder, upscaled):
    film('clips/1.mp4', '0.2')
    film('clips/10.mkv', '0.4')
    (folder / 'clips/2.mp4').write_bytes(b'broken')
    (folder / 'clips/notes.txt').write_text('x')
    cv2.imwrite('clips/poster.png', np.zeros((12, 16, 3), np.uint8))
    film('b [1080p]/b.mp4')
    outcomes, events = upscaled('missing.mp4', 'clips', 'b [1080p]/b*.mp4')
    assert [(outcome.source, outcome.failed, outcome.frames) for outcome in outcomes] == [
        ('missing.mp4', True, 0), ('clips/2.mp4', True, 0), ('clips/1.mp4', False, 5), ('clips/10.mkv', False, 10),
        ('b [1080p]/b.mp4', False, 3)]
    assert [type(outcome.error) for outcome in outcomes[:2]] == [InputError, MediaError]
    assert [event for event in events if isinstance(event, Outcome)] == outcomes
    assert [event for event in events if isinstance(event, Found | Warned)] == [
        Warned('', 'clips: skipped, because they are no videos: notes.txt, poster.png'), Found(3)]
    assert files(folder / 'out') == ['10_out.mp4', '1_out.mp4', 'b_out.mp4']


def test_results_that_would_collide_get_the_extension_and_a_file_given_twice_is_done_once(folder, upscaled):
    for name in ('a.mkv', 'a.mp4', 'x/a.mp4'):
        film(name)
    outcomes, _ = upscaled('a.mkv', 'a.mp4', './a.mkv', 'x/a.mp4', '*.mp4')
    assert [outcome.target.name for outcome in outcomes] == ['a_mkv_out.mp4', 'a_mp4_out.mp4', 'a_mp4_2_out.mp4']
    assert files(folder / 'out') == sorted(outcome.target.name for outcome in outcomes)


def test_a_result_never_overwrites_another_input(folder, options):
    film('a.mp4')
    film('a_out.mp4', '0.2')
    before = (folder / 'a_out.mp4').read_bytes()
    outcomes = upscale_videos(['a.mp4', 'a_out.mp4'], '.', options())
    assert str(outcomes[0].error) == ('its result would overwrite the input a_out.mp4; choose another --suffix or -o')
    assert (folder / 'a_out.mp4').read_bytes() == before
    assert (outcomes[1].failed, outcomes[1].target.name) == (False, 'a_out_out.mp4')


def test_a_result_that_exists_is_skipped_by_the_name_it_would_get(folder, upscaled):
    film('a.mp4')
    film('b.mp4')
    cv2.imwrite('c.jpg', np.zeros((12, 16, 3), np.uint8))
    (folder / 'out').mkdir()
    for name in ('a_out.mkv', 'b_out.mp4', 'c_out.jpg', 'c_out.mkv'):
        (folder / 'out' / name).write_text('old')
    outcomes, events = upscaled('a.mp4', 'b.mp4', ext='mkv', skip_existing=True)
    assert ([outcome.skipped for outcome in outcomes], Found(1) in events) == ([True, False], True)
    assert (folder / 'out/a_out.mkv').read_text() == 'old'
    for extension, expected in ('auto', (True, 'c_out.jpg')), ('png', (False, 'c_out.png')):
        [outcome], _ = upscaled('c.jpg', ext=extension, skip_existing=True)
        assert (outcome.skipped, outcome.target.name) == expected


@pytest.mark.parametrize(('name', 'extension', 'message'), [
    ('a.mp4', 'png', 'a.mp4: is a video, which --ext png can\'t hold; choose one of mp4, '),
    ('shots', 'jpg', 'shots: is a video, which --ext jpg can\'t hold'),
    ('shots/0.png', 'mkv', 'shots/0.png: is a picture, which --ext mkv can\'t hold; leave --ext out')])
def test_an_extension_of_the_other_kind_is_a_usage_error_before_any_work(folder, upscaled, name, extension, message):
    write_frames(folder / 'shots', 2, first=0)
    film('a.mp4')
    before = files(folder)
    with pytest.raises(UsageError, match=f'^{re.escape(message)}'):
        upscaled('a.mp4' if extension == 'mkv' else 'shots/1.png', name, ext=extension)
    assert files(folder) == before


@pytest.mark.parametrize('prefix', ['file:', 'file://'])
def test_a_file_url_is_the_file(folder, options, prefix):
    source = film('a.mp4')
    before = source.read_bytes()
    [outcome] = upscale_videos(f'{prefix}{source}', folder, options(suffix=''))
    assert 'its result would overwrite the input' in str(outcome.error)
    assert source.read_bytes() == before


@pytest.mark.parametrize(('wrong', 'message'), [
    ({'deinterlace': 'maybe'}, "deinterlace: 'maybe' is none"), ({'start': -1}, 'start: -1 is out of range'),
    ({'dry_run': True, 'check': True}, '--dry_run makes no results')])
def test_options_out_of_range_are_usage_errors(options, wrong, message):
    with pytest.raises(UsageError, match=message):
        options(**wrong)


def test_a_server_that_never_answers_can_be_cancelled(folder, options, http_server):
    answered = threading.Event()
    http_server.troubles.extend([{'wait_for': answered}] * 9)
    children, cancel = clips.belongings()[0], threading.Event()
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        upscale_videos(f'{http_server.url}/a.mp4', 'out', options(), cancel=cancel)
    timer.join()
    answered.set()
    assert clips.belongings()[0] == children


def test_a_dry_run_outlines_every_input_and_writes_nothing(folder, upscaled):
    film('a.mp4', '1')
    write_frames(folder / 'shots', 2, first=0)
    before = files(folder)
    outcomes, events = upscaled('a.mp4', 'shots', 'shots/0.png', dry_run=True)
    assert outcomes == []
    outlines = {event.source: event.lines for event in events if isinstance(event, Outlined)}
    assert outlines['shots/0.png'] == ('result   out/0_out.png, a single picture',)
    assert outlines['a.mp4'][:3] == ('result   out/a_out.mp4',
                                     'frames   25, 64x32 to 64x32, 25 frames/s, libx264 yuv420p', 'chunks   1')
    assert outlines['shots'][1] == 'frames   2, 16x12 to 16x12, 24 frames/s, libx264 yuv420p'
    assert files(folder) == before


# ---- two runs in one process, and cancelling ----

def test_two_threads_with_two_models(folder, options):
    """Each thread gets what it gets alone, and hears of its own run only."""
    runs, heard = {'a': ('tiny', 1), 'b': ('plain', 2)}, {'a': [], 'b': []}

    def upscale(name, target):
        network, outscale = runs[name]
        upscale_videos([f'{name}.mkv'], target, options(network, outscale=outscale, chunk=Fraction(1, 3)),
                       on_event=heard[name].append)
    for name, kind in ('a', 'testsrc2'), ('b', 'testsrc'):
        make(folder / f'{name}.mkv', *picture(kind=kind), *sound(), *EXACT, '-c:a', 'pcm_s16le')
        upscale(name, 'alone')
        heard[name].clear()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: upscale(name, 'out'), runs))
    for name in runs:
        assert hashes(f'out/{name}_out.mp4') == hashes(f'alone/{name}_out.mp4')
        assert {getattr(event, 'source', f'{name}.mkv') for event in heard[name]} == {f'{name}.mkv'}
        assert [event.message for event in heard[name] if isinstance(event, Warned)] == [
            'audio track 1 (pcm_s16le) is converted to aac because mp4 does not hold it']


@pytest.mark.parametrize('workers', [1, 2])
def test_a_run_cancelled_from_another_thread_keeps_its_parts_and_resumes(folder, options, workers):
    film('a.mp4', '8')
    chosen = options(chunk=Fraction(1, 2), num_process_per_gpu=workers)
    events, cancel, far = [], threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: far.wait(60) and cancel.set())
    thread.start()

    def hear(event):
        events.append(event)
        if isinstance(event, Progress) and event.done >= 60:
            far.set()
            cancel.wait(60)
    before = clips.belongings()[0]
    with pytest.raises(Cancelled):
        upscale_videos(['a.mp4'], 'out', chosen, on_event=hear, cancel=cancel)
    thread.join()
    kept = [json.loads(path.read_text())['frames'] for path in Path('out/a_out_parts').glob('0*.json')]
    done = [event.done for event in events if isinstance(event, Progress)][-1]
    lost = max(done - sum(kept), 0)
    assert events[-1] == Warned('a.mp4', f'{lost} frame{"s" * (lost != 1)} lost, {len(kept)} parts kept; the same '
                                'command resumes')
    assert clips.belongings()[0] <= before + (workers > 1)  # multiprocessing keeps one for later pools
    finished = parts('out/a_out_parts')
    assert 2 <= len(finished) < 16
    assert [name for name in files(folder / 'out') if '.realesrgan-' in name or name == 'a_out.mp4'] == []
    [outcome] = upscale_videos(['a.mp4'], 'out', chosen)
    assert outcome.reused >= 12 * len(finished)
    assert counts('out/a_out.mp4') == list(range(200))
    assert files(folder / 'out') == ['a_out.mp4']


def test_an_exception_of_the_listener_ends_the_run(folder, options):
    film('a.mp4', '2')

    def hear(event):
        if isinstance(event, Progress) and event.done == 5:
            raise OSError('enough')
    with pytest.raises(OSError, match='^enough$'):
        upscale_videos(['a.mp4'], 'out', options(), on_event=hear)
    assert files(folder) == ['a.mp4']
