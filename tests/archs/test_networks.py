"""The networks: shapes, configs, telling them apart, networks with weights. For their values see test_golden.py."""
from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from realesrgan import RealESRGANer
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.registry import current_names, identify_network
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.errors import UnknownNetworkError
from realesrgan.models import MODELS


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


# ---- configs, and which of them a state dict belongs to ----

ODD_CONFIGS = [RRDBNetConfig(4, 8, 1, 4), RRDBNetConfig(2, 16, 3, 8), RRDBNetConfig(1, 8, 2, 4),
               RRDBNetConfig(4, 3, 12, 12), SRVGGNetCompactConfig(1, 8, 1), SRVGGNetCompactConfig(2, 24, 5),
               SRVGGNetCompactConfig(3, 12, 0), SRVGGNetCompactConfig(8, 16, 11)]


def state_dict_of(config):
    """The state dict of a network without values."""
    with torch.device('meta'):
        return config.build().state_dict()


@pytest.mark.parametrize('config', [*{spec.network for spec in MODELS.values()}, *ODD_CONFIGS], ids=str)
def test_a_config_has_the_scale_and_parameters_of_its_network_and_is_read_off_them(config):
    with torch.device('meta'):
        network, side = config.build(), 6 * config.multiple
        assert network.scale == config.scale
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 3, side * config.scale, side * config.scale)
    state_dict = network.state_dict()
    assert list(config.parameter_shapes().items()) == [
        (name, tuple(tensor.shape)) for name, tensor in state_dict.items()]
    assert identify_network(state_dict) == identify_network(dict(sorted(state_dict.items()))) == config
    assert list(current_names(state_dict)) == list(state_dict)


# ---- identification ----

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


@pytest.mark.parametrize(('config', 'changes'), [
    (RRDBNetConfig(4, 8, 1, 4), {'conv_last.weight': None}),
    (RRDBNetConfig(4, 8, 1, 4), {'body.0.rdb1.conv1.weight': None}),
    (RRDBNetConfig(4, 8, 1, 4), {'conv_first.weight': torch.zeros(8)}),
    (RRDBNetConfig(4, 8, 1, 4), {'conv_last.weight': torch.zeros(())}),
    (SRVGGNetCompactConfig(2, 8, 1), {'mean': torch.zeros(1, 3, 1, 1)}),
    (SRVGGNetCompactConfig(2, 8, 1), {'body.x.weight': torch.zeros(1, 3, 1, 1)})],
    ids=['no end', 'no body', 'flat start', 'scalar end', 'more', 'no number'])
def test_what_only_begins_like_a_network_is_refused(config, changes):
    state_dict = {name: tensor for name, tensor in (state_dict_of(config) | changes).items() if tensor is not None}
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
    config = identify_network(converted)
    assert config == RRDBNetConfig(4, 8, 2, 4)
    loaded = config.build()
    loaded.load_state_dict(converted, strict=True)
    picture = torch.rand(1, 3, 6, 5)
    assert torch.equal(loaded(picture), network(picture))


def test_other_names_stay_beside_old_ones():
    old = {'model.0.weight': torch.zeros(1), 'extra.model.0.weight': torch.ones(1)}
    assert list(current_names(old)) == ['conv_first.weight', 'extra.model.0.weight']


# ---- a network with its weights ----

CONFIGS = [RRDBNetConfig(2, 8, 1, 4), SRVGGNetCompactConfig(4, 8, 2)]


def module_of(config):
    torch.manual_seed(0)
    return config.build()


def arrays_of(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == np.float32
        assert np.array_equal(actual[name], array)


@pytest.mark.filterwarnings('error')  # of PyTorch, about arrays that can't be written to
@pytest.mark.parametrize('config', CONFIGS)
def test_from_arrays(config):
    arrays = arrays_of(module_of(config))
    for array in arrays.values():
        array.flags.writeable = False
    network = LoadedNetwork(config, arrays)
    assert (network.config, network.scale, network.unknown) == (config, config.scale, None)
    assert network.arrays is arrays
    module = network.module
    assert network.module is module
    assert type(module) is type(config.build())
    assert_same(arrays_of(module), arrays)
    assert not module.training
    assert [parameter for parameter in module.parameters() if parameter.requires_grad] == []


@pytest.mark.parametrize('config', CONFIGS)
def test_from_a_module(config):
    module = module_of(config)
    network = LoadedNetwork.from_module(module)
    assert (network.config, network.scale, network.unknown) == (config, config.scale, None)
    assert network.module is module
    assert_same(network.arrays, arrays_of(module))
    assert network.arrays is network.arrays
    assert_same(LoadedNetwork.from_module(module.half()).arrays, arrays_of(module.float()))


def test_a_module_of_an_unknown_architecture():
    module = nn.Conv2d(3, 3, 3)
    with pytest.raises(ValueError, match='the scale of Conv2d is not known'):
        LoadedNetwork.from_module(module)
    network = LoadedNetwork.from_module(module, 1)
    assert (network.config, network.scale, network.module) == (None, 1, module)
    assert 'it is none of RRDBNet' in str(network.unknown)
    assert [LoadedNetwork.from_module(module, scale).traits.multiple for scale in (1, 2, 3, 4)] == [4, 2, 1, 1]
    module.scale = 3
    assert LoadedNetwork.from_module(module).scale == 3
    assert LoadedNetwork.from_module(module, 1).scale == 1
    copied = copy.deepcopy(network)
    assert (copied.config, copied.scale, str(copied.unknown)) == (None, 1, str(network.unknown))
    assert type(copied.module) is nn.Conv2d


def test_a_subclass_of_a_known_architecture_is_not_taken_for_it():
    """It may compute something else with the same weights."""
    class Other(RRDBNet):
        def forward(self, x):
            return torch.full((1, 3, 4 * x.shape[2], 4 * x.shape[3]), 0.5)

    module = Other(3, 3, 4, num_feat=8, num_block=1, num_grow_ch=4)
    assert 'it is a module of the class Other, not RRDBNet' in str(LoadedNetwork.from_module(module, 4).unknown)
    result = RealESRGANer(4, None, model=module, pre_pad=0).enhance(np.zeros((5, 6, 3), np.uint8))[0]
    assert (result == 128).all()


def test_a_copy_has_a_module_of_its_own():
    arrays = arrays_of(module_of(CONFIGS[1]))
    for network in (LoadedNetwork.from_module(module_of(CONFIGS[1])), LoadedNetwork(CONFIGS[1], arrays)):
        copied, module = copy.deepcopy(network), copy.deepcopy(network).module
        assert len({id(network.module), id(copied.module), id(module)}) == 3
        network.module.half()
        for other in (copied.module, module):
            assert_same(arrays_of(other), arrays)
        assert_same(copied.arrays, arrays)
    assert_same(arrays_of(copy.deepcopy(network).module), arrays)  # whose own module is rounded by now


def test_a_copy_of_a_class_of_the_callers_is_of_that_class():
    class Mine(type(CONFIGS[1].build())):
        pass
    module = Mine(3, 3, 8, 2, 4)
    network = LoadedNetwork.from_module(module)
    assert_same(network.arrays, arrays_of(module))
    assert type(copy.deepcopy(network).module) is Mine
