"""A file that is uploaded to a cloud."""

from __future__ import annotations

import io
import time
from pathlib import Path

from VpmemLibrary.errors import CloudError, InvalidValueError


class Upload(io.FileIO):
    """A file that cannot be read after a deadline. A request has no deadline of its own while its body is sent."""

    deadline = 0.0
    """The time of `time.monotonic` after which the file cannot be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes.

        Raises:
            CloudError: The deadline has passed.
        """
        if time.monotonic() > self.deadline:
            raise CloudError(f"the upload did not end in time, after {self.tell()} bytes")
        return super().read(-1 if size is None else size)


def open_upload(path: Path, deadline: float) -> Upload:
    """Open a file for an upload that ends before a deadline.

    Args:
        path: The file.
        deadline: The time of `time.monotonic` after which the file cannot be read.

    Raises:
        InvalidValueError: The file does not exist, is not a file, or cannot be read.
    """
    try:
        if not path.is_file():
            raise InvalidValueError("path", str(path), "a file on the controller")
        file = Upload(path)
    except OSError as error:
        raise InvalidValueError("path", str(path), f"a file that can be read ({error.strerror})") from error
    file.deadline = deadline
    return file
