"""The original's own results (0.3.0), case by case: the same pixels."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer
from realesrgan.engines import torch as torch_engine
from realesrgan.engines.devices import explain_absence
from realesrgan.engines.engine import ENGINES, VULKAN

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
CASES = json.loads((GOLDEN / 'cases.json').read_text())
INPUTS = np.load(GOLDEN / 'inputs.npz')
OUTPUTS = np.load(GOLDEN / 'outputs.npz')
DEVICES = {VULKAN: 'vulkan:0'}  # by engine; those not named run on the CPU
STEPS = 'steps'  # no engine: the methods of 0.3.0, which a subclass may replace
PIPELINED = 'pipelined'  # the engine torch as it works on a CUDA device

# The RGBA inputs. The original lets the colour of hidden pixels bleed into visible ones, and its alpha goes through the
# network even inside areas that are fully opaque or transparent. At least this share of the values in these cases is
# the original's, within `LARGEST`; and the same colours, and the same alpha as a gray picture, must come out exactly as
# the original has them.
ALPHA_EXCEPTIONS = {3: 0.9, 13: 0.9, 23: 0.9, 33: 0.85, 39: 0.6, 40: 0.6, 48: 0.85}

# Engines, and processors, add in different orders, which moves a value by some 1e-6 of the range. Of 65535 levels that
# is a tenth, and a level is a hundred float32 steps deep inside the networks: the originals themselves differ from the
# same networks in float64 in one of a hundred values. So 16-bit differences are bounded, not the share of equal values.
# Of 256 levels it is 1/4000, and one value in thousands tips over to the next level. The mean leaves room for one in
# two hundred, because the smallest result has 240 pixels.
LARGEST = {np.dtype(np.uint8): 1, np.dtype(np.uint16): 4}
LARGEST_MEAN = {np.dtype(np.uint8): 0.005, np.dtype(np.uint16): 0.1}


class Subclass(RealESRGANer):
    def post_process(self) -> torch.Tensor:
        return super().post_process()


def upsampler_of(case: dict[str, Any], engine: str) -> RealESRGANer:
    paths: Any = GOLDEN / f'{case["net"]}.pth'
    shares = None
    if case['dni']:
        partner, share = case['dni']
        paths, shares = [paths, GOLDEN / f'{partner}.pth'], [share, 1 - share]
    kind, engine = (Subclass, 'auto') if engine == STEPS else (RealESRGANer, engine)
    return kind(case['scale'], paths, shares, tile=case['tile'], tile_pad=case['tile_pad'],
                pre_pad=case['pre_pad'], device=DEVICES.get(engine, 'cpu'), engine=engine)


def assert_same_pixels(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    difference = np.abs(actual.astype(int) - expected)
    assert difference.max() <= LARGEST[actual.dtype]
    assert difference.mean() <= LARGEST_MEAN[actual.dtype]


def test_there_are_54_cases() -> None:
    assert len(CASES) == 54


@pytest.mark.parametrize('engine', [*(row.name for row in ENGINES), STEPS, PIPELINED])
@pytest.mark.parametrize('case', CASES, ids=lambda case: f'{case["id"]}-{case["net"]}-{case["input"]}')
def test_same_pixels_as_the_original(case: dict[str, Any], engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == VULKAN and (absence := explain_absence(VULKAN)):
        pytest.skip(absence)
    if engine == PIPELINED:
        monkeypatch.setattr(torch_engine, 'PIPELINED', ('cpu',))
        engine = 'torch'
    upsampler, picture, expected = upsampler_of(case, engine), INPUTS[case['input']], OUTPUTS[str(case['id'])]
    actual, mode = upsampler.enhance(picture, outscale=case['outscale'])
    assert mode == case['img_mode']
    if case['id'] in ALPHA_EXCEPTIONS:
        difference = np.abs(actual.astype(int) - expected)
        assert np.mean(difference <= LARGEST[actual.dtype]) >= ALPHA_EXCEPTIONS[case['id']]
        colours, _ = upsampler.enhance(picture[..., :3], outscale=case['outscale'])
        alpha, _ = upsampler.enhance(picture[..., 3], outscale=case['outscale'])
        actual = np.dstack((colours, alpha))
    assert_same_pixels(actual, expected)
