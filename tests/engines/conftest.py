"""Faked hardware."""
from __future__ import annotations

import pytest

from realesrgan.engines import torch_gpus, vulkan_gpus

#: What kinds of devices those with a Vulkan driver are, by the first word of their names; all others are cards.
KINDS = {'Iris': 1, 'Virtio': 2, 'llvmpipe': 3}


@pytest.fixture
def hardware(monkeypatch):
    """Pretend that the machine has GPUs: how many of each of PyTorch's backends, and the names of Vulkan's devices."""
    def set_up(vulkan=(), **counts):
        monkeypatch.setattr(torch_gpus, 'may_have_gpus', lambda: True)
        monkeypatch.setattr(torch_gpus, 'count_gpus', lambda backend: counts.get(backend, 0))
        monkeypatch.setattr(torch_gpus, 'get_name', lambda gpu: f'card {gpu.index}')
        monkeypatch.setattr(vulkan_gpus, 'may_have_gpus', lambda: True)
        monkeypatch.setattr(vulkan_gpus, '_count', lambda: len(vulkan))
        monkeypatch.setattr(vulkan_gpus, 'get_name', lambda gpu: vulkan[gpu.index])
        monkeypatch.setattr(vulkan_gpus, 'get_kind', lambda gpu: KINDS.get(vulkan[gpu.index], 0))
    return set_up
