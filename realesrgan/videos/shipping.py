"""Upscale chunks of a video that lies on another machine, as if it were here."""
from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..atomic_files import remove_leftovers, temporary_folder
from ..errors import VideoError, rename_files, replace_names
from ..workers.depot import DepotClient
from ..workers.pool import Report, Worker
from ..workers.range_server import RangeServer
from .chunks import Chunk, FrameFiles, Upscaled, VideoFrames

_PLAYLISTS = ('hls', 'dash', 'concat')  # ffmpeg's names of what names other files


class ShippingChunkWorker:
    """Gets what a chunk is made of from a depot, and takes its part there.

    Of a video only what ffmpeg reads is sent; frames of a folder are copied.

    Args:
        depot: Where the files are.
        worker: Upscales chunks whose files are here.
    """

    def __init__(self, depot: DepotClient, worker: Worker[Chunk, Upscaled]) -> None:
        self._depot = depot
        self._worker = worker
        self._server = RangeServer(depot)
        remove_leftovers(Path(tempfile.gettempdir()))  # of workers that were killed

    def __call__(self, chunk: Chunk, report: Report) -> Upscaled:
        """See `ChunkWorker`.

        Raises:
            VideoError: the source is more than a file that can be sent.
            ClusterError: the depot is gone.
        """
        homes: dict[str, str] = {}  # what files here are called there
        try:
            upscaled = self._upscale(chunk, report, homes)
        except Exception as error:
            rename_files(error, homes)
            raise
        if upscaled.damage is None:
            return upscaled
        return replace(upscaled, damage=replace(upscaled.damage, reason=replace_names(upscaled.damage.reason, homes)))

    def _upscale(self, chunk: Chunk, report: Report, homes: dict[str, str]) -> Upscaled:
        with temporary_folder(Path(tempfile.gettempdir()) / 'chunk') as folder:
            part = folder / chunk.part.name
            homes[str(part)] = str(chunk.part)
            with self._bring(chunk, folder, homes) as frames:
                upscaled = self._worker(replace(chunk, frames=frames, part=part), report)
            for suffix in ('.json', part.suffix):  # the note first, as `seal` does
                self._depot.store(part.with_suffix(suffix), chunk.part.with_suffix(suffix), str(chunk))
        return upscaled

    @contextlib.contextmanager
    def _bring(self, chunk: Chunk, folder: Path, homes: dict[str, str]) -> Iterator[VideoFrames | FrameFiles]:
        frames = chunk.frames
        if isinstance(frames, FrameFiles):
            files = tuple(folder / f'{number}{path.suffix}' for number, path in enumerate(frames.files))
            for path, target in zip(frames.files, files, strict=True):
                homes[str(target)] = str(path)
                self._depot.fetch(path, target)
            yield replace(frames, files=files)
            return
        if frames.also or frames.info.is_stream:
            raise VideoError('--ship_data needs a file: this can be read once only')
        if any(name in _PLAYLISTS for name in frames.info.format_name.split(',')):
            raise VideoError('--ship_data needs a file: this is a list of others')
        with self._server.serve(Path(frames.info.source)) as url:
            homes[url] = f'file:{frames.info.source}'
            yield replace(frames, info=replace(frames.info, source=url))
