"""Build the enhancer of a worker, an upsampler with or without faces, from its options and its place."""
from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import profile
from .engines.engine import AUTO, ENGINES
from .engines.memory import measure_peaks
from .options import RunOptions, UpsamplerOptions
from .pool.pool import Place
from .timings import Stopwatch, Timings

if TYPE_CHECKING:
    from .archs.loaded import LoadedNetwork
    from .faces import FaceEnhancer
    from .upscaling.upsampler import RealESRGANer

    #: Upscales pictures.
    Enhancer = RealESRGANer | FaceEnhancer


logger = logging.getLogger(__name__)

#: Makes an enhancer: `build_enhancer`, or the method of an `EnhancerCache`.
BuildEnhancer = Callable[[UpsamplerOptions, Place], 'Enhancer']


def prepare(options: RunOptions) -> None:
    """Check that what a run needs is there, before workers start, and fetch its weights once for all of them.

    It also warns of options that have no effect on the weights.

    Raises:
        NoSuchDeviceError: a GPU is not there; the message names those that are.
        FacePackagesError: faces are to be restored, and the packages for it are not installed.
        WeightsError: weights can't be had.
    """
    from .engines.choice import require_gpu
    from .weights.sources import prefetch
    for gpu_id in options.gpu_id if options.cluster is None else ():
        require_gpu(gpu_id, options.engine)
    if options.face_enhance:
        from .faces import import_face_packages, obtain_face_files
        import_face_packages()
        obtain_face_files(options.face_model)
    prefetch(options.model_name, options.model_path, options.denoise_strength)


def find_outscale(options: UpsamplerOptions) -> float:
    """Return the final size if none is asked for; weights of others are read, and fetched, to find their scale.

    Raises:
        WeightsError: they can't be had.
    """
    return options.default_outscale or _load_network(options, log=False).scale


def build_enhancer(options: UpsamplerOptions, place: Place) -> Enhancer:
    """Return the enhancer of one worker; workers that share a place share its memory, and a CPU's threads.

    Raises:
        RealESRGANError: packages or weights can't be had, or the device is not there.
    """
    from .engines.choice import explain_refusal, pick_device, settle_device
    picked = pick_device(gpu_id=place.gpu_id, engine=options.engine)
    network, threads = _load_network(options), None
    device = settle_device(network, picked, options.engine)
    if options.engine == AUTO and place.gpu_id is None:
        device = profile.settle_device(network.traits, device, fp32=options.fp32)
    engine, half, window = options.engine, not options.fp32, 0
    choice = profile.find_choice(network.traits, device, fp32=options.fp32)
    if choice is not None and engine in (AUTO, choice.engine) and any(
            row.name == choice.engine and explain_refusal(row, network, device) is None for row in ENGINES):
        engine, half, window = choice.engine, choice.half, choice.window
        logger.debug('profile: %s', choice)
    max_memory = None if options.max_memory is None else int(options.max_memory * 2 ** 30)
    if place.workers > 1:
        from .engines.cpu import count_cores
        from .engines.memory import take_share
        share = take_share(device, place.workers)
        max_memory = share if max_memory is None else max_memory // place.workers
        if device.type in ('cpu', 'vulkan'):  # beside Vulkan, faces run on the CPU
            threads = max(count_cores() // place.workers, 1)
    from .upscaling.upsampler import RealESRGANer
    upsampler = RealESRGANer(network.scale, None, model=network, tile=options.tile, tile_pad=options.tile_pad,
                             pre_pad=options.pre_pad, half=half, device=device, engine=engine, max_memory=max_memory,
                             threads=threads, largest_window=window)
    if not options.face_enhance:
        return upsampler
    import torch

    from .faces import FaceEnhancer
    if threads is not None:
        torch.set_num_threads(threads)  # the faces run in PyTorch, whatever engine the upsampler has
    return FaceEnhancer(upsampler, options.face_model, options.face_weight, only_center_face=options.only_center_face,
                        min_size=options.face_min_size)


def count_workers(options: RunOptions) -> int:
    """Return how many workers share each device: as the options say, with 'auto' by the profile or the free memory.

    Call it after `prepare`: it may read weights.
    """
    if isinstance(options.num_process_per_gpu, int):
        return options.num_process_per_gpu
    from .engines.choice import pick_device
    network = _load_network(options, log=False)
    device = pick_device(gpu_id=options.gpu_id[0] if options.gpu_id else None, engine=options.engine)
    if options.engine == AUTO and not options.gpu_id:
        device = profile.settle_device(network.traits, device, fp32=options.fp32)
    count = profile.count_workers(network.traits, device, fp32=options.fp32)
    logger.info('workers: %d on %s', count, device)
    return count


class EnhancerCache:
    """Keeps the enhancers of a process, so that the next run of the same options need not build its own.

    Args:
        most: How many are kept; the one that was used least recently goes first.
    """

    def __init__(self, most: int = 2) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[UpsamplerOptions, Place], Enhancer] = OrderedDict()

    def build(self, options: UpsamplerOptions, place: Place) -> Enhancer:
        """Return a kept enhancer, or a new one of `build_enhancer`."""
        key = options.upsampler, place
        enhancer = self._kept.pop(key, None)
        while enhancer is None and len(self._kept) >= self._most:
            self._kept.popitem(last=False)  # before the next one is built, so that both need not have room
        self._kept[key] = enhancer = enhancer or build_enhancer(options, place)
        enhancer.on_tile = None  # which belonged to another run
        return enhancer


def measure_timings(enhancer: Enhancer, stopwatch: Stopwatch, model: str) -> Timings:
    """Return the time and memory that the results of an enhancer have taken; `model` is the network's name."""
    engine, device, precision = enhancer.engine.description.split(', ')[:3]
    host, gpu = measure_peaks(enhancer.device_type)
    return Timings(model, engine, device, precision, max(len(enhancer.tiles), 1), dict(stopwatch.seconds), host, gpu)


def _load_network(options: UpsamplerOptions, *, log: bool = True) -> LoadedNetwork:
    from .weights.loading import load_network
    from .weights.sources import resolve
    return load_network(resolve(options.model_name, options.model_path, options.denoise_strength), log=log)
