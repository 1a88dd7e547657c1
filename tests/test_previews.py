"""--preview of both scripts and `compare_models`: which part is shown, by which models, what the whole would take."""
from __future__ import annotations

import re
import types

import cv2
import numpy as np
import PIL.Image
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.errors import UsageError, WeightsError
from realesrgan.events import Outlined
from realesrgan.options import PictureOptions, VideoOptions
from realesrgan.pictures import upscale_pictures
from realesrgan.quality import previews
from realesrgan.quality.previews import Amount, compare_models, find_busiest
from tests.support import clips
from tests.support.clips import files
from tests.support.made_pictures import write_noise as write

MODELS = 'realesr-animevideov3', 'RealESRGAN_x4plus', 'RealESRGAN_x4plus_anime_6B'


@pytest.fixture
def stand_ins(monkeypatch):
    """Networks of the table that paint their results in a level of their own; the last has no weights."""
    def build(options, place):
        level = 50 * (1 + MODELS.index(options.model_name))
        if level == 150:
            raise WeightsError('no weights')
        return types.SimpleNamespace(scale=4, on_tile=None, enhance=lambda img, outscale, *_, **__: (
            np.full((int(img.shape[0] * outscale), int(img.shape[1] * outscale), 3), level, np.uint8), 'RGB'))
    monkeypatch.setattr(previews, 'prepare', lambda options: None)
    monkeypatch.setattr('realesrgan.pictures.run.build_enhancer', build)
    monkeypatch.setattr('realesrgan.enhancers.EnhancerCache.build', lambda self, *more: build(*more))
    return build


def test_the_busiest_part_is_found():
    for shape in ((700, 2500, 3), (300, 200)):
        picture = np.full(shape, 90, np.uint8)
        picture[120:200, 60:140] = np.random.default_rng(0).integers(0, 256, (80, 80, *shape[2:]), np.uint8)
        rows, columns = find_busiest(picture, 100)
        assert rows.start <= 122 < 198 <= rows.stop
        assert columns.start <= 62 < 138 <= columns.stop
        assert picture[rows, columns].shape[:2] == (100, 100)
    assert np.empty((7, 9))[find_busiest(np.zeros((7, 9), np.uint8), 100)].shape == (7, 9)


@pytest.mark.parametrize(('point', 'left', 'top'), [
    ((500, 300), 420, 220), ((0, 0), 0, 0), ((9999, 590), 840, 440), ('80,81', 0, 1)])
