"""How audio, subtitles, covers and attachments are carried over: copied, converted or left out."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .containers import CONTAINERS, Container
from .probe import Track

_TEXT_SUBTITLES = ('subrip', 'srt', 'ass', 'ssa', 'webvtt', 'mov_text', 'text', 'microdvd', 'subviewer', 'subviewer1',
                   'sami', 'realtext', 'mpl2', 'vplayer', 'jacosub', 'pjs', 'stl', 'ttml')
#: QuickTime's tracks of a time code and of chapters. ffmpeg makes a tag and chapters of them, and such tracks of those.
_CARRIED_OTHERWISE = ('tmcd', 'text')
_PICTURE_SUBTITLES = ('hdmv_pgs_subtitle', 'dvd_subtitle', 'dvb_subtitle', 'xsub')


@dataclass(frozen=True)
class CarriedTrack:
    """A track that goes into the result, and its encoder: 'copy', or ffmpeg's name of one."""

    track: Track
    encoder: str


@dataclass(frozen=True)
class TrackPlan:
    """What happens to the tracks other than the video.

    Attributes:
        carried: Audio, subtitles and attachments, in the order of the input.
        covers: Cover pictures. They are kept apart because containers store them in different ways.
        notes: One line for people about each track that is converted or left out.
    """

    carried: tuple[CarriedTrack, ...]
    covers: tuple[Track, ...]
    notes: tuple[str, ...]


def plan_tracks(tracks: Sequence[Track], container: str) -> TrackPlan:
    """Decide for each track whether it is copied, converted or left out.

    Args:
        tracks: All tracks but the video that is upscaled.
        container: A key of `CONTAINERS`.
    """
    carried, covers, notes = [], [], []
    for track in tracks:
        encoder = _choose_encoder(track, CONTAINERS[container])
        if track.kind == 'data' and track.codec in _CARRIED_OTHERWISE:
            continue
        if encoder is None:
            notes.append(f'{track} is left out: {_explain_omission(track, container)}')
        elif track.is_cover:
            covers.append(track)
        else:
            carried.append(CarriedTrack(track, encoder))
            if encoder != 'copy':
                notes.append(f'{track} is converted to {encoder} because {container} does not hold it')
    return TrackPlan(tuple(carried), tuple(covers), tuple(notes))


def _choose_encoder(track: Track, container: Container) -> str | None:
    """Return 'copy', the encoder to convert with, or None if the container can't hold the track."""
    if track.is_cover:
        return 'copy' if track.codec in container.covers else None
    if track.kind == 'audio' and track.codec != 'unknown':
        return 'copy' if track.codec in container.audio else container.audio_encoder
    if track.kind == 'subtitle':
        if track.codec in container.subtitles:
            return 'copy'
        return container.subtitle_encoder if track.codec in _TEXT_SUBTITLES else None
    return 'copy' if track.kind == 'attachment' and container.attachments else None


def _explain_omission(track: Track, container: str) -> str:
    if track.kind == 'video' and not track.is_cover:
        return 'only one video track is upscaled'
    if track.kind == 'data':
        return 'data tracks are not carried'
    if track.kind in ('audio', 'subtitle') and track.codec == 'unknown':
        return 'this ffmpeg does not know its codec; a newer one may'
    if track.codec == 'eia_608':
        return 'closed captions are not carried'
    if track.codec in _PICTURE_SUBTITLES:
        return f'{container} does not hold subtitles that are pictures'
    if track.kind == 'subtitle':
        return f'{container} does not hold it, and ffmpeg can\'t convert it'
    return f'{container} does not hold it'
