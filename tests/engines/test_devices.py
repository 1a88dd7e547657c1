"""Names of devices, and precisions."""
from __future__ import annotations

import pytest
import torch

from realesrgan.engines import devices
from realesrgan.engines.devices import Device, pick_precision


@pytest.mark.parametrize(('device', 'native', 'precision'), [
    ('cuda', True, 'float16'), ('mps', False, 'float16'), ('xpu', False, 'float16'), ('vulkan', False, 'float16'),
    ('cpu', True, 'bfloat16'), ('cpu', False, 'float32')])
def test_half_precision_is_what_the_device_is_fast_with(monkeypatch, device, native, precision):
    monkeypatch.setattr(devices, 'has_cpu_bfloat16', lambda: native)
    assert pick_precision(Device(device), half=True) == precision
    assert pick_precision(Device(device), half=False) == 'float32'


@pytest.mark.parametrize('name', ['cpu', 'cpu:0', 'cuda', 'cuda:1', 'xpu:0', 'mps'])
def test_a_device_prints_as_pytorch_prints_it(name):
    device = Device.parse(name)
    assert str(device) == str(torch.device(name)) == name
    assert Device.parse(torch.device(name)) == device
    assert Device.parse(device) is device
    assert (device.type, device.index) == (torch.device(name).type, torch.device(name).index)


def test_a_device_that_pytorch_does_not_know():
    with pytest.raises(RuntimeError, match='nonsense'):
        Device.parse('nonsense')


def test_a_device_of_vulkan():
    assert Device.parse('vulkan') == Device('vulkan')
    assert Device.parse('vulkan:12') == Device('vulkan', 12)
    assert str(Device('vulkan', 12)) == 'vulkan:12'
