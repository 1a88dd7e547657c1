"""Random networks, and what PyTorch makes of a batch; shared by the tests of engines."""
from __future__ import annotations

import numpy as np
import torch

from realesrgan.archs.rrdbnet import RRDBNetConfig


def random_network(config, seed=0):
    """A network of random weights, whose results fill the middle of the range."""
    torch.manual_seed(seed)
    network = config.build().requires_grad_(False)
    if isinstance(config, RRDBNetConfig):
        network.conv_last.weight *= 10
        network.conv_last.bias.fill_(0.5)
    return network


def reference(network, batch):
    """The network's result in 0..1, in float32."""
    pixels = batch if batch.dtype.kind == 'f' else batch / np.float32(np.iinfo(batch.dtype).max)
    with torch.inference_mode():
        result = network(torch.from_numpy(pixels[..., ::-1].copy()).permute(0, 3, 1, 2))
    return result.clamp(0, 1).permute(0, 2, 3, 1).numpy()[..., ::-1]
