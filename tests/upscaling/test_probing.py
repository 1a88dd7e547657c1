"""Measuring networks of which little is known, with stand-ins that see what they are told to."""
from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from realesrgan.engines.torch import TorchEngine
from realesrgan.engines.torch_memory import PeakMemory
from realesrgan.errors import NonFiniteError
from realesrgan.upscaling.probing import Sight, measure_bytes_per_pixel, measure_sight


class StandIn:
    """An engine that computes with a function of one picture, HxWx3, float32."""

    def __init__(self, function, scale=1):
        self.function = function
        self.scale = scale

    def __call__(self, batch):
        result = self.function(batch[0])
        return result.repeat(self.scale, 0).repeat(self.scale, 1)[None]


def blur(radius):
    return lambda picture: cv2.blur(picture, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_CONSTANT)


def average_windows(side):
    """Each pixel becomes the mean of its window, as attention in windows does."""
    def run(picture):
        result = np.empty_like(picture)
        for y in range(0, picture.shape[0], side):
            for x in range(0, picture.shape[1], side):
                result[y:y + side, x:x + side] = picture[y:y + side, x:x + side].mean((0, 1))
        return result
    return run


@pytest.mark.parametrize(('function', 'expected'), [
    (lambda picture: picture, Sight(8, 16)),
    (blur(3), Sight(8, 16)), (blur(12), Sight(16, 16)), (blur(60), Sight(64, 16)),
    (average_windows(8), Sight(8, 16)), (average_windows(16), Sight(8, 16)), (average_windows(64), Sight(8, 64)),
    (average_windows(12), Sight(8, 24)), (average_windows(24), Sight(8, 24)), (average_windows(7), Sight(8, 28))])
@pytest.mark.parametrize('scale', [1, 3])
def test_how_far_a_network_sees_and_where_its_windows_begin(function, expected, scale, caplog):
    assert measure_sight(StandIn(function, scale), 1) == expected
    assert caplog.messages == []


def test_a_network_that_sees_further_up_and_down_than_to_the_sides():
    def run(picture):
        return cv2.blur(picture, (1, 25), borderType=cv2.BORDER_CONSTANT)
    assert measure_sight(StandIn(run), 1) == Sight(16, 16)


def test_a_network_that_sees_everything_warns(caplog):
    assert measure_sight(StandIn(lambda picture: picture - picture.mean()), 1) == Sight(128, 64)
    assert caplog.messages == [
        'this network sees further than 96 pixels, or divides pictures into windows of an unusual size, so tiles may '
        'show; larger tiles show less']


@pytest.mark.parametrize(('multiple', 'alignment'), [(4, 16), (12, 24), (32, 32), (100, 100)])
def test_pictures_have_sides_that_the_network_takes(multiple, alignment):
    def run(picture):
        assert picture.shape[0] % multiple == picture.shape[1] % multiple == 0
        return picture
    assert measure_sight(StandIn(run), multiple) == Sight(8, alignment)


def test_a_result_that_is_not_finite_in_half_precision_tells_nothing(caplog):
    def fail(picture):
        raise NonFiniteError
    assert measure_sight(StandIn(fail), 1) == Sight(128, 64)
    assert measure_bytes_per_pixel(StandIn(fail), 1) is None


# ---- memory ----

def test_results_are_counted_while_they_are_alive():
    with PeakMemory() as memory:
        first = torch.ones(1000)
        view = first.view(10, 100)
        second = torch.ones(500)
        del first, view
        third = torch.ones(1000)
        assert memory.peak == 6000
        fourth = torch.ones(1000)
        del second, third, fourth
        torch.ones(10)
    assert memory.peak == 4 * 2500


@pytest.mark.parametrize('multiple', [1, 100])
def test_memory_is_that_of_the_largest_layer_and_its_input(multiple):
    """In float32, 64 channels in and out: 512 bytes a pixel, and two fifths more that is not seen."""
    def require_multiple(network, pixels):
        assert not any(side % multiple for side in pixels[0].shape[2:])

    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1),
                            nn.Conv2d(64, 3, 3, padding=1))
    network.register_forward_pre_hook(require_multiple)
    engine = TorchEngine(network.requires_grad_(False), 1, torch.device('cpu'), torch.float32)
    assert 512 * 1.4 <= measure_bytes_per_pixel(engine, multiple) <= 560 * 1.4


def test_memory_of_an_engine_without_pytorch_is_not_known():
    assert measure_bytes_per_pixel(StandIn(lambda picture: picture), 1) is None
