"""The base of the errors whose message is written for the person who runs the program, and what errors say."""


class RealESRGANError(Exception):
    """Something the user can act on: the message says what failed, the offending value and what to do."""


class ImageError(RealESRGANError):
    """A picture that can't be read or written; the message does not name the file."""


def one_line(error: BaseException) -> str:
    """Say an error in one line."""
    return ' '.join(str(error).split()) or type(error).__name__
