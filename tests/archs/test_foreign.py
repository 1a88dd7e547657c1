"""Networks of other architectures, loaded by spandrel from files with random weights."""
from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import spandrel
import torch
from safetensors.torch import save_file

from realesrgan import RealESRGANer
from realesrgan.errors import EngineError, NonFiniteError, WeightsError
from realesrgan.weights.loading import build_network
from realesrgan.weights.reading import read_content
from tests.support.foreign_networks import NETWORKS, OTHERS, state_dict_of

PHOTO = cv2.imread(str(Path(__file__).parents[2] / 'inputs' / 'astronaut.jpg'))
ODD = PHOTO[100:137, 100:153]
#: Pictures that are larger than the windows of the smallest tiles, for networks that see far.
LARGER = {'OmniSR-x2': (467, 40), 'SCUNet-x1': (320, 64)}
SCALES = {name: int(name.split('-x')[1]) for name in NETWORKS}


@pytest.fixture(params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture
def network(tmp_path, name):
    """A network, from a file of one of the kinds that are common."""
    state_dict = state_dict_of(NETWORKS[name])
    if SCALES[name] == 4:
        path = tmp_path / 'net.safetensors'
        save_file({key: tensor.clone() for key, tensor in state_dict.items()}, path)
    else:
        path = tmp_path / 'net.pth'
        torch.save({'params_ema': state_dict} if SCALES[name] == 2 else {'state_dict': state_dict}
                   if SCALES[name] == 16 else state_dict, path)
    return build_network(read_content(path), path)


def upscale(network, picture):
    return RealESRGANer(network.scale, None, model=network, pre_pad=0).enhance(picture)[0]


def psnr(one, other):
    error = np.mean((one.astype(float) - other) ** 2)
    return 10 * np.log10(255 ** 2 / error) if error else float('inf')


def test_a_network_gives_what_spandrel_gives(network, name):
    assert network.scale == SCALES[name]
    pixels = torch.from_numpy(np.ascontiguousarray(ODD[..., ::-1].transpose(2, 0, 1))[None]).float() / 255
    descriptor = spandrel.ModelLoader().load_from_state_dict(state_dict_of(NETWORKS[name]))
    expected = (descriptor(pixels)[0] * 255).round().numpy().transpose(1, 2, 0)[..., ::-1]
    result = upscale(network, ODD)
    assert result.shape == (37 * network.scale, 53 * network.scale, 3)
    assert np.abs(result - expected).max() <= 1
    assert result.std() > 0.5  # or there was nothing to compare
    assert upscale(network, ODD[:1, :1]).shape == (network.scale, network.scale, 3)


def test_tiles_do_not_show(network, name):
    """Neither those that were asked for nor those that memory asks for, whatever the network sees.

    OmniSR sees everything, so tiles of the smallest size show a little.
    """
    if network.scale == 16:
        pytest.skip('one network of this architecture is enough')
    width, height = LARGER.get(name, (152, 40))
    picture = cv2.resize(PHOTO, (width, height))
    whole = upscale(network, picture)
    upsampler = RealESRGANer(network.scale, None, model=network, pre_pad=0, engine='torch', max_memory=1)
    seen = []
    network.module.register_forward_pre_hook(lambda module, pixels: seen.append(pixels[0][0, 0].numel()))
    for tile in (128 if name == 'SCUNet-x1' else 64, 0):  # 0: the smallest tiles
        upsampler.tile_size = tile
        assert psnr(upsampler.enhance(picture)[0], whole) >= (47 if name == 'OmniSR-x2' else 50)
        assert len(seen) > 1
        assert max(seen) < width * height  # or there was nothing to compare
        seen.clear()


@pytest.mark.parametrize('name', ['SwinIR-x4', 'ESRGAN-x2'], indirect=True)
def test_only_pytorch_runs_it_in_a_precision_that_it_knows(network, name):
    assert (network.config, network.traits.multiple) == (None, 1)
    assert network.traits.runs_in('float16') == (not name.startswith('SwinIR'))
    assert not network.traits.runs_in('bfloat16')
    assert RealESRGANer(network.scale, None, model=network, half=True, device='cpu').engine.description == (
        'torch, cpu, float32')
    for engine in ('openvino', 'winograd'):
        with pytest.raises(EngineError, match='does not know this network: it is a (SwinIR|ESRGAN) network$'):
            RealESRGANer(network.scale, None, model=network, engine=engine)


@pytest.mark.parametrize('name', ['ESRGAN-x2'], indirect=True)
def test_infinity_is_not_taken_for_white(network):
    network.module.network.model[-1].bias.fill_(float('inf'))
    with pytest.raises(NonFiniteError):
        upscale(network, ODD)


# ---- files that can't be used ----

def test_a_network_that_fills_holes(monkeypatch):
    """Whose smallest has 200 MB of weights, so that they are not saved first."""
    build, reason = OTHERS['LaMa']
    with torch.device('meta'):
        model = build()
    descriptor = spandrel.MaskedImageModelDescriptor.__new__(spandrel.MaskedImageModelDescriptor)
    descriptor._model, descriptor._purpose = model, 'Inpainting'
    descriptor._architecture = spandrel.MAIN_REGISTRY['LaMa'].architecture
    monkeypatch.setattr(spandrel.ModelLoader, 'load_from_state_dict', lambda self, content: descriptor)
    with pytest.raises(WeightsError, match=f'^net.pth: {reason}$'):
        build_network({'generator.model.0.weight': np.zeros(1)}, 'net.pth')


def damaged():
    state_dict = state_dict_of(NETWORKS['SPAN-x4'])
    del state_dict['conv_1.sk.bias']
    return state_dict


@pytest.mark.parametrize(('state_dict', 'message'), [
    (lambda: state_dict_of(OTHERS['gray'][0]), f'^net.pth: {OTHERS["gray"][1]}$'),
    (lambda: {'nothing.weight': torch.zeros(1)},
     rf'^net\.pth: it is none of RRDBNet .*; it holds nothing\.weight .*; nor can spandrel {spandrel.__version__} '),
    (damaged, 'nor can spandrel .* load it$')], ids=['gray', 'unknown', 'damaged'])
def test_what_spandrel_does_not_take(state_dict, message):
    with pytest.raises(WeightsError, match=message):
        build_network({name: tensor.numpy() for name, tensor in state_dict().items()}, 'net.pth')


def test_without_spandrel(monkeypatch):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    with pytest.raises(WeightsError, match=r'it holds nothing\.weight \.\.\.; for others: pip install spandrel$'):
        build_network({'nothing.weight': np.zeros(1)}, 'net.pth')
