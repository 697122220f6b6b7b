"""Cases in files: what is wrong with one is told with its place, and what a person expects is held against the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kadre.api import reader
from kadre.base.errors import ProblemError
from kadre.base.problems import Problem
from kadre.cli import main
from kadre.engine.replay import case as cases
from kadre.engine.replay import player
from kadre.local import cases as files
from kadre.local import testing
from kadre.local.files import read_files
from kadre.local.settings import UpSettings

AGENT = """\
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: clerk}
spec:
  model: {provider: openai, name: gpt-4o}
  systemPrompt: Be brief.
"""
HEAD = """\
apiVersion: kadre.dev/v1alpha1
kind: Case
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clerk.yaml").write_text(AGENT)
    return tmp_path


def case(folder: Path, text: str, head: str = HEAD) -> Path:
    file = folder / "c.kadre.yaml"
    file.write_text(head + text)
    return file


def why(folder: Path, text: str, model: str = "", head: str = HEAD) -> str:
    tester = testing.Tester(override=UpSettings(model=model).override())
    return tester.test(case(folder, text, head)).why


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("agent: clerk\n", "missing required field `message`"),
        ("agent: clerk\nmessage: hi\nrepleis: []\n", "unknown field `repleis`"),
        ("agent: clerk\nmessage: hi\nreplies:\n- calls:\n  - tool: 3\n", "c.kadre.yaml:7: replies[0].calls[0].tool"),
        ("agent: [\n", "c.kadre.yaml"),
        ("agent: cler\nmessage: hi\nreplies: []\n", "has no agent 'cler'; did you mean clerk?"),
        ("agent: clerk\nmessage: hi\n", "the case has no replies"),
        ("agent: clerk\nmessage: hi\nmanifests: [nowhere]\nreplies: []\n", "no such file or folder"),
    ],
)
def test_what_is_wrong_with_a_case_is_told_with_its_place_and_a_fix(folder: Path, text: str, told: str) -> None:
    found = why(folder, text)
    assert told in found
    assert "c.kadre.yaml" in found or "nowhere" in found
    assert "fix: " in found


def test_a_file_of_another_kind_or_version_is_no_case(folder: Path) -> None:
    assert "the file holds no case" in why(folder, AGENT, head="")
    assert "of a version that this Kadre does not know" in why(folder, "", head=HEAD.replace("v1alpha1", "v9"))
    assert "no such file" in testing.Tester().test(folder / "none.kadre.yaml").why.lower()


@pytest.mark.parametrize(
    ("expect", "unmet"),
    [
        ("{tools: [], response: said, matches: 'you.*hello$', status: completed}", ""),
        ("{response: goodbye}", "expected an answer with 'goodbye'; it is 'I am a scripted model"),
        ("{matches: '^bye'}", "expected an answer that matches '^bye'"),
        ("{matches: '('}", "expect.matches is no pattern: missing )"),
        ("{tools: [look]}", "expected the calls look; made are none"),
        ("{status: failed}", "expected that the run ends failed; it ends completed"),
    ],
)
def test_what_a_person_expects_of_a_scripted_model_is_looked_at(folder: Path, expect: str, unmet: str) -> None:
    found = why(folder, f"agent: clerk\nmessage: hello\nexpect: {expect}\n", model="scripted")
    assert (found == "") is (unmet == "")
    assert unmet in found


HANGING = "- match: hang\n  say: one moment\n  fault: hang\n"
STRIKING = "- fault: {status: 401}\n"


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.main(words)
    return int(ended.value.code or 0)


def script(folder: Path, rules: str) -> str:
    (folder / "rules.txt").write_text(rules)
    return f"scripted:{folder / 'rules.txt'}"


def test_a_case_that_says_nothing_of_its_end_expects_that_the_run_completes(folder: Path) -> None:
    model = script(folder, STRIKING)
    text = "agent: clerk\nmessage: hello\n"
    assert "expected that the run ends completed; it ends failed (ModelUnauthorized: " in why(folder, text, model)
    assert why(folder, f"{text}expect: {{status: failed}}\n", model) == ""
    assert why(folder, f"{text}status: failed\n", model) == ""
    assert why(folder, text, "scripted") == ""


