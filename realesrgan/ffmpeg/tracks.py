"""Which tracks a container takes as they are, which are converted for it, and which it can't hold."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .probe import Track

_PCM_OF_MATROSKA = ('pcm_s16le', 'pcm_s16be', 'pcm_s24le', 'pcm_s24be', 'pcm_s32le', 'pcm_s32be', 'pcm_u8',
                    'pcm_f32le', 'pcm_f64le')
_PCM_OF_QUICKTIME = (*_PCM_OF_MATROSKA, 'pcm_f32be', 'pcm_f64be', 'pcm_s8', 'pcm_alaw', 'pcm_mulaw')
_TEXT_SUBTITLES = ('subrip', 'srt', 'ass', 'ssa', 'webvtt', 'mov_text', 'text', 'microdvd', 'subviewer', 'subviewer1',
                   'sami', 'realtext', 'mpl2', 'vplayer', 'jacosub', 'pjs', 'stl', 'ttml')


@dataclass(frozen=True)
class Container:
    """What a container holds, by ffmpeg's names of codecs.

    Attributes:
        audio: Copied.
        other_audio: The encoder for the rest.
        subtitles: Copied.
        text_subtitles: The encoder for other subtitles of text; those that are pictures are left out.
        covers: Pictures that it takes as cover; empty for none.
        attachments: Whether it holds other files.
    """

    audio: frozenset[str]
    other_audio: str
    subtitles: frozenset[str]
    text_subtitles: str
    covers: frozenset[str] = frozenset()
    attachments: bool = False


_MP4_AUDIO = ('aac', 'mp3', 'mp2', 'ac3', 'eac3', 'alac', 'opus', 'flac', 'dts', 'truehd')
CONTAINERS = {
    'mp4': Container(frozenset(_MP4_AUDIO), 'aac', frozenset(('mov_text',)), 'mov_text',
                     covers=frozenset(('mjpeg', 'png', 'bmp'))),
    'mov': Container(frozenset(('aac', 'mp3', 'mp2', 'ac3', 'eac3', 'alac', *_PCM_OF_QUICKTIME)), 'aac',
                     frozenset(('mov_text',)), 'mov_text', covers=frozenset(('mjpeg', 'png', 'bmp'))),
    'mkv': Container(frozenset((*_MP4_AUDIO, 'mp1', 'vorbis', 'wmav1', 'wmav2', 'wmapro', 'tta', 'wavpack', 'mlp',
                                'adpcm_ms', 'adpcm_ima_wav', *_PCM_OF_MATROSKA)), 'aac',
                     frozenset(('subrip', 'ass', 'ssa', 'webvtt', 'hdmv_pgs_subtitle', 'dvd_subtitle', 'dvb_subtitle',
                                'hdmv_text_subtitle')), 'subrip',
                     covers=frozenset(('mjpeg', 'png', 'bmp', 'gif', 'webp')), attachments=True),
    'webm': Container(frozenset(('opus', 'vorbis')), 'libopus', frozenset(('webvtt',)), 'webvtt'),
}


@dataclass(frozen=True)
class Carried:
    """A track that goes into the result, with the encoder it goes through: 'copy', or a codec's."""

    track: Track
    encoder: str


@dataclass(frozen=True)
class Plan:
    """What becomes of the tracks beside the video.

    Attributes:
        carried: Audio, subtitles and attachments, in the order of the input.
        covers: Pictures, which each container takes in its own way.
        lines: What is converted or left out, for people.
    """

    carried: tuple[Carried, ...]
    covers: tuple[Track, ...]
    lines: tuple[str, ...]


def plan_tracks(tracks: Sequence[Track], container: str) -> Plan:
    """Decide for each track whether it is copied, converted or left out.

    Args:
        tracks: All but the video that is upscaled.
        container: A key of `CONTAINERS`.
    """
    carried, covers, lines = [], [], []
    for track in tracks:
        encoder = _encoder(track, CONTAINERS[container])
        if encoder is None:
            lines.append(f'{track} is left out: {_why_not(track, container)}')
        elif track.is_cover:
            covers.append(track)
        else:
            carried.append(Carried(track, encoder))
            if encoder != 'copy':
                lines.append(f'{track} is converted to {encoder}, for {container} does not hold it')
    return Plan(tuple(carried), tuple(covers), tuple(lines))


def _encoder(track: Track, container: Container) -> str | None:
    """Return 'copy', the encoder to convert with, or None where the container can't hold the track."""
    if track.is_cover:
        return 'copy' if track.codec in container.covers else None
    if track.kind == 'audio' and track.codec != 'unknown':
        return 'copy' if track.codec in container.audio else container.other_audio
    if track.kind == 'subtitle':
        if track.codec in container.subtitles:
            return 'copy'
        return container.text_subtitles if track.codec in _TEXT_SUBTITLES else None
    return 'copy' if track.kind == 'attachment' and container.attachments else None


def _why_not(track: Track, container: str) -> str:
    if track.kind == 'video' and not track.is_cover:
        return 'one video track is upscaled'
    if track.kind == 'subtitle':
        return f'{container} holds no subtitles that are pictures' if track.codec != 'eia_608' else (
            'closed captions are not carried')
    return f'{container} does not hold it'
