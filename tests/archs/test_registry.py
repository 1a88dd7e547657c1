"""Architectures: what a shape says about its network, and which of them a state dict belongs to."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from realesrgan.archs.registry import current_names, identify_network
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.errors import UnknownNetworkError
from realesrgan.models import MODELS

PROJECT = Path(__file__).parents[2]
GOLDEN = PROJECT / 'tests' / 'data' / 'golden'
ODD_SHAPES = [
    RRDBNetConfig(4, 8, 1, 4),
    RRDBNetConfig(2, 16, 3, 8),
    RRDBNetConfig(1, 8, 2, 4),
    RRDBNetConfig(4, 3, 12, 12),
    SRVGGNetCompactConfig(1, 8, 1),
    SRVGGNetCompactConfig(2, 24, 5),
    SRVGGNetCompactConfig(3, 12, 0),
    SRVGGNetCompactConfig(8, 16, 11),
]


def state_dict_of(shape):
    """The state dict of a network without values."""
    with torch.device('meta'):
        return shape.build().state_dict()


# ---- what a shape says ----

def test_multiple_is_the_fold_of_the_pixel_unshuffle():
    assert [RRDBNetConfig(scale).multiple for scale in (4, 2, 1)] == [1, 2, 4]


@pytest.mark.parametrize('shape', [*{spec.network for spec in MODELS.values()}, *ODD_SHAPES], ids=str)
def test_network_has_the_scale_of_its_shape(shape):
    with torch.device('meta'):
        network = shape.build()
        side = 6 * shape.multiple
        assert network.scale == shape.scale
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 3, side * shape.scale, side * shape.scale)


@pytest.mark.parametrize('shape', [*{spec.network for spec in MODELS.values()}, *ODD_SHAPES], ids=str)
def test_parameters_have_the_names_shapes_and_order_of_the_state_dict(shape):
    assert list(shape.parameter_shapes().items()) == [
        (name, tuple(tensor.shape)) for name, tensor in state_dict_of(shape).items()]


def test_shapes_need_neither_torch_nor_numpy():
    code = ('import sys, realesrgan.archs.registry, realesrgan.models, realesrgan.engines.engine\n'
            'print([name for name in ("torch", "numpy") if name in sys.modules])')
    assert subprocess.run([sys.executable, '-c', code], cwd=PROJECT, capture_output=True, text=True,
                          check=True).stdout == '[]\n'


# ---- identification ----

@pytest.mark.parametrize('shape', [*{spec.network for spec in MODELS.values()}, *ODD_SHAPES], ids=str)
def test_network_is_read_off_its_own_state_dict(shape):
    assert identify_network(state_dict_of(shape)) == shape


@pytest.mark.parametrize(('file', 'shape'), [
    ('rrdb_x4.pth', RRDBNetConfig(4, 8, 1, 4)),
    ('rrdb_x2.pth', RRDBNetConfig(2, 8, 1, 4)),
    ('rrdb_x1.pth', RRDBNetConfig(1, 8, 1, 4)),
    ('srvgg_x4.pth', SRVGGNetCompactConfig(4, 8, 3)),
])
def test_network_is_read_off_the_original_s_files(file, shape):
    (state_dict,) = torch.load(GOLDEN / file, weights_only=True).values()
    assert identify_network(state_dict) == shape


def test_arrays_will_do_for_tensors():
    shape = SRVGGNetCompactConfig(2, 8, 1)
    assert identify_network({name: np.zeros(t.shape, np.float32) for name, t in state_dict_of(shape).items()}) == shape


def test_order_of_the_names_does_not_matter():
    shape = SRVGGNetCompactConfig(2, 8, 11)
    assert identify_network(dict(sorted(state_dict_of(shape).items()))) == shape


@pytest.mark.parametrize(('arguments', 'message'), [
    ((1, 1, 4), '1 channels to 16; SRVGGNetCompact maps 3 to 3 x scale'),
    ((3, 1, 4), '3 channels to 16; SRVGGNetCompact'),
    ((4, 3, 4), '4 channels to 48; SRVGGNetCompact'),
])
def test_srvgg_on_other_channels_is_refused(arguments, message):
    channels_in, channels_out, scale = arguments
    network = SRVGGNetCompact(channels_in, channels_out, num_feat=8, num_conv=2, upscale=scale)
    with pytest.raises(UnknownNetworkError, match=message):
        identify_network(network.state_dict())


@pytest.mark.parametrize(('channels_in', 'channels_out', 'message'), [
    (1, 1, '1 channels to 1; RRDBNet maps 3, 12 or 48 to 3'),
    (3, 1, '3 channels to 1; RRDBNet'),
    (4, 4, '4 channels to 4; RRDBNet'),
])
def test_rrdbnet_on_other_channels_is_refused(channels_in, channels_out, message):
    network = RRDBNet(channels_in, channels_out, num_feat=8, num_block=1, num_grow_ch=4)
    with pytest.raises(UnknownNetworkError, match=message):
        identify_network(network.state_dict())


@pytest.mark.parametrize('act_type', ['relu', 'leakyrelu'])
def test_srvgg_without_prelu_is_refused(act_type):
    network = SRVGGNetCompact(num_feat=8, num_conv=2, act_type=act_type)
    with pytest.raises(UnknownNetworkError, match=r'body\.1\.weight, the slopes of a PReLU, is missing'):
        identify_network(network.state_dict())


@pytest.mark.parametrize(('names', 'found'), [
    (['features.0.weight', 'features.0.bias', 'a', 'b'], r'holds features\.0\.weight, features\.0\.bias, a \.\.\.'),
    (['x'], r'holds x \.\.\.'),
    ([], r'holds nothing'),
    ([0, 1], r'holds 0, 1 \.\.\.'),
], ids=['four', 'one', 'none', 'numbers'])
def test_alien_state_dict_is_refused_by_its_first_names(names, found):
    with pytest.raises(UnknownNetworkError, match=rf'none of RRDBNet \(.*\), SRVGGNetCompact \(.*\); it {found}'):
        identify_network({name: torch.zeros(2, 2) for name in names})


@pytest.mark.parametrize('changes', [
    {'conv_last.weight': None},
    {'body.0.rdb1.conv1.weight': None},
    {'conv_first.weight': torch.zeros(8)},
    {'conv_last.weight': torch.zeros(())},
], ids=['no end', 'no body', 'flat start', 'scalar end'])
def test_what_only_begins_like_rrdbnet_is_refused(changes):
    state_dict = {**state_dict_of(RRDBNetConfig(4, 8, 1, 4)), **changes}
    state_dict = {name: tensor for name, tensor in state_dict.items() if tensor is not None}
    with pytest.raises(UnknownNetworkError, match=r'is not one: .'):
        identify_network(state_dict)


@pytest.mark.parametrize('name', ['mean', 'body.x.weight'])
def test_what_only_begins_like_srvgg_is_refused(name):
    state_dict = {**state_dict_of(SRVGGNetCompactConfig(2, 8, 1)), name: torch.zeros(1, 3, 1, 1)}
    with pytest.raises(UnknownNetworkError, match=r'is not one: .'):
        identify_network(state_dict)


# ---- ESRGAN's names of 2018 ----

FIRST_NAMES = {'conv_first': 'model.0', 'conv_body': 'model.1.sub.2', 'conv_up1': 'model.3', 'conv_up2': 'model.6',
               'conv_hr': 'model.8', 'conv_last': 'model.10'}
SECOND_NAMES = {'conv_first': 'conv_first', 'conv_body': 'trunk_conv', 'conv_up1': 'upconv1', 'conv_up2': 'upconv2',
                'conv_hr': 'HRconv', 'conv_last': 'conv_last'}


def first_name(name):
    name = re.sub(r'^body\.(\d+)\.rdb(\d)\.conv(\d)', r'model.1.sub.\1.RDB\2.conv\3.0', name)
    return re.sub(r'^conv_\w+', lambda match: FIRST_NAMES[match[0]], name)


def second_name(name):
    name = re.sub(r'^body\.(\d+)\.rdb(\d)', r'RRDB_trunk.\1.RDB\2', name)
    return re.sub(r'^conv_\w+', lambda match: SECOND_NAMES[match[0]], name)


def test_old_names_of_this_test_are_those_of_2018():
    assert first_name('body.1.rdb2.conv3.weight') == 'model.1.sub.1.RDB2.conv3.0.weight'
    assert first_name('conv_body.bias') == 'model.1.sub.2.bias'
    assert second_name('body.1.rdb2.conv3.weight') == 'RRDB_trunk.1.RDB2.conv3.weight'
    assert second_name('conv_hr.bias') == 'HRconv.bias'


@pytest.mark.parametrize('old_name', [first_name, second_name])
def test_old_names_are_converted_to_the_same_network(old_name):
    torch.manual_seed(0)
    network = RRDBNetConfig(4, 8, 2, 4).build()
    old = {old_name(name): tensor for name, tensor in network.state_dict().items()}
    assert len(old) == len(network.state_dict())
    converted = current_names(old)
    assert converted.keys() == network.state_dict().keys()
    shape = identify_network(converted)
    assert shape == RRDBNetConfig(4, 8, 2, 4)
    loaded = shape.build()
    loaded.load_state_dict(converted, strict=True)
    picture = torch.rand(1, 3, 6, 5)
    assert torch.equal(loaded(picture), network(picture))


@pytest.mark.parametrize('shape', [RRDBNetConfig(2, 8, 1, 4), SRVGGNetCompactConfig(2, 8, 1)])
def test_current_names_stay(shape):
    state_dict = state_dict_of(shape)
    assert list(current_names(state_dict)) == list(state_dict)


def test_other_names_stay_beside_old_ones():
    old = {'model.0.weight': torch.zeros(1), 'extra.model.0.weight': torch.ones(1)}
    assert list(current_names(old)) == ['conv_first.weight', 'extra.model.0.weight']
