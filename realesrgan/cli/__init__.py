"""The command line: what a process imports that does nothing else."""
import gc

# Python's own 700 would make the collections a twentieth of a start, in which nearly all that is made stays.
gc.set_threshold(50_000)
