#!/usr/bin/env python3
"""Print where the time and the memory of a run go, from its report:

    python inference_realesrgan.py -i inputs --report report.json
    python examples/profile_run.py report.json
"""
from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    if len(sys.argv) != 2:
        print('usage: profile_run.py REPORT.json', file=sys.stderr)
        return 2
    report = json.loads(Path(sys.argv[1]).read_text(encoding='utf-8'))
    done = [file for file in report['files'] if file['stages']]
    for file in done:
        stages = ', '.join(f'{name} {seconds:.2f} s' for name, seconds in file['stages'].items())
        print(f'{file["source"]}: {file["rate"]:.3g} {file["unit"]}, {stages}, {file["tiles"]} tiles, '
              f'{file["engine"]} on {file["device"]} in {file["precision"]}')
    if done:
        print(f'{len(done)} files in {report["seconds"]:.1f} s, at most '
              f'{max(file["host_bytes"] for file in done) / 2 ** 30:.2f} GiB of memory and '
              f'{max(file["gpu_bytes"] for file in done) / 2 ** 30:.2f} GiB on a GPU')
    return 0


if __name__ == '__main__':
    sys.exit(main())
