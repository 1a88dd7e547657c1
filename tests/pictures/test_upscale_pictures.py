"""`upscale_pictures` as a program calls it: options, events, outcomes, cancelling, threads."""
from __future__ import annotations

import logging
import threading
import traceback

import cv2
import numpy as np
import pytest

from realesrgan import RealESRGANer
from realesrgan.errors import Cancelled, ImageError, InputError, UsageError
from realesrgan.events import Found, Outcome, Progress, Warned
from realesrgan.options import UpsamplerOptions, convert_options
from realesrgan.pictures import PictureOptions, upscale_pictures
from tests.support.clips import files
from tests.support.made_pictures import write_noise as write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def options(networks):
    return lambda network='tiny', tile=0, **more: PictureOptions(
        model_path=networks[network], tile=tile, fp32=True, **more)


def test_each_failure_gets_a_second_try_that_leaves_out_what_is_done(folder, options, at_calls):
    for index in range(14):
        write(folder / f'in/{index:02}.png', 6, 6 + index, 3)
    widths = at_calls([4, 11], RuntimeError('CUDA error'))
    outcomes = upscale_pictures('in', 'out', options())
    assert [outcome.error for outcome in outcomes] == [None] * 14
    assert len(files(folder / 'out')) == 14
    assert widths[:4] == [6, 7, 8, 9]
    assert widths.count(6) == widths.count(7) == 1  # told before; the third may be on its way to the disk


def test_events_and_outcomes(folder, options, networks):
    img = write(folder / 'in/a.png', 20, 10, 3)
    (folder / 'in/b.png').write_bytes(b'\x89PNG\r\n\x1a\nbroken')
    (folder / 'in/c.txt').write_text('x')
    write(folder / 'd.png', 4, 4, 4)
    events = []
    outcomes = upscale_pictures(['nope.png', 'in', 'd.png'], 'out', options(tile=10, ext='jpg'),
                                on_event=events.append)
    assert [(outcome.source, outcome.failed) for outcome in outcomes] == [
        ('nope.png', True), ('in/a.png', False), ('in/b.png', True), ('d.png', False)]
    assert isinstance(outcomes[0].error, InputError)
    assert isinstance(outcomes[2].error, ImageError)
    done = outcomes[1]
    assert (done.target.as_posix(), done.frames, done.megapixels) == ('out/a_out.jpg', 1, 20 * 10 / 1e6)
    assert done.seconds > 0
    assert [event for event in events if isinstance(event, Outcome)] == outcomes
    assert Found(3) in events
    assert [event for event in events if isinstance(event, Progress) and event.source == 'in/a.png'] == [
        Progress('in/a.png', 1, 2), Progress('in/a.png', 2, 2)]
    assert Warned('d.png', 'has transparency, which jpg does not hold; written as d_out.png') in events
    assert Warned('', 'in/c.txt: skipped, not a picture') in events
    [again] = upscale_pictures(['in/a.png'], 'out', options())
    expected = RealESRGANer(4, networks['tiny'], pre_pad=0).enhance(img)[0]
    assert np.array_equal(cv2.imread(str(again.target)), expected)


def test_one_path_is_as_good_as_a_list(folder, options):
    write(folder / 'a.png', 4, 4, 3)
    [outcome] = upscale_pictures(folder / 'a.png', folder / 'out', options())
    assert outcome.target == folder / 'out/a_out.png'


@pytest.mark.parametrize(('wrong', 'message'), [
    ({'ext': 'gif'}, "ext: 'gif' is none of auto, jpg, png, webp, tiff"), ({'quality': 0}, 'quality: 0 is out of'),
    ({'outscale': -1}, 'outscale: -1 is out of range: allowed is more than 0'), ({'gpu_id': -1}, 'gpu_id: -1 is out'),
    ({'tile': 1.5}, 'tile: 1.5 is not a whole number'), ({'tile': None}, 'tile: None is not a whole number'),
    ({'suffix': 1}, 'suffix: '), ({'cpus_per_worker': 1}, '--cpus_per_worker needs --cluster'),
    ({'model_name': 'x'}, "model_name: unknown model 'x': choose from RealESRGAN_x4plus, ")])
def test_options_out_of_range_are_usage_errors(wrong, message):
    with pytest.raises(UsageError, match=message):
        PictureOptions(**wrong)


def test_values_may_be_given_as_texts():
    options = PictureOptions(model_name='realesr-animevideov3.pth', tile='64', outscale='2.5', gpu_id='0,1', ext='tif')
    assert (options.model_name, options.tile, options.outscale, options.gpu_id, options.ext) == (
        'realesr-animevideov3', 64, 2.5, (0, 1), 'tif')


def test_an_upsampler_is_known_by_its_own_options():
    options = PictureOptions(tile=64, face_enhance=True, suffix='x')
    assert options.upsampler == UpsamplerOptions(tile=64, face_enhance=True)
    assert convert_options(options.upsampler, PictureOptions) == options.replace(suffix='out')


