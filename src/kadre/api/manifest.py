"""Files full of YAML -> resources, Secrets and ConfigMaps, what is somebody else's, and every Problem.

Nothing here follows a reference. What can't be read is told with its line and never raised.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from kadre.api import explain, reader
from kadre.api.lines import Lines
from kadre.api.registry import GROUPS, KINDS
from kadre.api.resource import LABEL, LABEL_VALUE, ObjectMeta, Resource
from kadre.api.services import ToolService, tool_service
from kadre.base.errors import shorten
from kadre.base.problems import Problem, Source, did_you_mean, nearest

MAX_OBJECT_VALUES = 50_000
"""Values in one object, aliases expanded: far more than the 1.5 MB a cluster stores, and a bound for our memory."""


@dataclass(frozen=True, slots=True)
class Named:
    """An object that is only known by name."""

    api_version: str
    kind: str
    namespace: str
    name: str
    source: Source

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.name else f"{self.kind} without a name"


@dataclass(frozen=True, slots=True)
class SecretDoc:
    """A v1 Secret in the files. The values are never shown."""

    namespace: str
    name: str
    values: Mapping[str, str] = field(repr=False)
    source: Source = field(default_factory=Source)


@dataclass(frozen=True, slots=True)
class ConfigMapDoc:
    """A v1 ConfigMap in the files."""

    namespace: str
    name: str
    values: Mapping[str, str] = field(repr=False)
    source: Source = field(default_factory=Source)


@dataclass(slots=True)
class Loaded:
    """What was in the files."""

    resources: list[Resource] = field(default_factory=list)
    secrets: list[SecretDoc] = field(default_factory=list)
    config_maps: list[ConfigMapDoc] = field(default_factory=list)
    ignored: list[Named] = field(default_factory=list)
    """Objects of other people's kinds."""
    services: dict[tuple[str, str], ToolService | None] = field(default_factory=dict)
    """The Services among them by namespace and name, each with the MCP server that it says it is."""
    rejected: list[Named] = field(default_factory=list)
    """Objects of our kinds that can't be used; a reference to one of them is not missing, only broken."""
    problems: list[Problem] = field(default_factory=list)


def load(text: str, file: str) -> Loaded:
    """The objects in one file; `file` is its name in messages."""
    return load_many([(text, file)])


def load_many(files: Iterable[tuple[str, str]]) -> Loaded:
    """The objects in several files, given as (text, name)."""
    files = list(files)
    loaded = Loaded()
    seen: dict[tuple[str, str, str, str], Source] = {}
    for text, file in files:
        for document in reader.read(text, file, loaded.problems):
            for value, lines in _objects(document.value, document.lines, file, loaded.problems):
                _take(loaded, seen, value, lines, file)
    order = {file: number for number, (_, file) in enumerate(files)}
    loaded.problems.sort(key=lambda problem: (order[problem.source.file], problem.source.line))
    return loaded


def parse(value: Any, file: str = "", lines: Lines | None = None) -> tuple[Resource | None, list[Problem]]:
    """One object of our kinds, as plain values (from a file or an API server), and everything wrong with it.

    The resource is None where it has not even the right shape; it is there, with Problems, where its fields don't fit
    together.
    """
    kind = _kind(value)
    if kind is None:
        return None, [_unknown_kind(value, file, lines or Lines.of(value))]
    if _larger_than(value, MAX_OBJECT_VALUES):
        message = f"the object has more than {MAX_OBJECT_VALUES} values"
        source = Source(file, lines.start if lines else 0)
        return None, [Problem("TooLarge", message, fix="split it", resource=_ref(value), source=source)]
    lines = lines or Lines.of(value)
    problems: list[Problem] = []
    resource = checked = None
    try:
        resource = checked = kind.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        problems.extend(explain.explain(error, kind, file, lines))
        if explain.only_unknown_fields(error):
            checked = kind.model_validate(value, by_alias=True, by_name=False, extra="ignore")
    more = list(_metadata(kind, value))
    if checked is not None:
        checked.placed(Source(file, lines.start), lines)
        more.extend(checked.check())
    problems.extend(_located(problem, file, lines) for problem in more)
    return resource, [dataclasses.replace(problem, resource=_ref(value)) for problem in problems]


