"""Properties of every picture, tile and name."""
from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from realesrgan import RealESRGANer
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.pictures.inputs import InputFile
from realesrgan.pictures.names import list_jobs
from realesrgan.upscaling.tiles import cut_into_even_tiles, cut_into_tiles, pad_picture

SIDES = st.integers(1, 40)
DTYPES = st.sampled_from([np.uint8, np.uint16])
CHANNELS = st.sampled_from([(), (3,), (4,)])


@st.composite
def pictures(draw):
    height, width, channels, dtype = draw(SIDES), draw(SIDES), draw(CHANNELS), draw(DTYPES)
    noise = np.random.default_rng(draw(st.integers(0, 9)))
    top = draw(st.sampled_from([1, 2, 200, np.iinfo(dtype).max + 1]))
    return noise.integers(0, top, (height, width, *channels), dtype)


def make(shape, engine='auto', **options):
    torch.manual_seed(0)
    return RealESRGANer(shape.scale, None, model=shape.build(), device='cpu', engine=engine, **{'pre_pad': 0} | options)


@pytest.fixture(scope='module')
def upsamplers():
    """One of each architecture, and of each of the scales that need pairs or fours of pixels."""
    shapes = SRVGGNetCompactConfig(4, 4, 1), RRDBNetConfig(2, 4, 1, 2), RRDBNetConfig(1, 4, 1, 2)
    return [make(shape) for shape in shapes]


# ---- tiles ----

@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 100), st.integers(0, 50),
       st.sampled_from([1, 2, 4, 16]))
def test_tiles_cover_every_pixel_once_and_see_their_pad(height, width, tile, pad, multiple):
    for tiles in (cut_into_tiles(height, width, tile, pad, multiple),
                  cut_into_even_tiles(height, width, tile + 2 * pad + 2 * multiple, pad, multiple)):
        covered = np.zeros((height, width), int)
        for one in tiles:
            covered[one.rows.target(1), one.columns.target(1)] += 1
        assert (covered == 1).all()
        for span, side in {*((one.rows, height) for one in tiles), *((one.columns, width) for one in tiles)}:
            assert 0 <= span.padded_start <= span.start <= span.stop <= span.padded_stop <= side
            assert span.padded_start % multiple == 0
            assert span.padded_start == 0 or span.start - span.padded_start >= pad
            assert span.padded_stop == side or span.padded_stop - span.stop >= pad


@given(pictures(), st.integers(0, 90), st.sampled_from([1, 2, 4]))
def test_padding_keeps_the_picture_and_reaches_the_multiple(picture, pad, multiple):
    padded = pad_picture(picture, pad, multiple)
    height, width = picture.shape[:2]
    assert np.array_equal(padded[:height, :width], picture)
    assert padded.shape[0] % multiple == padded.shape[1] % multiple == 0
    assert pad <= padded.shape[0] - height < pad + multiple
    assert pad <= padded.shape[1] - width < pad + multiple


# ---- pictures ----

@given(picture=pictures(), outscale=st.none() | st.floats(0.05, 5), tile=st.sampled_from([0, 7, 33]), data=st.data())
def test_size_depth_and_channels_of_a_result_and_the_input_stays(upsamplers, picture, outscale, tile, data):
    tested = data.draw(st.sampled_from(upsamplers))
    tested.tile_size = tile
    before = picture.copy()
    result, mode = tested.enhance(picture, outscale)
    factor = tested.scale if outscale is None else outscale
    assert result.shape[:2] == tuple(max(int(side * factor), 1) for side in picture.shape[:2])
    assert result.shape[2:] == picture.shape[2:]
    assert mode == {(): 'L', (3,): 'RGB', (4,): 'RGBA'}[picture.shape[2:]]
    assert result.dtype == picture.dtype
    assert np.array_equal(picture, before)
    assert np.array_equal(tested.enhance(picture, outscale)[0], result)


@given(picture=pictures())
def test_a_picture_of_8_bits_and_the_same_at_16_agree(upsamplers, picture):
    shallow = picture if picture.dtype == np.uint8 else (picture >> 8).astype(np.uint8)
    deep = shallow.astype(np.uint16) * np.uint16(257)
    most = 2 if shallow.shape[2:] == (4,) else 0.51  # hidden colours are filled in 8 bits too
    for tested in upsamplers:
        tested.tile_size = 0
        expected = tested.enhance(shallow)[0].astype(float)
        assert np.abs(tested.enhance(deep)[0] / 257 - expected).max() <= most


@given(st.lists(pictures(), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_results_do_not_depend_on_order_or_on_what_ran_before(upsamplers, batch, order):
    shuffled = list(range(len(batch)))
    order.shuffle(shuffled)
    for tested in upsamplers[:2]:
        tested.tile_size = 0
        results = [tested.enhance(picture)[0] for picture in batch]
        for index in shuffled:
            assert np.array_equal(tested.enhance(batch[index])[0], results[index])


@pytest.mark.parametrize('engine', ['winograd', 'openvino', 'torch'])
def test_threads_that_share_an_upsampler_get_the_same_results(engine, best_kernel):
    tested = make(SRVGGNetCompactConfig(4, 4, 1), engine)
    noise = np.random.default_rng(0)
    batch = [noise.integers(0, 256, (size, size + 3, 3), np.uint8) for size in (5, 17, 40, 9)]
    expected = [tested.enhance(picture)[0] for picture in batch]
    order = random.Random(0).choices(range(len(batch)), k=100)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda index: tested.enhance(batch[index])[0], order))
    assert all(np.array_equal(result, expected[index]) for index, result in zip(order, results, strict=True))


# ---- names ----

NAMES = st.sampled_from(['a', 'A', 'a_png', 'a_PNG_2', 'a_png_2', 'a_jpg', 'a_gif']) | st.text(
    st.characters(exclude_characters='/\0', exclude_categories=['Cs']), min_size=1, max_size=12).filter(
    lambda name: name not in ('.', '..'))


@given(st.lists(st.tuples(st.sampled_from(['', 'x', 'x/y']), NAMES,
                          st.sampled_from(['png', 'PNG', 'JPG', 'jpg', 'gif', 'bmp', ''])), max_size=12, unique=True),
       st.sampled_from(['out', '', 'a b']), st.sampled_from(['auto', 'png', 'jpg']))
def test_results_lie_in_the_output_folder_and_no_two_share_a_path(sources, suffix, extension):
    output = Path('results').absolute()
    files = [InputFile(Path('in', folder, f'{name}.{ending}' if ending else name), Path(folder))
             for folder, name, ending in sources]
    taken = set()
    for file, job in zip(files, list_jobs(files, output, suffix, extension), strict=True):
        assert job.file == file
        targets = {os.path.abspath(target).casefold() for target in job.possible_targets}
        assert taken.isdisjoint(targets)
        taken |= targets
        for target in job.possible_targets:
            assert Path(os.path.abspath(target)).parent == output / file.folder