def test_a_case_that_is_stuck_fails_with_what_it_waits_for_and_the_others_are_played(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(player, "SECONDS", 0.05)
    model = script(folder, HANGING)
    for name, message in (("a", "hang"), ("b", "hello")):
        (folder / f"{name}.kadre.yaml").write_text(f"{HEAD}agent: clerk\nmessage: {message}\n")
    assert command("test", str(folder), "--model", model, "--no-color") == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("failed a.kadre.yaml")
    assert "the case is stuck: its run has not ended after 0.05 s" in told[1]
    assert "it waits for answer 1 of the model: mend its script, or the case" in told[1]
    assert told[2].startswith("passed b.kadre.yaml")
    assert told[-1] == "2 cases, 1 failed"


def test_an_update_that_fails_says_so_and_the_other_cases_are_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, agent in (("a", "nobody"), ("b", "clerk")):
        text = f"agent: {agent}\nprompt: Be kind.\nmessage: hi\nreplies:\n- text: Hi.\nstatus: completed\n"
        (folder / f"{name}.kadre.yaml").write_text(HEAD + text)
    assert command("test", str(folder), "--update") == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    assert "a.kadre.yaml: not written: " in first
    assert last.endswith("b.kadre.yaml: written")
    assert files.read(folder / "b.kadre.yaml").prompt == "Be brief."


def test_texts_stay_readable_and_are_read_as_they_were_written(folder: Path) -> None:
    odd = [
        "one\ntwo\n",
        "trailing \nspace",
        "tab\there",
        "yes",
        "2026-01-01",
        "null",
        "é ☕ \u2028",
        "# no",
        " lead",
        "a: b",
    ]
    kept = cases.Case(
        agent="clerk",
        message="\n".join(odd),
        replies=tuple(cases.Reply(text=text, calls=(cases.Call(tool="t", arguments={"x": text}),)) for text in odd),
        prompt="",
        tools=(),
    )
    written = files.text(kept)
    assert "- text: |\n    one\n    two\n" in written
    assert files.read(case(folder, "", head=written)) == kept


@example("\x85")
@example("0E0")
@example("a\u2028b\n\ufeff")
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_whatever_was_said_is_read_as_it_was(text: str) -> None:
    problems: list[Problem] = []
    (document,) = reader.read(files.dumped({"text": text, "in": [{"a": text}]}), "c", problems)
    assert (document.value, problems) == ({"text": text, "in": [{"a": text}]}, [])


def test_an_update_writes_how_the_agent_behaves_now_and_keeps_the_rest(folder: Path) -> None:
    head = HEAD + "manifests: [clerk.yaml]\n"
    file = case(folder, "agent: clerk\nprompt: Be kind.\nmessage: hi\nreplies:\n- text: Hi.\nstatus: completed\n", head)
    tester = testing.Tester()
    assert "-prompt: Be kind.\n+prompt: Be brief." in tester.test(file).why
    assert tester.update(file)
    assert not tester.update(file)
    assert tester.test(file).passed
    updated = files.read(file)
    assert (updated.prompt, updated.manifests, updated.model) == ("Be brief.", ("clerk.yaml",), "")
    assert (updated.tools, updated.history) == (None, None)


def test_cases_lie_among_manifests_and_are_found_below_folders(folder: Path) -> None:
    below = folder / "below"
    below.mkdir()
    for name in ("b.kadre.yaml", "a.kadre.yaml"):
        (below / name).write_text("")
    assert [Path(name).name for _, name in read_files([str(folder)]).texts] == ["clerk.yaml"]
    assert [file.name for file in testing.found([folder, below / "a.kadre.yaml"])] == ["a.kadre.yaml", "b.kadre.yaml"]
    (folder / "empty").mkdir()
    with pytest.raises(ProblemError, match="there are no cases"):
        testing.found([folder / "empty"])


SECRET = """\
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {key: c4n4ry-12345678}
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: desk}
spec:
  type: api
  description: Looks.
  api:
    endpoint: http://desk/look
    secretHeaders: {X-Key: {name: keys, key: key}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: porter}
spec:
  model: {provider: openai, name: gpt-4o}
  tools: [desk]
"""


@pytest.mark.requirement("secrets-masked")
def test_a_secret_of_the_files_is_kept_from_a_played_run(folder: Path) -> None:
    (folder / "porter.yaml").write_text(SECRET)
    reply = "replies:\n- calls: [{tool: desk, output: it is c4n4ry-12345678}]\n- text: done\nstatus: completed\n"
    played = testing.Tester().test(case(folder, f"agent: porter\nmessage: hi\n{reply}")).played
    assert played is not None
    assert (played.replies or ())[0].calls[0].output == "it is [secret:keys/key]"
