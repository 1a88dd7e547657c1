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
}


def golden_state_dict(name):
    content = torch.load(GOLDEN / f'{name}.pth', weights_only=True)
    return content['params_ema' if name.startswith('rrdb') else 'params']


@pytest.mark.parametrize('name', NETWORKS)
def test_output_equals_that_of_the_original(name):
    cases = json.loads((GOLDEN / 'cases.json').read_text())
    case = next(case for case in cases if case['net'] == name and case['input'] == 'rgb8_24x32'
                and (case['tile'], case['pre_pad'], case['outscale'], case['dni']) == (0, 0, None, None))
    bgr = np.load(GOLDEN / 'inputs.npz')['rgb8_24x32']
    expected = np.load(GOLDEN / 'outputs.npz')[str(case['id'])]
    network, state_dict = NETWORKS[name](), golden_state_dict(name)
    assert list(network.state_dict()) == list(state_dict)
    network.load_state_dict(state_dict)
    rgb = torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        before = rgb.clone()
        output = network(rgb)[0].flip(0).permute(1, 2, 0).clamp(0, 1).mul(255).round().numpy()
    assert torch.equal(rgb, before)
    assert output.shape == expected.shape
    # Another order of additions moves a value by some 1e-4 levels, and so one in some thousands over a rounding step.
    difference = np.abs(output - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize(('channels', 'scale'), [(1, 4), (3, 4), (3, 2), (4, 2), (3, 1)])
def test_each_side_is_scaled_with_any_number_of_channels(channels, scale):
    picture = torch.rand(2, channels, 8, 12)
    for network in (RRDBNet(channels, channels, scale, 4, 2, 2), *(
            SRVGGNetCompact(channels, channels, 4, 1, scale, act_type) for act_type in ('prelu', 'relu', 'leakyrelu'))):
        assert network.scale == scale
        assert network(picture).shape == (2, channels, 8 * scale, 12 * scale)


def test_other_arguments_are_refused():
    for scale in (3, 0, 8, '4'):
        with pytest.raises(ValueError, match=f'no scale {scale!r}: allowed are 4, 2 and 1'):
            RRDBNet(3, 3, scale=scale, num_feat=4, num_block=1)
    with pytest.raises(ValueError, match="no activation 'gelu': allowed are prelu, relu and leakyrelu"):
        SRVGGNetCompact(act_type='gelu')


@pytest.mark.parametrize(('act_type', 'expected'), [('prelu', -0.25), ('relu', 0), ('leakyrelu', -0.1)])
def test_srvgg_activations_of_minus_one_and_ten(act_type, expected):
    network = SRVGGNetCompact(act_type=act_type, num_feat=2, num_conv=0)
    values = torch.tensor([-1., 10.]).reshape(1, 2, 1, 1)
    assert network.body[1](values).flatten().tolist() == pytest.approx([expected, 10])
