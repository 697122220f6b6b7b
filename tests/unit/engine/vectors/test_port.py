"""What is checked before any store is asked, and which store a plan means."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kadre.base.errors import ProblemError, Unavailable
from kadre.engine.vectors import milvus, pinecone, port, stores
from kadre.engine.vectors.port import VectorsRefused, VectorsUnavailable
from kadre.plan.types import SecretRef, VectorsPlan

IN_MEMORY = VectorsPlan(type="in-memory", collection="c")


class Secrets:
    """Values by name."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def read(self, ref: SecretRef) -> str | None:
        return self.values.get(ref.name)


@pytest.mark.parametrize(
    "expression", ["", "a = 1", "(a = 'it''s (') and b > 2", 'metadata["a)"] == "\\"("', "x in ('a')"]
)
def test_an_expression_that_stands_by_itself_may_be_joined(expression: str) -> None:
    port.check_expression(expression)


@pytest.mark.parametrize("expression", ["a) or (b", "(a", "a)", "a = 'b", 'a = "b', "a -- b", "a /* b */", "a; b"])
def test_one_that_would_reach_beyond_itself_is_refused(expression: str) -> None:
    with pytest.raises(VectorsRefused, match="does not stand by itself"):
        port.check_expression(expression)


def test_a_number_is_one_value_however_it_is_written() -> None:
    assert port.encoded({"a": 2.0, "b": 2.5, "c": True, "d": "2"}) == '{"a":2,"b":2.5,"c":true,"d":"2"}'


def test_a_collections_name_is_one_that_each_store_takes() -> None:
    assert milvus.collection_name("support-knowledge") == "support_knowledge"
    assert milvus.collection_name("1st") == "_1st"
    assert stores._file("support-knowledge") == "support-knowledge.db"
    odd, other = stores._file("../../etc/passwd"), stores._file("..-..-etc-passwd")
    assert odd != other
    assert "/" not in odd
    assert not odd.startswith(".")


@pytest.mark.parametrize(
    ("host", "port", "tls", "url"),
    [
        ("", 0, False, ""),
        ("c-1.svc.pinecone.io", 0, False, "https://c-1.svc.pinecone.io:443"),
        ("https://c-1.svc.pinecone.io/", 443, False, "https://c-1.svc.pinecone.io:443"),
        ("127.0.0.1", 5080, False, "http://127.0.0.1:5080"),
        ("::1", 5080, True, "https://[::1]:5080"),
    ],
)
def test_no_key_of_pinecone_goes_to_the_service_unencrypted(host: str, port: int, tls: bool, url: str) -> None:
    plan = VectorsPlan(type="pinecone", collection="c", host=host, port=port, tls=tls)
    assert stores._pinecone(plan, "word").host == url


@pytest.mark.parametrize("host", ["", "https://c-1.svc.pinecone.io"])
async def test_without_its_library_a_store_says_what_to_install(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setitem(sys.modules, "pinecone", None)
    with pytest.raises(ProblemError, match=r"pip install 'kadre\[pinecone\]'"):
        await pinecone.PineconeVectors(lambda: pinecone.Address(key="word", host=host), "c").count()


async def test_a_store_is_shared_and_closed_when_the_last_has_left_it(tmp_path: Path) -> None:
    shelf = stores.VectorStores(tmp_path, Secrets())
    one = shelf.take(IN_MEMORY)
    assert shelf.take(IN_MEMORY) is one
    await one.ensure(2)
    await shelf.leave(IN_MEMORY)
    assert await one.count() == 0
    await shelf.leave(IN_MEMORY)
    with pytest.raises(Unavailable, match="closed"):
        await one.count()
    assert shelf.take(IN_MEMORY) is not one
    await shelf.leave(IN_MEMORY)


def test_an_address_is_made_of_the_plan_and_the_secret_of_now_and_never_shown(tmp_path: Path) -> None:
    secrets = Secrets(s="word")
    shelf = stores.VectorStores(tmp_path, secrets)
    ref = SecretRef(namespace="n", name="s", key="k")
    plan = VectorsPlan(type="milvus", collection="c", host="h", user="u", secret=ref, tls=True, database="d")
    address = stores._milvus(plan, shelf._secret(plan))
    assert (address.uri, address.token, address.database) == ("https://h:19530", "u:word", "d")
    assert "word" not in repr(address)
    bare = VectorsPlan(type="milvus", collection="c", host="::1", port=1)
    assert stores._milvus(bare, shelf._secret(bare)).uri == "http://[::1]:1"
    postgres = stores._postgres(VectorsPlan(type="pgvector", collection="c", host="h", user="u", secret=ref), "word")
    assert (postgres.host, postgres.port, postgres.user, postgres.password) == ("h", 5432, "u", "word")
    assert "word" not in repr(postgres)
    index = VectorsPlan(type="pinecone", collection="c", host="c-1.svc.pinecone.io", secret=ref, database="n")
    there = stores._pinecone(index, "word")
    assert (there.host, there.key, there.namespace) == ("https://c-1.svc.pinecone.io:443", "word", "n")
    assert "word" not in repr(there)
    secrets.values.clear()
    with pytest.raises(VectorsUnavailable, match="there is no value in key k of Secret n/s"):
        shelf._secret(plan)
