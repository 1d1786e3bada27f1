"""Encrypts a backup while it is written, and takes it apart while it is read.

A line that says so, a line of JSON (salt and costs of scrypt), then pieces of a megabyte, each sealed by AES-256-GCM under
its number; what is authenticated with a piece is the header, and whether it is the last: a file that was cut between two
pieces has no last one.
"""

import json
import os
from base64 import b64decode, b64encode
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from assay.errors import BackupDamagedError, PassphraseError

MAGIC = b"assay-backup-encrypted-1\n"
PIECE_BYTES = 1 << 20
TAG_BYTES = 16
MIN_PASSPHRASE = 12
MAX_HEADER = 1024
COSTS = {"n": 1 << 17, "r": 8, "p": 1}  # 128 MB and a third of a second for each guess
_CHECK = 2**96 - 1  # the number under which nothing is sealed but the test of the passphrase
_CUT = "The backup is cut off or damaged."


class SealingFile:
    """Takes bytes and writes them encrypted to `file`."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        if len(passphrase) < MIN_PASSPHRASE:
            raise PassphraseError(f"The passphrase is shorter than {MIN_PASSPHRASE} characters.")
        salt = os.urandom(16)
        self._cipher = _cipher(passphrase, salt)
        check = self._cipher.encrypt(_nonce(_CHECK), b"", b"")
        facts = {"kdf": "scrypt", **COSTS, "salt": _text(salt), "check": _text(check)}
        self._header = MAGIC + json.dumps(facts).encode() + b"\n"
        self._file = file
        self._waiting = bytearray()
        self._number = 0
        file.write(self._header)

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        self._waiting += data
        while len(self._waiting) > PIECE_BYTES:
            self._seal(bytes(self._waiting[:PIECE_BYTES]), is_last=False)
            del self._waiting[:PIECE_BYTES]

    def finish(self) -> None:
        """Seal the last piece."""
        self._seal(bytes(self._waiting), is_last=True)

    def _seal(self, piece: bytes, *, is_last: bool) -> None:
        self._file.write(
            self._cipher.encrypt(_nonce(self._number), piece, _bound(self._header, is_last=is_last))
        )
        self._number += 1


class OpeningFile:
    """Reads what `SealingFile` wrote; `file` stands behind the first line."""

    def __init__(self, file: BinaryIO, passphrase: str | None) -> None:
        line = file.readline(MAX_HEADER)
        self._header = MAGIC + line
        salt, check = _read_header(line)
        if passphrase is None:
            raise PassphraseError("This backup is encrypted: its passphrase is needed.")
        self._cipher = _cipher(passphrase, salt)
        try:
            self._cipher.decrypt(_nonce(_CHECK), check, b"")
        except InvalidTag:
            raise PassphraseError("That is not the passphrase of this backup.") from None
        self._file = file
        self._number = 0
        self._open = b""
        self._next = file.read(PIECE_BYTES + TAG_BYTES)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; nothing at the end. Raises `BackupDamagedError`."""
        while len(self._open) < size and self._next:
            piece, self._next = self._next, self._file.read(PIECE_BYTES + TAG_BYTES)
            self._open += self._opened(piece, is_last=not self._next)
        taken, self._open = self._open[:size], self._open[size:]
        return taken

    def _opened(self, piece: bytes, *, is_last: bool) -> bytes:
        try:
            opened = self._cipher.decrypt(_nonce(self._number), piece, _bound(self._header, is_last=is_last))
        except InvalidTag:
            raise BackupDamagedError(_CUT) from None
        self._number += 1
        return opened


def _read_header(line: bytes) -> tuple[bytes, bytes]:
    try:
        facts = json.loads(line)
        if {name: facts[name] for name in COSTS} != COSTS or facts["kdf"] != "scrypt" or line[-1:] != b"\n":
            raise BackupDamagedError(_CUT)
        return b64decode(facts["salt"], validate=True), b64decode(facts["check"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise BackupDamagedError(_CUT) from error


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, **COSTS).derive(passphrase.encode()))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12)


def _bound(header: bytes, *, is_last: bool) -> bytes:
    return header + (b"last" if is_last else b"more")


def _text(data: bytes) -> str:
    return b64encode(data).decode()
