"""Secrets are placeholders in what the model reads, and values in what tools are called with."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from kadre.base.errors import BadRequest, shorten
from kadre.engine import events as ev
from kadre.engine.agent import HostedAgent
from kadre.engine.approvals import Said
from kadre.engine.masking import MOST_TEXTS, NO_MASKS, Masks
from kadre.engine.spelling import LARGE
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.code import CodeToolset, Ran
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.human import HumanToolset
from kadre.plan.types import (
    AgentKey,
    AgentPlan,
    AgentTool,
    ApprovalPlan,
    ApprovalRule,
    CodeTool,
    HumanTool,
    McpTools,
    ModelPlan,
    SecretRef,
)
from tests.support.scene import Told

pytestmark = pytest.mark.requirement("secrets-masked")
CANARY = 'c4n4ry/"key"'


class Kept:
    """A SecretReader of what a test puts in it."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def read(self, ref: SecretRef) -> str | None:
        return self.values.get(ref.key or ref.env)


def secret(key: str) -> SecretRef:
    return SecretRef(namespace="default", name="keys", key=key)


PLAN = AgentPlan(
    key=AgentKey("default", "a"),
    model=ModelPlan(provider="openai", model="m", api_key=SecretRef(env="OPENAI_API_KEY")),
    tools=(McpTools(name="t", secret_headers={"Authorization": secret("token"), "X-Key": secret("gone")}),),
)


def masks(**values: str) -> Masks:
    return Masks(PLAN, Kept(**values))


def test_a_secret_is_hidden_however_it_is_written() -> None:
    made = masks(token=CANARY)
    encoded = base64.b64encode(CANARY.encode()).decode()
    for form in (CANARY, 'c4n4ry/\\"key\\"', "c4n4ry%2F%22key%22", encoded, encoded.rstrip("=")):
        hidden = made.hide(f"it is {form}, see?")
        assert hidden.startswith("it is [secret:keys/token]")
        assert hidden.endswith(", see?")


PEM = "\n".join(
    ("-----BEGIN PRIVATE KEY-----", f"MIIEc4n4ry/1+{'A' * 51}", f"MIIEc4n4ry/2+{'B' * 51}", "-----END PRIVATE KEY-----")
)


def indented(by: str, text: str = PEM) -> str:
    return "".join(f"{by}{line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "shown",
    [
        PEM,
        indented("    "),
        indented("\t"),
        indented("> "),
        indented("+"),
        indented("  ").replace("\n", "\r\n"),
        indented("").replace("\n", "\n\n"),
        json.dumps(PEM),
        json.dumps(PEM).replace("/", "\\/"),
        json.dumps(indented("    ")),
        json.dumps(PEM.replace("\n", "\r\n")),
        quote(PEM, safe=""),
        quote_plus(PEM),
        quote(PEM),
        "\n".join(PEM.splitlines()[:2]),
    ],
)
def test_a_secret_of_several_lines_is_hidden_however_they_are_indented(shown: str) -> None:
    hidden = masks(token=PEM + "\n").hide(f"key: |\n{shown}\nnext: 1")
    assert "c4n4ry" not in hidden
    assert "AAAA" not in hidden
    assert "[secret:keys/token]" in hidden
    assert hidden.startswith("key: |\n")
    assert hidden.endswith("\nnext: 1")


def test_a_whole_key_in_yaml_is_one_placeholder() -> None:
    shown = f"data:\n  key: |\n{indented('    ')}  other: 1\n"
    assert masks(token=PEM).hide(shown) == "data:\n  key: |\n    [secret:keys/token]\n  other: 1\n"


@pytest.mark.parametrize("shown", [*PEM.splitlines()[1:3], indented("> ", PEM.splitlines()[2]), PEM[:-20]])
def test_a_line_of_a_key_is_hidden_where_the_others_are_not_shown(shown: str) -> None:
    hidden = masks(token=PEM).hide(f"<{shown}>")
    assert "c4n4ry" not in hidden
    assert "AAAA" not in hidden
    assert "BBBB" not in hidden


