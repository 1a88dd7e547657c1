"""Faked hardware."""
from __future__ import annotations

import pytest

from realesrgan.engines import choice, devices

#: The kinds of devices with a Vulkan driver, by the first word of their names; all others are cards.
KINDS = {'Iris': 1, 'Virtio': 2, 'llvmpipe': 3}


@pytest.fixture
def hardware(monkeypatch):
    """Pretend that the machine has GPUs: how many of each of PyTorch's backends, and the names of Vulkan's devices."""
    def set_up(vulkan=(), **counts):
        monkeypatch.setattr(devices, 'may_have_torch_gpus', lambda: True)
        monkeypatch.setattr(devices, 'count_torch_gpus', lambda backend: counts.get(backend, 0))
        monkeypatch.setattr(devices, '_count_vulkan_devices', lambda: len(vulkan))
        monkeypatch.setattr(devices, 'get_vulkan_kind', lambda gpu: KINDS.get(vulkan[gpu.index], 0))
        monkeypatch.setattr(choice, 'may_have_vulkan_gpus', lambda: True)
        monkeypatch.setattr(choice, 'get_name', lambda gpu: (
            vulkan[gpu.index] if gpu.type == 'vulkan' else f'card {gpu.index}'))
    return set_up
