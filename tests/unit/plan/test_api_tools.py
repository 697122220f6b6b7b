"""Tools of type api: what their plan has, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.plan.build import AllPlanned
from kadre.plan.types import ApiLogin, ApiTool, SecretRef
from tests.unit.plan.test_tools import agent, document, helper

Plan = Callable[..., AllPlanned]
pytestmark = pytest.mark.requirement("tool-api")


@pytest.mark.requirement("tool-api-auth", "tool-parameters")
def test_a_tool_is_planned_whole(planned: Plan) -> None:
    spec = """
  type: api
  displayName: Create Ticket
  description: "Create a ticket.\\n"
  idempotent: true
  api:
    endpoint: http://tickets:8080/v1/{queue}#top
    method: POST
    timeout: 5s
    retries: 3
    headers: {X-Team: support}
    secretHeaders: {X-Key: {name: keys, key: other}}
    authentication: {type: bearer, secretRef: {name: keys, key: token}}
  parameters:
    - {name: title, required: true, maxLength: 200}
    - {name: queue}
  output: {type: object}
"""
    (tool,) = helper(
        planned(
            document("Tool", "create.ticket", spec) + agent("[create.ticket]"), {"KEYS_TOKEN": "t", "KEYS_OTHER": "o"}
        )
    ).tools
    assert tool == ApiTool(
        name="create_ticket",
        endpoint="http://tickets:8080/v1/{queue}",
        method="POST",
        description="Create a ticket.",
        parameters={
            "type": "object",
            "properties": {"title": {"type": "string", "maxLength": 200}, "queue": {"type": "string"}},
            "additionalProperties": False,
            "required": ["title", "queue"],
        },
        headers={"X-Team": "support"},
        secret_headers={"X-Key": SecretRef(namespace="default", name="keys", key="other", env="KEYS_OTHER")},
        login=ApiLogin(
            type="bearer", secret=SecretRef(namespace="default", name="keys", key="token", env="KEYS_TOKEN")
        ),
        timeout=5.0,
        retries=3,
        idempotent=True,
        output={"type": "object"},
    )


def test_one_written_in_place_is_planned_alike(planned: Plan) -> None:
    text = agent("[{name: lookup, type: api, capabilities: [read], config: {endpoint: 'http://crm/x'}}]")
    (tool,) = helper(planned(text)).tools
    assert tool == ApiTool(
        name="lookup",
        endpoint="http://crm/x",
        parameters={"type": "object", "properties": {}, "additionalProperties": False},
        capabilities=("read",),
    )


@pytest.mark.requirement("tool-api-auth")
@pytest.mark.parametrize(
    ("login", "planned_login"),
    [
        ("{type: apiKey, header: X-K, secretRef: {name: k, key: v}}", {"type": "apiKey", "header": "X-K"}),
        ("{type: apiKey, secretRef: {name: k, key: v}}", {"type": "apiKey"}),
        ("{type: basic, secretRef: {name: k, key: v}}", {"type": "basic"}),
        (
            "{type: oauth, tokenUrl: 'https://id/token', clientId: me, scopes: [a, b], secretRef: {name: k, key: v}}",
            {"type": "oauth", "token_url": "https://id/token", "client_id": "me", "scopes": ("a", "b")},
        ),
    ],
)
def test_every_way_to_say_who_calls_has_its_plan(planned: Plan, login: str, planned_login: dict[str, str]) -> None:
    spec = f"{{type: api, api: {{endpoint: 'http://h', authentication: {login}}}}}"
    (tool,) = helper(planned(document("Tool", "x", spec) + agent("[x]"), {"K_V": "s"})).tools
    assert isinstance(tool, ApiTool)
    ref = SecretRef(namespace="default", name="k", key="v", env="K_V")
    assert tool.login == ApiLogin(secret=ref, **planned_login)  # type: ignore[arg-type] # a row's values are of several types


def test_none_is_no_login(planned: Plan) -> None:
    spec = "{type: api, api: {endpoint: 'http://h', authentication: {type: none}}}"
    (tool,) = helper(planned(document("Tool", "x", spec) + agent("[x]"))).tools
    assert isinstance(tool, ApiTool)
    assert tool.login is None


@pytest.mark.requirement("tool-api-auth")
def test_a_secret_that_is_missing_is_told_at_its_tool_and_stops_no_agent(planned: Plan) -> None:
    api = "endpoint: 'http://h', secretHeaders: {X-Key: {name: a, key: k}}"
    spec = f"{{type: api, api: {{{api}, authentication: {{type: basic, secretRef: {{name: b, key: k}}}}}}}}"
    result = planned(document("Tool", "x", spec) + agent("[x]"))
    assert helper(result).tools[0].name == "x"
    assert {problem.severity for problem in result.problems} == {"warning"}
    assert [(problem.reason, problem.resource, problem.path) for problem in result.problems] == [
        ("MissingSecret", "Tool default/x", "spec.api.secretHeaders.X-Key"),
        ("MissingSecret", "Tool default/x", "spec.api.authentication.secretRef"),
    ]


def test_a_plan_shows_no_key_that_is_in_its_address(planned: Plan) -> None:
    spec = "{type: api, api: {endpoint: 'http://h/x?key=hidden-key', headers: {X-Key: hidden-key}}}"
    (tool,) = helper(planned(document("Tool", "x", spec) + agent("[x]"))).tools
    assert "hidden-key" not in repr(tool)
