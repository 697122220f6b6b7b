"""Tools that are too many to be sent are found by words: the same each time, and no more than there is room for."""

from __future__ import annotations

import pytest

from kadre.base.errors import ToolError
from kadre.engine.messages import Message, ToolCall, ToolSpec
from kadre.engine.tools import finding
from kadre.engine.tools.finding import Finder
from kadre.engine.tools.port import CallContext

CONTEXT = CallContext(run_id="run-1", session_id="ses-1", key="run-1/1")
WORDS = {
    "create_issue": "Open a new issue in a repository.",
    "list_issues": "The issues of a repository.",
    "mergePullRequest": "Merge a change that was proposed.",
    "get_pod_logs": "What the containers of a pod have written.",
    "delete_namespace": "Delete a namespace of the cluster, with everything in it.",
    "send_mail": "Write to somebody; issues and repositories are no business of it.",
}


def spec(name: str, description: str = "", server: str = "desk") -> ToolSpec:
    return ToolSpec(name=name, description=description, parameters={"type": "object"}, server=server)


def finder(budget: int = 10_000) -> Finder:
    return Finder([], [spec(name, text) for name, text in WORDS.items()], budget)


async def found(query: str, within: Finder | None = None) -> list[str]:
    output = await (within or finder()).call(finding.NAME, {"query": query}, CONTEXT)
    assert output.outside is None
    return output.content.splitlines()[1:]


def says(*names: str) -> Message:
    return Message("tool", "\n".join([finding.FOUND, *names]), tool_call_id="c", name=finding.NAME)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("open an issue", "create_issue"),
        ("merge pull requests", "mergePullRequest"),
        ("pod logs", "get_pod_logs"),
        ("DELETE namespaces", "delete_namespace"),
        ("mergePullRequest", "mergePullRequest"),
        ("send_mail", "send_mail"),
    ],
)
async def test_words_of_names_and_descriptions_are_found(query: str, first: str) -> None:
    names = await found(query)
    assert names[0] == first
    assert names == await found(query)


async def test_the_name_counts_for_more_than_the_description() -> None:
    assert (await found("issue"))[:2] == ["list_issues", "create_issue"]
    assert (await found("issue"))[-1] == "send_mail"


async def test_one_search_finds_a_handful_and_nothing_is_an_error_that_says_what_to_do() -> None:
    many = Finder([], [spec(f"look_{number}") for number in range(100)], 10_000)
    assert await found("look", many) == [f"look_{number}" for number in range(finding.MOST)]
    with pytest.raises(ToolError, match="no tool has to do with 'zebra'; say it in other words"):
        await found("zebra")
    with pytest.raises(ToolError, match="query"):
        await finder().call(finding.NAME, {"query": "x" * 501}, CONTEXT)


def test_what_fits_is_sent_whole_and_the_smallest_first() -> None:
    few, many = [spec("one"), spec("two")], [spec(f"look_{number}") for number in range(50)]
    everything = sum(map(finding.size, [*few, *many])) // finding.TOKEN_BYTES + 1
    assert finding.over([many, few], everything) is None
    made = finding.over([many, few], everything - 2)
    assert made is not None
    assert [each.name for each in made.always] == ["one", "two"]
    assert len(made.rest) == 50
    none = finding.over([many, few], 0)
    assert none is not None
    assert none.always == ()


def test_what_was_found_or_called_is_sent_and_the_same_object_each_time() -> None:
    made = Finder([], [spec(name, text * 20) for name, text in WORDS.items()], 10_000)
    asked = Message("assistant", "", (ToolCall("1", "send_mail"), ToolCall("2", "no_such_tool")))
    other = Message("tool", "create_issue", tool_call_id="3", name="read_page")
    messages = [says("list_issues", "no_such_tool"), asked, other]
    sent = made.sent(messages)
    assert [each.name for each in sent.specs] == [finding.NAME, "list_issues", "send_mail"]
    assert made.sent([*messages, Message("user", "more")]).specs is sent.specs
    assert 0 < sent.unsent < made.sent([]).unsent == made.unsent


def test_what_was_found_longest_ago_makes_room() -> None:
    names = list(WORDS)
    made = finder(finding.size(spec(names[0], WORDS[names[0]])) * 3)
    sent = made.sent([says(*names[:5]), says(names[0])])
    assert names[0] in {each.name for each in sent.specs}
    assert 2 <= len(sent.specs) < 6
    assert [each.name for each in sent.specs[1:]] == [n for n in names if n in {each.name for each in sent.specs[1:]}]
    small = finder(1)
    assert [each.name for each in small.sent([says(*names)]).specs] == [finding.NAME, names[-1]]


def test_the_model_is_told_whose_tools_there_are() -> None:
    made = Finder([], [spec("a", server="github"), spec("b", server="github"), spec("c", server="jira")], 0)
    assert "3 more, of github (2), jira (1)" in made.spec.description
