"""Geometry, and tiles put together: every pixel belongs to one, and no step shows where they meet."""
import numpy as np
import pytest

from realesrgan.upscaling.tiles import (
    Span,
    Stitcher,
    cut_axis,
    cut_axis_evenly,
    cut_into_even_tiles,
    cut_into_tiles,
    pad_picture,
)


def test_spans_see_their_pad_but_not_beyond_the_picture():
    assert cut_axis(23, 0, 10) == [Span(0, 23, 0, 23)]
    assert cut_axis(25, 10, 3) == [Span(0, 10, 0, 13), Span(10, 20, 7, 23), Span(20, 25, 17, 25)]


    span = Span(10, 20, 7, 23)
    assert (span.window, span.target(4), span.crop(4)) == (slice(7, 23), slice(40, 80), slice(12, 52))


@pytest.mark.parametrize('multiple', [1, 2, 4])
@pytest.mark.parametrize('tile', [1, 3, 7, 10, 64])
@pytest.mark.parametrize('pad', [0, 1, 5])
def test_spans_cover_the_axis_once_and_windows_are_aligned(multiple, tile, pad):
    spans = cut_axis(24, tile, pad, multiple)
    assert [p for span in spans for p in range(span.start, span.stop)] == list(range(24))
    for span in spans:
        assert span.padded_start % multiple == 0
        assert span.padded_stop % multiple == 0
        assert 0 <= span.padded_start <= max(span.start - pad, 0)
        assert min(span.stop + pad, 24) <= span.padded_stop <= 24


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
