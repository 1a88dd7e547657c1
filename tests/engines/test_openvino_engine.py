"""The OpenVINO engine's memory and errors; its results are tested by test_conformance."""
from __future__ import annotations

import numpy as np
import psutil
import pytest
import torch

from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines.choice import make_engine

ov = pytest.importorskip('openvino')
CPU = 'cpu'


def engine(num_feat=8):
    torch.manual_seed(0)
    return make_engine(SRVGGNetCompactConfig(4, num_feat, 2).build(), CPU, half=False, name='openvino')


def test_memory_is_kept_for_one_dtype_until_it_is_released():
    """One tensor of this picture in float32 takes 67 MB, and the network has several."""
    run = engine(64)
    process = psutil.Process()
    run(np.zeros((1, 512, 512, 3), np.uint8))
    with_bytes = process.memory_info().rss
    run(np.zeros((1, 8, 8, 3), np.float32))
    assert process.memory_info().rss < with_bytes - 50e6
    result = run(np.full((1, 512, 512, 3), 7, np.uint8))
    before = process.memory_info().rss
    run.release()
    assert process.memory_info().rss < before - 50e6
    assert np.array_equal(run(np.full((1, 512, 512, 3), 7, np.uint8)), result)


@pytest.mark.parametrize('call', [(ov.Core, 'compile_model'), (ov.InferRequest, 'infer')])
@pytest.mark.parametrize(('message', 'kind', 'expected'), [
    ('std::bad_alloc\n\n', MemoryError, 'openvino, cpu, float32: Exception from src/core.cpp: std::bad_alloc'),
    ('Check failed', RuntimeError, 'Exception from src/core.cpp:\nCheck failed')])
def test_out_of_memory_is_a_memory_error_in_one_line(monkeypatch, call, message, kind, expected):
    def fail(*_, **__):
        raise RuntimeError(f'Exception from src/core.cpp:\n{message}')
    run = engine()
    monkeypatch.setattr(*call, fail)
    with pytest.raises(kind) as caught:
        run(np.zeros((1, 4, 4, 3), np.uint8))
    assert str(caught.value) == expected


def test_threads_reach_the_compiled_model(monkeypatch):
    seen = []
    compile_model = ov.Core.compile_model
    monkeypatch.setattr(ov.Core, 'compile_model',
                        lambda self, model, device, settings: seen.append(settings) or compile_model(
                            self, model, device, settings))
    before = torch.get_num_threads()
    try:
        for threads in (1, None):
            network = SRVGGNetCompactConfig(4, 8, 2).build()
            make_engine(network, CPU, half=False, name='openvino', threads=threads)(np.zeros((1, 4, 4, 3), np.uint8))
    finally:
        torch.set_num_threads(before)
    assert [settings.get('INFERENCE_NUM_THREADS') for settings in seen] == [1, None]
