"""Networks as layers: what follows from them, and an architecture of its own on every engine."""
from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from realesrgan.archs.architecture import Layers
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.registry import ARCHITECTURES, identify_network
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines.choice import explain_refusal, make_engine
from realesrgan.engines.devices import Device, explain_absence
from realesrgan.engines.engine import ENGINES
from realesrgan.engines.winograd import WinogradEngine
from realesrgan.weights.loading import build_network
from tests.support.fork_network import Fork, ForkConfig
from tests.support.random_networks import reference

SMALL = [*(RRDBNetConfig(scale, 4, 1, 2) for scale in (4, 2, 1)), SRVGGNetCompactConfig(2, 4, 1),
         SRVGGNetCompactConfig(3, 4, 4), ForkConfig(2), ForkConfig(3)]


def random_batch(config, height, width, count=1):
    size = count, height * config.multiple, width * config.multiple, 3
    return np.random.default_rng(height).random(size, np.float32)


@pytest.fixture(params=[2, 1, 3])
def fork(request):
    """The network and its module, of random weights."""
    config = ForkConfig(request.param, 20)
    torch.manual_seed(0)
    module = config.build().requires_grad_(False)
    for slopes in (module.prelu.weight, module.slopes.weight):
        slopes.uniform_(-0.5, 0.5)
    if request.param == 2:  # to the middle of the range; where the picture is added, it is there
        module.tail.weight *= 4
        module.tail.bias.fill_(0.5)
    arrays = {name: array.numpy() for name, array in module.state_dict().items()}
    return LoadedNetwork(config, arrays), module


# ---- a new architecture ----

@pytest.mark.parametrize('row', ENGINES, ids=lambda row: row.name)
def test_it_runs_on_every_engine(fork, row):
    network, module = fork
    device = Device(row.devices[0])
    if refusal := explain_refusal(row, network, device) or (device.type == 'vulkan' and explain_absence('vulkan')):
        pytest.skip(str(refusal))
    engine = make_engine(network, device, half=False, name=row.name, threads=None)
    for height, width, count in ((1, 1, 1), (5, 9, 2), (37, 22, 1)):
        batch = random_batch(network.config, height, width, count)
        expected = reference(module, batch)
        assert np.abs(engine(batch) - expected).max() < 1e-4
    assert expected.std() > 0.05  # or there was nothing to compare


def test_ncnn_computes_the_model_of_the_vulkan_engine(fork):
    """On the CPU, which every machine has."""
    ncnn = pytest.importorskip('ncnn')
    from realesrgan.engines import vulkan
    network, module = fork
    param, weights = vulkan.build_model(network.layers(), network.arrays)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = net.opt.use_fp16_arithmetic = net.opt.use_fp16_storage = False
    net.opt.use_bf16_storage = net.opt.use_fp16_packed = False
    assert net.load_param_mem(param) == 0
    net.load_model_mem(weights)
    batch = random_batch(network.config, 11, 14)
    extractor = net.create_extractor()
    picture = ncnn.Mat(*batch.shape[2:0:-1], 3)
    picture.numpy()[...] = batch[0, ..., ::-1].transpose(2, 0, 1)
    extractor.input(vulkan._INPUT, picture)
    _, result = extractor.extract(vulkan._OUTPUT)
    pixels = np.asarray(result).transpose(1, 2, 0)[..., ::-1].clip(0, 1)
    assert np.abs(pixels - reference(module, batch)[0]).max() < 1e-4


@pytest.mark.parametrize(('name', 'value'), [
    ('realesrgan.weights.loading.ARCHITECTURES', (*ARCHITECTURES, ForkConfig)),
    ('importlib.metadata.entry_points',
     lambda group: [EntryPoint('fork', 'tests.support.fork_network:ForkConfig', group)])],
    ids=['table', 'package'])
def test_it_is_found_by_its_weights_once_it_is_in_the_table_or_another_package(fork, monkeypatch, name, value):
    network, module = fork
    assert identify_network(module.state_dict(), (*ARCHITECTURES, ForkConfig)) == network.config
    monkeypatch.setattr(name, value)
    found = build_network(network.arrays, 'fork.pth')
    assert (found.config, type(found.module)) == (network.config, Fork)


