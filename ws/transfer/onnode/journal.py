"""Which chunks a target has, on disk beside it, so that a crash of anyone loses at most what was in flight.

`NAME.part.journal` is a line of JSON, `{"format", "content", "chunk_size", "count"}`, then records of 40 bytes: the chunk's
index (u32, big-endian), its hash (32 bytes; all zero: it is not had after all), CRC-32 of these 36 bytes (u32). A record
counts where its CRC is right and all before it count, so what a crash left half written is left out. It is a hint and no
more: whoever takes it up hashes what it claims. Its lock (flock) says that someone is writing the target.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import struct
import threading
import zlib

from ws.transfer.onnode.problems import BUSY, EXISTS, TransferProblem, writing_problem

FORMAT = "ws-journal-1"
_RECORD = ">I32sI"
_SIZE = 40
_LONGEST_HEADER = 1024
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NOT_HAD = bytes(32)


def is_locked(folder: int, name: str) -> bool:
    """Whether a transfer that goes on has the journal of that name."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError:  # it is not there, or is none
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Journal:
    """The journal `name` in the folder with that descriptor, for the content of that id. For several threads at once.

    Attribute `found`: it was there before, so what is beside it is of a transfer.
    """

    def __init__(self, folder: int, name: str, *, content: str, chunk_size: int, count: int) -> None:
        self.found = False
        self._folder, self._name = folder, name
        self._count = count
        header = {"format": FORMAT, "content": content, "chunk_size": chunk_size, "count": count}
        self._header = json.dumps(header).encode() + b"\n"
        self._lock = threading.Lock()
        self._descriptor = -1
        self._end = 0

    def open(self) -> dict[int, bytes] | None:
        """Lock it and read it: digests by chunk; None where it is new, or about another content: `start` it then.

        Problems: busy, exists (a file of that name that is none), link-refused. What the disk says, here and in `start`
        and `add`, is an OSError: whoever knows the target has better words for it.
        """
        try:
            self._descriptor = self._open_locked()
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise writing_problem(error, self._name) from error
            raise
        status = os.fstat(self._descriptor)
        head = os.pread(self._descriptor, _LONGEST_HEADER, 0)
        self.found = status.st_size > 0
        ours = f'{{"format": "{FORMAT}"'.encode()
        if not stat.S_ISREG(status.st_mode) or not (head.startswith(ours) or ours.startswith(head)):
            self.close()
            raise TransferProblem(EXISTS, f"{self._name!r} is there, and is no journal", "", "rename or remove it")
        if not head.startswith(self._header):
            return None
        return self._read()

    def _open_locked(self) -> int:
        while True:
            descriptor = os.open(self._name, _FLAGS, 0o600, dir_fd=self._folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                why = "another transfer is writing it"
                raise TransferProblem(BUSY, f"{self._name!r} is locked", why, "wait for that one, or cancel it") from None
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its owner removed it between our opening and locking it

    def _read(self) -> dict[int, bytes]:
        digests: dict[int, bytes] = {}
        self._end = len(self._header)
        with os.fdopen(os.dup(self._descriptor), "rb") as records:
            records.seek(self._end)
            while len(record := records.read(_SIZE)) == _SIZE:
                chunk, digest, check = struct.unpack(_RECORD, record)
                if check != zlib.crc32(record[:-4]) or chunk >= self._count:
                    break
                digests[chunk] = digest
                self._end += _SIZE
        os.ftruncate(self._descriptor, self._end)
        return {chunk: digest for chunk, digest in digests.items() if digest != _NOT_HAD}

    def start(self) -> None:
        """Begin it anew."""
        os.ftruncate(self._descriptor, 0)
        self._end = 0
        self._append(self._header)

    def add(self, chunk: int, digest: bytes) -> None:
        """That chunk is had."""
        body = struct.pack(_RECORD, chunk, digest, 0)[:-4]
        with self._lock:
            self._append(body + struct.pack(">I", zlib.crc32(body)))

    def drop(self, chunk: int) -> None:
        """That chunk is not had after all."""
        self.add(chunk, _NOT_HAD)

    def _append(self, record: bytes) -> None:
        """A record that didn't fit is overwritten by the next."""
        if os.pwrite(self._descriptor, record, self._end) < len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end += len(record)

    def remove(self) -> None:
        if self._descriptor >= 0:
            os.unlink(self._name, dir_fd=self._folder)
            self.close()

    def close(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
