"""Run one of our scripts here, and print as a line of JSON when this process began and ended, and where its time went.

Started as `parts.py SCRIPT [argument ...]`. An import counts to its package, and a part without the parts inside it.
`images.py` makes a table of it.
"""
from __future__ import annotations

import sys
import time

began = time.perf_counter()

import atexit  # noqa: E402
import json  # noqa: E402
import runpy  # noqa: E402
import threading  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

#: What counts as a part, if the script's checkout has it: a function or method by its module.
FUNCTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    'options': {'realesrgan.cli.parser': ('build_parser', 'read_options'), 'argparse': ('ArgumentParser.parse_args',)},
    'weights read': {'realesrgan.weights.loading': ('load_network',)},
    'weights hashed': {'realesrgan.weights.reading': ('hash_file',)},
    'weights packed': {'realesrgan.engines.winograd': ('_pack_parameters',)},
    'network': {'realesrgan.engines.winograd': ('WinogradEngine.__call__',)},
    'decode': {'realesrgan.pictures.worker': ('decode',)},
    'encode, write': {'realesrgan.pictures.worker': ('write',)}}
PACKAGES = {'numpy': 'numpy', 'cv2': 'OpenCV', 'PIL': 'Pillow', 'imagecodecs': 'codecs', 'tifffile': 'codecs',
            'zlib_ng': 'codecs', 'realesrgan': 'our modules', 'inference_realesrgan': 'our modules'}

seconds: Counter[str] = Counter()
local = threading.local()


def measure(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose seconds count to a part, without those of the parts inside."""
    def measured(*args: Any, **more: Any) -> Any:
        inside = local.__dict__.setdefault('inside', [0.0])
        inside.append(0.0)
        start = time.perf_counter()
        try:
            return function(*args, **more)
        finally:
            taken = time.perf_counter() - start
            seconds[part] += taken - inside.pop()
            inside[-1] += taken
    return measured


def find_and_load(name: str, *args: Any) -> Any:
    """Import a module, and measure it and its functions."""
    part = PACKAGES.get(name.split('.')[0], 'others')
    module = measure(f'import {part}', load)(name, *args)
    for part, modules in FUNCTIONS.items():
        for path in modules.get(name, ()) if name not in measured else ():
            *owners, attribute = path.split('.')
            owner = getattr(module, owners[0]) if owners else module
            if hasattr(owner, attribute):
                setattr(owner, attribute, measure(part, getattr(owner, attribute)))
    measured.add(name)
    return module


def report() -> None:
    """Print the line; called last of all exit handlers."""
    print(f'\n{json.dumps({"began": began, "ended": time.perf_counter(), "parts": seconds})}', flush=True)


measured: set[str] = set()
importer: Any = sys.modules['_frozen_importlib']
load = importer._find_and_load
importer._find_and_load = find_and_load  # which the import statement calls for modules that are not there yet
atexit.register(report)
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition('/')[0]
runpy.run_path(sys.argv[0], run_name='__main__')
