"""Tools of type api: a REST API, with its parameters as a schema and its secrets as references."""

from __future__ import annotations

from typing import Any

from kadre.api.checks import path_parameters
from kadre.api.kinds.tool import ApiTool as RestApi
from kadre.api.kinds.tool import Authentication, ToolSpec
from kadre.base.problems import Severity
from kadre.plan import openapi, parameters
from kadre.plan.draft import Place
from kadre.plan.names import tool_name
from kadre.plan.types import ApiLogin, ApiTool, SecretRef
from kadre.plan.work import Work

# An agent answers without it, says what it lacks when the tool is called, and has it once the Secret is there: what it
# is for need not be there before the agent is.
MISSING: Severity = "warning"
CALL_TIMEOUT = ApiTool(name="", endpoint="", parameters={}).timeout


def plans(
    work: Work, place: Place, name: str, tool: ToolSpec, api: RestApi, capabilities: tuple[str, ...]
) -> tuple[ApiTool, ...]:
    """Its plan, or those of the operations of its document; a Secret that is missing is a warning.

    `place`: where the tool is written.
    """
    plain = _plain(work, place, name, tool, api, capabilities)
    if api.from_open_api is None:
        return (plain,)
    return openapi.tools(work, place.below("api.fromOpenAPI"), api.from_open_api, plain)


def _plain(work: Work, place: Place, name: str, tool: ToolSpec, api: RestApi, capabilities: tuple[str, ...]) -> ApiTool:
    here = place.below("api")
    place_of_headers, secret = here.below("secretHeaders"), api.secret_headers or {}
    return ApiTool(
        name=tool_name(name),
        endpoint=api.endpoint.partition("#")[0],
        method=api.method,
        description=(tool.description or tool.display_name or "").strip(),
        parameters=_schema(tool, api),
        headers=api.headers,
        secret_headers={
            each: work.secret(place_of_headers.below(each), ref, severity=MISSING) for each, ref in secret.items()
        },
        login=_login(work, here.below("authentication"), api.authentication),
        timeout=api.timeout or CALL_TIMEOUT,
        retries=api.retries,
        idempotent=tool.idempotent,
        output=tool.output,
        capabilities=capabilities,
    )


def _schema(tool: ToolSpec, api: RestApi) -> dict[str, Any]:
    """What is part of the URL must be given, whatever its author says of it: there is no URL without it."""
    found = parameters.schema(tool.parameters)
    defaulted = {parameter.name for parameter in tool.parameters if parameter.default is not None}
    needed = [name for name in path_parameters(api.endpoint) if name not in defaulted]
    required = list(dict.fromkeys([*found.get("required", ()), *needed]))
    return found | {"required": required} if required else found


def _login(work: Work, place: Place, login: Authentication | None) -> ApiLogin | None:
    if login is None or login.type == "none":
        return None
    where = place.below("secretRef")
    secret = work.secret(where, login.secret_ref, severity=MISSING) if login.secret_ref is not None else SecretRef()
    plain = ApiLogin(type=login.type, secret=secret)
    return ApiLogin(
        type=login.type,
        secret=secret,
        header=login.header or plain.header,
        token_url=login.token_url or "",
        client_id=login.client_id or "",
        scopes=tuple(login.scopes or ()),
    )
