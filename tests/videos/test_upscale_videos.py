"""`upscale_videos` as a program calls it: options, events, outcomes, cancelling, threads."""
from __future__ import annotations

import json
import threading
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan.errors import Cancelled, InputError, MediaError, UsageError
from realesrgan.events import Found, Outcome, Outlined, Progress, Warned
from realesrgan.videos import VideoOptions, upscale_videos
from tests.support import clips
from tests.support.clips import EXACT, files, make, picture, sound, video
from tests.support.numbered_frames import counted, counts, hashes, parts


@pytest.fixture
def options(networks):
    """Make options with a small network."""
    return lambda network='plain', engine='torch', **more: VideoOptions(
        model_path=networks[network], engine=engine, fp32=True, **{'outscale': 1, 'crf': 0} | more)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_events_and_the_outcome(folder, options):
    make(folder / 'a.mp4', *counted('25', '1'), *EXACT)
    events = []
    [outcome] = upscale_videos(['a.mp4'], 'out', options(chunk=Fraction(1, 2)), on_event=events.append)
    assert (outcome.source, outcome.target, outcome.frames, outcome.reused) == (
        'a.mp4', folder.joinpath('out/a_out.mp4').relative_to(folder), 25, 0)
    assert not outcome.failed
    assert outcome.seconds > 0
    assert events[0] == Found(1)
    assert events[-1] == outcome
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[0] == Progress('a.mp4', 0, 25)
    assert progress[-1] == Progress('a.mp4', 25, 25)
    assert [event.done for event in progress] == sorted(event.done for event in progress)
    assert counts('out/a_out.mp4') == list(range(25))


def test_several_inputs_one_that_fails_does_not_hold_up_the_others(folder, options):
    make(folder / 'clips/1.mp4', *counted('25', '0.2'), *EXACT)
    make(folder / 'clips/10.mkv', *counted('25', '0.4'), *EXACT)
    (folder / 'clips/2.mp4').write_bytes(b'broken')
    (folder / 'clips/notes.txt').write_text('x')
    make(folder / 'b [1080p]/b.mp4', *counted('25', '0.12'), *EXACT)
    events = []
    outcomes = upscale_videos(['missing.mp4', 'clips', 'b [1080p]/b*.mp4'], 'out', options(), on_event=events.append)
    assert [(outcome.source, outcome.failed, outcome.frames) for outcome in outcomes] == [
        ('missing.mp4', True, 0), ('clips/2.mp4', True, 0), ('clips/1.mp4', False, 5), ('clips/10.mkv', False, 10),
        ('b [1080p]/b.mp4', False, 3)]
    assert isinstance(outcomes[0].error, InputError)
    assert isinstance(outcomes[1].error, MediaError)
    assert [event for event in events if isinstance(event, Outcome)] == outcomes
    assert Found(3) in events
    assert Warned('', 'clips: skipped, because they are no videos: notes.txt') in events
    assert files(folder / 'out') == ['10_out.mp4', '1_out.mp4', 'b_out.mp4']


def test_results_that_would_collide_get_the_extension(folder, options):
    for name in ('a.mkv', 'a.mp4', 'x/a.mp4'):
        make(folder / name, *counted('25', '0.12'), *EXACT)
    outcomes = upscale_videos(['a.mkv', 'a.mp4', 'x/a.mp4'], 'out', options())
    assert [outcome.target.name for outcome in outcomes] == ['a_mkv_out.mp4', 'a_mp4_out.mp4', 'a_mp4_2_out.mp4']
    assert files(folder / 'out') == sorted(outcome.target.name for outcome in outcomes)


def test_a_result_never_overwrites_another_input(folder, options):
    make(folder / 'a.mp4', *counted('25', '0.12'), *EXACT)
    make(folder / 'a_out.mp4', *counted('25', '0.2'), *EXACT)
    before = (folder / 'a_out.mp4').read_bytes()
    outcomes = upscale_videos(['a.mp4', 'a_out.mp4'], '.', options())
    assert str(outcomes[0].error) == ('its result would overwrite the input a_out.mp4; choose another --suffix or -o')
    assert (folder / 'a_out.mp4').read_bytes() == before
    assert (outcomes[1].failed, outcomes[1].target.name) == (False, 'a_out_out.mp4')


def test_a_file_given_twice_is_done_once(folder, options):
    make(folder / 'a.mp4', *counted('25', '0.12'), *EXACT)
    assert len(upscale_videos(['a.mp4', './a.mp4', '*.mp4'], 'out', options())) == 1


