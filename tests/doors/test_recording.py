"""A run of `kadre up` is recorded and played again: what changes in the files is told, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import kadre
from tests.support.gateway import gateway
from tests.support.scene import Asking, Scene
from tests.support.upping import up

FILES = """\
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: script}
spec: {provider: scripted, model: scripted}
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: {name: clock}
spec:
  type: python-runtime
  config:
    tools:
      fromString: |
        import datetime

        def weekday(date: str) -> str:
            \"\"\"The day of the week of a date written as YYYY-MM-DD.\"\"\"
            return datetime.date.fromisoformat(date).strftime("%A")
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: clerk}
spec:
  modelConfig: script
  systemPrompt: |
    You know the calendar.
    Be brief.
  tools: [clock]
"""
QUESTION = 'call weekday {"date": "2026-01-01"}'


@pytest.mark.requirement("record-replay")
async def test_a_recorded_run_passes_until_the_agent_is_another(tmp_path: Path) -> None:
    (tmp_path / "clerk.yaml").write_text(FILES)
    case, bare = tmp_path / "weekday.kadre.yaml", tmp_path / "kept.kadre.yaml"
    async with up(tmp_path) as upped:
        await upped.post("/chat", {"message": "hello", "session_id": "s"})
        _, answer = await upped.post("/chat", {"message": QUESTION, "session_id": "s"})
        assert answer["response"] == "Here is what I found: Thursday"
        recorded = await kadre("record", answer["run_id"], "--name", "weekday", KADRE_SERVER=upped.url)
        assert recorded.code == 0, recorded.err
        case.write_text(recorded.out)
        kept = await kadre("record", answer["run_id"], "--data-dir", tmp_path / ".kadre")
        assert kept.code == 0, kept.err
        assert "prompt and tools cannot be known here" in kept.err
        bare.write_text(kept.out)
    assert "You know the calendar.\n  Be brief." in recorded.out
    assert "output: Thursday" in recorded.out
    assert "content: hello" in recorded.out
    assert "prompt:" not in kept.out

    passed = await kadre("test", tmp_path)  # cases lie among the manifests, and are none
    assert (passed.code, passed.out.splitlines()[-1]) == (0, "2 cases, none failed"), passed.out

    (tmp_path / "clerk.yaml").write_text(FILES.replace("Be brief.", "Be verbose.").replace("[clock]", "[]"))
    failed = await kadre("test", case)
    assert failed.code == 1
    told = failed.out.splitlines()
    assert [
        line for line in ("    -  Be brief.", "    +  Be verbose.", "    -    output: Thursday") if line not in told
    ] == []
    assert "+    error: 'there is no tool ''weekday''; the tools are: none'" in failed.out

    assert (await kadre("test", case, "--update")).out == f"{case}: written\n"
    assert (await kadre("test", case)).code == 0
    assert "Be verbose." in case.read_text()


@pytest.mark.requirement("record-replay")
async def test_a_run_behind_a_gateway_is_recorded_whole_with_its_approval(tmp_path: Path) -> None:
    scene, large = Scene(), "y" * 100_000

    def write(text: str) -> str:
        """Write it down."""
        return f"written {text} {large}"

    tools = [Asking(write, server="desk")]
    await scene.says("hello", [("write", {"text": "it"})], large, tools=tools, system_prompt="Be kind.")
    await scene.ask("hi", session_id="s")
    async with gateway(tmp_path, {"a": [scene]}) as (http, _):
        async with http.post("/runs", json={"agent": "a", "message": "write", "session_id": "s"}) as answer:
            run = (await answer.json())["run_id"]
        live = await scene.host.open(run)
        approval = await scene.approval(live)
        await scene.host.approve(run, approval.id, "allow", "user:ada", "fine")
        await live.wait()
        recorded = await kadre("record", run, KADRE_SERVER=str(http._build_url("")))
        assert recorded.code == 0, recorded.err
    assert "by: user:ada" in recorded.out
    case = tmp_path / "c.kadre.yaml"
    case.write_text(recorded.out)
    (tmp_path / "agent.yaml").write_text(DESK)
    passed = await kadre("test", case)
    assert passed.code == 0, passed.out
    told = json.loads((await kadre("test", case, "-f", tmp_path / "agent.yaml", "-o", "json")).out)
    assert told == {"passed": True, "cases": [{"file": str(case), "name": run, "passed": True, "why": ""}]}
    (tmp_path / "agent.yaml").write_text(DESK.replace("http://desk:80", "http://desk:80, capabilities: [write]"))
    failed = await kadre("test", case)
    assert failed.code == 1
    assert "-      by: user:ada" in failed.out


DESK = """\
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: a}
spec:
  model: {provider: openai, name: m}
  systemPrompt: Be kind.
  tools:
  - {name: desk, endpoint: http://desk:80}
"""
