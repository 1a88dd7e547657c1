"""Run a command and print its output, and then its seconds, its peak memory and its exit status as a line of JSON.

A process of its own, and a small one, because Linux counts the memory of whoever starts a program to the program's own.
"""
import json
import resource
import subprocess
import sys
import time

start = time.perf_counter()
status = subprocess.run(sys.argv[1:], stderr=subprocess.STDOUT).returncode
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2 ** 20 if sys.platform == 'darwin' else 2 ** 10)
print(f'\n{json.dumps({"seconds": seconds, "peak_mib": peak, "status": status})}')
