"""Look at what was uploaded before it costs anything: what kind of file it is, and how large."""
from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ..errors import ImageError, MediaError, RealESRGANError
from ..ffmpeg.probe import probe
from ..ffmpeg.programs import find_ffmpeg
from ..pictures import formats, pillow
from .settings import Settings

#: Containers of videos by the bytes that they begin with, and where. Playlists and descriptions of streams, which make
#: ffmpeg open other files and addresses, are text and not among them.
_CONTAINERS = {
    b'ftyp': 4, b'moov': 4, b'mdat': 4, b'free': 4, b'skip': 4, b'wide': 4,  # MP4, QuickTime
    b'\x1aE\xdf\xa3': 0,  # Matroska, WebM
    b'RIFF': 0, b'FLV\x01': 0, b'\x00\x00\x01\xba': 0, b'\x00\x00\x01\xb3': 0,  # MPEG program streams and video
    b'0&\xb2u\x8ef\xcf\x11': 0, b'OggS': 0}  # ASF
_PICTURE_BRANDS = b'avif', b'avis', b'mif1', b'msf1', b'heic', b'heix'  # of files that begin as an MP4 does
# How XML and playlists begin. Behind a comment of XML, `<!--free-->`, a DASH manifest would look like a QuickTime file,
# and ffmpeg would open the files of this machine that it names.
_TEXTS = b'<', b'#', b'ffconcat'
_TRANSPORT_PACKETS = 188, 192  # bytes; those of 192 begin with a time stamp
_MOST_RATE = 240  # frames a second
_NETWORK_SCALE = 4  # the largest of the models


class UnknownFileError(RealESRGANError):
    """What was uploaded is neither a picture nor a video."""

    def __init__(self, message: str = 'this is no picture and no video that can be read') -> None:
        super().__init__(message)


class TooLargeError(RealESRGANError):
    """What was uploaded has too many pixels, or lasts too long."""


def is_video(upload: Path, settings: Settings, scale: float | None = None) -> bool:
    """Return whether an upload is a video; else it is a picture.

    Args:
        upload: The file.
        settings: What is allowed.
        scale: Final size that is asked for, as a multiple of the upload's; one that is larger than the networks' leaves
            room for fewer pixels.

    Raises:
        UnknownFileError: it is neither, or too damaged to tell.
        TooLargeError: it is larger or longer than the settings allow.
    """
    most = int(settings.max_pixels * min((_NETWORK_SCALE / (scale or 1)) ** 2, 1))
    if _is_container(upload):
        _require_short(upload, settings, most)
        return True
    try:
        image = pillow.open_image(upload)
    except ImageError as error:
        row = formats.find_by_content(None, pillow.read_head(upload))
        if row is not None and row.refused:
            raise UnknownFileError(str(error)) from None
        image = None
    if image is None:
        raise UnknownFileError
    with image:
        _require_few_pixels(image.width, image.height, most)
    return False


def _is_container(upload: Path) -> bool:
    with upload.open('rb') as file:
        beginning = file.read(2 * max(_TRANSPORT_PACKETS))
    text = beginning.removeprefix(b'\xef\xbb\xbf').lstrip()
    if text.startswith(_TEXTS) or (beginning[4:8] == b'ftyp' and beginning[8:12] in _PICTURE_BRANDS) or (
            beginning.startswith(b'RIFF') and beginning[8:12] != b'AVI '):
        return False
    return any(beginning[start:].startswith(magic) for magic, start in _CONTAINERS.items()) or any(
        beginning[size - 188:size - 187] == beginning[2 * size - 188:2 * size - 187] == b'G'
        for size in _TRANSPORT_PACKETS)


def _require_few_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise TooLargeError(f'it has {width}x{height} pixels; allowed are {most}')


def _require_short(upload: Path, settings: Settings, most: int) -> None:
    try:
        video = (info := probe(find_ffmpeg('ffmpeg'), str(upload))).video
    except MediaError:
        raise UnknownFileError from None
    if video is None:
        raise UnknownFileError('this file has no video')
    _require_few_pixels(video.width, video.height, most)
    seconds = max(video.duration or Fraction(0), info.duration or Fraction(0))
    frames = video.promised_frames or 0
    if seconds > settings.max_seconds:
        raise TooLargeError(f'it lasts {float(seconds):.0f} seconds; allowed are {settings.max_seconds:g}')
    if frames > settings.max_seconds * _MOST_RATE:
        raise TooLargeError(f'it has {frames} frames; allowed are {settings.max_seconds:g} seconds')