def test_warnings_are_printed_where_nobody_listens(folder, options, capsys):
    """As Python does where logging is not configured."""
    write(folder / 'a.png', 4, 4, 4)
    logger = logging.getLogger()
    handlers, logger.handlers = logger.handlers, []
    try:
        upscale_pictures('a.png', 'out', options(ext='jpg'))
    finally:
        logger.handlers = handlers
    assert 'has transparency, which jpg does not hold; written as a_out.png' in capsys.readouterr().err


def test_skipped_pictures_are_outcomes_too(folder, options):
    write(folder / 'a.png', 4, 4, 3)
    upscale_pictures(['a.png'], 'out', options())
    events = []
    [outcome] = upscale_pictures(['a.png'], 'out', options(skip_existing=True), on_event=events.append)
    assert (outcome.skipped, outcome.failed, outcome.target.name) == (True, False, 'a_out.png')
    assert events == [outcome, Found(0)]


def test_two_threads_with_two_models(folder, options):
    """Each thread gets the pixels that it gets alone, and hears of its own pictures only."""
    for index in range(6):
        write(folder / f'in/{index}.png', 40, 30, 3 + index % 2, seed=index)
    runs = {'tiny': options('tiny', tile=16, suffix='tiny'), 'plain': options('plain', outscale=3, suffix='plain')}
    for chosen in runs.values():
        upscale_pictures(['in'], 'alone', chosen)
    heard = {name: [] for name in runs}
    both = threading.Barrier(2)

    def upscale(name):
        both.wait(60)
        upscale_pictures(['in'], 'out', runs[name], on_event=heard[name].append)
    threads = [threading.Thread(target=upscale, args=(name,)) for name in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(folder / 'out') == files(folder / 'alone')
    assert len(files(folder / 'out')) == 12
    for name in files(folder / 'out'):
        assert (folder / 'out' / name).read_bytes() == (folder / 'alone' / name).read_bytes()
    for name, events in heard.items():
        targets = [event.target.name for event in events if isinstance(event, Outcome)]
        assert targets == [f'{index}_{name}.png' for index in range(6)]


def test_a_run_cancelled_from_another_thread_leaves_nothing_half_written(folder, options):
    for index in range(8):
        write(folder / f'in/{index}.png', 64, 64, 3)
    cancel, far = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: far.wait(60) and cancel.set())
    thread.start()

    def hear(event):
        if isinstance(event, Progress) and event.source == 'in/4.png':
            far.set()
            cancel.wait(60)
    threads, told = threading.active_count(), []
    with pytest.raises(Cancelled):
        upscale_pictures(['in'], 'out', options(tile=16), on_event=lambda event: (told.append(event), hear(event)),
                         cancel=cancel)
    thread.join()
    assert [event.target.name for event in told if isinstance(event, Outcome)] == files(folder / 'out')
    assert threading.active_count() <= threads
    written = files(folder / 'out')
    assert {'0_out.png', '1_out.png'} <= set(written) < {f'{index}_out.png' for index in range(5)}
    for name in written:
        assert cv2.imread(str(folder / 'out' / name)).shape == (256, 256, 3)


def test_a_cancelled_run_does_not_begin(folder, options):
    write(folder / 'a.png', 4, 4, 3)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        upscale_pictures(['a.png'], 'out', options(), cancel=cancel)
    assert files(folder) == ['a.png']


def test_an_exception_of_the_listener_ends_the_run(folder, options):
    write(folder / 'a.png', 4, 4, 3)
    write(folder / 'b.png', 4, 4, 3)

    def hear(event):
        if isinstance(event, Progress):
            raise ValueError('enough')
    with pytest.raises(ValueError, match='enough'):
        upscale_pictures(['a.png', 'b.png'], 'out', options(), on_event=hear)
    assert not (folder / 'out').exists() or files(folder / 'out') == []


def test_a_second_try_does_not_overwrite_a_result_of_the_first(folder, options, at_calls):
    write(folder / 'in/d1/a.png', 6, 6, 3)
    write(folder / 'in/d1/b.png', 6, 7, 3)
    write(folder / 'in/d2/a.png', 6, 8, 3)
    (folder / 'out/d1').mkdir(parents=True)
    (folder / 'out/d2').symlink_to('d1', target_is_directory=True)
    at_calls([2], RuntimeError('CUDA error'))
    outcomes = {outcome.source: outcome for outcome in upscale_pictures('in', 'out', options(recursive=True))}
    assert 'would overwrite another result' in str(outcomes['in/d2/a.png'].error)
    assert cv2.imread(str(folder / 'out/d1/a_out.png')).shape == (24, 24, 3)


def test_a_failure_does_not_keep_its_picture_in_memory(folder, options):
    write(folder / 'a.png', 2, 16400, 3)
    [outcome] = upscale_pictures('a.png', 'out', options(ext='jpg'))
    assert 'jpg is limited to' in str(outcome.error)
    frames = [frame for frame, _ in traceback.walk_tb(outcome.error.__traceback__)]
    assert [frame.f_code.co_name for frame in frames] == ['_upscale', 'require_room']
    assert [frame.f_locals for frame in frames] == [{}, {}]
