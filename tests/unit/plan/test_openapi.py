"""An OpenAPI document becomes a tool for each operation."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import ApiTool
from tests.unit.plan.test_tools import agent, helper

Plan = Callable[..., AllPlanned]
pytestmark = pytest.mark.requirement("tool-api-openapi")
SHOP = """
openapi: 3.0.3
info: {title: shop, version: "1"}
servers: [{url: "http://169.254.169.254/latest"}]
paths:
  /orders/{id}:
    parameters:
      - {$ref: "#/components/parameters/id"}
    get:
      operationId: getOrder
      summary: One order.
      parameters:
        - {name: expand, in: query, description: What else., schema: {type: array, items: {type: string}}}
        - {name: X-Trace, in: header, schema: {type: string}}
    delete:
      operationId: dropOrder
  /orders:
    post:
      operationId: createOrder
      summary: Orders something.
      description: Use it once.
      parameters:
        - {name: dry, in: query, schema: {type: boolean}}
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: "#/components/schemas/Order"}
components:
  parameters:
    id: {name: id, in: path, required: true, schema: {type: string, pattern: "^[0-9]+$"}}
  schemas:
    Thing:
      type: object
      properties:
        sku: {type: string, example: A1}
        count: {type: integer, minimum: 0, exclusiveMinimum: true}
        parts: {type: array, items: {$ref: "#/components/schemas/Thing"}}
    Order:
      allOf:
        - {type: object, required: [what], properties: {what: {$ref: "#/components/schemas/Thing"}}}
        - {type: object, properties: {id: {type: string, readOnly: true}, note: {type: string, nullable: true}}}
