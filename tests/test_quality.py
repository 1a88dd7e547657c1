"""Each check finds what was made to trip it, and is silent on good results."""
from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan import RealESRGANer
from realesrgan.events import Finding
from realesrgan.quality import check, compare, examine
from realesrgan.quality.checks import judge, sum_up
from realesrgan.quality.comparisons import convert_to_bgr8, enlarge, find_largest_difference
from realesrgan.quality.measures import measure_gain, measure_ssim
from realesrgan.upscaling.tiles import Tile, cut_axis
from realesrgan.weights import load_model

INPUTS = Path(__file__).parents[1] / 'inputs'
PICTURES = 'astronaut.jpg', 'camera_gray.png', 'cat_16bit.png', 'globe_alpha.png'


def read(name, side=96):
    """The middle of a picture of inputs/."""
    return read_middle(cv2.imread(str(INPUTS / name), cv2.IMREAD_UNCHANGED), side)


def read_middle(img, side):
    top, left = ((length - side) // 2 for length in img.shape[:2])
    return np.ascontiguousarray(img[top:top + side, left:left + side])


@pytest.fixture(scope='module')
def before():
    return read('astronaut.jpg')


@pytest.fixture(scope='module')
def after(before):
    """A good result, in floating point."""
    return enlarge(before, np.empty((384, 384, 3))) / 255


def blacken(picture):
    picture[100:200, 100:200] = 0


def flatten(picture):
    picture[100:200, 100:200] = picture[100, 100]


def spoil(picture):
    picture[7, 7] = np.nan


def boost(picture):
    picture[:] = ((picture - 0.5) * 8 + 0.5).clip(0, 1)


def tint(picture):
    picture[..., 0] = (picture[..., 0] + 0.06).clip(0, 1)


def scramble(picture):
    picture[:] = picture[::-1, ::-1].copy()


def roughen(picture):
    picture[:] = (picture + np.random.default_rng(0).choice([-0.3, 0.3], picture.shape[:2])[..., None]).clip(0, 1)


@pytest.mark.parametrize(('harm', 'kind', 'word', 'message'), [
    (spoil, 'not finite', 'bad', r'0\.00% of its values are not finite'),
    (blacken, 'black', 'bad', r'\d+\.\d% of it is black where the input is not'),
    (flatten, 'constant', 'look', r'\d\.\d% of it is a single colour where the input has detail'),
    (boost, 'clipped', 'bad', r'\d+\.\d% of its values are clipped where the input\'s are not'),
    (tint, 'colour', 'look',
     r'its mean colour has moved by \+1\d\.\d blue, [+-]0\.\d green, [+-]0\.\d red \(levels of 255\)'),
    (scramble, 'unlike', 'bad', r'a small copy of it is far from one of the input: \d+\.\d dB')])
def test_each_check_finds_what_trips_it_with_and_without_a_report(before, after, harm, kind, word, message):
    harmed = after.copy()
    harm(harmed)
    for look in (check, lambda *pictures: examine(*pictures)[0]):
        assert look(before, after).findings == ()
        findings = look(before, harmed).findings
        assert any(finding.kind == kind and re.fullmatch(message, finding.message) for finding in findings), findings
        assert sum_up(findings).word == word


@pytest.mark.parametrize(('harm', 'message'), [
    (scramble, r'scaled back it is far from the input: PSNR \d+\.\d dB, SSIM 0\.\d\d'),
    (roughen, r'it looks less natural than the input enlarged by bicubic: NIQE \d+\.\d, was \d+\.\d')])
def test_what_only_a_report_finds(before, after, harm, message):
    if harm is roughen and examine(before, after)[0].niqe_after is None:
        pytest.skip('basicsr is not installed')
    harmed = after.copy()
    harm(harmed)
    findings = examine(before, harmed)[0].findings
    assert any(re.fullmatch(message, finding.message) for finding in findings), findings


@pytest.mark.parametrize('look', [check, lambda *pictures: examine(*pictures)[0]])
def test_specks_and_noise_in_the_dark_may_go(look):
    rng = np.random.default_rng(0)
    stars = np.zeros((160, 200, 3), np.uint8)
    stars[rng.integers(160, size=60), rng.integers(200, size=60)] = 255
    noisy = (8 + rng.normal(0, 9, (160, 200, 3))).clip(0, 255).astype(np.uint8)
    for picture in (stars, noisy):
        findings = look(picture, np.zeros((640, 800, 3), np.uint8)).findings
        assert [finding for finding in findings if finding.kind != 'unlike'] == []


def test_an_edge_of_the_picture_at_a_border_of_tiles_is_no_step():
    halves = np.full((96, 96, 3), 40, np.uint8)
    halves[48:] = 220
    result = np.repeat(np.repeat(halves, 4, 0), 4, 1)
    tiles = [Tile(rows, columns) for rows in cut_axis(96, 48, 10) for columns in cut_axis(96, 48, 10)]
    for shift in (-4, 0, 4):  # a network may move an edge by a pixel of the input
        assert check(halves, np.roll(result, shift, 0), tiles).findings == ()


def test_the_verdict_on_several_findings():
    black, tiles = Finding('black', '', is_bad=True), Finding('tiles', '')
    assert [str(sum_up(findings)) for findings in ([], [tiles], [tiles, black, tiles])] == [
        'good', 'look (tiles)', 'bad (black, tiles)']


def test_a_bug_of_a_check_is_a_warning(before, after, monkeypatch, caplog):
    monkeypatch.setattr('realesrgan.quality.checks.find_faults', lambda quality: 1 / 0)
    assert judge(before, after, (), all_pixels=False, frame=6) is None
    assert any(record.getMessage().startswith('frame 7: no check: ZeroDivisionError') for record in caplog.records)


@pytest.mark.parametrize('name', ['astronaut.jpg', 'camera_gray.png'])
def test_tiles_that_see_too_little_are_found(name):
    img = read(name, 128)
    network = load_model('realesr-animevideov3')
    for tile_pad, shows in ((0, True), (10, False)):
        upsampler = RealESRGANer(4, None, model=network, pre_pad=0, tile=48, tile_pad=tile_pad)
        result, _ = upsampler.enhance(img)
        assert {tile.rows.start for tile in upsampler.tiles} == {0, 48, 96}
        quality, _ = examine(img, result, upsampler.tiles)
        assert [finding.kind for finding in quality.findings] == ['tiles'] * shows
        assert quality.findings == check(img, result, upsampler.tiles).findings
        assert [cell.kind for cell in quality.cells[:1]] == ['tiles'] * shows


@pytest.mark.parametrize(('model', 'names'), [
    ('RealESRGAN_x4plus', PICTURES[:1]),  # which takes a second for each
    ('RealESRGAN_x4plus_anime_6B', PICTURES), ('realesr-animevideov3', PICTURES)])
def test_good_results_are_not_found_fault_with(model, names):
    upsampler = RealESRGANer(4, None, model=load_model(model), pre_pad=0)
    for name in names:
        img = read(name)
        result, _ = upsampler.enhance(img)
        quality, preview = examine(img, result, upsampler.tiles)
        assert quality.findings == ()
        assert quality.psnr > 27
        assert quality.ssim > 0.85
        assert quality.tile_step is None
        assert cv2.imdecode(np.frombuffer(preview.after, np.uint8), -1).shape == (384, 384, 3)
        assert cv2.imdecode(np.frombuffer(preview.thumbnail, np.uint8), -1).shape == (160, 160, 3)


def make_good_pictures():
    """30 pictures: crops of photos, scans and drawings of scikit-image, and text, night, fog and gradients."""
    folder = Path(pytest.importorskip('skimage').__file__).parent / 'data'
    names = ('astronaut.png', 'chelsea.png', 'coffee.png', 'camera.png', 'rocket.jpg', 'motorcycle_left.png', 'ihc.png',
             'retina.jpg', 'brick.png', 'moon.png', 'hubble_deep_field.jpg', 'coins.png', 'page.png', 'text.png',
             'logo.png', 'horse.png', 'grass.png', 'gravel.png', 'color.png')
    found = {name: cv2.imread(str(folder / name)) for name in names if (folder / name).exists()}
    pictures = {name: read_middle(img, 96) for name, img in found.items()}
    text = np.full((96, 96, 3), 255, np.uint8)
    for line in range(6):
        cv2.putText(text, f'Line {line}', (2, 14 + 15 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
    rng, photo = np.random.default_rng(0), read('astronaut.jpg').astype(float)
    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 96))
    made = {'text': text, 'white text': 255 - text, 'night': photo * 0.08,
            'noisy night': photo * 0.12 + rng.normal(0, 9, photo.shape), 'fog': photo * 0.12 + 200,
            'noisy fog': photo * 0.1 + 205 + rng.normal(0, 3, photo.shape),
            'gradient': np.dstack([across, down, 255 - across]), 'dark gradient': np.dstack([across / 16] * 3),
            'one colour': np.full((96, 96, 3), (30, 120, 200)), 'black': text * 0, 'white': text * 0 + 255}
    return pictures | {name: np.rint(img).clip(0, 255).astype(np.uint8) for name, img in made.items()}


def test_thirty_good_results_are_not_found_fault_with():
    upsampler = RealESRGANer(4, None, model=load_model('realesr-animevideov3'), pre_pad=0, tile=48)
    pictures = make_good_pictures()
    assert len(pictures) >= 20
    for name, img in pictures.items():
        result, _ = upsampler.enhance(img)
        quality, _ = examine(img, result, upsampler.tiles)
        assert (name, check(img, result, upsampler.tiles).findings, quality.findings) == (name, (), ())


def test_the_figures_of_a_known_pair(before):
    after = np.repeat(np.repeat(before, 2, 0), 2, 1)
    same, _ = examine(before, after)
    assert (same.psnr, same.ssim) == (pytest.approx(10 * np.log10(255 ** 2 / 1e-6)), pytest.approx(1))
    assert same.colour_shift == pytest.approx((0, 0, 0))
    assert same.likeness == pytest.approx(10 * np.log10(255 ** 2 / 1e-6))
    lighter, _ = examine(np.full((64, 64, 3), 100, np.uint8), np.full((64, 64, 3), 105, np.uint8))
    assert lighter.colour_shift == (5, 5, 5)
    assert lighter.psnr == lighter.likeness == pytest.approx(10 * np.log10(255 ** 2 / 25))


def test_the_likeness_is_that_of_scikit_image(before):
    metrics = pytest.importorskip('skimage.metrics')
    noise = np.random.default_rng(0).normal(0, 20, before.shape)
    for other in (before + noise, cv2.blur(before, (5, 5)), before // 2, before[::-1], before[:7, :9] * 0):
        other = other.clip(0, 255).astype(np.uint8)
        ours = before[:other.shape[0], :other.shape[1]]
        expected = metrics.structural_similarity(ours, other, win_size=7, channel_axis=2)
        assert measure_ssim(ours, other) == pytest.approx(expected, abs=1e-9)
        assert expected < 0.99


def test_points_tell_what_all_pixels_do():
    rng = np.random.default_rng(0)
    img = cv2.GaussianBlur(rng.integers(0, 256, (333, 555, 3), np.uint8), (0, 0), 8)
    for scale in (0.7, 1, 2, 3, 4, 2.37):
        result = cv2.resize(img, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).astype(int)
        result = (result + np.array((4, -3, 2))).clip(0, 255).astype(np.uint8)
        quality = check(img, result)
        assert quality.colour_shift == pytest.approx((4, -3, 2), abs=0.3)
        assert quality.likeness == pytest.approx(10 * np.log10(255 ** 2 / ((16 + 9 + 4) / 3)), abs=0.3)


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_pictures_of_any_kind_are_checked(before, kind, channels):
    img = np.dstack([before, np.full(before.shape[:2], 255, np.uint8)])[..., :channels].squeeze()
    img = img if kind is np.uint8 else img.astype(kind) * kind(257) if kind is np.uint16 else img / kind(255)
    quality = check(img, np.repeat(np.repeat(img, 2, 0), 2, 1))
    assert quality.likeness > 100
    assert quality.findings == ()


@pytest.mark.parametrize('size', [(1, 1), (1, 40), (6, 7), (600, 9)])
def test_pictures_of_any_size_are_measured(size):
    img = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    result = cv2.resize(img, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    assert check(img, result).likeness == pytest.approx(108, abs=1)
    quality, _ = examine(img, result)
    assert quality.psnr == pytest.approx(108, abs=1)
    assert quality.ssim is None if min(size) < 7 else quality.ssim == pytest.approx(1)
    assert quality.findings == ()


# ---- what was gained, and where it looks wrong ----

@pytest.mark.parametrize('name', ['astronaut.jpg', 'globe_alpha.png'])
def test_the_gain_follows_what_is_known_to_be_gained(name):
    """Pictures are reduced to a quarter, enlarged, and given back the known original bit by bit."""
    original = convert_to_bgr8(read(name, 256))
    bicubic = enlarge(cv2.resize(original, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), original)

    def gain(result):
        return measure_gain(bicubic, np.rint(result).clip(0, 255).astype(np.uint8), 4)
    steps = [gain(bicubic + share * (original.astype(float) - bicubic)) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert steps[0] == 1
    assert steps == sorted(steps)
    assert steps[-1] > 1.4
    softer = [gain(cv2.GaussianBlur(original, (0, 0), sigma)) for sigma in (3, 2, 1)]
    assert softer == sorted(softer)
    assert softer[0] < 0.9 < softer[1] < 1.05
    # What is no detail counts for little: noise, contrast, and halos.
    assert gain(bicubic + np.random.default_rng(0).normal(0, 8, bicubic.shape)) < 1.2
    assert gain((bicubic - 128.0) * 1.3 + 128) < 1.05
    assert gain(bicubic + 2.0 * (bicubic - cv2.GaussianBlur(bicubic.astype(float), (0, 0), 3))) < steps[-1]


def test_pictures_without_edges_have_no_gain():
    assert measure_gain(*[np.full((99, 99, 3), 7, np.uint8)] * 2, 4) is None


def test_the_map_shows_where_it_looks_wrong_the_worst_first(before, after):
    assert examine(before, after)[0].cells == ()
    harmed = after.copy()
    harmed[96:192, 192:288] = 0
    harmed[300:350, 20:70] = 1 - harmed[300:350, 20:70]
    cells = examine(before, harmed)[0].cells
    assert [cell.weight for cell in cells] == sorted((cell.weight for cell in cells), reverse=True)
    assert cells[0].kind == 'black'
    for cell in cells:
        x, y = cell.x + cell.width / 2, cell.y + cell.height / 2
        assert (0.5 < x < 0.75 and 0.25 < y < 0.5) or (cell.kind != 'black' and x < 0.22 and 0.74 < y < 0.95), cell


def test_naturalness_is_that_of_basicsr(before):
    niqe = pytest.importorskip('basicsr.metrics.niqe')
    picture = cv2.resize(before, (384, 288), interpolation=cv2.INTER_CUBIC)
    quality, _ = examine(before, picture)
    assert quality.niqe_after == pytest.approx(niqe.calculate_niqe(picture, 0), rel=0.03)


def test_a_result_that_is_smaller_than_its_input_is_no_fault(before):
    quality, _ = examine(before, cv2.resize(before, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LANCZOS4))
    assert quality.psnr > 30
    assert quality.findings == ()


# ---- comparison ----

def test_pictures_of_any_kind_become_8_bit_colours():
    gray = np.array([[0, 257, 65535]], np.uint16)
    assert convert_to_bgr8(gray).tolist() == [[[0] * 3, [1] * 3, [255] * 3]]
    clear = np.array([[[9, 9, 9, 0], [9, 8, 7, 255]]], np.uint8)
    assert convert_to_bgr8(clear).tolist() == [[[128] * 3, [9, 8, 7]]]
    assert convert_to_bgr8(np.array([[[0.5, np.nan, 2]]])).tolist() == [[[128, 0, 255]]]


def test_the_largest_difference_is_found():
    before = np.zeros((300, 500, 3), np.uint8)
    after = before.copy()
    after[210:240, 390:440] = 50
    rows, columns = find_largest_difference(before, after, 60)
    assert rows.start <= 210
    assert rows.stop >= 240
    assert columns.start <= 390
    assert columns.stop >= 440
    assert (rows.stop - rows.start, columns.stop - columns.start) == (60, 60)


def test_a_comparison_shows_both_and_the_place_enlarged(before):
    after = enlarge(before, np.empty((384, 384, 3)))
    after[0:8, 376:] = 255 - after[0:8, 376:]
    shown = compare(before, after, 'a model')
    assert shown.shape == (2 * 384 + 8, 2 * 384 + 8, 3)
    bicubic = enlarge(before, after)
    assert (shown[250:384, :150] == bicubic[250:, :150]).all()
    assert (shown[250:384, 392:542] == after[250:, :150]).all()
    assert (shown[0, 392 + 192] == (48, 48, 230)).all()  # a corner of the place, marked
    place = after[:192, 192:]
    assert (shown[392 + 384 - 100:, 392:] == np.repeat(np.repeat(place, 2, 0), 2, 1)[-100:]).all()
