"""Uses of the class by programs written for Real-ESRGAN 0.3.0, and the pixels that they get.

`tests/data/golden` holds the pixels of 0.3.0 itself; where it has none, they are computed here as 0.3.0 computes them.
"""
from __future__ import annotations

import copy
import logging
import pickle
import queue
import types
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from realesrgan import RealESRGANer
from realesrgan.archs.registry import identify_network
from realesrgan.errors import ImageError, NonFiniteError, UsageError
from realesrgan.utils import IOConsumer, PrefetchReader
from realesrgan.weights import load_model, load_state_dict

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
PICTURE = np.load(GOLDEN / 'inputs.npz')['rgb8_23x29']
WHOLE, PADDED, TILED = (np.load(GOLDEN / 'outputs.npz')[case] for case in ('11', '15', '17'))  # of rrdb_x4
STEPS = ('pre_process', 'process', 'tile_process', 'post_process')


def network(name='rrdb_x4', *, golden=True):
    """One of the golden networks, or one of its shape with other weights."""
    weights = load_state_dict(GOLDEN / f'{name}.pth')
    torch.manual_seed(1)
    module = identify_network(weights).build()
    if golden:
        module.load_state_dict(weights)
    return module


def upsampler(model, **options):
    return RealESRGANer(4, None, model=model, **{'pre_pad': 0, 'device': 'cpu'} | options)


