"""A worker of pictures that other processes import; beside the tests it would cost each the import of PyTorch."""
from __future__ import annotations

import logging

from realesrgan.pictures.worker import PictureWorker
from realesrgan.pool.pool import Place


class WorkerOnTheCPU(PictureWorker):
    """Stands in for a worker on a GPU."""

    def __init__(self, options, place, **more):
        assert place in (Place(0, 1), Place(1, 1))
        logging.getLogger('realesrgan').info('works for %s', place)
        super().__init__(options, Place(), **more)
