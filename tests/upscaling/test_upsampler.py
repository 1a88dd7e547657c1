"""RealESRGANer: every kind of picture, tiles, memory, overflow, and attributes of 0.3.0."""
import functools
import gc
import logging
import re
import threading
import time
import weakref

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from realesrgan import RealESRGANer
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.engines.choice import make_engine
from realesrgan.errors import NonFiniteError
from realesrgan.pipeline import run_in_thread
from realesrgan.upscaling.pixels import fill_hidden_colours


def network(scale=4):
    torch.manual_seed(scale)
    return RRDBNet(3, 3, scale, num_feat=8, num_block=1, num_grow_ch=4)


def compact():
    torch.manual_seed(0)
    return SRVGGNetCompact(3, 3, num_feat=8, num_conv=2, upscale=4)


def upsampler(model, **options):
    return RealESRGANer(model.scale, None, model=model, **{'pre_pad': 0, 'device': 'cpu'} | options)


def engine_of(model):
    return make_engine(model, 'cpu', half=False)


def doubling():
    """A network that repeats every pixel."""
    model = nn.Upsample(scale_factor=2)
    model.weight = nn.Parameter(torch.zeros(1))
    return model


def picture(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize('scale', [4, 2, 1])
@pytest.mark.parametrize('pre_pad', [0, 10])
def test_tiny_pictures_and_results(scale, pre_pad):
    tested = upsampler(network(scale), pre_pad=pre_pad)
    for side in (1, 2, 3):
        assert tested.enhance(picture(side, 1, 3))[0].shape == (side * scale, scale, 3)
    for outscale, size in ((2, (12, 10)), (3.5, (21, 17)), (0.1, (1, 1)), (4, (24, 20))):  # down to a pixel
        assert tested.enhance(picture(6, 5, 3), outscale=outscale)[0].shape[:2] == size


@pytest.mark.parametrize('alpha_upsampler', ['realesrgan', 'bicubic'])
def test_an_opaque_picture_is_the_rgb_one(alpha_upsampler):
    img = picture(9, 7, 4)
    img[..., 3] = 255
    model = network()
    result = upsampler(model).enhance(img, alpha_upsampler=alpha_upsampler)[0]
    assert (result[..., 3] == 255).all()
    assert np.array_equal(result[..., :3], upsampler(model).enhance(img[..., :3])[0])


@pytest.mark.parametrize(('img', 'error', 'message'), [
    (np.zeros((4, 4, 2), np.uint8), ValueError, r'shape \(4, 4, 2\)'),
    (np.zeros((0, 4, 3), np.uint8), ValueError, 'none of them 0'),
    (np.zeros(4, np.uint8), ValueError, r'shape \(4,\)'),
    (np.zeros((4, 4, 3), np.int32), TypeError, 'int32'),
    (np.zeros((4, 4, 3), bool), TypeError, 'bool'),
    (np.full((4, 4, 3), np.nan), NonFiniteError, 'not finite'),
    (None, TypeError, 'the picture is None, which cv2.imread returns for a file that is not there or no picture'),
    ('a.png', TypeError, 'a picture of type str; it must be a numpy array')])
def test_other_arrays_are_refused(img, error, message):
    with pytest.raises(error, match=message):
        upsampler(network()).enhance(img)


def test_arguments_out_of_range_are_refused():
    for outscale in (0, float('nan'), '2', [2]):
        with pytest.raises(ValueError, match=f'outscale is {re.escape(repr(outscale))}; it must be a number above 0'):
            upsampler(network()).enhance(picture(4, 4, 3), outscale=outscale)
    with pytest.raises(ValueError, match='scale is 2, but the network upscales by 4'):
        RealESRGANer(2, None, model=network())
    with pytest.raises(ValueError, match='tile is -1; it must be 0 or more'):
        RealESRGANer(2, None, model=network(), tile=-1)


# ---- faked faults of a device ----

class Faulty:
    """An engine with a fault."""

    together, in_flight, most_pixels = 1, 0, None

    def __init__(self, engine, half=False):
        self.name, self.half, self.scale, self.description = engine.name, half, engine.scale, 'faulty'
        self.engine, self.release, self.calls, self.held = engine, engine.release, 0, []
        self.count_bytes = engine.count_bytes


class Overflowing(Faulty):
    """Overflows in its second batch."""

    def __call__(self, batch):
        self.calls += 1
        if self.calls == 2:
            raise NonFiniteError('infinity')
        return self.engine(batch)


class Small(Faulty):
    """Has memory for 64 pixels. Its failures hold what took the memory, as frames do by their variables."""

    def __call__(self, batch):
        assert [memory() for memory in self.held] == [None] * len(self.held)
        if max(batch.shape[1:3]) > 64:
            memory = np.zeros(1000)
            self.held.append(weakref.ref(memory))
            raise MemoryError('out of memory')
        return self.engine(batch)


class Background(Faulty):
    """Computes in a thread, in half precision, in which everything overflows. Its failures hold all that they took."""

    in_flight = 1

    def __call__(self, batch):
        memory = np.zeros(1000)
        self.held += map(weakref.ref, (memory, batch.base))
        raise NonFiniteError('infinity')

    def submit(self, batch, size=None, together=1):
        return run_in_thread(functools.partial(self, batch), 'background').result


def test_a_tile_that_overflows_is_computed_again_in_single_precision(caplog):
    img, model = picture(8, 16, 3), network()
    expected = upsampler(model, tile=8).enhance(img)[0]
    tested = upsampler(model, tile=8, engine=Overflowing(engine_of(model), half=True))
    with caplog.at_level(logging.WARNING, 'realesrgan'):
        result = tested.enhance(img)[0]
    assert np.abs(result.astype(int) - expected).max() <= 1  # the torch engine adds in another order
    assert [record.message for record in caplog.records] == [
        'a tile overflowed in half precision and is computed again in float32']
    with pytest.raises(NonFiniteError):  # in single precision, which a CPU without bfloat16 makes of half=True
        upsampler(model, tile=8, half=True, engine=Overflowing(engine_of(model), half=False)).enhance(img)


def test_out_of_memory_halves_the_tiles_with_one_warning(caplog):
    img, model = picture(200, 150, 3), compact()
    engine = Small(engine_of(model))
    tested = upsampler(model, engine=engine)
    with caplog.at_level(logging.WARNING, 'realesrgan'):
        results = [tested.enhance(img)[0] for _ in range(2)]
    assert caplog.messages == ['not enough memory on cpu; trying smaller tiles (set them with -t)']
    assert len(engine.held) > 1
    whole = upsampler(model).enhance(img)[0]
    for result in results:
        assert np.abs(result.astype(int) - whole).max() <= 1


def test_pictures_that_failed_in_the_background_are_not_kept():
    model = compact()
    engine = Background(engine_of(model), half=True)
    tested, results = upsampler(model, engine=engine), []
    gc.collect()
    gc.disable()  # a film could fill the memory between two collections
    try:
        for seed in range(3):
            img = picture(6, 8, 3, seed=seed)
            wait = tested.submit(img)
            result = wait()[0]
            assert result.shape == (24, 32, 3)
            results.append(weakref.ref(result))
            del img, wait, result
        while any(thread.name == 'background' for thread in threading.enumerate()):
            time.sleep(0.01)
        assert len(engine.held) == 12  # by two attempts each
        assert not any(memory() is not None for memory in engine.held + results)
    finally:
        gc.enable()


# ---- as 0.3.0 has it ----

def test_a_network_of_another_kind_can_be_passed():
    img = picture(3, 4, 3)
    result, _ = RealESRGANer(2, None, model=doubling(), device='cpu', pre_pad=1).enhance(img)
    assert np.array_equal(result, img.repeat(2, 0).repeat(2, 1))


def test_attributes_are_those_of_0_3_0():
    tested = RealESRGANer(2, None, model=network(2), tile=40, tile_pad=7, pre_pad=3, device='cpu')
    assert {name: getattr(tested, name) for name in ('scale', 'tile_size', 'tile_pad', 'pre_pad', 'mod_scale', 'half')
            } == {'scale': 2, 'tile_size': 40, 'tile_pad': 7, 'pre_pad': 3, 'mod_scale': 2, 'half': False}
    assert tested.device == torch.device('cpu')
    assert isinstance(tested.model, RRDBNet)
    assert upsampler(network(4)).mod_scale is None


def test_a_network_of_another_architecture_gets_sides_as_in_0_3_0():
    class Halving(nn.Module):
        def forward(self, x):
            sides.append(x.shape[2:])
            return nn.functional.interpolate(nn.functional.pixel_unshuffle(x, 2)[:, :3], scale_factor=4)

    sides = []
    assert RealESRGANer(2, None, model=Halving(), pre_pad=0).enhance(picture(7, 9, 3))[0].shape == (14, 18, 3)
    assert sides == [(8, 10)]


def test_tile_size_and_tile_pad_can_be_changed_between_pictures():
    img, model, counts = picture(20, 20, 3), network(), []
    tested = upsampler(model)
    tested.on_tile = lambda done, total: counts.append((done, total))
    tested.enhance(img)
    tested.tile_size, tested.tile_pad = 10, 1
    assert np.array_equal(tested.enhance(img)[0], upsampler(model, tile=10, tile_pad=1).enhance(img)[0])
    whole = dict.fromkeys((done, total) for done, total in counts if done % 1 == 0 and done)
    assert list(whole) == [(1, 1), (1, 4), (2, 4), (3, 4), (4, 4)]


# ---- engines ----

def test_an_engine_can_be_put_in(caplog):
    model, img = network(), picture(6, 5, 3)
    engine = engine_of(model)
    with caplog.at_level(logging.INFO, 'realesrgan'):
        tested = upsampler(model, engine=engine)
    assert tested.engine is engine
    assert [record.message for record in caplog.records] == [f'engine: {engine.description}']
    assert np.array_equal(tested.enhance(img)[0], engine(img[None])[0])


# ---- strength ----

@pytest.mark.parametrize('shape', [(9, 7), (9, 7, 3), (9, 7, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('final', [{}, {'outscale': 2.5}, {'size': (61, 50)}, {'size': (5, 4)}])
def test_strength_mixes_the_result_with_the_resized_input(shape, dtype, final):
    img = picture(*shape, dtype=np.uint8 if dtype == np.float32 else dtype).astype(dtype)
    tested = upsampler(network())
    whole = tested.enhance(img, **final)[0]
    visible = fill_hidden_colours(img, whole.dtype) if len(shape) == 3 and shape[2] == 4 else img
    size = whole.shape[1::-1]
    kernel = cv2.INTER_AREA if size < (7, 9) else cv2.INTER_CUBIC
    resized = cv2.resize(np.rint(visible).astype(whole.dtype), size, interpolation=kernel).astype(float)
    assert np.array_equal(tested.enhance(img, **final, strength=1)[0], whole)
    for strength in 0, 0.3, 0.5, 0.99:
        mixed = tested.enhance(img, **final, strength=strength)[0]
        assert (mixed.dtype, mixed.shape) == (whole.dtype, whole.shape)
        colours, before = (array[..., :3] if len(shape) == 3 else array for array in (mixed, whole))
        assert np.abs(colours - (strength * before + (1 - strength) * resized)).max() <= 0.51
        assert shape[2:] != (4,) or np.array_equal(mixed[..., 3], whole[..., 3])


def test_strength_takes_memory_for_the_resized_input(monkeypatch):
    needed = []
    monkeypatch.setattr('realesrgan.upscaling.upsampler.require_memory', lambda *room: needed.append(room))
    for more in ({}, {'strength': 0.5}, {'outscale': 2}, {'outscale': 2, 'strength': 0},
                 {'size': (10, 20), 'strength': 0}):
        upsampler(network()).enhance(picture(10, 5, 3), **more)
    whole, half, given = (20, 40), (10, 20), (10, 20)
    assert needed == [(150 * times, *size) for times, size in
                      zip((16, 32, 20, 24, 24), (whole, whole, half, half, given), strict=True)]
    for strength in -0.1, 1.1, '1', float('nan'):
        with pytest.raises(ValueError, match=f'strength is {strength!r}; allowed is 0 to 1'):
            upsampler(network()).enhance(picture(4, 4, 3), strength=strength)
