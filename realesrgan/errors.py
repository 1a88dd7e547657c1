"""The base of the errors whose message is written for the person who runs the program."""


class RealESRGANError(Exception):
    """Something the user can act on: the message says what failed, the offending value and what to do."""