# ---- what follows from layers ----

@pytest.mark.parametrize('config', SMALL, ids=str)
def test_the_receptive_field_is_exact(config):
    """As gradients show it: of all pixels of the result that one block of the picture becomes."""
    torch.manual_seed(0)
    network, field, fold = config.build().double(), config.layers().measure_receptive_field(), config.multiple
    assert (config.receptive_field, config.blend) == (field, 0)
    middle = field + fold
    picture = torch.rand(1, 3, 2 * middle + fold, 2 * middle + fold, dtype=torch.double, requires_grad=True)
    block = slice(middle * config.scale, (middle + fold) * config.scale)
    (network(picture)[..., block, block] ** 2).sum().backward()
    touched = picture.grad.abs().sum((0, 1)).nonzero()
    assert touched.min(0).values.tolist() == [middle - field] * 2
    assert touched.max(0).values.tolist() == [middle + fold - 1 + field] * 2


def test_what_follows_for_the_released_networks():
    """An RRDBNet holds the picture, four trunks, four growths, and what is enlarged twice and four times."""
    trunks = 3 + 4 * 64 + 4 * 32 + 4 * 64 + 16 * (64 + 64 + 3)
    assert RRDBNetConfig().values_per_pixel == RRDBNetConfig(num_block=6).values_per_pixel == trunks
    assert RRDBNetConfig(2).values_per_pixel == (trunks - 3 + 12) / 4
    assert SRVGGNetCompactConfig(4, 64, 16).values_per_pixel == 3 + 2 * 64 + 48
    for config in (RRDBNetConfig(scale) for scale in (4, 2, 1)):
        assert config.layers().measure_receptive_field() > 340 * config.multiple
        assert (config.receptive_field, config.blend) == (48 * config.multiple, 8 * config.multiple)


@pytest.mark.parametrize('config', SMALL, ids=str)
def test_a_buffer_is_taken_again_when_nobody_reads_it_any_more(config):
    layers = config.layers()
    buffers, held = layers.assign_buffers(), {0: 0}
    for number, layer in enumerate(layers.convolutions, 1):
        for feature in (*layer.inputs, *(feature for feature, _ in layer.residuals)):
            assert held[buffers[feature]] == feature
        assert buffers[number] not in {buffers[feature] for feature in layer.inputs}
        held[buffers[number]] = number
    assert held[0] == 0
    assert len(set(buffers)) <= len(buffers)


# ---- what can't be described, or run ----

def test_inputs_and_residuals_of_other_sizes_are_refused():
    layers = Layers()
    head = layers.convolve('head', [0], 4)
    up = layers.convolve('up', [head], 4, doubles=True)
    for arguments in (([head, up], 4), ([up, head], 4)):
        with pytest.raises(ValueError, match='^tail: its inputs differ in size, or its residuals from its result$'):
            layers.convolve('tail', *arguments)
    for channels, residual in ((4, head), (5, up)):
        with pytest.raises(ValueError, match='^tail: its inputs differ'):
            layers.convolve('tail', [up], channels, residuals=[(residual, 1.0)])
    for fold, doubles in ((2, False), (1, True)):
        layers = Layers(fold)
        last = layers.convolve('head', [0], 4, doubles=doubles)
        with pytest.raises(ValueError, match='^tail: the picture can be added only where all features have its size$'):
            layers.finish('tail', [last], adds_picture=True)


def add_three(layers):
    head = layers.convolve('head', [0], 4)
    return layers.finish('tail', [layers.convolve('body', [head], 4, residuals=[(head, 1.0)] * 3)])


def make_too_wide(layers):
    return layers.finish('tail', [layers.convolve('head', [0], 1040)])


@pytest.mark.parametrize(('describe', 'reason'), [
    (add_three, 'it has more than two residuals at a place'),
    (make_too_wide, 'it is too wide')])
def test_what_the_kernel_can_not_do_is_refused(monkeypatch, describe, reason):
    monkeypatch.setattr(ForkConfig, 'layers', lambda config: describe(Layers()))
    assert str(WinogradEngine.explain_refusal(LoadedNetwork(ForkConfig(1), {}))) == (
        f'the engine winograd does not run this network: {reason}')
