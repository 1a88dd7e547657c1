"""The module where Real-ESRGAN 0.3.0 kept `RealESRGANer`, and two threads for programs that read and write pictures."""
from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from .errors import ImageError
from .files import whole_file
from .upscaling.upsampler import RealESRGANer

__all__ = ['IOConsumer', 'PrefetchReader', 'RealESRGANer']

logger = logging.getLogger(__name__)


class PrefetchReader(threading.Thread):
    """Reads pictures ahead of whoever iterates over it, once it has been started.

    Iterating gives HxW, HxWx3 (BGR) or HxWx4 (BGRA) arrays in the order of the paths, and raises ImageError in the
    place of a file that can't be read; the next ones can be had after that. An error of `img_list` itself comes last.

    Args:
        img_list: Paths of the pictures.
        num_prefetch_queue: How many are read ahead at most.
    """

    def __init__(self, img_list: Iterable[str | Path], num_prefetch_queue: int) -> None:
        super().__init__(daemon=True)  # so that a program can end before it has taken all pictures
        self.img_list = img_list
        self.que: queue.Queue[np.ndarray | Exception | None] = queue.Queue(num_prefetch_queue)

    def run(self) -> None:
        try:
            for path in self.img_list:
                try:
                    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                    reason = 'it is not there, or no picture that OpenCV reads'
                except cv2.error as error:
                    picture, reason = None, error.err
                self.que.put(ImageError(f'{path}: can\'t be read: {reason}') if picture is None else picture)
        except Exception as error:  # of the paths; whoever iterates would wait for ever
            self.que.put(error)
        self.que.put(None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> np.ndarray:
        item = self.que.get()
        if item is None:
            self.que.put(None)  # for whoever asks again
            raise StopIteration
        if isinstance(item, Exception):
            raise item
        return item


class IOConsumer(threading.Thread):
    """Writes pictures behind whoever puts them into its queue. One that can't be written is logged as an error.

    Args:
        opt: The program's options, kept as an attribute.
        que: A queue of mappings with the picture under 'output' and its path under 'save_path'; 'quit' ends the thread.
        qid: A number, for the log line at the end.
    """

    def __init__(self, opt: Any, que: queue.Queue[Any], qid: int) -> None:
        super().__init__()
        self._queue = que
        self.qid = qid
        self.opt = opt

    def run(self) -> None:
        while not isinstance(message := self._queue.get(), str) or message != 'quit':
            path = message['save_path']
            try:
                with whole_file(Path(path)) as file:
                    if not cv2.imwrite(str(file), message['output']):
                        raise OSError('OpenCV could not write it')
            except Exception as error:  # or whoever fills the queue would wait for ever
                logger.error('%s: can\'t be written: %s', path, getattr(error, 'err', None) or error)
        logger.info('IO worker %s is done.', self.qid)
