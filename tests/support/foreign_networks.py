"""Small networks of spandrel's own classes, with random weights, for tests."""
from __future__ import annotations

import torch
from spandrel.architectures import ATD, DAT, ESRGAN, HAT, PLKSR, SPAN, Compact, DnCNN, LaMa, OmniSR, SCUNet, SwinIR

_SWIN = {'img_size': 16, 'window_size': 8, 'depths': [2], 'embed_dim': 24, 'num_heads': [2]}

#: How each is built, by a name that says its scale.
NETWORKS = {
    'SwinIR-x4': lambda: SwinIR.SwinIR(upscale=4, upsampler='pixelshuffle', **_SWIN),
    'SwinIR-x3': lambda: SwinIR.SwinIR(upscale=3, upsampler='pixelshuffledirect', **_SWIN),
    'HAT-x2': lambda: HAT.HAT(**_SWIN | {'window_size': 16}, upscale=2, upsampler='pixelshuffle', compress_ratio=3,
                              squeeze_factor=6),
    'DAT-x4': lambda: DAT.DAT(img_size=16, embed_dim=24, split_size=[4, 8], depth=[2], num_heads=[2],
                              expansion_factor=2, upscale=4),
    'OmniSR-x2': lambda: OmniSR.OmniSR(num_feat=16, block_num=1, up_scale=2, window_size=8, res_num=1),
    'SPAN-x4': lambda: SPAN.SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=4),
    'ATD-x4': lambda: ATD.ATD(upscale=4, upsampler='pixelshuffle', embed_dim=24, depths=[2], num_heads=[2],
                              window_size=8, category_size=16, num_tokens=16, reducted_dim=4),
    'RealPLKSR-x4': lambda: PLKSR.RealPLKSR(dim=16, n_blocks=2, upscaling_factor=4, kernel_size=17),
    'SCUNet-x1': lambda: SCUNet.SCUNet(config=[1] * 7, dim=64),  # needs multiples of 64
    'Compact-x8': lambda: Compact.Compact(num_feat=16, num_conv=2, upscale=8),
    'ESRGAN-x1': lambda: ESRGAN.ESRGAN(num_filters=8, num_blocks=1, scale=1),
    'ESRGAN-x2': lambda: ESRGAN.ESRGAN(num_filters=8, num_blocks=1, scale=2),
    'ESRGAN-x16': lambda: ESRGAN.ESRGAN(num_filters=8, num_blocks=1, scale=16),
}

#: Networks that can't be used, and why.
OTHERS = {
    'gray': (lambda: DnCNN.DnCNN(in_nc=1, out_nc=1, nc=8, nb=4),
             'it is a DnCNN network that maps 1 channels to 1; only those that map RGB to RGB can be used'),
    'LaMa': (LaMa.LaMa,
             'it is a LaMa network, which fills holes; only networks that take one picture and enlarge or restore it '
             'can be used'),
}


def state_dict_of(build, seed=0):
    """Return a network's random weights, the same at every call."""
    torch.manual_seed(seed)
    return {name: tensor.contiguous() for name, tensor in build().eval().state_dict().items()}
