"""Tiles put together: the same picture from any cut, and no step where they meet."""
import numpy as np
import pytest

from realesrgan.upscaling.blending import Stitcher
from realesrgan.upscaling.tiles import cut_into_even_tiles, cut_into_tiles


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
