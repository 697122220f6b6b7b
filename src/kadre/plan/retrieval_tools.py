"""Tools that search a vector store, and vector stores and embedding models, as plans have them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import msgspec

from kadre.api.kinds.tool import Embedding, Search, ToolSpec, VectorStore
from kadre.api.parts import Parameter
from kadre.base.problems import Severity
from kadre.plan import keys, parameters
from kadre.plan.draft import Place
from kadre.plan.names import tool_name
from kadre.plan.types import EmbeddingPlan, ModelPlan, RetrievalTool, VectorsPlan
from kadre.plan.work import Work

Kind = Literal["in-memory", "sqlite", "pgvector", "milvus", "pinecone"]
SERVERS = ("pgvector", "milvus")
"""Stores whose server somebody has to name: of Pinecone there is one, which knows each index."""
WITHOUT_EMBEDDINGS = ("anthropic", "bedrock")
"""Providers of models, none of which turns texts into vectors in a way that is built."""
LOCAL_MODEL, LOCAL_DIMENSION = "all-minilm-l6-v2", 384
_USERS = {"pgvector": "postgres"}
"""Who logs in where a password is named and nobody is; other stores take a secret for both."""
_INDEX = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")
_QUESTION = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to look for, in words or as a question"}},
    "required": ["query"],
    "additionalProperties": False,
}


def unbuilt(tool: ToolSpec) -> str:
    """Which part of the tool is not built yet, for people; empty where all are."""
    found = tool.retrieval
    if found is None:
        return ""
    if found.vector_store.type not in get_args(Kind):
        return f"searches in {found.vector_store.type}"
    if found.embedding is not None and found.embedding.provider in WITHOUT_EMBEDDINGS:
        return f"embeddings by {found.embedding.provider}"
    return ""


def check_secrets(work: Work, place: Place, tool: ToolSpec) -> None:
    """Of a tool that isn't built yet: what is missing stops nothing."""
    if tool.retrieval is None:
        return
    here = place.below("retrieval")
    store, embedding = tool.retrieval.vector_store, tool.retrieval.embedding
    if store.secret_ref is not None:
        work.secret(here.below("vectorStore.secretRef"), store.secret_ref, severity="warning")
    if embedding is not None and embedding.api_key_secret_ref is not None:
        where, key = here.below("embedding.apiKeySecretRef"), embedding.api_key_secret_ref
        keys.named_key(work, where, key, embedding.provider, embedding.endpoint, "warning")


def retrieval_tool(work: Work, place: Place, name: str, tool: ToolSpec) -> RetrievalTool | None:
    """The tool; None, and Problems, where something is missing that it could not do without."""
    section = tool.retrieval
    if section is None:
        return None
    here = place.below("retrieval")
    store = vectors(work, here.below("vectorStore"), section.vector_store)
    model = embedding(work, here, section.embedding)
    query = _query(work, place, tool.parameters)
    search = section.search or Search()
    filter_ = (search.filter or "").strip()
    good = _is_filter(work, here.below("search.filter"), section.vector_store.type, filter_)
    if store is None or model is None or query is None or not good:
        return None
    return RetrievalTool(
        name=tool_name(name),
        store=store,
        embedding=model,
        description=(tool.description or tool.display_name or "").strip(),
        parameters=parameters.schema(tool.parameters) if tool.parameters else _QUESTION,
        query=query,
        top_k=search.top_k,
        score_threshold=search.score_threshold,
        filter=filter_,
        as_json=tool.output is not None and tool.output.get("type") in ("array", "object"),
    )


def vectors(work: Work, place: Place, store: VectorStore) -> VectorsPlan | None:
    """The vector store, of a type that is built."""
    kind = next((known for known in get_args(Kind) if known == store.type), None)
    if kind is None:
        return None
    secret = work.secret(place.below("secretRef"), store.secret_ref) if store.secret_ref is not None else None
    lacks = []
    if not store.collection:
        lacks.append(("collection", "collection: with the name of the collection, table or file"))
    if kind in SERVERS and not store.host and not (kind == "pgvector" and secret is not None):
        lacks.append(("host", f"host: with the name or address of the {kind} server"))
    if kind == "pinecone" and store.secret_ref is None:
        lacks.append(("secretRef", "secretRef: {name: …, key: …}, with a Secret that holds the project's API key"))
    for field, what in lacks:
        work.problem(place, "MissingField", f"a vector store of type {kind} needs a {field}", f"add {what}")
    if lacks or (kind == "pinecone" and not _is_index(work, place, store)):
        return None
    return VectorsPlan(
        type=kind,
        collection=store.collection or "",
        host=store.host or "",
        port=store.port or 0,
        database=store.database or "",
        user=store.username or _USERS.get(kind, ""),
        secret=secret,
        tls=store.tls,
    )


