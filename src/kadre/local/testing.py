"""`kadre test`: cases are played against the agents as the files declare them now. Nothing is asked over a network.

Keys need not be there: no model and no tool is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kadre.base import patterns, problems
from kadre.base.errors import KadreError, ProblemError, shorten
from kadre.base.problems import Problem, Source
from kadre.engine.models.port import Model
from kadre.engine.replay import player
from kadre.engine.replay.case import Case, Expect
from kadre.local import cases
from kadre.local.console import Console
from kadre.local.files import CASES
from kadre.local.resolve import resolve
from kadre.local.resolved import Resolved
from kadre.local.secrets import LocalSecrets
from kadre.plan.build import NOTHING
from kadre.plan.types import AgentPlan, Override

KEYS = frozenset({"MissingSecret", "MissingSecretKey"})
"""Problems in spite of which an agent is tested."""
SHOWN = 500
"""Characters of an answer that is not what was expected."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a case: `why` is empty where it passed. `played`: None where it could not be played."""

    file: str
    name: str
    why: str = ""
    played: Case | None = None

    @property
    def passed(self) -> bool:
        """Whether the agent behaves as the case has it."""
        return not self.why


@dataclass(slots=True)
class Tester:
    """Plays cases. `manifests`: files and folders that declare the agents; empty: those that a case names."""

    manifests: Sequence[str] = ()
    override: Override = NOTHING
    _found: dict[tuple[str, ...], Resolved] = field(default_factory=dict)

    def test(self, file: Path) -> Verdict:
        """What comes of the case in that file; what is wrong with it or the agent is told too, and not raised."""
        name = file.name
        try:
            case = cases.read(file)
            name = str(case.metadata.get("name", "")) or name
            played = self._played(file, case)
        except KadreError as error:
            return Verdict(str(file), name, str(error))
        return Verdict(
            str(file), name, "\n".join(filter(None, [*_unmet(case, played), cases.difference(case, played)])), played
        )

    def update(self, file: Path) -> bool:
        """Write into the case how the agent behaves now; whether it was otherwise. Raises KadreError."""
        case = cases.read(file)
        if case.replies is None:
            return False  # what such a case asks for is written by a person
        played = self._played(file, case)
        written = cases.text(_as_far_as(case, played))
        if written == cases.text(case):
            return False
        file.write_text(written, encoding="utf-8")
        return True

    def _played(self, file: Path, case: Case) -> Case:
        paths = tuple(self.manifests) or tuple(str(file.parent / path) for path in case.manifests or (".",))
        if paths not in self._found:
            self._found[paths] = resolve(paths, self.override, KEYS)
        plan = self._plan(file, case, paths)
        own = _own_model(plan, file) if case.replies is None else None
        return asyncio.run(player.play(case, plan, own, _secrets(self._found[paths])))

    def _plan(self, file: Path, case: Case, paths: tuple[str, ...]) -> AgentPlan:
        """The agent of the case. Raises ProblemError."""
        plans, about = self._found[paths].plans, self._found[paths].problems
        here = [plan for plan in plans if case.agent in (str(plan.key), plan.key.short, plan.key.name)]
        if len(here) == 1:
            return here[0]
        wrong = [problem for problem in problems.errors(about) if problem.reason not in KEYS]
        if wrong and not here:
            raise ProblemError(wrong)
        where, source = ", ".join(paths), Source(str(file))
        if here:
            fix = f"write one of {', '.join(sorted(str(plan.key) for plan in here))}"
            raise ProblemError(
                [Problem("AmbiguousAgent", f"{where} has several agents {case.agent!r}", fix, "", "agent", source)]
            )
        close = problems.did_you_mean(case.agent, [name for plan in plans for name in (plan.key.short, plan.key.name)])
        fix = "name the files that declare it with -f, or in the case as manifests: [PATH]"
        raise ProblemError(
            [Problem("NoSuchAgent", f"{where} has no agent {case.agent!r}{close}", fix, "", "agent", source)]
        )


def _secrets(found: Resolved) -> LocalSecrets:
    """Those that are there: the model of a played run does not see them either."""
    secrets = LocalSecrets()
    secrets.replace({(doc.namespace, doc.name): doc.values for doc in found.secrets}, found.env, found.exported)
    return secrets


