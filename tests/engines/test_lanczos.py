"""Lanczos's filter against OpenCV's: the same bits on the CPU, a level at most in PyTorch."""
from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from realesrgan.engines import lanczos
from realesrgan.engines.cpu import list_cpu_features
from realesrgan.engines.kernel import self_test
from realesrgan.engines.kernel.library import VARIANTS, list_variants, load_variant
from realesrgan.engines.lanczos import TensorResizer, resize, resize_by_kernel
from realesrgan.errors import EngineError, KernelError

# Height and width, before and after: the scales of films, sides of one pixel, both directions, odd shares.
SIZES = [((192, 256), (96, 128)), ((192, 256), (144, 192)), ((64, 48), (97, 61)), ((40, 40), (40, 40)),
         ((1, 1), (3, 2)), ((2, 300), (31, 7)), ((7, 1), (2, 300)), ((23, 94), (320, 324)), ((181, 97), (33, 412))]
BLACK_AND_WHITE = np.uint8([0, 255])  # with them sums leave the range


@pytest.fixture(params=[variant.name for variant in VARIANTS])
def kernel(request):
    if request.param not in list_variants(list_cpu_features()):
        pytest.skip('this processor does not run it')
    try:
        return load_variant(request.param)
    except KernelError as error:
        pytest.skip(str(error))


def draw(size, channels, levels=256):
    return np.random.default_rng(1).choice(levels, (*size, channels)[:2 + (channels > 1)]).astype(np.uint8)


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize(('before', 'after'), SIZES)
def test_every_bit_is_opencv_s(kernel, before, after, channels):
    for levels in (256, BLACK_AND_WHITE):
        picture = draw(before, channels, levels)
        expected = cv2.resize(picture, after[::-1], interpolation=cv2.INTER_LANCZOS4)
        for threads in (1, 2, 5):
            assert np.array_equal(resize_by_kernel(kernel, picture, after[::-1], threads), expected)


def test_sixteen_bits_and_machines_without_a_kernel_take_opencv(monkeypatch):
    def refuse():
        raise EngineError('there is none')
    pictures = draw((20, 30), 3) * np.uint16(257), draw((20, 30), 3)
    monkeypatch.setattr(lanczos, 'get_kernel', refuse)
    for picture in pictures:
        expected = cv2.resize(picture, (13, 11), interpolation=cv2.INTER_LANCZOS4)
        assert np.array_equal(resize(picture, (13, 11), 2), expected)


def test_the_self_test_notices_a_wrong_value(best_kernel):
    def resize_wrongly(*arguments):
        arguments = list(arguments)
        arguments[1] -= 1  # as if the last row were not there
        best_kernel.resize(*arguments)
    assert self_test.resizes_exactly(best_kernel)
    assert not self_test.resizes_exactly(SimpleNamespace(resize=resize_wrongly))


# ---- in PyTorch ----

@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize(('before', 'after'), [
    *SIZES, ((200, 3), (7, 3)), ((30, 33), (31, 32)), ((90, 160), (270, 40))])
def test_in_pytorch_it_is_within_a_level_of_opencv(before, after, dtype):
    top = np.iinfo(dtype).max
    resizer = TensorResizer(before, after, top, torch.device('cpu'))
    for picture in (draw(before, 3).astype(dtype) * (top // 255), draw(before, 3, BLACK_AND_WHITE).astype(dtype) * (
            top // 255), cv2.GaussianBlur(draw(before, 3).astype(dtype) * (top // 255), (9, 9), 0)):
        expected = cv2.resize(picture, after[::-1], interpolation=cv2.INTER_LANCZOS4)
        levels = torch.from_numpy(np.stack([picture, 255 - picture]).astype(np.float32)).permute(0, 3, 1, 2)
        result = resizer(levels)
        assert result.shape == (2, 3, *after)
        difference = np.abs(result[0].permute(1, 2, 0).numpy() - expected)
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= 2 + 0.01 * difference.size  # which are in the middle of two levels
