"""Exit codes of the command, and how errors are told.

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | done, and the answer is no: a failed task, a finding of ``doctor`` |
| 2 | the command line is wrong |
| 3 | settings, plugins or the app are wrong |
| 4 | the broker or the result backend can't be reached, or refused |
| 5 | time ran out before the answer came |
| 130 | interrupted |
| 141 | whoever read the output went away |
"""

from __future__ import annotations

OK = 0
NEGATIVE = 1
USAGE = 2
CONFIGURATION = 3
UNAVAILABLE = 4
TIMEOUT = 5
INTERRUPTED = 130
BROKEN_PIPE = 141


def code_of(error: BaseException) -> int:
    """The exit code for an error of ours."""
    from caraway import errors

    if isinstance(error, errors.TimeoutError):
        return TIMEOUT
    if isinstance(error, errors.OperationalError):
        return UNAVAILABLE
    if isinstance(error, (errors.ImproperlyConfigured, errors.SecurityError)):
        return CONFIGURATION
    return NEGATIVE


def told(error: BaseException) -> str:
    """What is printed of an error: message and hint, no traceback."""
    text = str(error)
    return text or type(error).__name__