def _located(problem: Problem, file: str, lines: Lines) -> Problem:
    path, line = lines.locate_path(problem.path)
    return dataclasses.replace(problem, path=path, source=Source(file, line))


def _objects(value: Any, lines: Lines, file: str, problems: list[Problem]) -> Iterator[tuple[Any, Lines]]:
    """The objects in one document: itself, or the items of a `v1/List` or `…List`."""
    if not (isinstance(value, dict) and isinstance(value.get("kind"), str) and value["kind"].endswith("List")):
        yield value, lines
        return
    items = value.get("items")
    if not isinstance(items, list):
        message = f"items of a {value['kind']} must be a list"
        problems.append(Problem("WrongType", message, fix="add items:", path="items", source=Source(file, lines.start)))
        return
    defaults = {"apiVersion": value.get("apiVersion"), "kind": value["kind"].removesuffix("List")}
    for number, item in enumerate(items):
        whole = {**defaults, **item} if isinstance(item, dict) and defaults["kind"] else item
        yield whole, lines.below("items", number)


def _take(loaded: Loaded, seen: dict[tuple[str, str, str, str], Source], value: Any, lines: Lines, file: str) -> None:
    """Sort one object into `loaded`."""
    source = Source(file, lines.start)
    problem = _no_object(value, source)
    if problem is not None:
        loaded.problems.append(problem)
        return
    named = _named(value, source)
    ours = _kind(value) is not None
    if not ours and (named.api_version, named.kind) not in {("v1", "Secret"), ("v1", "ConfigMap")}:
        if _meant_for_us(named):
            loaded.problems.append(_unknown_kind(value, file, lines))
        else:
            loaded.ignored.append(named)
            if named.kind == "Service":
                place = (named.namespace, named.name)
                loaded.services[place] = tool_service(value, *place)
        return
    first = seen.setdefault((named.api_version, named.kind, named.namespace, named.name), source)
    if first is not source and named.name:
        loaded.problems.append(
            Problem(
                "DuplicateResource",
                f"{named} is declared twice, first at {first}",
                fix="remove or rename one of the two",
                resource=str(named),
                path="metadata.name",
                source=Source(file, lines.line("metadata.name")),
            )
        )
        return
    if ours:
        resource, problems = parse(value, file, lines)
        loaded.problems.extend(problems)
        if resource is not None:
            loaded.resources.append(resource)
        else:
            loaded.rejected.append(named)
    else:
        _take_data(loaded, value, named, lines)


def _no_object(value: Any, source: Source) -> Problem | None:
    """Why a document is no Kubernetes object; None where it is one."""
    fix = "write apiVersion: kagent.dev/v1alpha1 and kind: Agent, or another kind"
    if not isinstance(value, dict):
        message = f"expected an object with apiVersion and kind, got {explain.describe(value)}"
        return Problem("NotAnObject", message, fix=fix, source=source)
    missing = [name for name in ("apiVersion", "kind") if not (isinstance(value.get(name), str) and value[name])]
    if len(missing) == 2 and not {"metadata", "spec"} & set(value):
        message = "neither apiVersion nor kind is written: this is no object, and is left alone"
        return Problem("NotAnObject", message, fix=fix, source=source, severity="warning")
    if missing:
        close = "".join(did_you_mean(key, missing) for key in value if key != "kind")
        written = any(name in value for name in missing)
        wrong = "must be a text" if written else "is missing" if len(missing) == 1 else "are missing"
        return Problem("MissingField", f"{' and '.join(missing)} {wrong}{close}", fix=fix, source=source)
    return None


def _kind(value: Any) -> type[Resource] | None:
    if not isinstance(value, dict):
        return None
    version, kind = value.get("apiVersion"), value.get("kind")
    return KINDS.get((version, kind)) if isinstance(version, str) and isinstance(kind, str) else None


def _meant_for_us(named: Named) -> bool:
    group = named.api_version.partition("/")[0]
    ours = any(kind == named.kind for _, kind in KINDS)
    return group in GROUPS or (ours and nearest(group, GROUPS) is not None)


