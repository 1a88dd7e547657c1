"""Depth, gray and alpha on their way through a network."""
import numpy as np
import pytest

from realesrgan.upscaling.pixels import (
    Pixels,
    check_picture,
    choose_depth,
    enlarge_by_cubic,
    fill_hidden_colours,
    normalise_layout,
    quantise,
    settle_alpha,
)

WHOLE = slice(None)


@pytest.mark.parametrize(('dtype', 'top'), [(np.uint8, 255), (np.uint16, 65535)])
def test_quantise_rounds_half_to_even(dtype, top):
    values = np.array([0, 0.5 / top, 1.5 / top, 2.5 / top, 1], np.float64)
    assert quantise(values, np.dtype(dtype)).tolist() == [0, 0, 2, 2, top]


@pytest.mark.parametrize(('img', 'dtype'), [
    (np.zeros((2, 2), np.uint8), np.uint8), (np.zeros((2, 2, 3), np.uint16), np.uint16),
    (np.full((2, 2), 256.0), np.uint8), (np.full((2, 2), 257, np.float16), np.uint16)])
def test_the_depth_of_a_result(img, dtype):
    check_picture(img)
    assert choose_depth(img) == dtype


def test_the_layout_of_a_picture():
    picture = normalise_layout(np.zeros((5, 4, 2, 1))[:, :, 0])
    assert (picture.shape, picture.dtype, picture.flags.c_contiguous) == ((5, 4), np.float32, True)
    bgr = np.zeros((5, 4, 3), np.uint16)
    assert np.shares_memory(normalise_layout(bgr), bgr)


def test_eight_bit_colours_are_not_converted_and_others_make_the_way_and_back():
    for dtype in (np.uint8, np.uint16):
        picture = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 6, 3), dtype, endpoint=True)
        pixels = Pixels(picture, dtype)
        batch = pixels.to_batch(slice(1, 3), slice(0, 2))
        assert batch.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
        assert batch.max() <= 1 or dtype == np.uint8
        assert np.array_equal(pixels.from_batch(batch), picture[1:3, 0:2])


def test_every_gray_value_makes_the_way_and_back_unchanged():
    picture = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = Pixels(picture, np.uint16)
    batch = pixels.to_batch(WHOLE, WHOLE)
    assert batch.shape == (1, 256, 256, 3)
    assert np.array_equal(batch[..., 0], batch[..., 2])
    assert np.abs(pixels.from_batch(batch).astype(int) - picture).max() == 0


def test_hidden_colours_do_not_matter():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 65536, (21, 13, 4), np.uint16)
    picture[rng.random((21, 13)) < 0.6, 3] = 0
    other = picture.copy()
    other[other[..., 3] == 0, :3] = 0
    filled = fill_hidden_colours(picture, np.dtype(np.uint16))
    assert np.array_equal(filled, fill_hidden_colours(other, np.dtype(np.uint16)))
    visible = picture[..., 3] * 16.0 >= 65535
    assert np.array_equal(filled[visible], picture[visible, :3])
    for alpha in (0, 65535):
        picture[..., 3] = alpha
        assert np.array_equal(fill_hidden_colours(picture, np.dtype(np.uint16)), picture[..., :3])
    picture[:, :3], picture[:, 3:] = (10, 20, 30, 65535), 0
    assert (fill_hidden_colours(picture, np.dtype(np.uint16)) == (10, 20, 30)).all()


def test_cubic_alpha_overshoots_as_linear_never_does_and_is_clamped():
    alpha = np.array([[0, 0, 100, 100, 0, 255, 255]], np.uint8).repeat(4, 0)
    large = enlarge_by_cubic(alpha, np.dtype(np.uint8), (28, 16))
    assert large.shape == (16, 28)
    assert 100 < large[8, 8:16].max() < 130
    assert (large.min(), large.max()) == (0, 255)


def test_settled_alpha_is_exact_inside_and_untouched_at_edges():
    alpha = np.zeros((6, 6), np.uint8)
    alpha[:, 3:] = 255
    upscaled = np.full((12, 12), 77, np.uint8)
    settle_alpha(upscaled, alpha)
    assert (upscaled[:, :4] == 0).all()
    assert (upscaled[:, 4:8] == 77).all()
    assert (upscaled[:, 8:] == 255).all()
