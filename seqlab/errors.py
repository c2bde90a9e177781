"""The one error that a wrong value raises, whichever door it came through."""


class InputError(ValueError):
    """A value refused before any work.

    The message is one line: the field or option, the value, and what is allowed.
    The command line prints it and exits 2.
    """


class DeviceError(OSError):
    """A GPU that failed in the middle of work: out of memory, or lost.

    The message is one line that names the CPU as the way out. The command line prints it, exits 1.
    """


class Note(UserWarning):
    """What a user should know of how a value was taken, in one line; the command line prints it."""