def test_a_preview_is_of_the_part_that_is_asked_for(stand_ins, caplog, point, left, top):
    picture = np.zeros((600, 1000, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(1000) // 4, np.arange(600)[:, None] // 4
    sheet = compare_models(picture, PictureOptions(preview=True, preview_at=point, model_name=MODELS[0], outscale=1),
                           Amount(1), build=stand_ins)
    assert (sheet.part == picture[top:top + 160, left:left + 160]).all()
    assert caplog.messages == (['has 1000x600 pixels, so the preview shows the part nearest to 9999,590']
                               if left == 840 else [])
    with pytest.raises(UsageError, match='--preview_at needs --preview'):
        PictureOptions(preview_at=point)


def test_a_sheet_shows_the_input_and_each_result(stand_ins):
    options = PictureOptions(preview=True, models=MODELS[:2], outscale=2)
    sheet = compare_models(np.full((60, 40, 3), 200, np.uint8), options, Amount(2.5, None, 3 << 20), build=stand_ins)
    height, width = 120 * 8, 80 * 8  # enlarged to at least 640 pixels
    assert sheet.pixels.shape == (height + 58, 3 * width + 2 * 8, 3)
    for index, level in enumerate((200, 50, 100)):
        panel = sheet.pixels[:height, index * (width + 8):index * (width + 8) + width]
        assert (panel == level).all()
    for tried, model, line in zip(sheet.tried, MODELS, sheet.lines, strict=False):
        assert tried.model == model
        assert re.fullmatch(rf'{model}: \S+ s/megapixel, about 0:00:\d\d, 3 MiB', line)


def test_a_model_that_fails_does_not_hold_up_the_others(stand_ins):
    picture = np.full((200, 200), 200, np.uint8)
    sheet = compare_models(picture, PictureOptions(preview=True, models=MODELS), Amount(1), build=stand_ins)
    assert sheet.lines[2] == 'RealESRGAN_x4plus_anime_6B: no weights'
    assert sheet.pixels.shape[:2] == (2 * (640 + 58) + 8, 2 * 640 + 8)  # 160 pixels of it, on a CPU
    with pytest.raises(WeightsError, match='no weights'):
        compare_models(picture, PictureOptions(preview=True, models=MODELS[2:]), Amount(1), build=stand_ins)


def test_what_a_whole_run_takes():
    assert Amount(12, None, 34 << 20).describe(1.5) == ('1.5 s/megapixel', 'about 0:00:18, 34 MiB')
    assert Amount(0.5, 3000, 12 << 30, workers=2).describe(1.5) == ('0.75 s/frame', 'about 0:18:45, 12 GiB')
    assert Amount(0.5, 0).describe(2) == ('1 s/frame', 'of unknown length')
    assert Amount(0.1).describe(1)[1] == 'about 0:00:01, less than 1 MiB'


def test_the_preview_of_pictures(run_script, stand_ins, tmp_path):
    for index in range(3):
        write(tmp_path / f'in/{index}.png', 30, 40, 3)
    status, out, err = run_script(inference_realesrgan, '-i', 'in', '-n', *MODELS, '--preview', '--ext', 'png')
    assert status == 0, err
    assert 'WARN' not in err  # from OpenCV
    lines = out.splitlines()
    assert lines[0] == 'preview  results/0_out_preview.png, the busiest part of in/0.png; the whole job is 3 pictures'
    assert [line.split(':')[0] for line in lines[1:]] == list(MODELS)
    assert files(tmp_path / 'results') == ['0_out_preview.png']
    assert (cv2.imread('results/0_out_preview.png')[0, -1] == 50).all()


def test_the_preview_of_a_program(stand_ins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / 'a.png', 30, 40, 3)
    told = []
    assert upscale_pictures('a.png', 'out', PictureOptions(preview=True, model_name=MODELS[0]),
                            on_event=told.append) == []
    [outlined] = [event for event in told if isinstance(event, Outlined)]
    assert cv2.imread(str(outlined.sheet)).shape[1] == 2 * 640 + 8
    [tried] = outlined.tried
    assert (tried.model, tried.error, tried.flicker) == (MODELS[0], None, None)
    assert tried.seconds == pytest.approx(tried.speed * 40 * 30 / 1e6)
    part, picture = (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in (outlined.part, tried.picture))
    assert part.shape == picture.shape
    assert files(tmp_path / 'out') == ['a_out_preview.jpg']


@pytest.mark.parametrize(('start', 'number'), [([], 13), (['--start', '0.25'], 7)])
def test_the_preview_of_a_video_is_at_its_start_or_else_its_middle(run_script, tmp_path, stand_ins, monkeypatch, start,
                                                                   number):
    clips.make(tmp_path / 'a.mp4', *clips.numbered('24'), *clips.EXACT)
    seen = []
    compare = previews.compare_models
    monkeypatch.setattr(previews, 'compare_models', lambda frame, *more, **options: (
        seen.append(frame), compare(frame, *more, **options))[1])
    status, out, err = run_script(inference_realesrgan_video, '-i', 'a.mp4', '-n', *MODELS[:2], '--preview', *start)
    assert status == 0, err
    assert re.match(r'preview  results/a_out_preview\.jpg, frame \d+ of \d+\nrealesr-animevideov3: \S+ s/frame, about ',
                    out)
    assert files(tmp_path / 'results') == ['a_out_preview.jpg']
    distances = [np.abs(frame.astype(int) - seen[0]).mean() for frame in clips.frames('a.mp4')]
    assert np.argmin(distances) + 1 == number


@pytest.mark.parametrize('alpha', [False, True])
@pytest.mark.parametrize('steady', [False, True])
def test_the_preview_of_a_video_measures_its_flicker(run_script, tmp_path, stand_ins, monkeypatch, steady, alpha):
    """Of a film that stands still, whose results change by 6 levels from frame to frame, hidden by alpha or not."""
    path = tmp_path / ('a.webp' if alpha else 'a.mkv')
    still = np.full((40, 60, 4), 100, np.uint8)
    still[:20, :, 3] = 255 - 255 * alpha
    if alpha:
        frames = [PIL.Image.fromarray(still) for _ in range(12)]
        for number, frame in enumerate(frames):  # or Pillow joins frames that are equal
            frame.putpixel((0, 39), (number, 0, 0, 255))
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    else:
        clips.make(path, '-f', 'lavfi', '-i', 'color=gray:size=60x40:rate=10:duration=1.2', '-c:v', 'ffv1')
    calls = []

    def enhance(img, outscale, *_, **__):
        calls.append(img)
        result = np.full((160, 240, img.shape[2]), 90 + 6 * (len(calls) % 2), np.uint8)
        result[..., 3:] = 255 - 255 * alpha
        return result, 'RGB'
    monkeypatch.setattr('realesrgan.enhancers.EnhancerCache.build', lambda *_: types.SimpleNamespace(
        scale=4, on_tile=None, enhance=enhance))
    status, out, err = run_script(inference_realesrgan_video, '-i', path.name, '-n', MODELS[0], '--preview',
                                  *['--steady'] * steady)
    assert status == 0, err
    result, steadied = ('0.00', '0.00') if alpha else ('6.00', '2.00')  # the means of 5 frames are 93.6 and 92.4
    assert out.endswith(f'; flicker {result} levels{f", {steadied} steadied" if steady else ""}, the input 0.00\n')
    assert len(calls) == (7 if steady else 3)  # two pairs are measured, and two frames steady on either side
    shown = cv2.imread('results/a_out_preview.jpg')[100, -100]
    assert np.abs(shown.astype(int) - (128 if alpha else (94 if steady else 96))).max() <= 1


@pytest.mark.parametrize(('options', 'message'), [
    ({'models': MODELS}, '-n takes several models only with --preview, which compares them'),
    ({'models': MODELS, 'preview': True, 'model_path': 'a.pth'}, '--model_path gives the weights of one model'),
    ({'models': ('nope',), 'preview': True}, "models: unknown model 'nope'"),
    ({'preview': True, 'compare': True}, '--preview makes no results that --compare, --report or --cluster could go'),
    ({'preview': True, 'dry_run': True}, '--dry_run and --preview both stand for the run; give one of them')])
def test_what_does_not_go_together(options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        VideoOptions(**options)


def test_a_sheet_needs_a_folder_and_overwrites_no_input(run_script, tmp_path, stand_ins):
    write(tmp_path / 'a.png', 8, 8, 3)
    assert run_script(inference_realesrgan, '-i', 'a.png', '-o', '-', '--preview')[::2] == (
        2, 'error: --preview writes a sheet, which -o - does not put into a folder\n')
    write(tmp_path / 'a_out_preview.jpg', 8, 8, 3)
    before = (tmp_path / 'a_out_preview.jpg').read_bytes()
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', 'a_out_preview.jpg', '-o', '.', '--preview')
    assert (status, 'its preview would overwrite the input a_out_preview.jpg' in err) == (1, True)
    assert (tmp_path / 'a_out_preview.jpg').read_bytes() == before
