"""What the gateway says of a caller, and what a host believes of it."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kadre.base.clock import FakeClock
from kadre.base.errors import Unauthorized, Unavailable
from kadre.server.identity import LIFE_SECONDS, Signer, Verifier, key_id

HOST = "kagent/assistant"


def _written(private: Ed25519PrivateKey, file: Path) -> None:
    """Another file in its place, as Kubernetes has it."""
    new = file.with_suffix(".new")
    new.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    new.replace(file)


def _known(public: Ed25519PublicKey, folder: Path) -> None:
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{key_id(public)}.pem").write_bytes(pem)


@pytest.fixture
def key(tmp_path: Path) -> Ed25519PrivateKey:
    made = Ed25519PrivateKey.generate()
    _written(made, tmp_path / "key")
    _known(made.public_key(), tmp_path)
    return made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def signer(key: Ed25519PrivateKey, tmp_path: Path, clock: FakeClock) -> Signer:
    return Signer((tmp_path / "key").read_bytes, clock)


@pytest.fixture
def verifier(tmp_path: Path, clock: FakeClock) -> Verifier:
    return Verifier(tmp_path, HOST.__eq__, clock)


def test_what_is_said_is_believed_and_any_library_can_read_it(
    signer: Signer, verifier: Verifier, key: Ed25519PrivateKey
) -> None:
    word = signer.sign("user:ada", HOST, ("approve",))
    assert verifier.heard(word).rights == ("approve",)
    assert verifier.heard(signer.sign("user:ada", HOST)).rights == ()
    assert verifier.heard(word).sub == "user:ada"
    assert jwt.get_unverified_header(word)["kid"] == key_id(key.public_key())
    read = jwt.decode(word, key.public_key(), ["EdDSA"], audience=HOST, options={"verify_exp": False})
    assert read["sub"] == "user:ada"


async def test_a_word_is_said_again_for_half_its_life_and_believed_for_all_of_it(
    signer: Signer, verifier: Verifier, clock: FakeClock
) -> None:
    first = signer.sign("user:ada", HOST)
    await clock.advance(LIFE_SECONDS / 2 - 2)
    assert signer.sign("user:ada", HOST) == first
    await clock.advance(3)
    assert signer.sign("user:ada", HOST) != first
    assert verifier.heard(first).sub == "user:ada"
    await clock.advance(LIFE_SECONDS + 60)
    with pytest.raises(Unauthorized, match="another time"):
        verifier.heard(first)
    with pytest.raises(Unauthorized, match="another time"):
        Verifier(verifier._keys, HOST.__eq__, clock).heard(first)  # one that has not heard it before


def test_a_word_for_another_host_is_not_believed(signer: Signer, verifier: Verifier) -> None:
    with pytest.raises(Unauthorized, match="said to kagent/other"):
        verifier.heard(signer.sign("user:ada", "kagent/other"))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_word_that_was_changed_is_not_believed(signer: Signer, verifier: Verifier, part: int) -> None:
    parts = signer.sign("user:ada", HOST).split(".")
    middle = len(parts[part]) // 2
    other = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
    with pytest.raises(Unauthorized):
        verifier.heard(".".join(parts))


@pytest.mark.parametrize("word", ["", ".", "..", "a.b.c", "é.é.é", "e30.e30.e30", "x" * 5000, "=.=.="])
def test_what_is_no_word_is_refused(verifier: Verifier, key: Ed25519PrivateKey, word: str) -> None:
    with pytest.raises(Unauthorized):
        verifier.heard(word)


def test_a_signature_of_another_algorithm_or_of_none_is_not_believed(
    verifier: Verifier, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    name = key_id(key.public_key())
    claims = {"sub": "user:ada", "aud": HOST, "exp": 1_800_000_000}
    for secret, algorithm in (("", "none"), ("0" * 64, "HS256")):
        with pytest.raises(Unauthorized):
            verifier.heard(jwt.encode(claims, secret, algorithm, headers={"kid": name}))


def test_a_key_that_names_a_file_elsewhere_is_not_looked_for(
    verifier: Verifier, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    other = Ed25519PrivateKey.generate()
    outside = tmp_path.parent / "outside.pem"
    outside.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    claims = {"sub": "user:ada", "aud": HOST, "exp": 1_767_225_660}
    with pytest.raises(Unauthorized, match="another form"):
        verifier.heard(jwt.encode(claims, other, "EdDSA", headers={"kid": "../outside"}))


def test_a_new_key_is_used_as_soon_as_it_is_there(signer: Signer, verifier: Verifier, tmp_path: Path) -> None:
    before = signer.sign("user:ada", HOST)
    new = Ed25519PrivateKey.generate()
    _written(new, tmp_path / "key")
    after = signer.sign("user:ada", HOST)
    with pytest.raises(Unauthorized, match="not known here, or not yet"):
        verifier.heard(after)
    _known(new.public_key(), tmp_path)
    assert verifier.heard(after).sub == verifier.heard(before).sub == "user:ada"


def test_without_a_key_nothing_is_said() -> None:
    for pem in (b"", b"no key"):
        with pytest.raises(Unavailable, match="the controller makes it"):
            Signer(lambda pem=pem: pem).sign("user:ada", HOST)  # type: ignore[misc]  # mypy knows no default here
