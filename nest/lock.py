"""A folder that one process at a time may write to."""

import fcntl
from pathlib import Path
from typing import IO

from nest.errors import UserError


def lock_folder(folder: Path, *, option: str) -> IO[str]:
    """Create the folder and keep others out of it.

    Args:
      option: the flag that names another folder, for the messages.

    Returns:
      An open file; the folder is free again when it is closed or the process ends.

    Raises:
      UserError: the folder cannot be written or is in use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); give another {option}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UserError(
            f"another run is writing to {folder}; wait for it or give another {option}"
        ) from error
    return lock
