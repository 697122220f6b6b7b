"""From plans to vector stores: each is opened once, however many agents use it, and closed when the last leaves."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from kadre.engine.secrets import SecretReader, describe
from kadre.engine.vectors.port import VectorStore, VectorsUnavailable
from kadre.plan.types import VectorsPlan

if TYPE_CHECKING:
    from kadre.engine.vectors.milvus import Address as MilvusAddress
    from kadre.engine.vectors.pgvector import Address as PostgresAddress
    from kadre.engine.vectors.pinecone import Address as PineconeAddress

FOLDER = "vectors"
"""Below the data folder: one file a collection."""
HTTPS = 443
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class _Open:
    def __init__(self, store: VectorStore) -> None:
        self.store = store
        self.users = 0


class VectorStores:
    """Those of one process. `data`: the folder that files go to."""

    def __init__(self, data: Path, secrets: SecretReader) -> None:
        self._data = data
        self._secrets = secrets
        self._open: dict[VectorsPlan, _Open] = {}

    def take(self, plan: VectorsPlan) -> VectorStore:
        """The store, connected to when it is first asked; to be given back by `leave`. Raises ProblemError."""
        if plan not in self._open:
            self._open[plan] = _Open(self._made(plan))
        opened = self._open[plan]
        opened.users += 1
        return opened.store

    async def leave(self, plan: VectorsPlan) -> None:
        """One user less."""
        opened = self._open[plan]
        opened.users -= 1
        if not opened.users:
            del self._open[plan]
            await opened.store.aclose()

    def _made(self, plan: VectorsPlan) -> VectorStore:
        match plan.type:
            case "pgvector":
                from kadre.engine.vectors import pgvector

                return pgvector.PgVectors(lambda: _postgres(plan, self._secret(plan)), plan.collection)
            case "milvus":
                from kadre.engine.vectors import milvus

                return milvus.MilvusVectors(lambda: _milvus(plan, self._secret(plan)), plan.collection)
            case "pinecone":
                from kadre.engine.vectors import pinecone

                return pinecone.PineconeVectors(lambda: _pinecone(plan, self._secret(plan)), plan.collection)
            case "sqlite" | "in-memory":
                from kadre.engine.vectors.sqlite import SqliteVectors

                file = None if plan.type == "in-memory" else self._data / FOLDER / _file(plan.collection)
                return SqliteVectors(file, plan.collection)

    def _secret(self, plan: VectorsPlan) -> str:
        """Read anew each time. Raises VectorsUnavailable where there is none."""
        if plan.secret is None:
            return ""
        value = (self._secrets.read(plan.secret) or "").strip()
        if not value:
            message = f"there is no value in {describe(plan.secret)}, which the vector store needs; put it there"
            raise VectorsUnavailable(message, retry_after=5.0)
        return value


def _postgres(plan: VectorsPlan, secret: str) -> PostgresAddress:
    from kadre.engine.vectors import pgvector

    if not plan.host:
        return pgvector.Address(dsn=secret)
    usual = pgvector.Address()
    return pgvector.Address(
        host=plan.host,
        port=plan.port or usual.port,
        database=plan.database or usual.database,
        user=plan.user or usual.user,
        password=secret,
        tls=plan.tls,
    )


def _milvus(plan: VectorsPlan, secret: str) -> MilvusAddress:
    from kadre.engine.vectors import milvus

    host = f"[{plan.host}]" if ":" in plan.host else plan.host
    token = f"{plan.user}:{secret}" if plan.user else secret
    uri = f"{'https' if plan.tls else 'http'}://{host}:{plan.port or milvus.PORT}"
    return milvus.Address(uri=uri, token=token, database=plan.database)


def _pinecone(plan: VectorsPlan, secret: str) -> PineconeAddress:
    """Over TLS, whatever is written, but at a port where the service itself never is."""
    from kadre.engine.vectors import pinecone

    bare = plan.host.removeprefix("https://").rstrip("/")  # as Pinecone shows it
    host = f"[{bare}]" if ":" in bare else bare
    scheme = "https" if plan.tls or plan.port in (0, HTTPS) else "http"
    url = f"{scheme}://{host}:{plan.port or HTTPS}" if bare else ""
    return pinecone.Address(key=secret, host=url, namespace=plan.database)


def _file(collection: str) -> str:
    """The name of its file; one that could be none, or another's, ends in a digest."""
    if _NAME.fullmatch(collection):
        return f"{collection}.db"
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", collection)[:48]
    return f"{plain}.{hashlib.sha256(collection.encode()).hexdigest()[:8]}.db"
