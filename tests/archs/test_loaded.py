"""A network with its weights, from arrays and from a module."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from realesrgan import RealESRGANer
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg import SRVGGNetCompactConfig

SHAPES = [RRDBNetConfig(2, 8, 1, 4), SRVGGNetCompactConfig(4, 8, 2)]


def module_of(shape):
    torch.manual_seed(0)
    return shape.build()


def arrays_of(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == np.float32
        assert np.array_equal(actual[name], array)


@pytest.mark.filterwarnings('error')  # of PyTorch, about arrays that can't be written to
@pytest.mark.parametrize('shape', SHAPES)
def test_from_arrays(shape):
    arrays = arrays_of(module_of(shape))
    for array in arrays.values():
        array.flags.writeable = False
    network = LoadedNetwork.from_arrays(shape, arrays)
    assert (network.config, network.scale, network.unknown) == (shape, shape.scale, None)
    assert network.arrays is arrays
    module = network.module
    assert network.module is module
    assert type(module) is type(shape.build())
    assert_same(arrays_of(module), arrays)
    assert not module.training
    assert [parameter for parameter in module.parameters() if parameter.requires_grad] == []


@pytest.mark.parametrize('shape', SHAPES)
def test_from_a_module(shape):
    module = module_of(shape)
    network = LoadedNetwork.from_module(module)
    assert (network.config, network.scale, network.unknown) == (shape, shape.scale, None)
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
    copied = network.copy()
    assert (copied.config, copied.scale, copied.unknown) == (None, 1, network.unknown)
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
    arrays = arrays_of(module_of(SHAPES[1]))
    for network in (LoadedNetwork.from_module(module_of(SHAPES[1])), LoadedNetwork.from_arrays(SHAPES[1], arrays)):
        copied, module = network.copy(), network.copy().module
        assert len({id(network.module), id(copied.module), id(module)}) == 3
        network.module.half()
        for other in (copied.module, module):
            assert_same(arrays_of(other), arrays)
        assert_same(copied.arrays, arrays)
    assert_same(arrays_of(network.copy().module), arrays)  # of the one from arrays, whose module is rounded by now


def test_a_copy_of_a_class_of_the_callers_is_of_that_class():
    class Mine(type(SHAPES[1].build())):
        pass
    module = Mine(3, 3, 8, 2, 4)
    network = LoadedNetwork.from_module(module)
    assert_same(network.arrays, arrays_of(module))
    assert type(network.copy().module) is Mine
