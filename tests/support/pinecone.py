"""A stand-in for Pinecone: its HTTP API of vectors as it is documented (2026-07), in memory, at ports of this machine.

There is no server of Pinecone's to be had. What is checked here is what its documentation says: headers, names and
limits of what is sent. It was never compared with the service itself. Each index has an address of its own, as there.
"""

from __future__ import annotations

import base64
import json
import math
import operator
import socket
import threading
from array import array
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "pcsk_of-the-tests"
VERSION = "2026-07"
METADATA_BYTES = 40_960
BODY_BYTES = 2_000_000
ANSWER_BYTES = 4_000_000
URL_BYTES = 8_000
# What each request may say.
FIELDS = {
    "/vectors/upsert": {"vectors", "namespace"},
    "/query": {"namespace", "topK", "filter", "includeValues", "includeMetadata", "vector"},
    "/vectors/fetch": {"ids", "namespace"},
    "/vectors/fetch_by_metadata": {"namespace", "filter", "limit", "paginationToken"},
    "/vectors/list": {"namespace", "prefix", "limit", "paginationToken"},
    "/vectors/delete": {"ids", "deleteAll", "namespace", "filter"},
    "/describe_index_stats": set[str](),
}
COMPARED: dict[str, Callable[[float, float], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
Record = dict[str, Any]
Answer = Callable[[str, str, dict[str, Any]], tuple[int, Any]]


class Told(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: int = 3) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "details": []}


class Index:
    """One index. `answers`: statuses of the next requests, in place of an answer; `asked`: what was asked for."""

    def __init__(self, name: str, dimension: int, metric: str) -> None:
        self.name = name
        self.dimension = dimension
        self.metric = metric
        self.answers: list[int] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.spaces: dict[str, dict[str, Record]] = {}
        self.listening = _Listening(self.answer)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.listening.port

    def keep(self, namespace: str, name: str, values: list[float], metadata: Mapping[str, Any]) -> None:
        """Have it keep a vector: numbers as the service has them, 32 bits of a vector's and 64 of metadata's."""
        kept = {
            key: float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
            for key, value in metadata.items()
        }
        record = {"id": name, "values": list(array("f", values)), "metadata": kept}
        self.spaces.setdefault(namespace, {})[name] = record

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The answer to one request."""
        self.asked.append((path, body))
        if self.answers and (status := self.answers.pop(0)) != 200:
            raise Told(status, f"no, because of {KEY}")
        wanted = "GET" if path in ("/vectors/fetch", "/vectors/list") else "POST"
        if path not in FIELDS or method != wanted:
            raise Told(404, f"{method} {path} is nothing")
        if unknown := set(body) - FIELDS[path]:
            raise Told(400, f"unknown fields: {sorted(unknown)}")
        namespace = body.get("namespace") or "__default__"
        works: dict[str, Callable[[str, dict[str, Any]], Any]] = {
            "/vectors/upsert": self._upsert,
            "/query": self._query,
            "/vectors/fetch": self._fetch,
            "/vectors/fetch_by_metadata": self._fetch_by_metadata,
            "/vectors/list": self._list,
            "/vectors/delete": self._delete,
            "/describe_index_stats": self._stats,
        }
        return 200, works[path](namespace, body)

    def _upsert(self, namespace: str, body: dict[str, Any]) -> Any:
        vectors = body["vectors"]
        if not 1 <= len(vectors) <= 1000:
            raise Told(400, "1 to 1000 vectors are allowed")
        for one in vectors:
            name, values, metadata = one["id"], one["values"], one.get("metadata", {})
            if not 1 <= len(name) <= 512 or not name.isascii():
                raise Told(400, "Vector ID must be ASCII")
            self._check(values)
            if len(json.dumps(metadata, ensure_ascii=False).encode()) > METADATA_BYTES:
                raise Told(400, "metadata size exceeds the limit of 40960 bytes per vector")
            if any(key.startswith("$") or not isinstance(value, str | int | float) for key, value in metadata.items()):
                raise Told(400, "Metadata value must be a string, number, boolean or list of strings")
        for one in vectors:
            self.keep(namespace, one["id"], one["values"], one.get("metadata", {}))
        return {"upsertedCount": len(vectors)}

    def _check(self, values: list[float]) -> None:
        if len(values) != self.dimension:
            message = f"Vector dimension {len(values)} does not match the dimension of the index {self.dimension}"
            raise Told(400, message)
        if not any(values):
            raise Told(400, "Dense vectors must contain at least one non-zero value")

    def _query(self, namespace: str, body: dict[str, Any]) -> Any:
        if not 1 <= body["topK"] <= 10_000:
            raise Told(400, "topK must be from 1 to 10000")
        self._check(body["vector"])
        matches = []
        for record in self._matching(namespace, body.get("filter")):
            match = {"id": record["id"], "score": self._score(body["vector"], record["values"]), "values": []}
            if body.get("includeValues"):
                match["values"] = record["values"]
            if body.get("includeMetadata"):
                match["metadata"] = record["metadata"]
            matches.append(match)
        matches.sort(key=lambda match: match["score"], reverse=self.metric != "euclidean")
        return {"matches": matches[: body["topK"]], "namespace": namespace, "usage": {"readUnits": 1}}

    def _score(self, one: list[float], other: list[float]) -> float:
        if self.metric == "euclidean":
            return math.dist(one, other) ** 2
        dot: float = sum(map(operator.mul, one, other))
        return dot if self.metric == "dotproduct" else dot / (math.hypot(*one) * math.hypot(*other))

    def _matching(self, namespace: str, condition: Any) -> list[Record]:
        _fulfils({}, condition or {})  # one that is none is refused whatever is there
        kept = self.spaces.get(namespace, {}).values()
        return [record for record in kept if not condition or _fulfils(record["metadata"], condition)]

    def _fetch(self, namespace: str, body: dict[str, Any]) -> Any:
        ids = body["ids"]
        if not 1 <= len(ids) <= 1000:
            raise Told(400, "1 to 1000 ids are allowed")
        kept = self.spaces.get(namespace, {})
        vectors = {name: kept[name] for name in ids if name in kept}
        return {"vectors": vectors, "namespace": namespace, "usage": {"readUnits": 1}}

    def _fetch_by_metadata(self, namespace: str, body: dict[str, Any]) -> Any:
        if not body.get("filter"):
            raise Told(400, "Empty filter provided for fetch by metadata request")
        found = self._matching(namespace, body["filter"])
        page, more = _page(found, body.get("limit", 100), body.get("paginationToken"), 10_000)
        return {"vectors": {record["id"]: record for record in page}, "namespace": namespace, **more}

    def _list(self, namespace: str, body: dict[str, Any]) -> Any:
        found = sorted(self.spaces.get(namespace, {}))
        page, more = _page(found, int(body.get("limit", 100)), body.get("paginationToken"), 100)
        return {"vectors": [{"id": name} for name in page], "namespace": namespace, **more}

    def _delete(self, namespace: str, body: dict[str, Any]) -> Any:
        if namespace not in self.spaces:
            raise Told(404, "Namespace not found", 5)
        kept = self.spaces[namespace]
        if "filter" in body:
            if not body["filter"] or "ids" in body:
                raise Told(400, "Delete with empty metadata filter is not allowed")
            ids = [record["id"] for record in self._matching(namespace, body["filter"])]
        else:
            ids = body["ids"]
            if not 1 <= len(ids) <= 1000:
                raise Told(400, "1 to 1000 ids are allowed")
        for name in ids:
            kept.pop(name, None)
        return {}

    def _stats(self, _namespace: str, _body: dict[str, Any]) -> Any:
        counts = {name: {"vectorCount": len(kept)} for name, kept in self.spaces.items()}
        total = sum(len(kept) for kept in self.spaces.values())
        about = {"dimension": self.dimension, "metric": self.metric, "vectorType": "dense", "indexFullness": 0}
        return {"namespaces": counts, "totalVectorCount": total, **about}


class Pinecone:
    """Started by `with`, stopped after it. Knows one API key, `KEY`."""

    def __init__(self) -> None:
        self._indexes: dict[str, Index] = {}
        self._control = _Listening(self._describe)

    @property
    def url(self) -> str:
        """Where indexes are asked for."""
        return f"http://127.0.0.1:{self._control.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def create(self, name: str, dimension: int, metric: str = "cosine") -> Index:
        """Make an index, in place of one of its name; as its owner would."""
        self.drop(name)
        self._indexes[name] = made = Index(name, dimension, metric)
        made.listening.start()
        return made

    def drop(self, name: str) -> None:
        """Delete an index: there is nothing at its address any more."""
        if name in self._indexes:
            self._indexes.pop(name).listening.stop()

    def index(self, name: str) -> Index:
        """The one of that name."""
        return self._indexes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._indexes

    def start(self) -> None:
        """Answer, at the same addresses as before."""
        for one in (self._control, *(index.listening for index in self._indexes.values())):
            one.start()

    def kill(self) -> None:
        """Be away: connections are refused, and those that are there end. What is kept is kept."""
        for one in (self._control, *(index.listening for index in self._indexes.values())):
            one.stop()

    def _describe(self, method: str, path: str, _body: dict[str, Any]) -> tuple[int, Any]:
        name = path.removeprefix("/indexes/")
        if method != "GET" or name not in self._indexes:
            return 404, {"error": {"code": "NOT_FOUND", "message": f"Resource {name} not found"}, "status": 404}
        index = self._indexes[name]
        field = {"type": "dense_vector", "dimension": index.dimension, "metric": index.metric}
        return 200, {
            "name": name,
            "host": f"http://127.0.0.1:{index.port}",  # the service leaves out the scheme, and means https
            "schema": {"fields": {"_values": field}},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "read_capacity": {"mode": "OnDemand", "status": {"state": "Ready"}},
            "status": {"ready": True, "state": "Ready"},
            "deletion_protection": "disabled",
        }


def _page(found: list[Any], limit: int, token: str | None, most: int) -> tuple[list[Any], dict[str, Any]]:
    """That many from where the token says on, and what the next are asked by."""
    if not 1 <= limit <= most:
        raise Told(400, f"limit must be from 1 to {most}")
    start = 0
    if token is not None:
        try:
            start = int(base64.urlsafe_b64decode(token).removeprefix(b"from "))
        except ValueError:
            raise Told(400, "Invalid pagination token") from None
    page = found[start : start + limit]
    if start + limit >= len(found):
        return page, {}
    return page, {"pagination": {"next": base64.urlsafe_b64encode(f"from {start + limit}".encode()).decode()}}


def _fulfils(metadata: Mapping[str, Any], condition: Any) -> bool:
    """Whether metadata is as the filter says; a filter that is none is refused."""
    if not isinstance(condition, dict):
        raise Told(400, "a filter must be an object")
    results = []
    for name, wanted in condition.items():
        if name in ("$and", "$or"):
            parts = [_fulfils(metadata, part) for part in wanted]
            results.append(all(parts) if name == "$and" else any(parts))
        elif name.startswith("$"):
            raise Told(400, f"the {name} operator is not supported here")
        else:
            signs = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            results += [_compared(metadata.get(name), sign, value) for sign, value in signs.items()]
    return all(results)


def _compared(value: Any, sign: str, wanted: Any) -> bool:
    match sign:
        case "$eq":
            return _same(value, wanted)
        case "$ne":
            return not _same(value, wanted)
        case "$in" | "$nin":
            return any(_same(value, one) for one in wanted) == (sign == "$in")
        case "$exists":
            return (value is not None) == bool(wanted)
        case "$gt" | "$gte" | "$lt" | "$lte":
            if isinstance(wanted, bool) or not isinstance(wanted, int | float):
                raise Told(400, f"the {sign} operator must be followed by a number, got {wanted!r} instead")
            return isinstance(value, float) and COMPARED[sign](value, wanted)
        case _:
            raise Told(400, f"{sign!r} is not a valid operator")


def _same(value: Any, wanted: Any) -> bool:
    """Of one type: numbers are all floats, and a boolean is none."""
    kinds = [
        bool if isinstance(one, bool) else float if isinstance(one, int | float) else type(one)
        for one in (value, wanted)
    ]
    return kinds[0] is kinds[1] and bool(value == wanted)


class _Listening:
    """An address at which requests are answered, as long as it is started; the port stays the same."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._server: _Server | None = None
        self.port = 0

    def start(self) -> None:
        if self._server is None:
            self._server = _Server(("127.0.0.1", self.port), self._answer)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], answer: Answer) -> None:
        super().__init__(address, _Handler)
        self.answer = answer
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()

    def cut(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended meanwhile
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the other side, or a kill, has ended it
            self.close_connection = True

    def do_GET(self) -> None:
        self._reply("GET")

    def do_POST(self) -> None:
        self._reply("POST")

    def _reply(self, method: str) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        more = {}
        try:
            path, body = self._checked(method, sent)
            with self.server.lock:
                status, told = self.server.answer(method, path, body)
        except Told as refusal:
            status, told = refusal.status, refusal.body
            more = {"Retry-After": "0"} if status == 429 else {}
        written = json.dumps(told).encode()
        if len(written) > ANSWER_BYTES:
            status, written = 400, b'{"code": 3, "message": "the answer is larger than 4 MB", "details": []}'
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(written), **more}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(written)

    def _checked(self, method: str, sent: bytes) -> tuple[str, dict[str, Any]]:
        """The path and what is asked, of the body or of the address. Raises Told for what is not as documented."""
        if self.headers.get("Api-Key") != KEY:
            raise Told(401, f"Invalid API Key {self.headers.get('Api-Key')}", 16)
        if self.headers.get("X-Pinecone-Api-Version") != VERSION:
            raise Told(400, "X-Pinecone-Api-Version is not one that is known")
        if len(self.path) > URL_BYTES:
            raise Told(414, "URI too long")
        parts = urlsplit(self.path)
        if method == "GET":
            query = parse_qs(parts.query, keep_blank_values=True)
            return unquote(parts.path), {key: got if key == "ids" else got[0] for key, got in query.items()}
        if self.headers.get("Content-Type") != "application/json" or len(sent) > BODY_BYTES:
            raise Told(413 if len(sent) > BODY_BYTES else 415, "a body of JSON, of at most 2 MB, is asked for")
        return parts.path, json.loads(sent)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
