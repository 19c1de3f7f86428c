"""The error that a user can cause and mend, and the line that an error is worth."""

import errno

# Errors of the machine rather than of the program: their own text says what is wrong.
MACHINE_ERRORS = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
)


class UserError(Exception):
    """One line: what is wrong, with the numbers, and the mend; shown as it is."""


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return the line and the exit status; None for a mistake in the program."""
    if isinstance(error, UserError):
        return str(error), 1
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        return f"{error.strerror}: {error.filename or 'writing failed'}", 1
    exhausted = isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    if exhausted or isinstance(error, MemoryError):
        return (
            f"out of memory ({str(error).split(chr(10))[0] or 'on the host'}); lower "
            f"batch_size, or in training raise config.accumulation_steps or, for a "
            f"classifier, set config.model.remat=True",
            1,
        )
    return None