def _unknown_kind(value: Any, file: str, lines: Lines) -> Problem:
    named = _named(value, Source(file, lines.start))
    group = named.api_version.partition("/")[0]
    versions = sorted({version for version, _ in KINDS})
    kinds = sorted(kind for version, kind in KINDS if version == named.api_version)
    if kinds:
        message = f"{group} has no kind {shorten(named.kind, 60)}{did_you_mean(named.kind, kinds)}"
        path, fix = "kind", f"write one of {', '.join(kinds)}"
    else:
        close = [version for version in versions if version.startswith(f"{group}/")] or versions
        message = f"there is no API version {shorten(named.api_version, 60)}{did_you_mean(named.api_version, versions)}"
        path, fix = "apiVersion", f"write {' or '.join(close)}"
    return Problem(
        "UnknownKind", message, fix=fix, path=path, resource=str(named), source=Source(file, lines.line(path))
    )


def _named(value: Any, source: Source) -> Named:
    """What an object calls itself; bears anything YAML can hold."""
    value = value if isinstance(value, dict) else {}
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace = metadata.get("name"), metadata.get("namespace")
    return Named(
        str(value.get("apiVersion", "")),
        str(value.get("kind", "")),
        shorten(namespace, 80) if isinstance(namespace, str) and namespace else "default",
        shorten(name, 80) if isinstance(name, str) else "",
        source,
    )


def _ref(value: Any) -> str:
    return str(_named(value, Source()))


def _larger_than(value: Any, limit: int) -> bool:
    """Whether there are more than `limit` values in a value; looks at no more than that."""
    todo, count = [value], 0
    while todo:
        part = todo.pop()
        count += 1
        if count + len(todo) > limit:
            return True
        if isinstance(part, dict):
            todo.extend(part.values())
        elif isinstance(part, list):
            todo.extend(part)
    return False


def _metadata(kind: type[Resource], value: dict[str, Any]) -> Iterator[Problem]:
    """Names and labels a cluster would refuse; nothing where metadata hasn't even the right shape."""
    try:
        meta = ObjectMeta.model_validate(value.get("metadata"), by_alias=True, by_name=False, extra="ignore")
    except ValidationError:
        return
    for field_name, text, rule in (("name", meta.name, kind.name_rule), ("namespace", meta.namespace, LABEL)):
        if not rule.pattern.fullmatch(text):
            message = f"{shorten(text, 80)!r} can't be the {field_name} of an object"
            yield Problem("InvalidName", message, fix=rule.fix, path=f"metadata.{field_name}")
    for key, text in meta.labels.items():
        if not LABEL_VALUE.fullmatch(text):
            yield Problem(
                "InvalidName",
                f"{shorten(text, 80)!r} can't be a label's value",
                fix="use letters, digits, - _ and ., at most 63 of them; an annotation takes any text",
                path=f"metadata.labels[{key}]",
            )


def _take_data(loaded: Loaded, value: dict[str, Any], named: Named, lines: Lines) -> None:
    """A Secret or ConfigMap."""
    if not named.name:
        problem = Problem(
            "MissingField", f"the {named.kind} has no name", fix="add metadata.name:", source=named.source
        )
        loaded.problems.append(problem)
        return
    values: dict[str, str] = {}
    for section in ("data", "stringData") if named.kind == "Secret" else ("data",):
        entries = value.get(section)
        if entries is None:
            continue
        if not isinstance(entries, dict):
            entries = {"": entries}
        for key, text in entries.items():
            try:
                values[key] = _plain_text(text, encoded=named.kind == "Secret" and section == "data")
            except ValueError as error:
                path = f"{section}[{key}]" if key else section
                loaded.problems.append(
                    Problem(
                        "InvalidValue",
                        str(error),
                        fix="put plain text in quotes under stringData"
                        if named.kind == "Secret"
                        else "put it in quotes",
                        resource=str(named),
                        path=path,
                        source=Source(named.source.file, lines.line(path)),
                    )
                )
    if named.kind == "Secret":
        loaded.secrets.append(SecretDoc(named.namespace, named.name, values, named.source))
    else:
        loaded.config_maps.append(ConfigMapDoc(named.namespace, named.name, values, named.source))


def _plain_text(text: Any, *, encoded: bool) -> str:
    """The text of one entry. Raises ValueError with a message that doesn't hold the value."""
    if not isinstance(text, str):
        raise ValueError(f"expected a text, got {explain.describe(text)}")
    if not encoded:
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("expected a text in base64") from None
