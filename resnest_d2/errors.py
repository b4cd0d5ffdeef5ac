"""Errors that the user can mend, apart from defects of this package.

A command that raises a :class:`UserError` prints its one sentence and exits with code 1; anything
else is a defect, whose traceback goes to the log.
"""


class UserError(ValueError):
    """A mistake in the user's input: its message names the culprit and what to choose instead."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that the user named does not exist."""


class MissingPackageError(UserError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""
