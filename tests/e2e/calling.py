"""How callers with tokens of the cluster talk to agents through its gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.e2e.conftest import INSTALLED, Terminal

CALLERS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: caller}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: stranger}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: talk}
rules: [{apiGroups: [kagent.dev], resources: [agents/chat], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: talk}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: talk}
subjects: [{kind: ServiceAccount, name: caller}]
"""
"""Manifests: of two accounts, `caller` may talk to every agent of the namespace and `stranger` to none."""


def bearing(terminal: Terminal, account: str) -> dict[str, str]:
    """The headers of a caller with a token of that account's."""
    return {"Authorization": f"Bearer {terminal.kubectl('create', 'token', account).strip()}"}


def gateways(terminal: Terminal) -> dict[str, str]:
    """The addresses of the gateway's pods, by their names."""
    chosen = ["get", "pods", "-n", INSTALLED, "-l", "app.kubernetes.io/component=gateway", "-o", "json"]
    items = json.loads(terminal.run("kubectl", *chosen))["items"]
    running = [each for each in items if "deletionTimestamp" not in each["metadata"]]
    return {each["metadata"]["name"]: f"http://{each['status']['podIP']}:8080" for each in running}


async def lines(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The events of a stream: the id of each, and what it says."""
    name = ""
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if line.startswith("id: "):
            name = line.removeprefix("id: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def asked(http: aiohttp.ClientSession, url: str, **more: Any) -> tuple[int, dict[str, Any]]:
    async with http.request("POST" if "json" in more else "GET", url, **more) as answer:
        return answer.status, await answer.json()
