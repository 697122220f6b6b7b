"""What is said of an object on its way into the cluster: refused where it can never become right, else warned of.

Objects come in any order, so what an object refers to may be missing, or wrong, for now: that is never refused.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from kadre.api import manifest
from kadre.api.kinds.agent import Agent
from kadre.api.registry import KINDS
from kadre.api.resource import Resource
from kadre.base.errors import shorten
from kadre.base.problems import Problem, errors
from kadre.kube.kinds import Object
from kadre.operator.children import plan_map
from kadre.operator.status import told

API_VERSION = "admission.k8s.io/v1"
CREATED_BY = "kagent.dev/created-by"
"""The annotation that says who created an object."""
WARNING_LIMIT = 256
"""Characters of one warning that the API server shows."""
MAX_WARNINGS = 10
MAX_ERRORS = 100
"""Problems that are told one by one: more than anybody reads, and a bound for the answer."""


class Asked(msgspec.Struct, frozen=True, rename="camel"):
    """The kind that a request is about."""

    kind: str
    version: str
    group: str = ""


class User(msgspec.Struct, frozen=True):
    """Who makes a request."""

    username: str = ""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """What the API server asks about one write."""

    uid: str
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    kind: Asked
    name: str = ""
    namespace: str = ""
    sub_resource: str = ""
    user_info: User = User()
    object: dict[str, Any] | None = None

    @property
    def concerns_us(self) -> bool:
        """Whether an object of ours is made or changed: not only what is reported of it, and not on its way out."""
        if self.operation not in {"CREATE", "UPDATE"} or self.sub_resource or self.object is None:
            return False
        version = f"{self.kind.group}/{self.kind.version}"
        return (version, self.kind.kind) in KINDS and not _metadata(self.object).get("deletionTimestamp")


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: Request


_REVIEW = msgspec.json.Decoder(_Review)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an object came to by itself."""

    resource: Resource | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether it can never become right as it is written."""
        return bool(errors(self.problems))


def read(body: bytes) -> Request:
    """The request of an AdmissionReview. Raises ValueError, with what is wrong, where it is none."""
    try:
        request = _REVIEW.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no AdmissionReview of {API_VERSION}: {shorten(str(error), 200)}") from error
    if request.request.object is None and request.request.operation in {"CREATE", "UPDATE"}:
        raise ValueError(f"an AdmissionReview of a {request.request.operation} without an object")
    return request.request


def judge(request: Request) -> Verdict:
    """Judge the object by itself; nothing is looked up."""
    if not request.concerns_us or request.object is None:
        return Verdict()
    resource, problems = manifest.parse(_placed(request, request.object))
    if isinstance(resource, Agent) and (prompt := resource.spec.system_prompt):
        written = "systemMessage" if "systemMessage" in request.object["spec"] else "systemPrompt"
        problems += filter(None, [plan_map.prompt_problem(prompt, f"spec.{written}")])
    return Verdict(resource, tuple(problems))


def validated(request: Request, verdict: Verdict, further: Iterable[Problem] = ()) -> Object:
    """The answer to whether the object may be written. `further`: what following its references found."""
    response: Object = {"uid": request.uid, "allowed": not verdict.refused}
    if verdict.refused:
        # 422 and not the 403 that is assumed otherwise: the object is wrong, not the rights of its author.
        status = {"code": int(HTTPStatus.UNPROCESSABLE_ENTITY), "reason": "Invalid", "message": message(verdict)}
        response["status"] = status
    minor = [problem for problem in verdict.problems if problem.severity != "error"]
    shown = warnings([*minor, *further])
    if shown:
        response["warnings"] = shown
    return _answered(response)


def mutated(request: Request) -> Object:
    """The answer that has a new object say who created it."""
    response: Object = {"uid": request.uid, "allowed": True}
    if request.concerns_us and request.operation == "CREATE" and request.object is not None:
        patch = _stamp(request.object, request.user_info.username)
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(patch)).decode()
    return _answered(response)


def message(verdict: Verdict) -> str:
    """Everything that must be mended, each with its field and what to write instead."""
    wrong = [
        replace(problem, resource="") for problem in errors(verdict.problems)
    ]  # which object it is, is said around it
    if len(wrong) == 1:
        return told(wrong)
    lines = [f"- {told([problem])}" for problem in wrong[:MAX_ERRORS]]
    if len(wrong) > MAX_ERRORS:
        lines.append(f"- and {len(wrong) - MAX_ERRORS} more")
    return "\n".join([f"{len(wrong)} things are wrong:", *lines])


def warnings(problems: Sequence[Problem]) -> list[str]:
    """Problems as the API server passes them on: few, short, on one line each."""
    texts = list(dict.fromkeys(_line(told([problem])) for problem in problems))
    if len(texts) > MAX_WARNINGS:
        left = len(texts) - MAX_WARNINGS + 1
        texts = [*texts[: MAX_WARNINGS - 1], f"and {left} more, in the object's status"]
    return texts


def _line(text: str) -> str:
    """A header's text: the API server drops a warning with a control character."""
    return shorten("".join(letter if letter.isprintable() else " " for letter in text), WARNING_LIMIT)


def _placed(request: Request, obj: Object) -> Object:
    """The object with the name and the namespace that it is going to have: a name may be the API server's to make."""
    metadata = dict(_metadata(obj))
    if request.namespace:
        metadata.setdefault("namespace", request.namespace)
    name = request.name or (f"{metadata['generateName']}00000" if metadata.get("generateName") else "")
    if name:
        metadata.setdefault("name", name)
    return {**obj, "metadata": metadata} if isinstance(obj.get("metadata"), dict) else obj


def _metadata(obj: Object) -> Object:
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def _stamp(obj: Object, username: str) -> list[Object]:
    if not isinstance(obj.get("metadata"), dict):
        return []
    if not _metadata(obj).get("annotations"):
        return [{"op": "add", "path": "/metadata/annotations", "value": {CREATED_BY: username}}]
    key = CREATED_BY.replace("~", "~0").replace("/", "~1")
    return [{"op": "add", "path": f"/metadata/annotations/{key}", "value": username}]


def _answered(response: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
