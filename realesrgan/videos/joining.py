"""Join the parts of a video, with the tracks of its source, to the result."""
from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import MediaError, MediaWriteError
from ..ffmpeg.containers import Track
from ..ffmpeg.mux import join, mux, write_list
from ..ffmpeg.probe import probe
from ..ffmpeg.programs import Check, FFmpeg
from ..files import errors_naming, temporary_folder, write_through
from .chunks import Upscaled
from .disk import check_room
from .parts import LIST, TRACKS, Parts
from .plan import VideoPlan
from .source import Source


def join_parts(source: Source, parts: Parts, done: Sequence[Upscaled], container: str, target: Path,
               check: Check) -> list[str]:
    """Write the result, whole or not at all, and return what it lacks, a line each.

    Args:
        source: The source of the video, whose other tracks go with it.
        parts: The folder of parts.
        done: The result for each chunk, in order.
        container: A key of `CONTAINERS`.
        target: The file of the result.
        check: Called several times a second meanwhile; what it raises ends ffmpeg.

    Raises:
        DiskFullError: the disk has too little room.
        MediaError: ffmpeg failed.
        OSError: the result can't be written.
    """
    files = [(parts.path(part.first), part.frames) for upscaled in done for part in upscaled.parts]
    check_room(parts.folder, sum(path.stat().st_size for path, _ in files),
               f'{target.name}, which the parts are joined to')
    video, plan = parts.folder / LIST, source.plan
    write_list(video, files, source.encoding.rate)
    recorded = parts.folder / TRACKS if (parts.folder / TRACKS).exists() else None
    with temporary_folder(parts.folder / 'whole') as folder:
        whole, problems = folder / f'whole{target.suffix}', []
        if plan is None or (plan.info.is_stream and recorded is None):  # there are no other tracks
            join(source.ffmpeg, video, whole, container, check)
        else:
            problems = _join_with_tracks(source.ffmpeg, plan, recorded, container, check, video, whole)
        with errors_naming(target, whole):
            write_through(whole)  # before the parts go
            whole.replace(target)
    return problems


def _join_with_tracks(ffmpeg: FFmpeg, plan: VideoPlan, recorded: Path | None, container: str, check: Check, video: Path,
                      whole: Path) -> list[str]:
    """Join the parts with the tracks of the source. Tracks that can't be carried are left out.

    Args:
        ffmpeg: The programs.
        plan: How the source was read.
        recorded: Tracks of a source that can be read once only, recorded while it was decoded; None for other sources.
        container, check: See `join_parts`.
        video: The list of the parts.
        whole: The file to write.
    """
    source, start = plan.info, plan.video_start

    def carry(tracks: Sequence[Track]) -> MediaError | None:
        """Join the parts with some of the tracks; return what went wrong."""
        try:
            mux(ffmpeg, video, replace(source, tracks=tuple(tracks)), whole, container, video_start=start,
                cut=plan.cut, tags_of=plan.video, leave_gaps=plan.stamps is not None, check=check)
        except MediaWriteError:
            raise
        except MediaError as error:
            return error
        return None

    error: MediaError | None = None
    if recorded is not None:
        try:
            source = probe(ffmpeg, str(recorded))
            start -= source.start  # the recording keeps the clock of the pass that made it
        except MediaError as failure:
            source, error = replace(source, tracks=()), failure
    error = error or carry(source.tracks)
    if error is None:
        return []
    errors = {track: carry([track]) for track in source.tracks}  # which of them is it?
    kept = [track for track, failure in errors.items() if failure is None]
    if kept and carry(kept) is None:
        return [f'{plan.info.source}: {track} could not be carried and is left out: {failure}'
                for track, failure in errors.items() if failure is not None]
    with contextlib.suppress(FileNotFoundError):
        whole.unlink()
    join(ffmpeg, video, whole, container, check)
    return [f'{plan.info.source}: its other tracks could not be carried, the video alone is kept: {error}']