def write_frames(folder, count):
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f'{number}.png'), np.full((12, 16, 3), number * 40, np.uint8))


def test_a_folder_with_a_film_and_its_posters_stands_for_the_film(folder, options):
    write_frames(folder / 'films', 3)
    make(folder / 'films/a.mp4', *counted('25', '0.12'), *EXACT)
    events = []
    [outcome] = upscale_videos(['films'], 'out', options(), on_event=events.append)
    assert (outcome.target.name, outcome.frames) == ('a_out.mp4', 3)
    assert Warned('', 'films: skipped, because they are no videos: 0.png, 1.png, 2.png') in events


def test_a_video_that_exists_is_skipped(folder, options):
    make(folder / 'a.mp4', *counted('25', '0.12'), *EXACT)
    make(folder / 'b.mp4', *counted('25', '0.12'), *EXACT)
    (folder / 'out').mkdir()
    (folder / 'out/a_out.mkv').write_text('old')
    (folder / 'out/b_out.mp4').write_text('not the name that will be written')
    events = []
    outcomes = upscale_videos(['a.mp4', 'b.mp4'], 'out', options(ext='mkv', skip_existing=True),
                              on_event=events.append)
    assert [outcome.skipped for outcome in outcomes] == [True, False]
    assert Found(1) in events
    assert (folder / 'out/a_out.mkv').read_text() == 'old'


def test_a_picture_that_exists_is_skipped_by_the_name_it_would_get(folder, options):
    cv2.imwrite(str(folder / 'a.jpg'), np.zeros((12, 16, 3), np.uint8))
    (folder / 'out').mkdir()
    (folder / 'out/a_out.jpg').write_text('old')
    (folder / 'out/a_out.mp4').write_text('what a video of the name would be called')
    [outcome] = upscale_videos(['a.jpg'], 'out', options(skip_existing=True))
    assert (outcome.skipped, outcome.target.name) == (True, 'a_out.jpg')
    [outcome] = upscale_videos(['a.jpg'], 'out', options(skip_existing=True, ext='png'))
    assert (outcome.skipped, outcome.target.name) == (False, 'a_out.png')


@pytest.mark.parametrize(('name', 'extension', 'message'), [
    ('a.mp4', 'png', 'a.mp4: is a video, which --ext png can\'t hold; choose one of mp4, '),
    ('shots', 'jpg', 'shots: is a video, which --ext jpg can\'t hold'),
    ('shots/0.png', 'mkv', 'shots/0.png: is a picture, which --ext mkv can\'t hold; leave --ext out')])
def test_an_extension_of_the_other_kind_is_a_usage_error_before_any_work(folder, options, name, extension, message):
    write_frames(folder / 'shots', 2)
    make(folder / 'a.mp4', *counted('25', '0.12'), *EXACT)
    before = files(folder)
    fitting = 'a.mp4' if extension == 'mkv' else 'shots/1.png'
    with pytest.raises(UsageError) as caught:
        upscale_videos([fitting, name], 'out', options(ext=extension))
    assert str(caught.value).startswith(message)
    assert files(folder) == before


@pytest.mark.parametrize('prefix', ['file:', 'file://'])
def test_a_file_url_is_the_file(folder, options, prefix):
    source = make(folder / 'a.mp4', *counted('25', '0.12'), *EXACT)
    before = source.read_bytes()
    [outcome] = upscale_videos(f'{prefix}{source}', folder, options(suffix=''))
    assert 'its result would overwrite the input' in str(outcome.error)
    assert source.read_bytes() == before


