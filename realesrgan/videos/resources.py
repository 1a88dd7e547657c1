"""What the videos of a run have in common, made once, when the first of them needs it."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path

from ..log import about
from ..workers.enhancers import (
    Enhancer,
    EnhancerCache,
    build_enhancer,
    find_outscale,
    prefetch_weights,
    prepare_faces,
    require_gpus,
)
from ..workers.options import ClusterOptions, FaceOptions, drop_faces_of_drawings, list_places
from ..workers.pool import Pool, make_pool
from ..workers.remote_pool import RemotePool
from .inputs import VideoInput
from .options import VideoOptions


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
        self.places = list_places(options.gpu_ids, options.workers_per_gpu)

    @cached_property
    def faces(self) -> FaceOptions | None:
        """How faces are restored, if they are."""
        with about(''):  # all videos, not the first
            faces = drop_faces_of_drawings(self._options.upsampler, self._options.faces)
        if faces is not None:
            prepare_faces(faces)
        return faces

    @cached_property
    def outscale(self) -> float:
        """The final size that the caller asked for, or that of the model."""
        if self._options.outscale is not None:
            return self._options.outscale
        with about(''):
            return find_outscale(self._options.upsampler)

    @cached_property
    def weights(self) -> str:
        """The fingerprint of the weights, which are fetched once for all workers."""
        from ..weights.sources import fingerprint
        upsampler = self._options.upsampler
        with about(''):
            prefetch_weights(upsampler)
        return fingerprint(upsampler.model_name, upsampler.model_path, upsampler.denoise_strength)

    @cached_property
    def pool(self) -> Pool:
        """The workers, `ChunkWorker` each."""
        if self._options.cluster is not None:
            return self._open_cluster(self._options.cluster)
        from ..engines.choice import list_gpus
        from .worker import ChunkWorker
        require_gpus(self._options.gpu_ids, self._options.upsampler.engine)
        build = partial(ChunkWorker.build, self._options.upsampler, self.faces,
                        build=self._enhancers.build if self._enhancers else build_enhancer)
        places = self.places[:1] if self._enhancers else self.places
        isolate = self._enhancers is None and bool(list_gpus(self._options.upsampler.engine))
        return self._stack.enter_context(make_pool(build, places, self._check, isolate=isolate))

    @cached_property
    def enhancer(self) -> Enhancer:
        """An upsampler in this process, for a dry run."""
        with about(''):
            return build_enhancer(self._options.upsampler, self.faces, self.places[0])

    def find_shareable_pool(self) -> RemotePool | None:
        """Return the pool if several videos may share it; what all of them need is made first, in this thread."""
        if self._options.dry_run or self._enhancers is not None:
            return None
        _ = self.faces, self.outscale, self.weights
        return self.pool if isinstance(self.pool, RemotePool) else None

    def _open_cluster(self, options: ClusterOptions) -> Pool:
        """Return a pool on the nodes of a cluster, which find their own ffmpeg."""
        from ..workers.cluster import open_cluster
        from .worker import ChunkWorker, explain_other_ffmpeg
        chosen, upsampler = self._options.ffmpeg, self._options.upsampler
        files = [path for video in self._videos for path in video.frames or [Path(video.source)] if path.is_file()]
        cluster = self._stack.enter_context(open_cluster(
            options, files, self._output, partial(explain_other_ffmpeg, chosen, self._ffmpeg_version)))
        build = partial(ChunkWorker.build, upsampler, self.faces, ffmpeg=chosen)
        return self._stack.enter_context(cluster.make_pool(build, upsampler, self.faces, self._check))
