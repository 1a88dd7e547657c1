"""Small networks and their weight files, for the tests of the weights."""
from __future__ import annotations

from pathlib import Path

import torch

from realesrgan.archs.srvgg import SRVGGNetCompactConfig

DATA = Path(__file__).parents[1] / 'data'
GOLDEN = DATA / 'golden'
TINY = SRVGGNetCompactConfig(scale=2, num_feat=4, num_conv=1)


def state_dict_of(shape, seed=0):
    torch.manual_seed(seed)
    return shape.build().state_dict()


def arrays_of(state_dict):
    return {name: tensor.numpy() for name, tensor in state_dict.items()}


def save(path, content, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, **options)
    return path


def file_of(shape, seed=0):
    """The bytes of a weight file and the state dict in it."""
    state_dict = state_dict_of(shape, seed)
    path = save(Path('file_of.pth'), {'params': state_dict})
    content = path.read_bytes()
    path.unlink()
    return content, state_dict


def assert_equal(actual, expected):
    assert list(actual) == list(expected)
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []
