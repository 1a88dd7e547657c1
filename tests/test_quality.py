"""Each check finds what was made to trip it, and is silent on good results."""
from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan import RealESRGANer
from realesrgan.quality import check, compare, convert_to_bgr8, enlarge, examine, find_largest_difference
from realesrgan.weights import load_model

INPUTS = Path(__file__).parents[1] / 'inputs'
PICTURES = 'astronaut.jpg', 'camera_gray.png', 'cat_16bit.png', 'globe_alpha.png'


def read(name, side=96):
    """The middle of a picture of inputs/."""
    img = cv2.imread(str(INPUTS / name), cv2.IMREAD_UNCHANGED)
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


@pytest.mark.parametrize(('harm', 'finding'), [
    (spoil, r'0\.00% of its values are not finite'), (blacken, r'\d+\.\d% of it is black where the input is not'),
    (flatten, r'\d\.\d% of it is a single colour where the input has detail'),
    (boost, r'\d+\.\d% of its values are clipped, \d+\.\d% of the input\'s'),
    (tint, r'its mean colour has moved by \+1\d\.\d blue, \+0\.\d green, [+-]0\.\d red \(levels of 255\)'),
    (scramble, r'scaled back it is far from the input: PSNR \d+\.\d dB, SSIM 0\.\d\d'),
    (roughen, r'it looks less natural than the input enlarged by bicubic: NIQE \d+\.\d, was \d+\.\d')])
def test_each_check_finds_what_trips_it(before, after, harm, finding):
    if harm is roughen and check(before, after).niqe_after is None:
        pytest.skip('basicsr is not installed')
    harmed = after.copy()
    harm(harmed)
    assert check(before, after).findings == ()
    findings = check(before, harmed).findings
    assert any(re.fullmatch(finding, line) for line in findings), findings


@pytest.mark.parametrize('name', ['astronaut.jpg', 'camera_gray.png'])
def test_tiles_that_see_too_little_are_found(name):
    img = read(name, 128)
    network = load_model('realesr-animevideov3')
    for tile_pad, shows in ((0, True), (10, False)):
        upsampler = RealESRGANer(4, None, model=network, pre_pad=0, tile=48, tile_pad=tile_pad)
        result, _ = upsampler.enhance(img)
        assert {tile.rows.start for tile in upsampler.tiles} == {0, 48, 96}
        findings = check(img, result, upsampler.tiles).findings
        assert [line.startswith('tiles show: a step of ') for line in findings] == [True] * shows, findings


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


def test_the_figures_of_a_known_pair(before):
    after = np.repeat(np.repeat(before, 2, 0), 2, 1)
    same = check(before, after)
    assert (same.psnr, same.ssim) == (pytest.approx(10 * np.log10(255 ** 2 / 1e-6)), pytest.approx(1))
    assert same.colour_shift == pytest.approx((0, 0, 0))
    assert same.clipped_before == same.clipped_after == pytest.approx(np.isin(before, (0, 255)).mean())
    lighter = check(np.full((64, 64, 3), 100, np.uint8), np.full((64, 64, 3), 105, np.uint8))
    assert lighter.colour_shift == (5, 5, 5)
    assert lighter.psnr == pytest.approx(10 * np.log10(255 ** 2 / 25))


@pytest.mark.parametrize('size', [(1, 1), (1, 40), (6, 7), (600, 9)])
def test_pictures_of_any_size_are_measured(size):
    img = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    quality, _ = examine(img, cv2.resize(img, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST))
    assert quality.psnr == pytest.approx(108, abs=1)
    assert quality.ssim is None if min(size) < 7 else quality.ssim == pytest.approx(1)
    assert quality.findings == ()


def test_a_result_that_is_smaller_than_its_input_is_no_fault(before):
    quality = check(before, cv2.resize(before, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LANCZOS4))
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
