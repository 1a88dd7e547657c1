"""Steadied results: what may be averaged and what not, and that they are the same however a film is cut."""
from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan.videos.steady import RADIUS, Flicker, Steadier, is_measured, measure_flicker, time_steadying
from tests.support import clips
from tests.support.clips import EXACT, LOSSLESS, OPEN_GOPS, hashes, make, numbered, picture, write_frames

NOISE = np.random.default_rng(0)


def blotches(height=64, width=80, seed=0):
    """A picture with detail of all sizes but noise."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(0, 30, (side, side, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
              for side in (3, 7, 16)]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


def enlarge(frame, scale=4, noise=0.0):
    large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(large + NOISE.normal(0, noise, large.shape)), 0, 255).astype(np.uint8)


def steady(pairs, first=0):
    steadier = Steadier()
    made = [each for number, pair in enumerate(pairs, first) for each in steadier.add(number, *pair)]
    made += steadier.finish()
    assert [number for number, _ in made] == list(range(first, first + len(pairs)))
    return [result for _, result in made]


def flicker(frames):
    return np.mean([np.abs(np.float32(after) - before).mean() for before, after in pairwise(frames)])


def roll(picture, count, columns):
    return [np.ascontiguousarray(np.roll(picture, number * columns, 1)) for number in range(count)]


@pytest.fixture(scope='module')
def still():
    """Frames that stand still, and results that flicker."""
    frames = [blotches()] * 7
    return [(frame, enlarge(frame, noise=8)) for frame in frames]


@pytest.fixture
def averaged_only(monkeypatch):
    """Leave the contrast of averages as it is."""
    monkeypatch.setattr('realesrgan.videos.steady._MOST_GAIN', 1.0)


@pytest.mark.usefixtures('averaged_only')
def test_what_stands_still_is_averaged_over_five_frames(still):
    steadied = steady(still)
    means = [np.mean([result for _, result in still[max(number - RADIUS, 0):number + RADIUS + 1]], 0)
             for number in range(7)]
    assert max(np.abs(result - mean).mean() for result, mean in zip(steadied, means, strict=True)) < 0.5
    assert flicker(steadied) < 0.35 * flicker([result for _, result in still])


def test_texture_keeps_its_contrast():
    """Detail that every frame draws anew, as networks do of noise, is averaged, but does not fade."""
    def measure_edges(results):
        return np.mean([np.abs(cv2.Laplacian(result, cv2.CV_32F)).mean() for result in results])

    def draw_detail():
        return cv2.GaussianBlur(NOISE.normal(0, 20, (256, 320, 3)), (0, 0), 1)
    same = enlarge(blotches()) + draw_detail()
    film = [(blotches(), np.clip(same + draw_detail(), 0, 255).astype(np.uint8)) for _ in range(7)]
    results, steadied = [result for _, result in film], steady(film)[2:5]
    assert 0.95 < measure_edges(steadied) / measure_edges(results) < 1.05  # 0.8 of a mean
    assert flicker(steadied) < 0.5 * flicker(results)


@pytest.mark.usefixtures('averaged_only')
def test_motion_is_followed():
    frames = roll(blotches(64, 96), 7, 2)
    pairs = [(frame, enlarge(frame, noise=8)) for frame in frames]
    truth = [enlarge(frame) for frame in frames]

    def rms(results):  # where nothing enters from a border
        return np.sqrt(np.mean([np.square(np.float32(result) - true)[32:-32, 64:-64].mean()
                                for result, true in zip(results, truth, strict=True)]))
    assert rms(steady(pairs)) < 0.7 * rms([result for _, result in pairs])


def test_equal_frames_stay_as_they_are():
    frame = blotches()
    assert all((result == enlarge(frame)).all() for result in steady([(frame, enlarge(frame))] * 6))


@pytest.mark.parametrize('change', [
    lambda frame: blotches(seed=1), lambda frame: np.clip(frame.astype(int) + 60, 0, 255).astype(np.uint8)],
    ids=['cut', 'light'])
def test_nothing_crosses_a_cut_or_a_sudden_change_of_light(change):
    frame = blotches()
    pairs = [(each, enlarge(each)) for each in [frame] * 4 + [change(frame)] * 4]
    for result, (_, own) in zip(steady(pairs), pairs, strict=True):
        assert np.abs(result.astype(int) - own).max() <= 1


def test_nothing_is_taken_from_where_something_passes():
    """A square of another colour goes over a picture: neither leaves a trace in the other."""
    frames = []
    for number in range(8):
        frames.append(blotches(96, 128))
        frames[-1][30:60, 10 + 8 * number:40 + 8 * number] = 20, 220, 240
    steadied = steady([(frame, enlarge(frame, noise=4)) for frame in frames])
    worst = max(cv2.blur(np.abs(np.float32(result) - enlarge(frame)), (8, 8)).max()
                for result, frame in zip(steadied, frames, strict=True))
    assert worst < 16  # of 220 between both; noise of 4 levels alone makes 5


def test_how_a_film_is_cut_does_not_matter(still):
    moving = roll(blotches(64, 96, seed=3), 8, 1)
    pairs = still + [(blotches(seed=5), enlarge(blotches(seed=5), noise=8))] * 2
    for film in (pairs, [(frame, enlarge(frame, noise=8)) for frame in moving]):
        whole = steady(film)
        for first in range(len(film)):
            low, stop = max(first - RADIUS, 0), first + 1 + RADIUS
            assert (steady(film[low:stop], low)[first - low] == whole[first]).all()


def test_steadying_is_timed(still, monkeypatch):
    """Few frames are shown to and fro, with colours only."""
    seen = []
    monkeypatch.setattr(Steadier, 'add', lambda self, number, *pair: seen.append((number, *pair)) or ())
    frames = [(frame, np.dstack((result, result[..., 0]))) for frame, result in still[:3]]
    assert 0 <= time_steadying(frames) < 60
    assert [number for number, *_ in seen] == list(range(8))
    order = [next(index for index, (_, known) in enumerate(still) if np.array_equal(known, result))
             for _, _, result in seen]
    assert order == [0, 1, 2, 1, 0, 1, 2, 1]
    assert time_steadying(frames[:1]) >= 0


def test_a_gap_ends_a_film(still):
    steadier = Steadier()
    made = [each for number in (0, 1, 2, 5, 6) for each in steadier.add(number, *still[number])]
    made += steadier.finish()
    assert [number for number, _ in made] == [0, 1, 2, 5, 6]
    alone = steady(still[:3]) + steady(still[5:])
    assert all((result == own).all() for (_, result), own in zip(made, alone, strict=True))


@pytest.mark.parametrize(('height', 'width', 'scale'), [
    (4, 6, 4), (16, 16, 4), (33, 21, 4), (40, 60, 1.5), (64, 48, 2), (50, 70, 1), (30, 40, 0.5)])
def test_sizes(height, width, scale):
    frames = [cv2.GaussianBlur(NOISE.integers(0, 255, (height, width, 3), dtype=np.uint8), (0, 0), 2)
              for _ in range(4)]
    pairs = [(frame, enlarge(frame, scale)) for frame in frames]
    assert all((result.shape, result.dtype) == (own.shape, np.uint8)
               for result, (_, own) in zip(steady(pairs), pairs, strict=True))


@pytest.mark.usefixtures('averaged_only')
def test_16_bits(still):
    deep = [(source.astype(np.uint16) * 257, result.astype(np.uint16) * 257) for source, result in still]
    ours = steady(deep)
    assert ours[0].dtype == np.uint16
    assert max(np.abs(deep / 257 - shallow).max() for deep, shallow in zip(ours, steady(still), strict=True)) <= 1
    assert any((result % 257).any() for result in ours)  # finer than 8 bits


# ---- flicker as a figure ----

def measure(frames, results):
    pairs = [((before, after), (large, larger)) for (before, large), (after, larger) in pairwise(
        zip(frames, results, strict=True))]
    return sum((measure_flicker(sources, both, both) for sources, both in pairs), Flicker())


def test_flicker_is_the_change_where_the_input_stands_still(still):
    results = [result for _, result in still]
    measured = measure([frame for frame, _ in still], results)
    luma = [cv2.cvtColor(result, cv2.COLOR_BGR2GRAY) for result in results]
    assert measured.share / 6 > 0.95  # all but the border
    source, result, steadied, _ = measured.average()
    assert (source, result) == (0, steadied)
    assert result == pytest.approx(flicker(luma), abs=0.1)
    deep = measure_flicker(*(tuple(each.astype(np.uint16) * 257 for each in pair) for pair in zip(
        still[0], still[1], strict=True)), tuple(results[:2]))
    plain = measure([frame for frame, _ in still[:2]], results[:2])
    assert deep.average().result == pytest.approx(plain.average().result, abs=0.05)


def test_noise_stands_still_and_motion_and_light_do_not():
    grainy = [np.clip(blotches(96, 128) + NOISE.normal(0, 6, (96, 128, 3)), 0, 255).astype(np.uint8) for _ in range(3)]
    assert measure(grainy, grainy).share / 2 > 0.4
    moving = roll(blotches(96, 128), 3, 4)
    assert measure(moving, moving).share / 2 < 0.1
    lighter = [np.clip(blotches().astype(int) + 5 * number, 0, 255).astype(np.uint8) for number in range(3)]
    assert measure(lighter, lighter).average() is None


def test_which_frames_are_measured():
    assert [number for number in range(60) if is_measured(number, Fraction(24000, 1001))] == [
        1, 2, 3, 25, 26, 27, 49, 50, 51]
    assert [number for number in range(5) if is_measured(number, Fraction(1))] == [1, 2, 3, 4]


# ---- the script ----

@pytest.fixture
def film(tmp_path):
    """Thirty frames with motion, noise and a cut in the middle."""
    return make(tmp_path / 'a.mp4', *picture(rate='10', seconds='1.5'), '-f', 'lavfi', '-i',
                'mandelbrot=size=64x48:rate=10', '-filter_complex',
                '[1]trim=duration=1.5[b];[0][b]concat=n=2,noise=alls=8:allf=t', *OPEN_GOPS, '-r', '10')


def test_parts_workers_and_a_resumed_run_give_the_same_frames(upscale, film):
    upscale('-i', 'a.mp4', *LOSSLESS, '--chunk', '0', '-o', 'off', network='tiny')
    upscale('-i', 'a.mp4', *LOSSLESS, '--chunk', '0', '-o', 'whole', '--steady', network='tiny')
    expected = hashes('whole/a_out.mp4')
    assert len(expected) == 30
    assert hashes('off/a_out.mp4') != expected
    for workers, chunk, keep in ((1, '0.5', []), (2, '0.9', ['--keep_parts'])):
        arguments = '-i', 'a.mp4', *LOSSLESS, '--steady', '--chunk', chunk, '--num_process_per_gpu', workers
        upscale(*arguments, *keep, network='tiny')
        assert hashes('results/a_out.mp4') == expected
    for lost in clips.parts()[1::2]:
        Path('results/a_out_parts', lost).unlink()
    assert 'from an earlier run' in upscale(*arguments, network='tiny')
    assert hashes('results/a_out.mp4') == expected


@pytest.mark.parametrize('steadied', [[], ['--steady']])
def test_flicker_is_the_same_however_a_film_is_cut(upscale, film, steadied):
    arguments = '-i', 'a.mp4', *LOSSLESS, *steadied, '--keep_parts', '--report', 'report.json', '-v', '--chunk'
    expected = None
    for more in (['0'], ['0.7', '--restart'], ['0.7']):
        text = upscale(*arguments, *more, network='tiny')
        found = json.loads(Path('report.json').read_text())['files'][0]['flicker']
        levels, worst = {name: found[name] for name in ('source', 'result', 'steadied')}, found['worst']
        expected = expected or (levels, worst)
        assert (levels, worst) == (pytest.approx(expected[0]), expected[1])
        Path('results/a_out_parts', clips.parts()[-1]).unlink()
    assert (found['steadied'] is None) == (not steadied)
    assert len(found['worst']) == 3
    assert f'flicker {found["result"]:.2f} levels' in text


def test_a_chunk_that_an_earlier_run_has_begun(upscale, film, monkeypatch):
    """Frames within a chunk are steadied by frames of the existing parts."""
    from realesrgan.videos import worker
    monkeypatch.setattr(worker, 'PART_SECONDS', 0.0)  # a part a second
    arguments = '-i', 'a.mp4', *LOSSLESS, '--steady', '--num_process_per_gpu', 1
    upscale(*arguments, '--keep_parts', network='tiny')
    expected, parts = hashes('results/a_out.mp4'), clips.parts()
    assert len(parts) == 3
    Path('results/a_out_parts', parts[1]).unlink()
    assert '(20 of them from an earlier run)' in upscale(*arguments, network='tiny')
    assert hashes('results/a_out.mp4') == expected


def test_an_interrupted_part_goes_on_from_frames_that_are_not_steadied_yet(run, upscale, film, monkeypatch):
    from realesrgan import RealESRGANer
    from realesrgan.videos import worker
    arguments = '-i', 'a.mp4', *LOSSLESS, '--steady'
    upscale(*arguments, '-o', 'whole', network='tiny')
    monkeypatch.setattr(worker, 'PART_SECONDS', 0.0)  # so that each frame is kept
    submit, calls = RealESRGANer.submit, []

    def interrupt(*given, **more):
        calls.append(given)
        if len(calls) == 18:
            raise KeyboardInterrupt
        return submit(*given, **more)
    monkeypatch.setattr(RealESRGANer, 'submit', interrupt)
    assert run(*arguments, network='tiny')[0] == 130
    kept = len(list(Path('results/a_out_parts').glob('*.raw')))
    assert kept > 0
    calls.clear()
    monkeypatch.setattr(RealESRGANer, 'submit', lambda *given, **more: calls.append(given) or submit(
        *given, **more))
    upscale(*arguments, network='tiny')
    assert len(calls) <= 30 - kept
    assert hashes('results/a_out.mp4') == hashes('whole/a_out.mp4')


def test_options_of_another_run_are_refused(upscale, fail, film):
    upscale('-i', 'a.mp4', '-s', '1', '--keep_parts')
    text = fail('-i', 'a.mp4', '-s', '1', '--steady')
    assert f'opencv was not given, is {cv2.__version__}' in text
    assert 'steady was False, is True' in text


@pytest.mark.parametrize('deep', [False, True])
def test_frames_of_a_folder(upscale, tmp_path, deep):
    write_frames(tmp_path / 'shots', 9, size=(24, 32), dtype=np.uint16 if deep else np.uint8)
    for chunk in ('0', '0.1'):
        upscale('-i', 'shots', '-s', '1', '--vcodec', 'ffv1', '--ext', 'mkv', '--steady', '--chunk', chunk, '-o', chunk)
    assert hashes('0/shots_out.mkv') == hashes('0.1/shots_out.mkv')
    assert len(hashes('0/shots_out.mkv')) == 9


def test_samples_are_the_steadied_frames(upscale, film, tmp_path):
    make(tmp_path / 'b.mp4', *numbered(size='64x48'), *EXACT)
    text = upscale('-i', 'b.mp4', '-s', '1', '--steady', '--report', 'report.json')
    assert 'warning' not in text
    assert Path('report.json').read_text().count('"psnr"') == 12
