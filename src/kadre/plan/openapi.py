"""OpenAPI 3 documents: each operation that its author allows is a tool of type api.

The document says what is below the address that the author wrote, never where that is. What an operation asks for that
a model cannot be given is told, and the operation left out.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from kadre.api import reader
from kadre.api.kinds.tool import OpenApi
from kadre.api.parts import PATH_PARAMETER, ConfigMapKeyRef
from kadre.base import schemas, urls
from kadre.base.problems import Problem, did_you_mean
from kadre.plan.draft import Place, beside
from kadre.plan.names import tool_name
from kadre.plan.types import ApiTool
from kadre.plan.work import Work

MOST = 128
"""Operations of one document that are tools: more than any model can tell apart, and a plan has to stay small."""
_METHODS = ("get", "put", "post", "delete", "patch", "head")
_WITH_BODY = frozenset({"put", "post", "patch"})
_FORM = "application/x-www-form-urlencoded"
_NODES = 5_000
"""Parts of the schemas of one operation, with every reference followed."""
_LEFT_OUT = frozenset({"$id", "$schema", "deprecated", "discriminator", "example", "examples", "externalDocs", "xml"})
_NAMED = frozenset({"properties", "$defs", "dependentSchemas"})


class _Unfit(Exception):
    """An operation that no tool can be made of; why, as the end of a sentence."""


class _Operation(NamedTuple):
    name: str
    method: str
    path: str
    parts: Mapping[str, Any]
    shared: Any
    """Parameters that all methods of the path have."""


def tools(work: Work, place: Place, source: OpenApi, plain: ApiTool) -> tuple[ApiTool, ...]:
    """A tool for each operation that is offered, `plain` with what the document says of it. Problems where it is wrong.

    `place`: where `source` is written; `plain.endpoint`: the address that the document's paths are below.
    """
    document = _document(work, place, source)
    if document is None:
        return ()
    found = [each for each in _operations(document) if _offered(source, each.name)]
    names = [each.name for each in _operations(document)]
    for number, wanted in enumerate(source.operations or ()):
        if not any(fnmatchcase(name, wanted) for name in names):
            message = f"the document has no operation {wanted}{did_you_mean(wanted, names)}"
            here = place.below("operations").item(number)
            work.problem(here, "UnknownOperation", message, "name an operationId of it, or a pattern as in get*")
    if len(found) > MOST:
        message = f"{len(found)} operations would be tools, of at most {MOST}"
        work.problem(place, "TooManyOperations", message, "list those that are needed in operations:")
        return ()
    made: dict[str, ApiTool] = {}
    for each in found:
        try:
            if each.name in made:
                raise _Unfit("another one has its name")
            made[each.name] = _Reader(document).tool(each, plain)
        except (_Unfit, RecursionError) as error:
            unfit = error if isinstance(error, _Unfit) else "its schemas are nested too deeply"
            message = f"the operation {each.name} is left out: {unfit}"
            work.problem(
                place, "OperationLeftOut", message, "take it off operations:, or write a Tool for it", "warning"
            )
    return tuple(made.values())


def _document(work: Work, place: Place, source: OpenApi) -> dict[str, Any] | None:
    value: Any = source.inline
    if source.config_map_key_ref is not None:
        value = _of_config_map(work, place.below("configMapKeyRef"), source.config_map_key_ref)
    elif source.file is not None:
        value = _of_file(work, place.below("file"), source.file)
    if value is None:
        return None
    version = value.get("openapi") if isinstance(value, dict) else None
    if not str(version).startswith("3.") or not isinstance(value, dict) or not isinstance(value.get("paths"), dict):
        message = "this is no OpenAPI 3 document: it needs openapi: 3… and paths:"
        work.problem(
            place, "InvalidOpenAPI", message, "write one document, as YAML or JSON; Swagger 2 has to be converted"
        )
        return None
    return value


def _of_config_map(work: Work, place: Place, ref: ConfigMapKeyRef) -> Any:
    """What the key of the ConfigMap holds; None, and a Problem, where it is not there."""
    namespace = place.resource.namespace
    text = work.lookup.config(namespace, ref.name, ref.key)
    if text is None:
        message = f"there is no ConfigMap {namespace}/{ref.name} with the key {ref.key}"
        fix = f"kubectl create configmap {ref.name} -n {namespace} --from-file={ref.key}=openapi.yaml"
        work.problem(place, "MissingConfigMap", message, fix)
        return None
    return _parsed(text, f"{ref.name}/{ref.key}")[0]


def _of_file(work: Work, place: Place, written: str) -> Any:
    """What the file holds; None, and it is told why, where that is not known."""
    found = work.lookup.file(beside(place.resource, written))
    if found is None:
        work.not_yet(
            f"a file beside a manifest cannot be read here: there are no tools of {written}; have it in a ConfigMap"
            f" (kubectl create configmap NAME --from-file={posixpath.basename(written)}) and write configMapKeyRef:"
        )
        return None
    if found.fault:
        work.problem(place, "UnusableFile", f"the OpenAPI document {found.fault}", "correct the path, or the file")
        return None
    value, problems = _parsed(found.text, beside(place.resource, written))
    work.problems.update(dict.fromkeys(problems))
    return None if problems else value


@lru_cache(maxsize=8)
def _parsed(text: str, name: str) -> tuple[Any, tuple[Problem, ...]]:
    """The one document in the text, an empty text where there is none, and what is wrong with it as YAML: once for all
    agents that have its tools."""
    wrong: list[Problem] = []
    read = list(reader.read(text, name, wrong))
    return read[0].value if len(read) == 1 and not wrong else "", tuple(wrong)


def _operations(document: Mapping[str, Any]) -> Iterator[_Operation]:
    for path, item in document["paths"].items():
        for method in _METHODS if isinstance(item, dict) else ():
            parts = item.get(method)
            if isinstance(parts, dict):
                name = tool_name(str(parts.get("operationId") or f"{method}_{path.strip('/')}"))
                yield _Operation(name, method, path, parts, item.get("parameters"))


def _offered(source: OpenApi, name: str) -> bool:
    return source.operations is None or any(fnmatchcase(name, wanted) for wanted in source.operations)


class _Reader:
    """Reads one operation. Raises _Unfit."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._nodes = 0
        self._properties: dict[str, Any] = {}
        self._required: list[str] = []

    def tool(self, operation: _Operation, plain: ApiTool) -> ApiTool:
        query, kind = self._parameters(operation), ""
        if "requestBody" in operation.parts:
            kind = self._body(operation)
        endpoint = f"{plain.endpoint.rstrip('/')}{operation.path}"
        if not operation.path.startswith("/") or urls.fault(PATH_PARAMETER.sub("1", endpoint)):
            raise _Unfit(f"its path {operation.path[:100]!r} cannot be part of a URL")
        lacking = [name for name in PATH_PARAMETER.findall(operation.path) if name not in self._properties]
        if lacking:
            raise _Unfit(f"its path has {{{lacking[0]}}}, which is not among its parameters")
        schema = {"type": "object", "properties": self._properties, "additionalProperties": False}
        if self._required:
            schema["required"] = list(dict.fromkeys(self._required))
        if wrong := schemas.fault(schema):
            raise _Unfit(f"its parameters have no schema that can be checked: {wrong}")
        said = (operation.parts.get("summary"), operation.parts.get("description"))
        return msgspec.structs.replace(
            plain,
            name=operation.name,
            endpoint=endpoint,
            method=operation.method.upper(),
            description="\n".join(text.strip() for text in said if isinstance(text, str)),
            parameters=schema,
            query=tuple(query) if operation.method in _WITH_BODY else (),
            headers={"Content-Type": kind, **plain.headers} if kind else plain.headers,
        )

    def _parameters(self, operation: _Operation) -> list[str]:
        """Those of the query; all that have a place are kept."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for each in (*_list(operation.shared), *_list(operation.parts.get("parameters"))):
            parameter = self._followed(each)
            found[str(parameter.get("name")), str(parameter.get("in"))] = parameter
        query = []
        for (name, where), parameter in found.items():
            if where not in {"path", "query"}:
                if parameter.get("required"):
                    raise _Unfit(
                        f"it needs the {where} parameter {name}; give it in headers: or secretHeaders: of a Tool"
                    )
                continue
            schema = parameter.get("schema")
            if (
                not isinstance(schema, Mapping)
                or parameter.get("explode") is False
                or parameter.get("style") == "deepObject"
            ):
                raise _Unfit(f"its parameter {name} is written in a way that is not supported")
            self._take(name, self._schema(schema, ()), parameter.get("description"))
            if parameter.get("required") or where == "path":
                self._required.append(name)
            query += [name] if where == "query" else []
        return query

    def _body(self, operation: _Operation) -> str:
        """Its media type; the properties of its schema are kept."""
        if operation.method not in _WITH_BODY:
            raise _Unfit(f"it has a body, which {operation.method.upper()} is not sent with")
        content = self._followed(operation.parts["requestBody"]).get("content")
        kinds = content if isinstance(content, Mapping) else {}
        kind = next((each for each in kinds if "json" in each), _FORM if _FORM in kinds else "")
        if not kind:
            raise _Unfit(f"its body is of type {', '.join(map(str, kinds)) or 'nothing that is known'}")
        schema = self._schema(self._followed(kinds[kind]).get("schema"), ())
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or schema.get("type", "object") != "object" or len(schema) > 64:
            raise _Unfit("its body is no object with properties")
        for name, inner in properties.items():
            if not (isinstance(inner, Mapping) and inner.get("readOnly") is True):
                self._take(name, inner, None)
        self._required += [name for name in _list(schema.get("required")) if name in self._properties]
        return kind

    def _take(self, name: str, schema: Any, description: Any) -> None:
        if name in self._properties:
            raise _Unfit(f"two of its parameters are named {name}")
        told = isinstance(description, str) and isinstance(schema, dict)
        self._properties[name] = {**schema, "description": description.strip()} if told else schema

    def _followed(self, value: Any) -> Mapping[str, Any]:
        """What it is, or what it refers to."""
        for _ in range(8):
            if not isinstance(value, Mapping):
                break
            if "$ref" not in value:
                return value
            value = self._named(value["$ref"])
        raise _Unfit("it refers to what is not in the document")

    def _named(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#/"):
            raise _Unfit(f"it refers to another document: {str(ref)[:100]}")
        value: Any = self._document
        for part in ref[2:].split("/"):
            value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
        return value

    def _schema(self, value: Any, followed: tuple[str, ...]) -> Any:
        """The schema with every reference followed, as draft 2020-12 writes it; one that never ends allows anything."""
        self._nodes += 1
        if self._nodes > _NODES:
            raise _Unfit("its schemas are too large")
        if isinstance(value, list):
            return [self._schema(each, followed) for each in value]
        if not isinstance(value, Mapping):
            return value
        if "$ref" in value:
            ref = str(value["$ref"])
            return {} if ref in followed else self._schema(self._followed(value), (*followed, ref))
        made: dict[str, Any] = {}
        for key, inner in value.items():
            if key in _NAMED and isinstance(inner, Mapping):
                made[key] = {name: self._schema(each, followed) for name, each in inner.items()}
            elif key in {"enum", "const", "default"}:
                made[key] = inner
            elif key not in _LEFT_OUT:
                made[key] = self._schema(inner, followed)
        return _modern(made)


def _modern(schema: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI 3.0 writes in its own way, as JSON Schema does; and objects made of parts, as one."""
    if schema.pop("nullable", False) is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    parts = schema.get("allOf")
    if isinstance(parts, list) and all(isinstance(part, dict) and "properties" in part for part in parts):
        del schema["allOf"]
        whole = [*parts, schema]
        schema["properties"] = {name: each for part in whole for name, each in part.get("properties", {}).items()}
        schema["required"] = [name for part in whole for name in _list(part.get("required"))]
        schema["type"] = "object"
    return schema


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
