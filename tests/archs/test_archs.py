"""The two networks: shapes, parameter names, values of the original (tests/data/golden), refused arguments."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
NETWORKS = {
    'rrdb_x4': lambda: RRDBNet(3, 3, scale=4, num_feat=8, num_block=1, num_grow_ch=4),
    'rrdb_x2': lambda: RRDBNet(3, 3, scale=2, num_feat=8, num_block=1, num_grow_ch=4),
    'rrdb_x1': lambda: RRDBNet(3, 3, scale=1, num_feat=8, num_block=1, num_grow_ch=4),
    'srvgg_x4': lambda: SRVGGNetCompact(3, 3, num_feat=8, num_conv=3, upscale=4),
    'srvgg_x4_b': lambda: SRVGGNetCompact(3, 3, num_feat=8, num_conv=3, upscale=4),
}


def golden_state_dict(name):
    content = torch.load(GOLDEN / f'{name}.pth', weights_only=True)
    return content['params_ema' if name.startswith('rrdb') else 'params']


@pytest.mark.parametrize('name', NETWORKS)
def test_parameters_have_the_names_order_and_shapes_of_the_original(name):
    ours = {key: tuple(value.shape) for key, value in NETWORKS[name]().state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in golden_state_dict(name).items()}
    assert list(ours.items()) == list(theirs.items())


@pytest.mark.parametrize('name', ['rrdb_x4', 'rrdb_x2', 'rrdb_x1', 'srvgg_x4'])
def test_output_equals_that_of_the_original(name):
    cases = json.loads((GOLDEN / 'cases.json').read_text())
    case = next(case for case in cases if case['net'] == name and case['input'] == 'rgb8_24x32'
                and (case['tile'], case['pre_pad'], case['outscale'], case['dni']) == (0, 0, None, None))
    bgr = np.load(GOLDEN / 'inputs.npz')['rgb8_24x32']
    expected = np.load(GOLDEN / 'outputs.npz')[str(case['id'])]
    network = NETWORKS[name]()
    network.load_state_dict(golden_state_dict(name))
    rgb = torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        output = network(rgb)[0].flip(0).permute(1, 2, 0).clamp(0, 1).mul(255).round().numpy()
    assert output.shape == expected.shape
    # Another order of additions moves a value by some 1e-4 levels, and so one in some thousands over a rounding step.
    difference = np.abs(output - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize('scale', [4, 2, 1])
def test_rrdbnet_scales_each_side(scale):
    network = RRDBNet(3, 3, scale=scale, num_feat=4, num_block=2, num_grow_ch=2)
    assert network.scale == scale
    assert network(torch.rand(2, 3, 8, 12)).shape == (2, 3, 8 * scale, 12 * scale)


@pytest.mark.parametrize('scale', [4, 3, 2, 1])
@pytest.mark.parametrize('act_type', ['prelu', 'relu', 'leakyrelu'])
def test_srvgg_scales_each_side(scale, act_type):
    network = SRVGGNetCompact(3, 3, num_feat=4, num_conv=2, upscale=scale, act_type=act_type)
    assert network.scale == scale
    assert network(torch.rand(2, 3, 5, 7)).shape == (2, 3, 5 * scale, 7 * scale)


@pytest.mark.parametrize(('channels', 'scale'), [(1, 4), (4, 2)])
def test_other_channel_counts(channels, scale):
    picture = torch.rand(1, channels, 8, 8)
    for network in (RRDBNet(channels, channels, scale, 4, 1, 2), SRVGGNetCompact(channels, channels, 4, 1, scale)):
        assert network(picture).shape == (1, channels, 8 * scale, 8 * scale)


@pytest.mark.parametrize('scale', [3, 0, 8, '4'])
def test_rrdbnet_refuses_another_scale(scale):
    with pytest.raises(ValueError, match=f'no scale {scale!r}: allowed are 4, 2 and 1'):
        RRDBNet(3, 3, scale=scale, num_feat=4, num_block=1)


def test_srvgg_refuses_another_activation():
    with pytest.raises(ValueError, match="no activation 'gelu': allowed are prelu, relu and leakyrelu"):
        SRVGGNetCompact(act_type='gelu')


@pytest.mark.parametrize(('act_type', 'expected'), [('prelu', -0.25), ('relu', 0), ('leakyrelu', -0.1)])
def test_srvgg_activations_of_minus_one_and_ten(act_type, expected):
    network = SRVGGNetCompact(act_type=act_type, num_feat=2, num_conv=0)
    values = torch.tensor([-1., 10.]).reshape(1, 2, 1, 1)
    assert network.body[1](values).flatten().tolist() == pytest.approx([expected, 10])


@pytest.mark.parametrize('scale', [4, 2])
def test_srvgg_with_zero_weights_repeats_each_pixel(scale):
    network = SRVGGNetCompact(num_feat=4, num_conv=1, upscale=scale)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    picture = torch.rand(1, 3, 5, 7)
    expected = picture.numpy().repeat(scale, axis=2).repeat(scale, axis=3)
    assert np.array_equal(network(picture).detach().numpy(), expected)


@pytest.mark.parametrize('name', NETWORKS)
def test_input_stays_as_it_was(name):
    picture = torch.rand(1, 3, 8, 8) - 0.5
    before = picture.clone()
    with torch.inference_mode():
        NETWORKS[name]()(picture)
    assert torch.equal(picture, before)
