"""A REST API as a tool of an agent that is served, on a laptop and in a pod: the documents' ticket service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kadre.plan.types import AgentKey, AgentPlan, ApiLogin, ApiTool, ModelPlan, SecretRef
from tests.support.tickets import TOKEN, Tickets, tickets
from tests.support.upping import Upped, hosting, up

pytestmark = pytest.mark.requirement("tool-api", "tool-api-path", "tool-api-auth")
SERVICE = "ticketing-service.support.svc:8080"
MANIFEST = f"""
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: create-ticket}}
spec:
  type: api
  description: Create a customer inquiry ticket.
  api:
    endpoint: http://{SERVICE}/api/v1/tickets
    method: POST
    timeout: 30s
    retries: 3
    headers:
      Content-Type: application/json
    authentication:
      type: bearer
      secretRef: {{name: ticketing-api-token, key: token}}
  parameters:
    - {{name: title, type: string, required: true, maxLength: 200}}
    - {{name: priority, type: string, enum: [low, medium, high, urgent], default: medium}}
  output:
    type: object
    properties:
      ticket_id: {{type: string}}
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: get-customer-info}}
spec:
  type: api
  description: Retrieve customer information by ID.
  api:
    endpoint: http://{SERVICE}/api/v1/customers/{{customer_id}}
    authentication: {{type: bearer, secretRef: {{name: ticketing-api-token, key: token}}}}
  parameters:
    - {{name: customer_id, type: string, required: true, pattern: "^[A-Z0-9]{{8}}$"}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: support}}
spec:
  model: {{provider: openai, name: m}}
  tools: [create-ticket, get-customer-info]
---
apiVersion: v1
kind: Secret
metadata: {{name: ticketing-api-token}}
stringData: {{token: {TOKEN}}}
"""
DOCUMENTED = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: desk}}
data:
  openapi.yaml: |
    openapi: 3.0.3
    paths:
      /tickets:
        post:
          operationId: fileTicket
          requestBody:
            content:
              application/json: {{schema: {{type: object, properties: {{title: {{type: string}}}}}}}}
      /tickets/{{id}}:
        delete:
          operationId: dropTicket
          parameters: [{{name: id, in: path, schema: {{type: string}}}}]
      /customers/{{id}}:
        get:
          operationId: getCustomer
          parameters: [{{name: id, in: path, schema: {{type: string}}}}]
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: desk}}
spec:
  type: api
  api:
    endpoint: http://{SERVICE}/api/v1
    authentication: {{type: bearer, secretRef: {{name: ticketing-api-token, key: token}}}}
    fromOpenAPI:
      configMapKeyRef: {{name: desk, key: openapi.yaml}}
      operations: [fileTicket, get*]
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: support}}
spec:
  model: {{provider: openai, name: m}}
  tools: [desk]
---
apiVersion: v1
kind: Secret
metadata: {{name: ticketing-api-token}}
stringData: {{token: {TOKEN}}}
"""


@pytest.fixture
async def served() -> AsyncIterator[Tickets]:
    async with tickets() as running:
        yield running


async def told(running: Upped, message: str) -> dict[str, Any]:
    """The end of the one call that an answer to the message takes, as events tell it."""
    status, reply = await running.post("/chat", {"message": message})
    assert status == 200, reply
    events = (await running.get(f"/runs/{reply['run_id']}"))["events"]
    assert TOKEN not in json.dumps(events)
    [end] = [event["tool_call"] for event in events if event["type"] == "tool_end"]
    return dict(end)


