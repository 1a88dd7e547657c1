"""Reading ncnn pairs written here: fp16 and fp32 values, padding, and files that do not fit."""
from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from realesrgan.errors import NcnnFormatError
from realesrgan.weights.ncnn import read_tensors

FP16 = struct.pack('<I', 0x01306B47)
FP32 = struct.pack('<I', 0)
INPUT = 'Input data 0 1 data'
CONV_1X1 = 'Convolution conv 1 1 data out 0=1 1=1 4=0 5=1 6=3'  # 3 channels to 1, with a bias


def floats(*values):
    return np.array(values, '<f4').tobytes()


def halves(*values):
    """fp16 values, padded to a multiple of four bytes."""
    data = np.array(values, '<f2').tobytes()
    return FP16 + data + b'\xAA' * (-len(data) % 4)


def write(folder, layers, data):
    param, binary = folder / 'net.param', folder / 'net.bin'
    param.write_text('\n'.join(['7767517', f'{len(layers)} {len(layers)}', *layers]) + '\n')
    binary.write_bytes(data)
    return param, binary


def read(folder, layers, data):
    return read_tensors(*write(folder, layers, data))


def test_fp32_convolution_in_the_order_of_the_file(tmp_path):
    weight = np.arange(2 * 3 * 2 * 2, dtype=np.float32) - 7
    weight_read, bias = read(tmp_path, [INPUT, 'Convolution c 1 1 data out 0=2 1=2 4=0 5=1 6=24 9=2 -23310=1,2.0e-01'],
                             FP32 + weight.tobytes() + floats(0.25, -0.5))
    assert weight_read.dtype == bias.dtype == np.float32
    assert np.array_equal(weight_read, weight.reshape(2, 3, 2, 2))
    assert bias.tolist() == [0.25, -0.5]


@pytest.mark.parametrize(('stored', 'centred'), [
    (1, 1 + 2 ** -11),  # fp16 has 10 bits of fraction: the next after 1 is 1 + 2^-10
    (-1, -1 - 2 ** -11),
    (1.5, 1.5 + 2 ** -11),
    (-2, -2 - 2 ** -10),
    (0.25, 0.25 + 2 ** -13),
    (2 - 2 ** -10, 2 - 2 ** -11),  # the next is in the next binade
    (2 ** -24, 1.5 * 2 ** -24),  # the smallest subnormal
    (0, 2 ** -25),
    (-0., -2 ** -25),
])
def test_fp16_weight_becomes_the_middle_to_the_next_away_from_zero(tmp_path, stored, centred):
    weight, bias = read(tmp_path, [CONV_1X1], halves(stored, 3, stored) + floats(1))
    assert weight.dtype == np.float32
    assert weight.flatten().tolist() == [centred, 3 + 2 ** -10, centred]
    assert bias.tolist() == [1]  # biases are fp32 and stay


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5])
def test_fp16_weights_are_padded_to_four_bytes(tmp_path, count):
    weight, bias, slopes = read(
        tmp_path, [f'Convolution c 1 1 data out 0=1 1=1 5=1 6={count}', 'PReLU p 1 1 out out2 0=2'],
        halves(*[1] * count) + floats(0.125) + floats(0.1, -0.2))
    assert weight.shape == (1, count, 1, 1)
    assert bias.tolist() == [0.125]
    assert slopes.tolist() == np.float32([0.1, -0.2]).tolist()


def test_convolution_without_a_bias(tmp_path):
    weight, slopes = read(tmp_path, ['Convolution c 1 1 data out 0=2 1=1 6=2', 'PReLU p 1 1 out out2 0=1'],
                          FP32 + floats(5, 6) + floats(0.5))
    assert weight.flatten().tolist() == [5, 6]
    assert slopes.tolist() == [0.5]


def test_layers_without_weights_are_passed_over(tmp_path):
    layers = [INPUT, 'Split s 1 2 data a b', CONV_1X1, 'PixelShuffle u 1 1 out up 0=4',
              'Interp r 1 1 b big 0=1 1=4.0 2=4.0', 'BinaryOp add 2 1 up big sum', '']
    weight, bias = read(tmp_path, layers, FP32 + floats(1, 2, 3) + floats(4))
    assert weight.flatten().tolist() == [1, 2, 3]
    assert bias.tolist() == [4]


@pytest.mark.parametrize('missing', [1, 4, 5, 16, 17, 20])
def test_truncated_bin_is_an_error(tmp_path, missing):
    data = FP32 + floats(1, 2, 3) + floats(4)
    with pytest.raises(NcnnFormatError, match=rf'net\.bin: ends after {len(data) - missing} bytes'):
        read(tmp_path, [CONV_1X1], data[:-missing])


@pytest.mark.parametrize('extra', [1, 4])
def test_leftover_bytes_are_an_error(tmp_path, extra):
    with pytest.raises(NcnnFormatError, match=rf'net\.bin: {extra} bytes are left over'):
        read(tmp_path, [CONV_1X1], FP32 + floats(1, 2, 3) + floats(4) + bytes(extra))


def test_weights_of_another_kind_are_an_error(tmp_path):
    with pytest.raises(NcnnFormatError, match=r'net\.bin: weights of kind 0x000D4B38; only fp16 and fp32'):
        read(tmp_path, [CONV_1X1], struct.pack('<I', 0x000D4B38) + floats(1, 2, 3, 4))


def test_unknown_layer_is_an_error(tmp_path):
    with pytest.raises(NcnnFormatError, match=r'net\.param: layer fc is a InnerProduct, which is not supported'):
        read(tmp_path, [INPUT, 'InnerProduct fc 1 1 data out 0=1 1=1 2=3'], floats(1, 2, 3, 4))


@pytest.mark.parametrize('content', [b'', b'7767518\n1 1\n', b'\x85\xff\xfe\x00' * 8, b'<html>\n'],
                         ids=['empty', 'other version', 'binary', 'html'])
def test_param_without_the_magic_is_an_error(tmp_path, content):
    param, binary = write(tmp_path, [], b'')
    param.write_bytes(content)
    with pytest.raises(NcnnFormatError, match=r'net\.param: not an ncnn \.param file'):
        read_tensors(param, binary)


@pytest.mark.parametrize('layer', [
    'Convolution c 1 1 data out 1=1 5=1 6=3',
    'Convolution c 1 1 data out 0=2 1=1 5=1 6=3',
    'Convolution c 1 1 data out 0=x 1=1 5=1 6=3',
    'PReLU p 1 1 data out',
    'PReLU',
], ids=['no channels', 'size does not divide', 'no number', 'no slopes', 'no name'])
def test_layer_that_makes_no_sense_is_an_error_that_names_the_file(tmp_path, layer):
    with pytest.raises(NcnnFormatError, match=re.escape(str(tmp_path / 'net.'))):
        read(tmp_path, [layer], FP32 + floats(1, 2, 3) + floats(4, 5))


def test_missing_file_is_an_os_error(tmp_path):
    param, binary = write(tmp_path, [INPUT], b'')
    binary.unlink()
    with pytest.raises(FileNotFoundError):
        read_tensors(param, binary)