def upscale_as_0_3_0(model, img, scale, pre_pad):
    """The pixels of 0.3.0 without tiles, for a scale that need not be the network's."""
    pixels = torch.from_numpy(img[..., ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None]
    if pre_pad:
        pixels = functional.pad(pixels, (0, pre_pad, 0, pre_pad), 'reflect')
    multiple = {1: 4, 2: 2}.get(scale, 1)
    down, right = (-side % multiple for side in pixels.shape[2:])
    pixels = functional.pad(pixels, (0, right, 0, down), 'reflect')
    with torch.no_grad():
        large = model(pixels)
    height, width = large.shape[2:]
    large = large[..., :height - (down + pre_pad) * scale, :width - (right + pre_pad) * scale]
    return np.rint(large[0].clamp(0, 1).permute(1, 2, 0).numpy()[..., ::-1] * 255).astype(np.uint8)


def assert_same(actual, expected):
    """Up to a rounding that an engine's order of additions tips over; see test_golden.py."""
    assert actual.shape == expected.shape
    difference = np.abs(actual.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() <= 0.005


# ---- another model, other weights ----

def load(tested, **options):
    tested.model.load_state_dict(load_state_dict(GOLDEN / 'rrdb_x4.pth'), **options)


def write_data(tested):
    for name, parameter in tested.model.named_parameters():
        parameter.data.copy_(load_state_dict(GOLDEN / 'rrdb_x4.pth')[name])


def write_data_of_another_layout(tested):
    tested.model.to(memory_format=torch.channels_last)
    tested.enhance(PICTURE)
    write_data(tested)


def replace_data(tested):
    for name, parameter in tested.model.named_parameters():
        parameter.data = load_state_dict(GOLDEN / 'rrdb_x4.pth')[name]


def replace(wrap, tested):
    tested.model = wrap(network())


@pytest.mark.parametrize('change', [
    load, partial(load, assign=True), write_data, write_data_of_another_layout, replace_data,
    partial(replace, nn.Module.eval), partial(replace, partial(torch.compile, backend='eager')),
    partial(replace, nn.DataParallel), partial(replace, lambda module: partial(nn.Module.__call__, module)),
    lambda tested: setattr(tested.model, 'forward', network().forward),
    lambda tested: tested.model.register_forward_hook(lambda module, inputs, output: network()(*inputs))],
    ids=['load', 'assign', 'data', 'layout', 'replace data', 'replace', 'compiled', 'parallel', 'function', 'forward',
         'hook'])
@pytest.mark.parametrize('engine', ['auto', 'torch'])
def test_the_next_picture_is_by_the_model_as_it_is_then(change, engine, tmp_path):
    torch.save({'params': network(golden=False).state_dict()}, tmp_path / 'other.pth')
    tested = RealESRGANer(4, tmp_path / 'other.pth', pre_pad=0, device='cpu', engine=engine)
    assert np.abs(tested.enhance(PICTURE)[0].astype(int) - WHOLE).mean() > 1
    change(tested)
    for _ in range(2):
        assert_same(tested.enhance(PICTURE)[0], WHOLE)


@pytest.mark.parametrize('change', [
    lambda weights: weights.neg_(), lambda weights: weights.copy_(weights.flip(1))], ids=['negate', 'swap'])
def test_weights_whose_bits_add_up_to_the_same_are_others(change):
    tested = upsampler(network())
    assert_same(tested.enhance(PICTURE)[0], WHOLE)
    change(tested.model.conv_first.weight.data)
    with torch.no_grad():
        expected = upscale_as_0_3_0(tested.model, PICTURE, 4, 0)
    assert np.abs(expected.astype(int) - WHOLE).mean() > 1
    assert_same(tested.enhance(PICTURE)[0], expected)


def test_a_model_can_be_changed_by_whoever_gave_it_and_another_may_have_another_scale():
    model = network(golden=False)
    tested = upsampler(model)
    tested.enhance(PICTURE)
    model.load_state_dict(load_state_dict(GOLDEN / 'rrdb_x4.pth'))
    assert_same(tested.enhance(PICTURE)[0], WHOLE)
    tested.scale, tested.model = 2, network('rrdb_x2')
    assert_same(tested.enhance(PICTURE)[0], np.load(GOLDEN / 'outputs.npz')['21'])


def test_a_model_that_stays_as_it_is_keeps_its_engine():
    tested = RealESRGANer(4, GOLDEN / 'rrdb_x4.pth', device='cpu')
    engine = tested.engine
    _ = tested.model.state_dict()
    tested.model = tested.model.to('cpu').eval()
    tested.enhance(PICTURE)
    assert tested.engine is engine


def test_half_and_device_can_be_changed(monkeypatch):
    tested = upsampler(network(), engine='torch')
    monkeypatch.setattr('realesrgan.engines.devices.has_cpu_bfloat16', lambda: True)
    tested.half, tested.device = True, 'cpu'
    assert tested.engine.description == 'torch, cpu, bfloat16'
    assert np.abs(tested.enhance(PICTURE)[0].astype(int) - WHOLE).max() <= 8
    assert tested.device == 'cpu'  # as it was written


# ---- steps of one's own ----

class Progress(RealESRGANer):
    """The usual tiler: the loop of 0.3.0, written anew to show how far it is."""

    def tile_process(self):
        self.seen = []
        count, channels, height, width = self.img.shape
        self.output = self.img.new_zeros((count, channels, height * self.scale, width * self.scale))
        for top in range(0, height, self.tile_size):
            for left in range(0, width, self.tile_size):
                bottom, right = min(top + self.tile_size, height), min(left + self.tile_size, width)
                first, start = max(top - self.tile_pad, 0), max(left - self.tile_pad, 0)
                window = self.img[:, :, first:bottom + self.tile_pad, start:right + self.tile_pad]
                large = self.model(window.to(self.device))
                self.output[:, :, top * 4:bottom * 4, left * 4:right * 4] = large[
                    :, :, (top - first) * 4:(bottom - first) * 4, (left - start) * 4:(right - start) * 4]
                self.seen.append((top, left))


def test_a_tiler_of_ones_own_is_called():
    tested = Progress(4, GOLDEN / 'rrdb_x4.pth', tile=16, pre_pad=0, device='cpu')
    assert_same(tested.enhance(PICTURE)[0], TILED)
    assert tested.seen == [(0, 0), (0, 16), (16, 0), (16, 16)]


def call_and_note(calls, name, step, *arguments):
    calls.append(name)
    return step(*arguments)


@pytest.mark.parametrize('where', ['subclass', 'instance', 'class'])
@pytest.mark.parametrize('name', STEPS)
def test_each_step_can_be_replaced(name, where, monkeypatch):
    calls = []
    kind = type('Subclass', (RealESRGANer,), {}) if where == 'subclass' else RealESRGANer
    tested = kind(4, GOLDEN / 'rrdb_x4.pth', tile=16 if name == 'tile_process' else 0, device='cpu')
    if where == 'instance':
        setattr(tested, name, partial(call_and_note, calls, name, getattr(tested, name)))
    else:
        step = getattr(RealESRGANer, name)
        monkeypatch.setattr(kind, name, lambda *arguments: call_and_note(calls, name, step, *arguments))
    large = tested.enhance(PICTURE)[0]
    assert calls == [name]
    if name != 'tile_process':
        assert_same(large, PADDED)


def test_an_alpha_of_its_own_goes_through_the_steps_too():
    picture = np.dstack((PICTURE, PICTURE[..., 0]))
    tested, calls = upsampler(network(), tile=16), []
    expected = tested.enhance(picture, outscale=2)[0]
    tested.on_tile = lambda done, total: calls.append((done, total))
    tested.process = lambda: None
    assert_same(tested.enhance(picture, outscale=2)[0], expected)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2
    tested = upsampler(network())
    tested.process = lambda: setattr(tested, 'output', torch.full((1, 3, 92, 116), torch.nan))
    with pytest.raises(NonFiniteError):
        tested.enhance(PICTURE)


def test_steps_called_one_by_one_give_ordinary_tensors():
    tested = upsampler(network(), pre_pad=10)
    tested.pre_process(PICTURE[..., ::-1] / np.float32(255))
    tested.process()
    result = tested.post_process()
    assert (result.is_inference(), result.requires_grad, result.shape) == (False, False, (1, 3, 92, 116))
    result = result.data.squeeze().float().cpu().clamp_(0, 1).numpy()
    assert_same(np.rint(result.transpose(1, 2, 0)[..., ::-1] * 255), PADDED)


# ---- an __init__ of one's own ----

class OwnInit(RealESRGANer):
    def __init__(self, scale, model, tile=0, device='cpu'):
        self.scale = scale
        self.tile_size = tile
        self.tile_pad = 10
        self.pre_pad = 0
        self.mod_scale = None
        self.half = False
        self.device = torch.device(device)
        self.model = model.eval().to(self.device)


class OwnInitAndSteps(OwnInit):
    def post_process(self):
        return super().post_process()


class Adapter:
    """A model that is no PyTorch module, such as one compiled by another library."""

    def __init__(self, model):
        self.run = model.forward

    def eval(self):
        return self

    def to(self, device):
        return self

    def __call__(self, tensor):
        return self.run(tensor)


@pytest.mark.parametrize('kind', [OwnInit, OwnInitAndSteps])
@pytest.mark.parametrize('wrap', [nn.Module.eval, Adapter])
def test_a_subclass_need_not_call_our_init(kind, wrap):
    tested = kind(4, wrap(network()), tile=16)
    assert_same(tested.enhance(PICTURE)[0], TILED)
    tested.tile_size = 0
    assert_same(tested.enhance(PICTURE)[0], WHOLE)
    doubled = kind(2, wrap(network('rrdb_x2')))
    assert_same(doubled.enhance(PICTURE)[0], np.load(GOLDEN / 'outputs.npz')['21'])


def test_a_subclass_without_a_device_gets_one_and_one_without_a_model_is_told():
    class Least(RealESRGANer):
        def __init__(self, **attributes):
            vars(self).update(scale=4, pre_pad=0)
            for name, value in attributes.items():
                setattr(self, name, value)

    assert_same(Least(model=network()).enhance(PICTURE)[0], WHOLE)
    assert Least(device=None).device_type in ('cpu', 'cuda', 'xpu', 'mps', 'vulkan')
    for use in (Least().enhance, lambda picture: Least().model):
        with pytest.raises(AttributeError, match='model is not set'):
            use(PICTURE)
    first, second = (load_state_dict(GOLDEN / f'{name}.pth') for name in ('srvgg_x4', 'srvgg_x4_b'))
    mixed = OwnInit(4, network()).dni(GOLDEN / 'srvgg_x4.pth', str(GOLDEN / 'srvgg_x4_b.pth'), [0.3, 0.7])
    assert list(mixed) == ['params']
    for name, tensor in mixed['params'].items():
        assert torch.allclose(tensor, 0.3 * first[name] + 0.7 * second[name])


# ---- copies ----

@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda tested: pickle.loads(pickle.dumps(tested))],
                         ids=['deepcopy', 'pickle'])