def test_a_secret_with_lines_of_signs_is_looked_for_without_trying_all_ways_to_read_them() -> None:
    signs = "***\n" * 60
    value = f"{signs}c4n4ry-abc\n{signs}end-of-it\n***"
    made = masks(token=value)
    assert made.hide(f"<{value}>") == "<[secret:keys/token]>"
    assert masks(token=signs).hide(f"<{signs.strip()}>") == "<[secret:keys/token]>"
    assert masks(token="user\n!$%&/()=?").hide("user\n!$%&/()=?") == "[secret:keys/token]"
    for other in (f"c4n4ry-abc\n{signs * 4}end-of-that", "***\n" * 59, f"{signs}c4n4ry-abd\n{signs}end-of-it"):
        assert made.hide(other) == other


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (CANARY, 'c4n4ry\\/\\"key\\"'),
        (CANARY, "c4n4ry%2f%22key%22"),
        (CANARY, "c4n4ry/%22key%22"),
        (CANARY, "c4n4ry/&quot;key&quot;"),
        (CANARY, "c4n4ry&#x2F;&#34;key&#34;"),
        (CANARY, CANARY.encode().hex()),
        (CANARY, CANARY.encode().hex().upper()),
        ("c4n4ry 'it is'", "c4n4ry \\'it is\\'"),
        ("c4n4ry key+more", "c4n4ry+key%2Bmore"),
        ("c4n4ryü€", "c4n4ry\\u00fc\\u20AC"),
        ("c4n4ryü€", "c4n4ry%c3%bc%E2%82%AC"),
        ("c4n4ry\\\\dom", "c4n4ry\\\\\\\\dom"),
    ],
)
def test_a_secret_is_hidden_whatever_escapes_it(value: str, shown: str) -> None:
    assert masks(token=value).hide(f"<{shown}>") == "<[secret:keys/token]>"


