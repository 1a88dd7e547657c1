"""The Vulkan engine, beyond what every engine is tested for, and the models that it gives to ncnn."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines.devices import Device, explain_absence
from realesrgan.errors import EngineError
from tests.support.random_networks import random_network, reference

PROJECT = Path(__file__).parents[2]
GPU = Device('vulkan', 0)
COMPACT = SRVGGNetCompactConfig(4, 8, 2)
pytest.importorskip('ncnn')
from realesrgan.engines import vulkan  # noqa: E402


@pytest.fixture
def gpu():
    """The first Vulkan device; skips the test where there is none."""
    absence = explain_absence('vulkan')
    if absence:
        pytest.skip(absence)
    return GPU


def random_picture(height, width, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8).astype(dtype)


def make(network):
    return vulkan.VulkanEngine(LoadedNetwork.from_module(network), GPU, 'float32')


# ---- models ----

@pytest.mark.parametrize('config', [RRDBNetConfig(2, 8, 2, 4), SRVGGNetCompactConfig(3, 16, 4)])
def test_a_model_holds_the_weights_in_the_order_of_the_state_dict(config):
    """Those of convolutions after a word that says float32."""
    network = LoadedNetwork.from_module(random_network(config))
    content = vulkan.build_model(network.layers(), network.arrays)[1]
    for expected in network.arrays.values():
        if expected.ndim == 4:
            assert content.startswith(bytes(4))
            content = content[4:]
        assert content.startswith(expected.tobytes())
        content = content[expected.nbytes:]
    assert content == b''


def test_a_model_counts_its_layers_and_blobs_and_uses_each_blob_once():
    config = RRDBNetConfig(4, 8, 1, 4)
    param, _ = vulkan.build_model(config.layers(), LoadedNetwork.from_module(config.build()).arrays)
    magic, counts, *lines = param.splitlines()
    assert magic == '7767517'
    given, taken = [], []
    for line in lines:
        _, _, inputs, outputs, *words = line.split()
        taken += words[:int(inputs)]
        given += words[int(inputs):int(inputs) + int(outputs)]
    assert counts == f'{len(lines)} {len(given)}'
    assert len(set(given)) == len(given)
    assert sorted(taken) == sorted(set(given) - {'result'})


# ---- memory ----

def test_memory_is_given_out_up_to_a_limit_and_all_of_it_comes_back(gpu, monkeypatch, capfd):
    network = random_network(COMPACT)
    engine = make(network)
    weights = engine._allocator.used
    assert weights == 6 * (sum(4 * parameter.numel() for parameter in network.parameters()) + 4 * 4)  # four flags
    batch = random_picture(64, 64)[None]
    monkeypatch.setattr(vulkan, 'measure_vulkan_memory', lambda device: weights + 1_200_000)
    for _ in range(2):
        with pytest.raises(MemoryError, match='the GPU has no room for'):
            engine(batch)
        assert engine._allocator.used == weights
    assert engine(batch[:, :16]).shape == (1, 64, 256, 3)
    assert engine._allocator.used == weights
    monkeypatch.undo()
    assert np.abs(engine(batch) - np.rint(reference(network, batch) * 255)).max() <= 1
    assert 'FATAL' not in capfd.readouterr().err  # ncnn's, where memory is freed twice


def test_what_can_not_be_had_is_not_asked_for(gpu, monkeypatch):
    """Buffers that some drivers do not bind, weights that have no room, and a model that ncnn does not take."""
    import ncnn
    allocator = vulkan.Allocator(ncnn.get_gpu_device(0), 0)
    allocator.limit = 1 << 50
    with pytest.raises(MemoryError, match='no room for 2048 MiB'):
        allocator.fastMalloc(2 << 30)
    with monkeypatch.context() as patch, pytest.raises(EngineError, match='ncnn .* does not take the network'):
        patch.setattr(vulkan, 'build_model', lambda layers, weights: ('7767517\n1 1\nNonsense a 0 1 a\n', b''))
        make(random_network(COMPACT))
    monkeypatch.setattr(vulkan, 'measure_vulkan_memory', lambda device: 1000)
    with pytest.raises(MemoryError, match=r'^the weights take about \d+ MiB, more than vulkan:0 has$'):
        make(random_network(COMPACT))


def test_what_other_engines_of_the_process_hold_counts(gpu, monkeypatch):
    first, second = (make(random_network(COMPACT))
                     for _ in range(2))
    batch = random_picture(64, 64)[None]
    first(batch)
    held, weights = first._allocator.peak, first._allocator.used
    assert held > weights
    monkeypatch.setattr(vulkan, 'measure_vulkan_memory', lambda device: 1 << 30)
    second(batch)
    assert second._allocator.limit == int(0.9 * (1 << 30)) - held
    first.release()
    second(batch)
    assert second._allocator.limit == int(0.9 * (1 << 30)) - weights
    del first
    second(batch)
    assert second._allocator.limit == int(0.9 * (1 << 30))


def test_a_lack_of_memory_halves_the_tiles(gpu, monkeypatch, caplog):
    """Each stage holds 8 channels in float32: some 100 bytes a pixel, Winograd's tiles included."""
    network = random_network(COMPACT)
    picture = random_picture(150, 170)
    whole = reference(network, picture[None])[0]
    monkeypatch.setattr(vulkan, 'measure_vulkan_memory', lambda device: 2_500_000)
    upsampler = RealESRGANer(4, None, model=network, device=gpu, pre_pad=0, max_memory=1 << 40)
    result, _ = upsampler.enhance(picture)
    assert np.abs(result - np.rint(whole * 255)).max() <= 1
    assert 'not enough memory on vulkan:0; trying smaller tiles (set them with -t)' in caplog.messages


# ---- the upsampler ----

def test_an_overflow_in_half_precision_is_computed_again(gpu, caplog):
    network = random_network(COMPACT)
    with torch.no_grad():
        network.body[2].weight.mul_(1e6)
        network.body[4].weight.mul_(1e-6)
    picture = random_picture(12, 13)
    upsampler = RealESRGANer(4, None, model=network, device=gpu, pre_pad=0, half=True)
    assert (upsampler.device_type, upsampler.device.type) == ('vulkan', 'cpu')  # of what PyTorch does beside it
    result, _ = upsampler.enhance(picture)
    assert np.abs(result - np.rint(reference(network, picture[None])[0] * 255)).max() <= 1
    assert 'a tile overflowed in half precision and is computed again in float32' in caplog.messages


def test_a_program_ends_while_a_thread_computes(gpu):
    """By the engine alone: until 3.14 Python ends badly if a thread is in PyTorch or OpenCV."""
    code = ('import threading\n'
            'from tests.engines.test_vulkan_engine import SRVGGNetCompactConfig, make, random_network, random_picture\n'
            'engine = make(random_network(SRVGGNetCompactConfig(4, 64, 4)))\n'
            'batch, begun = random_picture(64, 96)[None], threading.Event()\n'
            'def work():\n'
            '    while True:\n'
            '        engine(batch)\n'
            '        begun.set()\n'
            'threading.Thread(target=work, daemon=True).start()\n'
            'begun.wait()\n'
            'print("end")')
    result = subprocess.run([sys.executable, '-c', code], cwd=PROJECT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, 'end\n'), result.stderr