async def test_an_agent_files_a_ticket_and_looks_a_customer_up(tmp_path: Path, served: Tickets) -> None:
    (tmp_path / "a.yaml").write_text(MANIFEST)
    async with up(tmp_path, "--model", "scripted", "--map", f"{SERVICE}=127.0.0.1:{served.port}") as running:
        end = await told(running, 'call create-ticket {"title": "It is broken"}')
        assert end["status"] == "complete"
        assert json.loads(end["output"]) == {"ticket_id": "T-1", "status": "open", "created_at": "today"}
        assert served.filed == [{"title": "It is broken", "priority": "medium"}]
        newest = (await running.get("/runs"))["runs"][0]["run_id"]
        assert served.headers[0]["idempotency-key"] == f"{newest}/{end['id']}"
        assert served.headers[0]["content-type"] == "application/json"

        end = await told(running, 'call get-customer-info {"customer_id": "ABCD1234"}')
        assert json.loads(end["output"])["tier"] == "gold"
        assert served.asked == ["ABCD1234"]
        assert "idempotency-key" not in served.headers[1]


@pytest.mark.requirement("tool-parameters")
async def test_a_model_that_gives_the_wrong_arguments_reads_what_to_mend(tmp_path: Path, served: Tickets) -> None:
    (tmp_path / "a.yaml").write_text(MANIFEST)
    async with up(tmp_path, "--model", "scripted", "--map", f"{SERVICE}=127.0.0.1:{served.port}") as running:
        end = await told(running, 'call create-ticket {"titel": "x", "priority": "asap"}')
        assert end["status"] == "error"
        assert "title: is required" in end["error"]
        assert "titel: is unknown; did you mean title?" in end["error"]
        assert "priority: 'asap' is not one of ['low', 'medium', 'high', 'urgent']" in end["error"]
        end = await told(running, 'call get-customer-info {"customer_id": "../../admin"}')
        assert "customer_id: '../../admin' does not match" in end["error"]
    assert (served.filed, served.asked, served.headers) == ([], [], [])


@pytest.mark.requirement("tool-api-openapi")
async def test_a_document_of_an_api_is_its_tools(tmp_path: Path, served: Tickets) -> None:
    (tmp_path / "a.yaml").write_text(DOCUMENTED)
    async with up(tmp_path, "--model", "scripted", "--map", f"{SERVICE}=127.0.0.1:{served.port}") as running:
        assert json.loads((await told(running, 'call fileTicket {"title": "Late"}'))["output"])["ticket_id"] == "T-1"
        assert "title: 5 is not of type 'string'" in (await told(running, 'call fileTicket {"title": 5}'))["error"]
        assert json.loads((await told(running, 'call getCustomer {"id": "A1"}'))["output"])["name"] == "Ada"
        assert (await running.get("/agents"))["agents"][0]["tools"] == ["fileTicket", "getCustomer"]
    assert (served.filed, served.asked) == ([{"title": "Late"}], ["A1"])


async def test_a_pod_reads_the_secret_from_its_files_and_again_when_it_changes(tmp_path: Path, served: Tickets) -> None:
    login = ApiLogin(type="bearer", secret=SecretRef(namespace="default", name="tickets", key="token"))
    parameters = {"type": "object", "properties": {"title": {"type": "string", "default": "It is broken"}}}
    tool = ApiTool(
        name="file", endpoint=f"{served.url}/api/v1/tickets", method="POST", login=login, parameters=parameters
    )
    model = ModelPlan(provider="scripted", model="m")
    plan = AgentPlan(key=AgentKey("default", "support"), model=model, tools=(tool,))
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plan))
    secret = tmp_path / "secrets" / "tickets" / "token"
    secret.parent.mkdir(parents=True)
    secret.write_text("stale-token\n")
    folders = ("--secrets", tmp_path / "secrets", "--data-dir", tmp_path / "data")
    async with hosting(tmp_path / "plan.json", *folders) as pod:
        end = await told(pod, "call file {}")
        assert end["status"] == "error"
        assert (
            "answered HTTP 401 Unauthorized (whoever runs this agent has to check its authentication)" in end["error"]
        )
        secret.write_text(f"{TOKEN}\n")
        assert (await told(pod, "call file {}"))["status"] == "complete"