"""


def tool(document: str, operations: str = "") -> str:
    lines = [f"operations: {operations}"] if operations else []
    source = "\n".join([*lines, "inline:", textwrap.indent(document, "  ")])
    return f"""
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: shop}}
spec:
  type: api
  api:
    endpoint: http://shop:8080/v1
    headers: {{X-Team: a}}
    fromOpenAPI:
{textwrap.indent(source, "      ")}
"""


def made(result: AllPlanned) -> dict[str, ApiTool]:
    return {each.name: each for each in helper(result).tools if isinstance(each, ApiTool)}


def small(operation: dict[str, Any], path: str = "/x", **components: Any) -> str:
    document = {
        "openapi": "3.1.0",
        "paths": {path: {"post": {"operationId": "op", **operation}}},
        "components": components,
    }
    return json.dumps(document)


def test_each_operation_is_a_tool_below_the_address_that_its_author_wrote(planned: Plan) -> None:
    tools = made(planned(tool(SHOP) + agent("[shop]")))
    assert list(tools) == ["getOrder", "dropOrder", "createOrder"]
    order_id = {"type": "string", "pattern": "^[0-9]+$"}
    assert tools["getOrder"] == ApiTool(
        name="getOrder",
        endpoint="http://shop:8080/v1/orders/{id}",
        description="One order.",
        headers={"X-Team": "a"},
        parameters={
            "type": "object",
            "properties": {
                "id": order_id,
                "expand": {"type": "array", "items": {"type": "string"}, "description": "What else."},
            },
            "additionalProperties": False,
            "required": ["id"],
        },
    )
    assert (tools["dropOrder"].method, tools["dropOrder"].parameters["properties"]) == ("DELETE", {"id": order_id})
    create = tools["createOrder"]
    assert (create.method, create.endpoint, create.query) == ("POST", "http://shop:8080/v1/orders", ("dry",))
    assert create.description == "Orders something.\nUse it once."
    assert create.headers == {"Content-Type": "application/json", "X-Team": "a"}
    assert create.parameters["required"] == ["what"]
    assert create.parameters["properties"] == {
        "dry": {"type": "boolean"},
        "what": {
            "type": "object",
            "properties": {
                "sku": {"type": "string"},
                "count": {"type": "integer", "exclusiveMinimum": 0},
                "parts": {"type": "array", "items": {}},
            },
        },
        "note": {"type": ["string", "null"]},
    }


def test_an_author_lists_what_is_offered(planned: Plan) -> None:
    assert list(made(planned(tool(SHOP, operations="[get*, createOrder]") + agent("[shop]")))) == [
        "getOrder",
        "createOrder",
    ]
    (problem,) = errors(planned(tool(SHOP, operations="[getOrders]") + agent("[shop]")).problems)
    assert (problem.reason, problem.path) == ("UnknownOperation", "spec.api.fromOpenAPI.operations[0]")
    assert "did you mean getOrder?" in problem.message


def test_a_document_may_be_in_a_config_map(planned: Plan) -> None:
    text = (
        tool("x").partition("    fromOpenAPI:")[0] + "    fromOpenAPI: {configMapKeyRef: {name: shop, key: api.yaml}}\n"
    )
    held = f"""
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: shop}}
data:
  api.yaml: |
{textwrap.indent(SHOP, "    ")}
"""
    assert len(made(planned(held + text + agent("[shop]")))) == 3
    (problem,) = planned(text + agent("[shop]")).problems
    assert problem.reason == "MissingConfigMap"


@pytest.mark.parametrize("document", ["{swagger: '2.0', paths: {}}", "{openapi: 3.0.0}", "{}"])
def test_what_is_no_document_says_so(planned: Plan, document: str) -> None:
    assert "InvalidOpenAPI" in [
        problem.reason for problem in errors(planned(tool(document) + agent("[shop]")).problems)
    ]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (
            small({"parameters": [{"name": "X-K", "in": "header", "required": True}]}),
            "it needs the header parameter X-K",
        ),
        (
            small({"parameters": [{"name": "q", "in": "query", "explode": False, "schema": {}}]}),
            "that is not supported",
        ),
        (small({"requestBody": {"content": {"text/xml": {}}}}), "its body is of type text/xml"),
        (small({"requestBody": {"content": {"application/json": {"schema": {"type": "array"}}}}}), "is no object"),
        (small({"requestBody": {"$ref": "#/components/gone"}}), "it refers to what is not in the document"),
        (small({"requestBody": {"$ref": "http://169.254.169.254/x"}}), "it refers to another document"),
        (small({}, "/x/{id}"), "its path has {id}, which is not among its parameters"),
        (small({}, "@evil.example/x"), "cannot be part of a URL"),
        (
            small({"parameters": [{"name": "q", "in": "query", "schema": {"type": "strin"}}]}),
            "no schema that can be checked",
        ),
        (
            small({"parameters": [{"name": "q", "in": where, "schema": {}} for where in ("path", "query")]}, "/{q}"),
            "two of its parameters are named q",
        ),
    ],
)
def test_an_operation_that_no_tool_can_be_made_of_is_left_out_and_told(planned: Plan, document: str, why: str) -> None:
    result = planned(tool(document) + agent("[shop]"))
    assert made(result) == {}
    (problem,) = result.problems
    assert (problem.reason, problem.severity) == ("OperationLeftOut", "warning")
    assert why in problem.message


def test_a_document_cannot_make_a_plan_without_end(planned: Plan) -> None:
    levels = {
        f"s{n}": {"properties": {k: {"$ref": f"#/components/schemas/s{n + 1}"} for k in "abcd"}} for n in range(12)
    }
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/s0"}}}}
    result = planned(tool(small({"requestBody": body}, schemas=levels | {"s12": {}})) + agent("[shop]"))
    assert "its schemas are too large" in result.problems[0].message
    many = {"openapi": "3.1.0", "paths": {f"/p{n}": {"get": {}} for n in range(200)}}
    (problem,) = planned(tool(json.dumps(many)) + agent("[shop]")).problems
    assert problem.reason == "TooManyOperations"


def test_where_there_are_no_files_beside_manifests_a_config_map_is_advised(planned: Plan) -> None:
    text = """
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: shop}
spec: {type: api, api: {endpoint: "http://shop", fromOpenAPI: {file: apis/shop.yaml}}}
"""
    plan = helper(planned(text + agent("[shop]")))
    assert plan.tools == ()
    (notice,) = plan.notices
    assert notice.reason == "NotSupportedYet"
    assert "kubectl create configmap NAME --from-file=shop.yaml" in notice.message
