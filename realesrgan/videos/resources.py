"""What the videos of a run have in common, made once, when the first of them needs it."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path

from ..log import about
from ..options import VideoOptions
from ..workers.enhancers import (
    Enhancer,
    EnhancerCache,
    build_enhancer,
    find_outscale,
    prefetch_weights,
    prepare_faces,
    require_gpus,
)
from ..workers.options import list_places
from ..workers.pool import Pool, make_pool
from ..workers.remote_pool import RemotePool
from .inputs import VideoInput


class Resources:
    """Workers, and what they work with; workers live until the stack ends.

    Args:
        options: The caller's.
        output: Folder for the results.
        videos: Those that are upscaled.
        ffmpeg_version: Of this machine.
        check: Called while workers work; what it raises ends them.
        stack: Ends them too.
        enhancers: Upsamplers of earlier calls, or None.

    Attributes:
        places: Where workers compute, without a cluster.
    """

    def __init__(self, options: VideoOptions, output: Path, videos: Sequence[VideoInput],
                 ffmpeg_version: tuple[int, int], check: Callable[[], None], stack: ExitStack,
                 enhancers: EnhancerCache | None) -> None:
        self._options = options
        self._output = output
        self._videos = videos
        self._ffmpeg_version = ffmpeg_version
        self._check = check
        self._stack = stack
        self._enhancers = enhancers
        self.places = list_places(options.gpu_id, options.num_process_per_gpu)

    @cached_property
    def outscale(self) -> float:
        """The final size that the caller asked for, or that of the model."""
        if self._options.outscale is not None:
            return self._options.outscale
        with about(''):
            return find_outscale(self._options)

    @cached_property
    def weights(self) -> str:
        """The fingerprint of the weights, which are fetched once for all workers."""
        from ..weights.sources import fingerprint
        options = self._options
        with about(''):  # all videos, not the first
            prepare_faces(options)
            prefetch_weights(options)
        return fingerprint(options.model_name, options.model_path, options.denoise_strength)

    @cached_property
    def pool(self) -> Pool:
        """The workers, `ChunkWorker` each."""
        if self._options.cluster is not None:
            return self._open_cluster()
        from ..engines.choice import list_gpus
        from .worker import ChunkWorker
        require_gpus(self._options.gpu_id, self._options.engine)
        build = partial(ChunkWorker.build, self._options.upsampler,
                        build=self._enhancers.build if self._enhancers else build_enhancer)
        places = self.places[:1] if self._enhancers else self.places
        isolate = self._enhancers is None and bool(list_gpus(self._options.engine))
        return self._stack.enter_context(make_pool(build, places, self._check, isolate=isolate))

    @cached_property
    def enhancer(self) -> Enhancer:
        """An upsampler in this process, for a dry run."""
        with about(''):
            return build_enhancer(self._options, self.places[0])

    def find_shareable_pool(self) -> RemotePool | None:
        """Return the pool if several videos may share it; what all of them need is made first, in this thread."""
        if self._options.dry_run or self._enhancers is not None:
            return None
        _ = self.outscale, self.weights
        return self.pool if isinstance(self.pool, RemotePool) else None

    def _open_cluster(self) -> Pool:
        """Return a pool on the nodes of a cluster, which find their own ffmpeg."""
        from ..workers.cluster import open_cluster
        from .worker import ChunkWorker, explain_other_ffmpeg
        options = self._options
        files = [path for video in self._videos for path in video.frames or [Path(video.source)] if path.is_file()]
        cluster = self._stack.enter_context(open_cluster(
            options, files, self._output, partial(explain_other_ffmpeg, options.ffmpeg_bin, self._ffmpeg_version),
            options.num_process_per_gpu))
        build = partial(ChunkWorker.build, options.upsampler, ffmpeg=options.ffmpeg_bin)
        return self._stack.enter_context(cluster.make_pool(build, options, self._check))
