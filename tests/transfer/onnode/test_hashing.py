"""Both hashes are what their names say, and a node that lacks one is no worse off."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from ws.transfer.onnode import hashing
from ws.transfer.onnode.chunks import zeros_digest
from ws.transfer.onnode.problems import TransferProblem

# Of 0 bytes, of "abc", and of 1024 bytes that count up to 250: FIPS 180-4, and the test vectors of the BLAKE3 team.
KNOWN = [
    ("sha256", b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("blake3", b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ("blake3", b"abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
    (
        "blake3",
        bytes(number % 251 for number in range(1024)),
        "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    ),
]


@pytest.mark.parametrize(("algorithm", "data", "digest"), KNOWN)
def test_known_answers(algorithm: str, data: bytes, digest: str) -> None:
    assert hashing.digest_of(algorithm, data).hex() == digest
    in_pieces = hashing.new(algorithm)
    for start in range(0, len(data), 100):
        in_pieces.update(memoryview(bytearray(data))[start : start + 100])
    assert in_pieces.digest().hex() == digest


@pytest.mark.parametrize("length", [0, 1, 4096, 1 << 20, (1 << 20) + 5])
def test_the_digest_of_a_hole(length: int) -> None:
    assert zeros_digest(length, "sha256") == hashlib.sha256(bytes(length)).digest()
    assert zeros_digest(length, "blake3") == blake3(bytes(length)).digest()


def test_both_are_here() -> None:
    assert hashing.available() == ["sha256", "blake3"]


@pytest.mark.parametrize("broken", [None, "raise OSError('of another machine')", "something = 'else'"])
def test_without_blake3_there_is_sha256(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str | None) -> None:
    if broken is None:
        monkeypatch.setitem(sys.modules, "blake3", None)
    else:
        monkeypatch.delitem(sys.modules, "blake3")
        (tmp_path / "blake3.py").write_text(broken)
        monkeypatch.syspath_prepend(str(tmp_path))
    assert hashing.available() == ["sha256"]
    with pytest.raises(TransferProblem) as caught:
        hashing.new("blake3")
    assert caught.value.code == "no-hash"
    assert "pip install blake3" in caught.value.mend


def test_a_name_of_no_hash_is_a_problem() -> None:
    with pytest.raises(TransferProblem, match="'md5'"):
        hashing.new("md5")


_BY_VALUE = """
import sys
import ray
from ws.transfer import onnode
from ws.transfer.onnode import hashing
from ws.transfer.onnode.party import Party
ray.cloudpickle.register_pickle_by_value(onnode)
assert hashing.available() == ["sha256", "blake3"]
sys.stdout.buffer.write(ray.cloudpickle.dumps(Party))
"""
_WITHOUT = """
import sys
import ray
sys.modules["blake3"] = sys.modules["ws"] = None
party = ray.cloudpickle.loads(sys.stdin.buffer.read())("a", listen=False, environ={"WS_TRANSFER_ROOTS": "/"})
print(party.start()["algorithms"], party.offer("ab" * 16, sys.argv[1], b"s" * 32, {"algorithm": "blake3"}))
"""


def test_what_is_pickled_by_value_needs_no_blake3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    root = Path(__file__).parents[3]
    party = subprocess.run([sys.executable, "-c", _BY_VALUE], cwd=root, capture_output=True, check=True).stdout
    argv = [sys.executable, "-c", _WITHOUT, str(tmp_path / "file")]
    told = subprocess.run(argv, cwd=root, input=party, capture_output=True, check=True).stdout.decode()
    assert told.startswith("['sha256'] {'problem': {'code': 'no-hash'")