@pytest.mark.parametrize("length", [6, 9, len(PEM) // 2])
def test_half_of_a_secret_is_hidden_where_a_long_text_was_cut_amid_it(length: int) -> None:
    said = shorten("x" * 400 + " is " + PEM, 404 + length + 1)
    hidden = masks(token=PEM, gone=CANARY).hide(f"{said}; look before you call it again")
    assert hidden == "x" * 400 + " is [secret:keys/token]…; look before you call it again"


@pytest.mark.parametrize("value", ["sk-sk-sk-sk-abcdefghijk", "0000000000000123456789", CANARY])
def test_the_half_of_a_secret_is_hidden_though_it_repeats_itself_and_others_were_cut_before(value: str) -> None:
    for length in range(6, len(value)):
        hidden = masks(token=value).hide(f"{'… ' * 100}the key {value[:length]}… is none")
        assert hidden == f"{'… ' * 100}the key [secret:keys/token]… is none"


def test_a_secret_in_json_within_json_is_hidden() -> None:
    for value in ('c4n4ry/"key"', "c4n4ry-first\nc4n4ry-second", PEM):
        body = json.dumps({"password": value})
        hidden = masks(token=value).hidden({"body": body, "n": [1, None, value], value: True})
        placed = "[secret:keys/token]"
        assert masks(token=value).hidden({"body": body}) == {"body": json.dumps({"password": placed})}
        assert hidden == {"body": json.dumps({"password": placed}), "n": [1, None, placed], placed: True}


def test_what_is_no_part_of_a_secret_stays_though_it_was_cut() -> None:
    for said in ("c4n…", "c4n4ry/…", 'c4n4rx/"k…', "…", 'an c4n4ry/"k …', 'c4n4ry/"q…'):
        expected = "[secret:keys/token]…" if said == "c4n4ry/…" else said
        assert masks(token=CANARY).hide(said) == expected


@pytest.mark.parametrize("user", ["", "a", "ad", "ada", "ada@example.com"])
@pytest.mark.parametrize("end", ["", "\n", "x", "xy", '", "more": 1}'])
@pytest.mark.parametrize("secret", ["s3cr3t", "s3cr3t-c4n4ry", "s3cr3t?>c4n4ry~~", "s3cr3t-c4n4ry>?>?>?"])
def test_a_secret_amid_others_in_base64_is_hidden(user: str, end: str, secret: str) -> None:
    data = f"{user}:{secret}{end}".encode()
    usual = base64.b64encode(data).decode()
    for encoded in (usual, usual.replace("+", "-").replace("/", "_"), usual.replace("/", "\\/")):
        hidden = masks(token=secret).hide(f"Authorization: Basic {encoded} it was")
        start, placeholder, rest = hidden.partition("[secret:keys/token]")
        assert placeholder
        left = f"{start.removeprefix('Authorization: Basic ')}".encode()
        # Whole bytes before it are those of the user.
        assert base64.urlsafe_b64decode(left[: len(left) // 4 * 4]) in f"{user}:".encode()
        assert rest.endswith(" it was")
        assert len(rest) <= len(" it was") + 4 * (len(end) // 3 + 2)


def test_in_a_secret_that_is_a_document_its_texts_are_hidden() -> None:
    account = {"type": "service_account", "private_key": PEM, "nested": [{"password": "p4ss/w0rd"}], "n": 1234567}
    made = masks(token=json.dumps(account))
    assert made.hide("a service_account: p4ss/w0rd") == "a service_account: [secret:keys/token:2]"
    assert made.hide(PEM) == "[secret:keys/token:1]"
    assert made.hide(f"<{json.dumps(account)}>") == "<[secret:keys/token]>"
    assert made.reveal({"a": "[secret:keys/token:2]"}) == {"a": "p4ss/w0rd"}
    docker = {"auths": {"r.io": {"username": "ada", "password": "p4ssword", "auth": "YWRhOnA0c3N3b3Jk"}}}
    hidden = masks(token=json.dumps(docker)).hide("p4ssword YWRhOnA0c3N3b3Jk")
    assert hidden == "[secret:keys/token:1] [secret:keys/token:2]"
    assert masks(token="{no document").hide("{no document") == "[secret:keys/token]"
    assert masks(token="[" * 100_000).hide("x") == "x"


def test_of_a_large_document_the_longest_texts_are_hidden() -> None:
    values = {str(number): f"v4lue-{'x' * number}" for number in range(MOST_TEXTS + 10)}
    made = masks(token=json.dumps(values))
    assert made.hide(values[str(MOST_TEXTS + 9)]) == f"[secret:keys/token:{MOST_TEXTS}]"


def test_a_placeholder_is_never_taken_for_a_secret_nor_one_secret_left_bare_by_another() -> None:
    made = masks(token="secret", gone="keys/token")
    assert made.hide("a secret, keys/token") == "a [secret:keys/token], [secret:keys/gone]"
    made = masks(token="abcdefgh", gone="efghijklmn")
    assert made.hide("<abcdefghijklmn>") == "<[secret:keys/token][secret:keys/gone]>"


def test_a_very_large_secret_is_hidden_as_it_is_usually_written() -> None:
    value = "s3cr3t/" * (LARGE // 7 + 1)
    for shown in (value, json.dumps(value), quote(value, safe=""), base64.b64encode(value.encode()).decode()):
        assert "s3cr3t" not in masks(token=value).hide(shown)
    assert masks(token="?" * 20).hide(f"<{'?' * 20}>") == "<[secret:keys/token]>"


def test_what_is_secret_in_a_secret_is_hidden_too() -> None:
    for value, part in (
        ("Bearer t0ken-of-mine", "t0ken-of-mine"),
        ("ada:p4ssword", "p4ssword"),
        ("postgresql://ada:p4ss%2Fword@db/x", "p4ss/word"),
    ):
        made = masks(token=value)
        assert made.hide(f"<{value}> <{part}>") == "<[secret:keys/token]> <[secret:keys/token:1]>"
        assert made.reveal({"a": "[secret:keys/token:1]"}) == {"a": part}


def test_what_is_short_or_missing_is_not_looked_for() -> None:
    assert masks(token="no").hide("no, not now") == "no, not now"
    assert masks().hide("plain") == "plain"
    assert NO_MASKS.hide("plain") == "plain"
    assert NO_MASKS.reveal({"a": "[secret:keys/token]"}) == {"a": "[secret:keys/token]"}


def test_a_placeholder_becomes_the_value_it_has_now_wherever_it_is() -> None:
    kept = Kept(token="first-value", OPENAI_API_KEY="sk-canary")
    made = Masks(PLAN, kept)
    assert made.hide("first-value") == "[secret:keys/token]"
    kept.values["token"] = "second-value"
    given = {"a": ["x [secret:keys/token]", 1], "b": {"c": "[secret:OPENAI_API_KEY]"}, "d": None}
    assert made.used(given) == ("[secret:OPENAI_API_KEY]", "[secret:keys/token]")
    assert made.reveal(given) == {"a": ["x second-value", 1], "b": {"c": "sk-canary"}, "d": None}
    assert made.used({"a": "[secret:keys/other]"}) == ()


class Safe:
    """Shows its secret, and opens with it."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def show(self) -> str:
        """Show it."""
        return f"the code is {CANARY}"

    def fail(self) -> str:
        """Fail."""
        raise ValueError(f"not with {CANARY}")

    def open(self, code: str) -> str:
        """Open it."""
        self.opened.append(code)
        return f"opened with {code}"


async def hosted(scene: Any, safe: Safe, *turns: Any, extra: Any = (), **plan: Any) -> Told:
    model = Told(turns)
    made = AgentPlan(key=PLAN.key, model=PLAN.model, tools=PLAN.tools, **plan)
    tools = [Functions(safe.show, safe.fail, safe.open), *extra]
    agent = HostedAgent(made, model, tools, scene.journal, scene.clock, Masks(made, Kept(token=CANARY)))
    await scene.host.replace({**scene.host.agents, made.key: agent})
    return model


def told(live: Any, *models: Told) -> str:
    """All that events and requests to models say."""
    said = b"\n".join(ev.encode(event) for event in live.events).decode()
    return said + "".join(message.content for model in models for each in model.requests for message in each.messages)


async def test_the_model_never_sees_a_secret_and_a_tool_gets_it_once_a_person_has_allowed_it(scene: Any) -> None:
    safe = Safe()
    turns = [[("show", {}), ("fail", {})], [("open", {"code": "[secret:keys/token]"})], "done"]
    model = await hosted(scene, safe, *turns)
    live = await scene.start()
    approval = await scene.approval(live)
    assert approval.reason == "open would be given [secret:keys/token]"
    assert not safe.opened
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada")
    await asyncio.wait_for(live.wait(), 30)
    assert safe.opened == [CANARY]
    assert model.requests[2].messages[-1].content == "opened with [secret:keys/token]"
    assert "c4n4ry" not in told(live, model)
    assert told(live, model).count("[secret:keys/token]") > 5


async def test_a_rule_that_names_the_tool_lets_it_have_secrets_unasked_and_a_pattern_does_not(scene: Any) -> None:
    safe = Safe()
    call = [("open", {"code": "[secret:keys/token]"})]
    named = ApprovalPlan(rules=(ApprovalRule(action="allow", tools=("open",)),))
    await hosted(scene, safe, call, "done", approvals=named)
    await scene.ask()
    assert safe.opened == [CANARY]
    loose = ApprovalPlan(rules=(ApprovalRule(action="allow", tools=("o*",)),), on_expiry="allow")
    await hosted(scene, safe, call, "done", approvals=loose)
    live = await scene.start()
    assert (await scene.approval(live)).on_expiry == "deny"
    assert safe.opened == [CANARY]


class Aloud:
    """A sandbox whose every code prints itself."""

    async def check(self) -> None:
        pass

    async def run(self, code: str, seconds: float) -> Ran:
        return Ran(code, "done")


async def test_code_is_never_given_a_secret_which_it_could_but_print(scene: Any) -> None:
    code = CodeToolset(CodeTool(name="python"), Aloud())
    call = [("python", {"code": "print('-'.join('[secret:keys/token]'))"})]
    model = await hosted(scene, Safe(), call, "done", extra=[code])
    live = await scene.ask()
    assert scene.tool_ends(live)[0].output == "print('-'.join('[secret:keys/token]'))"
    assert "c4n4ry" not in told(live, model)


async def test_another_agent_is_given_the_placeholder(scene: Any) -> None:
    worker = AgentToolset(AgentTool(name="worker", agent=AgentKey("default", "b")), scene.host, 5)
    ask = [("worker", {"message": "open with [secret:keys/token]"})]
    model = await hosted(scene, Safe(), ask, "done", extra=[worker])
    other = await scene.says("no", name="b")
    live = await scene.ask()
    assert other.requests[0].messages[-1].content == "open with [secret:keys/token]"
    assert "c4n4ry" not in told(live, model, other)


async def test_what_a_person_types_of_a_secret_is_a_placeholder_to_the_model_and_in_events(scene: Any) -> None:
    safe = Safe()
    call = [("open", {"code": "x"})]
    rules = ApprovalPlan(rules=(ApprovalRule(action="ask", tools=("open",)),))
    model = await hosted(scene, safe, call, call, "done", approvals=rules)
    live = await scene.start()
    first = await scene.approval(live)
    said = Said(arguments={"code": CANARY})
    await scene.host.approve(live.info.run_id, first.id, "allow", "ada", f"it is {CANARY}", said)
    await scene.until(live, lambda: live.pending_approvals() not in ([], [first]))
    second = await scene.approval(live)
    await scene.host.approve(live.info.run_id, second.id, "deny", "ada", f"not {CANARY} again")
    await asyncio.wait_for(live.wait(), 30)
    assert safe.opened == [CANARY]
    assert model.requests[1].messages[-1].content.startswith("[ada allowed this call with other arguments")
    assert model.requests[2].messages[-1].content.endswith("denied by ada: not [secret:keys/token] again")
    assert "c4n4ry" not in told(live, model)


async def test_a_secret_that_a_person_types_in_base64_is_not_sent_as_something_else(scene: Any) -> None:
    safe = Safe()
    rules = ApprovalPlan(rules=(ApprovalRule(action="ask", tools=("open",)),))
    await hosted(scene, safe, [("open", {"code": "x"})], "done", approvals=rules)
    live = await scene.start()
    approval = await scene.approval(live)
    said = Said(arguments={"code": base64.b64encode(CANARY.encode()).decode()})
    with pytest.raises(BadRequest, match="a secret is in the arguments otherwise than as it is") as refused:
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", "", said)
    assert refused.value.reason == "InvalidArguments"
    said = Said(arguments={"code": f"{CANARY} [secret:keys/token]"})
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", "", said)
    await asyncio.wait_for(live.wait(), 5)
    assert safe.opened == [f"{CANARY} {CANARY}"]


async def test_a_person_who_answers_with_a_secret_tells_it_to_no_model(scene: Any) -> None:
    desk = HumanToolset(HumanTool(name="desk"))
    model = await hosted(scene, Safe(), [("desk", {"question": "Which?"})], "done", extra=[desk])
    live = await scene.start()
    approval = await scene.approval(live)
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", "", Said(answer=f"it is {CANARY}"))
    await asyncio.wait_for(live.wait(), 30)
    assert model.requests[1].messages[-1].content == "it is [secret:keys/token]"
    assert "c4n4ry" not in told(live, model)
