"""Pictures made for tests, and files of them written by other programs than the one under test."""
from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms

CASES = Path(__file__).parent.parent / 'data/cases'
EXIF_IFD, GPS_IFD, ORIENTATION = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.Base.Orientation
MAKE, DESCRIPTION = ExifTags.Base.Make, ExifTags.Base.ImageDescription
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>{}</a></x:xmpmeta>'


# ---- pixels ----

def make_noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def write_noise(path, *shape, dtype=np.uint8, seed=0):
    """Write a picture of noise, and return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = make_noise(*shape, dtype=dtype, seed=seed)
    assert cv2.imwrite(str(path), pixels)
    return pixels


def make_blocks(height=48, width=64, channels=3):
    """Return plain squares of 16 pixels, which JPEG keeps almost exactly."""
    return np.kron(make_noise(height // 16, width // 16, channels), np.ones((16, 16, 1), np.uint8))


def swap_red_blue(pixels):
    """Turn BGR into RGB and back, with or without alpha; gray stays as it is."""
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][:pixels.shape[2]]]
    return np.ascontiguousarray(pixels)


def store_turned(upright, orientation):
    """Arrange pixels so that the EXIF orientation shows them upright."""
    return np.ascontiguousarray({
        1: lambda: upright,
        2: lambda: upright[:, ::-1],
        3: lambda: upright[::-1, ::-1],
        4: lambda: upright[::-1],
        5: lambda: upright.swapaxes(0, 1),
        6: lambda: np.rot90(upright),
        7: lambda: upright[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(upright, -1),
    }[orientation]())


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


# ---- files ----

def save_by_pillow(image, kind, **options):
    """Return the file of a Pillow image, or of BGR pixels."""
    file = io.BytesIO()
    (Image.fromarray(swap_red_blue(image)) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def save_by_opencv(pixels, extension, *settings):
    done, buffer = cv2.imencode(f'.{extension}', pixels, settings)
    assert done
    return buffer.tobytes()


def save_by_tifffile(samples, **options):
    """Return a TIFF of samples in the order of the file, which for colours is RGB or RGBA."""
    if samples.ndim == 3:
        options = {'photometric': 'rgb'} | options
    if samples.ndim == 3 and samples.shape[2] == 4:
        options = {'extrasamples': ['unassalpha']} | options
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, software=False, **options)
    return file.getvalue()


def build_png(width, height, depth, colour, stream, *chunks):
    """Return a PNG of compressed rows, with extra chunks (kind, content) before them; without a stream, no IDAT."""
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    body = [(b'IHDR', header), *chunks, *([(b'IDAT', stream)] if stream else []), (b'IEND', b'')]
    return join_chunks(body)


def build_icon(pictures, stated_bits=32):
    """Return a Windows icon of HxWx4 pictures (BGRA), each as a BMP of 32 bits with an empty mask of one bit."""
    table, body = b'', b''
    for picture in pictures:
        height, width = picture.shape[:2]
        bmp = struct.pack('<IiiHH24x', 40, width, 2 * height, 1, 32) + picture[::-1].tobytes()
        bmp += bytes(-(-width // 32) * 4 * height)
        table += struct.pack('<4BHHII', width % 256, height % 256, 0, 0, 1, stated_bits, len(bmp),
                             6 + 16 * len(pictures) + len(body))
        body += bmp
    return struct.pack('<3H', 0, 1, len(pictures)) + table + body


def build_tiff_with_preview(photometric):
    """Return a TIFF whose first directory holds a preview, and the one below it a picture of this kind."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(make_noise(6, 8, 3), photometric='rgb', subifds=1, metadata=None)
        shape = (24, 32, 3) if photometric == 'linear_raw' else (24, 32)
        writer.write(make_noise(*shape, dtype=np.uint16), photometric=photometric, metadata=None)
    return file.getvalue()


def build_palette_dds(indices, palette):
    """Return a DDS of HxW indices and 256 colours in RGBA."""
    height, width = indices.shape
    header = struct.pack('<7I44x8I20x', 124, 0x1007, height, width, width, 0, 0, 32, 0x20, 0, 8, 0, 0, 0, 0)
    return b'DDS ' + header + palette.tobytes() + indices.tobytes()