@pytest.mark.parametrize('make', [
    lambda: RealESRGANer(4, GOLDEN / 'rrdb_x4.pth', pre_pad=0, device='cpu'), lambda: upsampler(network()),
    lambda: OwnInit(4, network()), lambda: upsampler(network(), engine='torch')],
    ids=['path', 'model', 'init', 'torch'])
def test_a_copy_gives_the_same_and_goes_its_own_way(make, duplicate):
    tested = make()
    tested.tile_size = 16
    copied = duplicate(tested)
    assert_same(tested.enhance(PICTURE)[0], TILED)  # its engine is still there
    tested.model.load_state_dict(network(golden=False).state_dict())
    changed = duplicate(tested)
    assert_same(copied.enhance(PICTURE)[0], TILED)
    load(changed)
    assert_same(changed.enhance(PICTURE)[0], TILED)
    assert np.abs(tested.enhance(PICTURE)[0].astype(int) - TILED).mean() > 1


# ---- arguments and attributes ----

@pytest.mark.parametrize('pre_pad', [0, 10])
@pytest.mark.parametrize('scale', [1, 2])
def test_a_scale_that_is_not_the_networks_pads_and_cuts_as_0_3_0_does(scale, pre_pad):
    tested = upsampler(network(), pre_pad=pre_pad)
    tested.scale = scale
    expected = upscale_as_0_3_0(network(), PICTURE, scale, pre_pad)
    assert_same(tested.enhance(PICTURE)[0], expected)
    large = cv2.resize(expected, (29 * 4, 23 * 4), interpolation=cv2.INTER_LANCZOS4)
    assert_same(tested.enhance(PICTURE, outscale=4)[0], large)
    tested.tile_size = 16
    with pytest.raises(ValueError, match=f'scale is {scale}, but the network upscales by 4: set that scale, or tile_'):
        tested.enhance(PICTURE)


