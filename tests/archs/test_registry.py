"""Architectures: what a shape says about its network, and which of them a state dict belongs to."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize('shape', [*{spec.network for spec in MODELS.values()}, *ODD_SHAPES], ids=str)
def test_a_config_has_the_scale_and_parameters_of_its_network_and_is_read_off_them(shape):
    with torch.device('meta'):
        network, side = shape.build(), 6 * shape.multiple
        assert network.scale == shape.scale
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 3, side * shape.scale, side * shape.scale)
    state_dict = network.state_dict()
    assert list(shape.parameter_shapes().items()) == [
        (name, tuple(tensor.shape)) for name, tensor in state_dict.items()]
    assert identify_network(state_dict) == identify_network(dict(sorted(state_dict.items()))) == shape
    assert list(current_names(state_dict)) == list(state_dict)


def test_shapes_need_neither_torch_nor_numpy():
    code = ('import sys, realesrgan.archs.registry, realesrgan.models, realesrgan.engines.engine\n'
            'print([name for name in ("torch", "numpy") if name in sys.modules])')
    assert subprocess.run([sys.executable, '-c', code], cwd=PROJECT, capture_output=True, text=True,
                          check=True).stdout == '[]\n'


# ---- identification ----

@pytest.mark.parametrize(('file', 'shape'), [
    ('rrdb_x4.pth', RRDBNetConfig(4, 8, 1, 4)),
    ('rrdb_x2.pth', RRDBNetConfig(2, 8, 1, 4)),
    ('rrdb_x1.pth', RRDBNetConfig(1, 8, 1, 4)),
    ('srvgg_x4.pth', SRVGGNetCompactConfig(4, 8, 3)),
])
def test_network_is_read_off_the_original_s_files(file, shape):
    (state_dict,) = torch.load(GOLDEN / file, weights_only=True).values()
    assert identify_network(state_dict) == shape


@pytest.mark.parametrize(('build', 'message'), [
    (lambda: SRVGGNetCompact(1, 1, 8, 2, 4), '1 channels to 16; SRVGGNetCompact maps 3 to 3 x scale'),
    (lambda: SRVGGNetCompact(3, 1, 8, 2, 4), '3 channels to 16; SRVGGNetCompact'),
    (lambda: SRVGGNetCompact(4, 3, 8, 2, 4), '4 channels to 48; SRVGGNetCompact'),
    (lambda: SRVGGNetCompact(num_feat=8, act_type='relu'), r'body\.1\.weight, the slopes of a PReLU, is missing'),
    (lambda: SRVGGNetCompact(num_feat=8, act_type='leakyrelu'), 'the slopes of a PReLU, is missing'),
    (lambda: RRDBNet(1, 1, 4, 8, 1, 4), '1 channels to 1; RRDBNet maps 3, 12 or 48 to 3'),
    (lambda: RRDBNet(3, 1, 4, 8, 1, 4), '3 channels to 1; RRDBNet'),
    (lambda: RRDBNet(4, 4, 4, 8, 1, 4), '4 channels to 4; RRDBNet')])
def test_variants_that_are_not_supported_are_refused(build, message):
    with torch.device('meta'), pytest.raises(UnknownNetworkError, match=message):
        identify_network(build().state_dict())


@pytest.mark.parametrize(('names', 'found'), [
    (['features.0.weight', 'features.0.bias', 'a', 'b'], r'holds features\.0\.weight, features\.0\.bias, a \.\.\.'),
    (['x'], r'holds x \.\.\.'),
    ([], r'holds nothing'),
    ([0, 1], r'holds 0, 1 \.\.\.'),
], ids=['four', 'one', 'none', 'numbers'])
def test_alien_state_dict_is_refused_by_its_first_names(names, found):
    with pytest.raises(UnknownNetworkError, match=rf'none of RRDBNet \(.*\), SRVGGNetCompact \(.*\); it {found}'):
        identify_network({name: torch.zeros(2, 2) for name in names})


@pytest.mark.parametrize(('shape', 'changes'), [
    (RRDBNetConfig(4, 8, 1, 4), {'conv_last.weight': None}),
    (RRDBNetConfig(4, 8, 1, 4), {'body.0.rdb1.conv1.weight': None}),
    (RRDBNetConfig(4, 8, 1, 4), {'conv_first.weight': torch.zeros(8)}),
    (RRDBNetConfig(4, 8, 1, 4), {'conv_last.weight': torch.zeros(())}),
    (SRVGGNetCompactConfig(2, 8, 1), {'mean': torch.zeros(1, 3, 1, 1)}),
    (SRVGGNetCompactConfig(2, 8, 1), {'body.x.weight': torch.zeros(1, 3, 1, 1)})],
    ids=['no end', 'no body', 'flat start', 'scalar end', 'more', 'no number'])
def test_what_only_begins_like_a_network_is_refused(shape, changes):
    state_dict = {name: tensor for name, tensor in (state_dict_of(shape) | changes).items() if tensor is not None}
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


@pytest.mark.parametrize(('old_name', 'example'), [
    (first_name, 'model.1.sub.1.RDB2.conv3.0.weight'), (second_name, 'RRDB_trunk.1.RDB2.conv3.weight')])
def test_old_names_are_converted_to_the_same_network(old_name, example):
    torch.manual_seed(0)
    network = RRDBNetConfig(4, 8, 2, 4).build()
    old = {old_name(name): tensor for name, tensor in network.state_dict().items()}
    assert example in old
    assert len(old) == len(network.state_dict())
    converted = current_names(old)
    assert converted.keys() == network.state_dict().keys()
    shape = identify_network(converted)
    assert shape == RRDBNetConfig(4, 8, 2, 4)
    loaded = shape.build()
    loaded.load_state_dict(converted, strict=True)
    picture = torch.rand(1, 3, 6, 5)
    assert torch.equal(loaded(picture), network(picture))


def test_other_names_stay_beside_old_ones():
    old = {'model.0.weight': torch.zeros(1), 'extra.model.0.weight': torch.ones(1)}
    assert list(current_names(old)) == ['conv_first.weight', 'extra.model.0.weight']