def build_palette_tiff(indices, bits, colours, extra=None):
    """Return a TIFF of HxW indices, with Cx3 colours of 16 bits; with an extra channel, its kind and 8-bit values."""
    height, width = indices.shape
    channels = [indices] if extra is None else [indices, extra[1]]
    samples = np.dstack(channels).astype(np.uint8).reshape(height, -1)
    rows = np.unpackbits(samples[..., None], axis=2)[..., 8 - bits:].reshape(height, -1)
    strip, colour_map = np.packbits(rows, axis=1).tobytes(), colours.T.astype('<u2').tobytes()
    tags = {256: [width], 257: [height], 258: [bits] * len(channels), 259: [1], 262: [3], 273: [8],
            277: [len(channels)], 278: [height], 279: [len(strip)], 320: [8 + len(strip)]}
    if extra is not None:
        tags[338] = [extra[0]]
    entries = b''.join(
        struct.pack('<HHII', tag, 3, 3 * len(colours), values[0]) if tag == 320 else
        struct.pack('<HHI', tag, 3, len(values)) + struct.pack(f'<{len(values)}H', *values).ljust(4, b'\0')
        for tag, values in tags.items())
    directory = 8 + len(strip) + len(colour_map)
    return (b'II*\0' + struct.pack('<I', directory) + strip + colour_map + struct.pack('<H', len(tags)) + entries
            + bytes(4))


def compress_rows(samples):
    """Compress rows of samples as PNG holds them: big-endian and unfiltered."""
    rows = samples.astype(samples.dtype.newbyteorder('>'))
    return zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))


def read_by_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def read_by_pillow(data, mode):
    """Return pixels in BGR."""
    return swap_red_blue(np.array(Image.open(io.BytesIO(data)).convert(mode)))


# ---- metadata ----

def build_icc(device_class, space, pcs, **tags):
    offset, table, body = 128 + 4 + 12 * len(tags), b'', b''
    for name, content in tags.items():
        table += struct.pack('>4sII', name.encode(), offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    rest = struct.pack('>I', len(tags)) + table + body
    header = struct.pack('>I4sI4s4s4s12s4s28sIII4s44s', 128 + len(rest), b'', 0x02400000, device_class, space, pcs,
                         struct.pack('>6H', 2020, 1, 1, 0, 0, 0), b'acsp', b'', 0xF6D6, 0x10000, 0xD32D, b'', b'')
    return header + rest


def build_gray_icc():
    return build_icc(b'mntr', b'GRAY', b'XYZ ', wtpt=struct.pack('>4s4x3I', b'XYZ ', 0xF6D6, 0x10000, 0xD32D),
                     kTRC=struct.pack('>4s4xI', b'curv', 0))


def build_red_paper_icc():
    """Return a printer's profile under which every colour without black ink looks like the red of sRGB."""
    ramp, red, black = bytes(range(256)), bytes((138, 209, 198)), bytes((0, 128, 128))  # Lab
    table = struct.pack('>4s4x4B9i', b'mft1', 4, 3, 2, 0, *(np.eye(3, dtype=int) << 16).ravel().tolist())
    return build_icc(b'prtr', b'CMYK', b'Lab ', A2B0=table + 4 * ramp + 8 * (red + black) + 3 * ramp)


def list_chunks(data):
    """Return the chunks (kind, content) of a PNG."""
    chunks, position = [], 8
    while position < len(data):
        size, kind = struct.unpack_from('>I4s', data, position)
        chunks.append((kind, data[position + 8:position + 8 + size]))
        position += 12 + size
    return chunks


def join_chunks(chunks):
    """Return a PNG of chunks (kind, content)."""
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
        for kind, content in chunks)


def build_raw_profile(name, content):
    """Return a chunk of PNG with a profile as ImageMagick keeps it."""
    digits = content.hex()
    lines = '\n'.join(digits[start:start + 72] for start in range(0, len(digits), 72))
    text = f'\n{name}\n{len(content):8}\n{lines}\n'
    return b'zTXt', f'Raw profile type {name}\0\0'.encode() + zlib.compress(text.encode())


def make_exif(orientation=None):
    """Return EXIF with tags in the main directory, the Exif directory and the GPS directory."""
    tags = Image.Exif()
    tags[MAKE] = 'Maker'
    tags.get_ifd(EXIF_IFD).update({ExifTags.Base.DateTimeOriginal: '2020:01:02 03:04:05',
                                   ExifTags.Base.ExposureTime: (1, 125)})
    tags.get_ifd(GPS_IFD).update({ExifTags.GPS.GPSLatitudeRef: 'N', ExifTags.GPS.GPSLatitude: (48.0, 51.0, 29.5)})
    if orientation:
        tags[ORIENTATION] = orientation
    return tags


def build_one_tag(tag, kind, count, value, rest=b''):
    """Return EXIF of one entry made by hand; its value is at offset 26 where it has more than four bytes."""
    return b'Exif\0\0MM\0*' + struct.pack('>IHHHI4s4x', 8, 1, tag, kind, count, value) + rest


def read_exif(data):
    """Return the tags of the three directories in a file."""
    tags = Image.open(io.BytesIO(data)).getexif()
    return dict(tags), tags.get_ifd(EXIF_IFD), tags.get_ifd(GPS_IFD)