def test_the_scale_and_what_follows_from_it_can_be_changed_to_and_fro():
    tested, picture = upsampler(network(), tile=10, pre_pad=2), np.zeros((12, 12, 3), np.float32)
    tested.pre_process(picture)
    assert (tested.img.shape, tested.mod_scale) == ((1, 3, 14, 14), None)
    tested.scale = 1
    tested.pre_process(picture)
    assert (tested.img.shape, tested.mod_scale, tested.mod_pad_h, tested.mod_pad_w) == ((1, 3, 16, 16), 4, 2, 2)
    tested.process()
    assert tested.output.shape == (1, 3, 64, 64)
    assert tested.post_process().shape == (1, 3, 60, 60)
    tested.scale = 4
    tested.pre_process(picture)
    tested.tile_process()
    assert (tested.output.shape, tested.mod_scale) == ((1, 3, 64, 64), 4)  # 0.3.0 goes on padding by 4
    assert tested.enhance(picture, outscale=2)[0].shape == (24, 24, 3)


@pytest.mark.parametrize('word', [None, 'bicubic', 'linear', True])
def test_any_word_but_realesrgan_interpolates_alpha(word):
    picture = np.dstack((PICTURE, PICTURE[..., 0]))
    by_cubic = upsampler(network()).enhance(picture, alpha_upsampler=word)[0][..., 3]
    expected = np.rint(cv2.resize(PICTURE[..., 0].astype(np.float32), (116, 92), interpolation=cv2.INTER_CUBIC))
    settled = (by_cubic == 0) | (by_cubic == 255)
    assert np.abs(by_cubic - expected.clip(0, 255))[~settled].max() <= 1
    assert np.abs(by_cubic - upsampler(network()).enhance(picture)[0][..., 3].astype(int)).max() > 10


def test_an_unknown_model_is_told_with_those_that_are_known():
    with pytest.raises(UsageError, match="unknown model 'foo': choose from RealESRGAN_x4plus, RealESRNet_x4plus, "):
        load_model('foo')


# ---- threads that read and write ----

def test_pictures_are_read_ahead_in_order(tmp_path):
    for index in range(3):
        cv2.imwrite(str(tmp_path / f'{index}.png'), np.full((2, 2, 4), index, np.uint8))
    paths = [str(tmp_path / name) for name in ('0.png', '1.png', 'nothing.png', '2.png')]
    reader = PrefetchReader(paths, 1)
    reader.start()
    assert [next(reader)[0, 0].tolist() for _ in range(2)] == [[0] * 4, [1] * 4]
    with pytest.raises(ImageError, match=r'nothing\.png: can\'t be read: it is not there, or no picture'):
        next(reader)
    assert [picture[0, 0, 0] for picture in reader] == [2]
    with pytest.raises(StopIteration):
        next(reader)

    def list_paths():
        yield 'nothing.png'
        raise OSError('gone')
    reader = PrefetchReader(list_paths(), 1)
    reader.start()
    for error in (ImageError, OSError, StopIteration):
        with pytest.raises(error):
            next(reader)


def test_results_are_written_behind_and_one_that_fails_is_told(tmp_path, caplog):
    results = queue.Queue()
    consumer = IOConsumer(types.SimpleNamespace(), results, 3)
    consumer.start()
    for name in ('b.unknown', 'no\0name.png', 'a.png', 'nowhere/c.png'):
        results.put({'output': PICTURE, 'save_path': str(tmp_path / name)})
    results.put('quit')
    with caplog.at_level(logging.INFO, 'realesrgan'):
        consumer.join(30)
    assert not consumer.is_alive()
    assert [path.name for path in tmp_path.rglob('*.png')] == ['a.png', 'c.png']
    assert np.array_equal(cv2.imread(str(tmp_path / 'a.png')), PICTURE)
    assert [record.levelname for record in caplog.records] == ['ERROR', 'ERROR', 'INFO']
    assert f'{tmp_path}/b.unknown: ' in caplog.messages[0]