@pytest.mark.parametrize(('wrong', 'message'), [
    ({'ext': 'avi'}, "ext: 'avi' is none of auto, jpg, "), ({'deinterlace': 'maybe'}, "deinterlace: 'maybe' is none"),
    ({'outscale': 0}, 'outscale: 0 is out of range'), ({'start': -1}, 'start: -1 is out of range'),
    ({'end': 'noon'}, "end: 'noon' is not a time"), ({'fps': 0}, "fps: '0' is not a frame rate"),
    ({'num_process_per_gpu': 0}, 'num_process_per_gpu: 0 is out of range'),
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


def test_a_dry_run_outlines_every_input_and_writes_nothing(folder, options):
    make(folder / 'a.mp4', *counted('25', '1'), *EXACT)
    write_frames(folder / 'shots', 2)
    before, events = files(folder), []
    assert upscale_videos(['a.mp4', 'shots', 'shots/0.png'], 'out', options(dry_run=True),
                          on_event=events.append) == []
    outlines = {event.source: event.lines for event in events if isinstance(event, Outlined)}
    assert outlines['shots/0.png'] == ('result   out/0_out.png, a single picture',)
    assert outlines['a.mp4'][:3] == ('result   out/a_out.mp4',
                                     'frames   25, 64x32 to 64x32, 25 frames/s, libx264 yuv420p', 'chunks   1')
    assert outlines['shots'][1] == 'frames   2, 16x12 to 16x12, 24 frames/s, libx264 yuv420p'
    assert files(folder) == before


# ---- two runs in one process, and cancelling ----

def test_two_threads_with_two_models(folder, options):
    """Each thread gets what it gets alone, and hears of its own run only."""
    for name in ('a', 'b'):
        make(folder / f'{name}.mkv', *picture(seconds='1', kind='testsrc2' if name == 'a' else 'testsrc'), *sound(),
             *EXACT, '-c:a', 'pcm_s16le')
    runs = {'a': ('tiny', 1), 'b': ('plain', 2)}
    expected = {}
    for name, (network, outscale) in runs.items():
        upscale_videos([f'{name}.mkv'], 'alone', options(network, outscale=outscale, chunk=Fraction(1, 3)))
        expected[name] = hashes(f'alone/{name}_out.mp4')
    heard = {'a': [], 'b': []}

    def upscale(name, network, outscale):
        upscale_videos([f'{name}.mkv'], 'out', options(network, outscale=outscale, chunk=Fraction(1, 3)),
                       on_event=heard[name].append)
    threads = [threading.Thread(target=upscale, args=(name, *run)) for name, run in runs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in runs:
        assert hashes(f'out/{name}_out.mp4') == expected[name]
        assert {getattr(event, 'source', f'{name}.mkv') for event in heard[name]} == {f'{name}.mkv'}
        assert [event.message for event in heard[name] if isinstance(event, Warned)] == [
            'audio track 1 (pcm_s16le) is converted to aac because mp4 does not hold it']


@pytest.mark.parametrize('workers', [1, 2])
def test_a_run_cancelled_from_another_thread_keeps_its_parts_and_resumes(folder, options, quick_engine,
                                                                                    workers):
    make(folder / 'a.mp4', *counted('25', '8'), *EXACT)
    chosen = options(engine=quick_engine, chunk=Fraction(1, 2), num_process_per_gpu=workers)
    cancel, far = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: far.wait(60) and cancel.set())
    thread.start()

    def hear(event):
        if isinstance(event, Progress) and event.done >= 60:
            far.set()
            cancel.wait(60)
    before = clips.belongings()[0]
    events = []
    with pytest.raises(Cancelled):
        upscale_videos(['a.mp4'], 'out', chosen, on_event=lambda event: (events.append(event), hear(event)),
                       cancel=cancel)
    thread.join()
    kept = [json.loads(path.read_text())['frames'] for path in Path('out/a_out_parts').glob('0*.json')]
    done = [event.done for event in events if isinstance(event, Progress)][-1]
    lost = max(done - sum(kept), 0)
    assert events[-1] == Warned('a.mp4', f'{lost} frame{"s" * (lost != 1)} lost, {len(kept)} parts kept; the same '
                                'command goes on from there')
    assert clips.belongings()[0] <= before + (workers > 1)  # multiprocessing keeps one for later pools
    finished = parts('out/a_out_parts')
    assert 2 <= len(finished) < 16
    assert [name for name in files(folder / 'out') if '.realesrgan-' in name or name == 'a_out.mp4'] == []
    [outcome] = upscale_videos(['a.mp4'], 'out', chosen)
    assert outcome.reused >= 12 * len(finished)
    assert counts('out/a_out.mp4') == list(range(200))
    assert files(folder / 'out') == ['a_out.mp4']
    assert video('out/a_out.mp4')['frames'] == 200


def test_an_exception_of_the_listener_ends_the_run(folder, options):
    make(folder / 'a.mp4', *counted('25', '2'), *EXACT)

    def hear(event):
        if isinstance(event, Progress) and event.done == 5:
            raise OSError('enough')
    with pytest.raises(OSError, match='^enough$'):
        upscale_videos(['a.mp4'], 'out', options(), on_event=hear)
    assert files(folder) == ['a.mp4']