def _as_far_as(case: Case, played: Case) -> Case:
    """The played run without what the case leaves out. A recorded one gets the prompt where it had none."""
    left_out = [name for name in ("tools", "history") if getattr(case, name) is None]
    left_out += ["prompt"] if case.prompt is None and case.recorded is None else []
    model = played.model if case.model or case.recorded else ""
    return msgspec.structs.replace(played, model=model, **dict.fromkeys(left_out))


def _own_model(plan: AgentPlan, file: Path) -> Model:
    """The scripted model of the agent. Raises ProblemError where its model is another."""
    if plan.model.provider != "scripted":
        message = (
            f"the case has no replies, and the model of {plan.key.short} is not asked: it is {plan.model.provider}"
        )
        fix = "record a run, write replies, or have a script answer with --model scripted:RULES.yaml"
        raise ProblemError([Problem("NoReplies", message, fix, "", "replies", Source(str(file)))])
    from kadre.engine.models.scripted import Scripted
    from kadre.engine.models.scripted_rules import parse_rules
    from kadre.local.rules import read_rules

    rules = plan.model.rules
    return Scripted(parse_rules(read_rules(rules), Source(rules)) if rules else (), timeout=plan.model.timeout)


def _unmet(case: Case, played: Case) -> list[str]:
    """What a person asks of the case that is not so."""
    expect = case.expect or Expect()
    replies = played.replies or ()
    answer = replies[-1].text if replies else ""
    calls = tuple(call.tool for reply in replies for call in reply.calls)
    unmet = []
    if expect.matches and (wrong := patterns.fault(expect.matches)):
        return [f"expect.matches is no pattern: {wrong}"]
    status = expect.status or ("completed" if case.replies is None and not case.status else "")
    if status and status != played.status:
        why = f" ({played.error.reason}: {played.error.message})" if played.error else ""
        unmet.append(f"expected that the run ends {status}; it ends {played.status}{why}")
    if expect.tools is not None and expect.tools != calls:
        unmet.append(f"expected the calls {', '.join(expect.tools) or 'none'}; made are {', '.join(calls) or 'none'}")
    if expect.response and expect.response not in answer:
        unmet.append(f"expected an answer with {expect.response!r}; it is {shorten(answer, SHOWN)!r}")
    if expect.matches and not patterns.found(expect.matches, answer):
        unmet.append(f"expected an answer that matches {expect.matches!r}; it is {shorten(answer, SHOWN)!r}")
    return unmet


def found(paths: Sequence[Path]) -> list[Path]:
    """Files of cases: those that are named, and those below folders. Raises ProblemError where there are none."""
    files: list[Path] = []
    for path in paths:
        below = sorted(each for each in path.rglob(f"*{CASES}") if each.is_file()) if path.is_dir() else [path]
        if not below:
            fix = f"name a file, or give cases names that end in {CASES}"
            raise ProblemError([Problem("NoCases", f"there are no cases in {path}", fix, source=Source(str(path)))])
        files += below
    return list(dict.fromkeys(files))


def told(verdicts: Sequence[Verdict], console: Console) -> str:
    """For people: what each case came to, what differs of those that failed, and a line that sums it up."""
    lines = []
    for verdict in verdicts:
        mark = console.style("passed", "green") if verdict.passed else console.style("failed", "red")
        lines.append(f"{mark} {verdict.name} ({verdict.file})")
        lines += [f"    {_styled(line, console)}".rstrip() for line in verdict.why.splitlines()]
    failed = sum(not verdict.passed for verdict in verdicts)
    counted = "1 case" if len(verdicts) == 1 else f"{len(verdicts)} cases"
    lines.append(console.style(f"{counted}, {failed} failed", "red") if failed else f"{counted}, none failed")
    return "\n".join(lines)


def _styled(line: str, console: Console) -> str:
    return console.style(line, {"-": "red", "+": "green"}.get(line[:1], "dim")) if line[:1] in "-+@" else line


def plain(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """For programs."""
    return {
        "passed": all(verdict.passed for verdict in verdicts),
        "cases": [
            {"file": verdict.file, "name": verdict.name, "passed": verdict.passed, "why": verdict.why}
            for verdict in verdicts
        ],
    }
