"""The one error that a wrong value raises, whichever door it came through."""


class InputError(ValueError):
    """A value refused before any work.

    The message is one line: the field or option, the value, and what is allowed.
    The command line prints it and exits 2.
    """
