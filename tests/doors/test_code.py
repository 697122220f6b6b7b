"""An agent of `kadre up` that runs the code its model writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.upping import up

pytestmark = pytest.mark.requirement("tool-code")
MANIFEST = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: python}
spec: {type: code, description: Runs a calculation.}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: analyst}
spec:
  model: {provider: scripted, name: scripted}
  tools: [python]
"""


async def test_a_model_calculates_and_sees_nothing_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(MANIFEST)
    async with up(tmp_path / "agent.yaml") as upped:
        assert (await upped.get("/agents"))["agents"][0]["tools"] == ["python"]
        for code, told in (("sum(range(101))", "5050"), ("open('/etc/shadow')", "No such file or directory")):
            status, reply = await upped.post("/chat", {"message": f'call python {{"code": "{code}"}}'})
            assert status == 200
            assert told in reply["response"]
    async with up(tmp_path / "agent.yaml", PATH=str(tmp_path)) as upped:
        status, begun = await upped.post("/runs", {"message": "hello"})
        assert status == 202
        async with upped.http.get(f"/runs/{begun['run_id']}/events") as stream:
            assert "install bubblewrap" in await stream.text()
