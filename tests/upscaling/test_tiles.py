"""Pictures on their way through a network: depth, gray, alpha, tiles and how they are put together."""
from __future__ import annotations

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
from realesrgan.upscaling.tiles import (
    Span,
    Stitcher,
    Tile,
    cut_axis,
    cut_axis_evenly,
    cut_into_even_tiles,
    cut_into_tiles,
    pad_picture,
)


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


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_integers_are_not_converted_and_floats_make_the_way_and_back(dtype):
    picture = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 6, 3), dtype, endpoint=True)
    for given, expected in ((picture, dtype), (picture.astype(np.float32), np.float32)):
        pixels = Pixels(given, dtype)
        batch = pixels.to_batch(Tile(Span(2, 3, 1, 3), Span(0, 1, 0, 2)))
        assert batch.dtype == expected
        assert batch.max() <= 1 or expected == dtype
        assert np.array_equal(pixels.from_batch(batch), picture[1:3, 0:2])


def test_every_gray_value_makes_the_way_and_back_unchanged():
    picture = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = Pixels(picture, np.uint16)
    batch = pixels.to_batch()
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


# ---- geometry ----

def test_spans_see_their_pad_but_not_beyond_the_picture():
    assert cut_axis(23, 0, 10) == [Span(0, 23, 0, 23)]
    assert cut_axis(25, 10, 3) == [Span(0, 10, 0, 13), Span(10, 20, 7, 23), Span(20, 25, 17, 25)]
    span = Span(10, 20, 7, 23)
    assert (span.window, span.target(4), span.crop(4)) == (slice(7, 23), slice(40, 80), slice(12, 52))


@pytest.mark.parametrize(('length', 'window', 'pad', 'multiple'), [
    (100, 40, 5, 1), (1000, 333, 32, 2), (4096, 200, 18, 4), (41, 40, 3, 1), (36, 36, 4, 4), (20, 40, 4, 4),
    *((length, 130, 12, 16) for length in range(300, 340, 3))])
def test_even_spans_cover_the_axis_and_have_windows_of_one_length(length, window, pad, multiple):
    """Only the last is shorter, if the length is no multiple."""
    spans = cut_axis_evenly(length, window, pad, multiple)
    assert [p for span in spans for p in range(span.start, span.stop)] == list(range(length))
    assert (spans[0].padded_start, spans[-1].padded_stop) == (0, length)
    lengths = [span.padded_stop - span.padded_start for span in spans]
    assert len(set(lengths[:-1])) <= 1
    assert lengths[0] - multiple < lengths[-1] <= lengths[0] <= window
    for span in spans:
        assert span.padded_start % multiple == 0
        assert span.padded_start == 0 or span.start - span.padded_start >= pad
        assert span.padded_stop == length or span.padded_stop - span.stop >= pad


def test_tiles_go_row_by_row():
    tiles = cut_into_tiles(20, 30, 15, 0)
    assert [(tile.rows.start, tile.columns.start) for tile in tiles] == [(0, 0), (0, 15), (15, 0), (15, 15)]


def test_padding_reflects_without_repeating_the_border():
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pad_picture(picture, 1).tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [0, 1, 2, 1]]
    row = np.arange(4, dtype=np.uint16)[None].repeat(4, 0)  # in two steps: what the pad has added is reflected too
    assert pad_picture(row, 1, 4)[0].tolist() == [0, 1, 2, 3, 2, 3, 2, 1]
    assert pad_picture(row, 0, 4) is row


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [(), (3,), (4,)])
def test_a_single_pixel_is_repeated(dtype, channels):
    padded = pad_picture(np.full((1, 1, *channels), 7, dtype), 10, 4)
    assert (padded.shape, padded.dtype) == ((12, 12, *channels), dtype)
    assert (padded == 7).all()


# ---- putting tiles together ----

def stitched(picture, tiles, scale, blend, change=lambda piece, index: piece):
    """Take a picture through tiles with a network that repeats every pixel; `change` may disturb a tile."""
    result = np.zeros((picture.shape[0] * scale, picture.shape[1] * scale, *picture.shape[2:]), picture.dtype)
    stitcher = Stitcher(result, scale, blend)
    for index, tile in enumerate(tiles):
        window = picture[tile.rows.window, tile.columns.window]
        stitcher.add(tile, change(window.repeat(scale, 0).repeat(scale, 1), index))
    return result


@pytest.mark.parametrize('shape', [(61, 47), (40, 83, 3), (33, 33, 4)])
@pytest.mark.parametrize('scale', [1, 2, 4])
@pytest.mark.parametrize(('blend', 'cutter'), [
    (0, cut_into_tiles), (0, cut_into_even_tiles), (3, cut_into_even_tiles)])
def test_any_cut_gives_the_whole_picture(shape, scale, blend, cutter):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tiles = cutter(*shape[:2], 20, 4, 1)
    assert len(tiles) >= 4
    expected = picture.repeat(scale, 0).repeat(scale, 1)
    assert np.array_equal(stitched(picture, tiles, scale, blend), expected)


def test_tiles_of_different_brightness_meet_in_a_slope():
    """Each tile is off by ten levels from its neighbours; blended, no step is larger than the slope's."""
    picture = np.full((64, 64), 100, np.uint8)
    tiles = cut_into_even_tiles(64, 64, 32, 8)
    rows = len({tile.rows.start for tile in tiles})

    def disturbed(piece, index):
        return piece + np.uint8(10 * ((index // rows + index % rows) % 2))
    blended = stitched(picture, tiles, 2, 4, disturbed).astype(int)
    steps = [np.abs(np.diff(blended, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) <= 2
    assert set(np.unique(blended)) >= {100, 110}
    hard = stitched(picture, tiles, 2, 0, disturbed).astype(int)
    assert np.abs(np.diff(hard, axis=0)).max() == 10