def _is_index(work: Work, place: Place, store: VectorStore) -> bool:
    """Whether Pinecone could have an index of that name, by which it is found where no host is given."""
    good = bool(store.host or _INDEX.fullmatch(store.collection or ""))
    if not good:
        message = f"{store.collection!r:.80} is no name of an index: lower-case letters, digits and -, at most 45"
        fix = "write the name that the index has in Pinecone's console"
        work.problem(place.below("collection"), "InvalidValue", message, fix)
    return good


def _is_filter(work: Work, place: Place, kind: str, written: str) -> bool:
    """Whether a filter is one as far as that is known without the store."""
    if kind != "pinecone" or not written:
        return True
    try:
        msgspec.json.decode(written, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        message = "a filter of Pinecone is a JSON object"
        work.problem(place, "InvalidValue", message, """write it as filter: '{"year": {"$gt": 2020}}'""")
        return False
    return True


def embedding(work: Work, place: Place, written: Embedding | None) -> EmbeddingPlan | None:
    """The embedding model, `place` being what it is a field of."""
    if written is None:
        fix = f"add embedding: {{provider: local, model: {LOCAL_MODEL}}}, or the model that filled the collection"
        work.problem(place, "MissingField", "nothing says which model turns texts into vectors", fix)
        return None
    here, provider = place.below("embedding"), written.provider
    if provider == "local" and not _is_local(work, here, written):
        return None
    key = written.api_key_secret_ref
    # Whoever tries agents out with another model in place of theirs may have no key for this one either. And for want
    # of a key that nobody names an agent need not do without its other tools: this one tells when it is called.
    named: Severity = "error" if work.override.model is None else "warning"
    model = ModelPlan(
        provider=provider,
        model=written.model.removeprefix("ollama/") if provider == "ollama" else written.model,
        endpoint=keys.endpoint(work, provider, written.endpoint),
        api_key=(
            keys.named_key(work, here.below("apiKeySecretRef"), key, provider, written.endpoint, named)
            if key is not None
            else keys.default_key(work, here, provider, written.endpoint, "apiKeySecretRef:", "warning")
        ),
        timeout=EMBEDDING_TIMEOUT,
    )
    return EmbeddingPlan(model=model, dimension=written.dimension or 0)


EMBEDDING_TIMEOUT = 30.0
"""Seconds without a byte: a batch of texts takes a second or two where the model is loaded."""


def _is_local(work: Work, place: Place, written: Embedding) -> bool:
    """Whether it names the model that is carried, and that one's dimension if any."""
    named = written.model.lower().rpartition("/")[2]
    if named != LOCAL_MODEL:
        message = f"the local provider has one embedding model, {LOCAL_MODEL}, and not {written.model}"
        work.problem(place.below("model"), "InvalidValue", message, f"write model: {LOCAL_MODEL}, or another provider")
    elif written.dimension not in (None, LOCAL_DIMENSION):
        message = f"{LOCAL_MODEL} gives vectors of {LOCAL_DIMENSION} numbers, not {written.dimension}"
        work.problem(place.below("dimension"), "InvalidValue", message, f"write {LOCAL_DIMENSION}, or leave it out")
    else:
        return True
    return False


def _query(work: Work, place: Place, written: Sequence[Parameter]) -> str | None:
    """The parameter that is searched for: the one named query, else the first text that is required."""
    if not written:
        return "query"
    texts = [parameter for parameter in written if parameter.type == "string"]
    named = [parameter for parameter in texts if parameter.name == "query"]
    found = next(iter([*named, *(parameter for parameter in texts if parameter.required)]), None)
    if found is None:
        fix = "add {name: query, type: string, required: true}, or declare no parameters"
        work.problem(place.below("parameters"), "MissingField", "no parameter says what is searched for", fix)
        return None
    good = True
    for number, parameter in enumerate(written):
        if parameter.type in ("array", "object"):
            where = place.below("parameters").item(number)
            message = f"{parameter.name} is compared with metadata, which has no values of type {parameter.type}"
            work.problem(where, "InvalidValue", message, "write type: string, integer, number or boolean")
            good = False
    return found.name if good else None
