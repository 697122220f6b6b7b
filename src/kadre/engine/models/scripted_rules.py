"""What the scripted model goes by: rules, checked and made ready, out of plain data.

A rule is a mapping. It applies where all of its conditions hold:

    match: hello (?P<who>\\w+)   RE2 expression searched in the last user message, upper and lower case alike
    after_tool: true            tools have answered in this turn (false: none has); a rule with `tools` and without
                                `call` stands for false, or it would call them for ever
    call: 2                     only the second model call of the turn (a turn begins with a user message)

and does what it says:

    say: Hello, {who}!          text
    tools:                      tool calls, all at once
      - name: get_*             the first offered tool that this fits; without one the rule does not apply
        arguments: {city: "{who}"}
    delay: 0.5                  seconds before the first word
    word_delay: 0.05            seconds before each further word
    fault: {status: 429}        an error: see `Fault`

Texts may hold `{1}` and `{name}` (groups of `match`), `{message}` and `{tool_output}`; `{{name}}` is a literal. The
argument name `*` is the tool's first text parameter. `arguments` may be a text, which is then sent as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kadre.base import patterns
from kadre.base.errors import ProblemError
from kadre.base.problems import Problem, Source, did_you_mean

MAX_RULES = 10_000
PLACEHOLDER = re.compile(r"\{(\{\w+\})\}|\{(\w+)\}")
"""A literal `{{name}}`, or the `{name}` of a value."""
COMMON = frozenset({"message", "tool_output"})
"""Values every text may hold."""

FaultKind = Literal["status", "hang", "close"]
_NUMBER = (int, float)
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "match": ((str,), "a regular expression"),
    "after_tool": ((bool,), "true or false"),
    "call": ((int,), "a whole number from 1"),
    "say": ((str,), "a text"),
    "tools": ((list,), "a list of {name, arguments}"),
    "fault": ((str, dict), "hang, close, {status: 429} or {kind: hang}"),
    "delay": (_NUMBER, "seconds"),
    "word_delay": (_NUMBER, "seconds"),
}
_TOOL_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "name": ((str,), "a tool's name or a pattern such as get_*"),
    "arguments": ((dict, str), "a mapping"),
}
_FAULT_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "kind": ((str,), "hang or close"),
    "status": ((int,), "an HTTP status from 400 to 599"),
    "retry_after": (_NUMBER, "seconds"),
    "times": ((int,), "a whole number from 1"),
}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One tool call. `name`: a pattern; `arguments`: values with placeholders, or the JSON text itself."""

    name: str
    arguments: Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong.

    `status`: the answer is that HTTP status, with Retry-After where `retry_after` is set. `close`: the answer breaks
    off after the first half of `say`. `hang`: nothing follows that half. `times`: how often, counted over the life of
    the model; then the rule does the rest of what it says, or no longer applies where that is nothing. 0: always.
    """

    kind: FaultKind
    status: int = 0
    retry_after: float | None = None
    times: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """See the module. Compared by identity: its faults are counted."""

    match: patterns.Pattern | None = None
    after_tool: bool | None = None
    call: int = 0
    say: str | None = None
    tools: tuple[ToolUse, ...] = ()
    fault: Fault | None = None
    delay: float = 0.0
    word_delay: float = 0.0


def parse_rules(data: Any, source: Source | None = None) -> list[Rule]:
    """The rules in `data`, a list of mappings. Raises ProblemError with everything that is wrong in them."""
    parser = _Parser(source or Source())
    rules = parser.rules(data)
    if parser.problems:
        raise ProblemError(parser.problems)
    return rules


class _Parser:
    """Checks every rule to the end and keeps all problems."""

    def __init__(self, source: Source) -> None:
        self.problems: list[Problem] = []
        self._source = source

    def rules(self, data: Any) -> list[Rule]:
        if not isinstance(data, list):
            self._problem("", "rules are a list", "begin every rule with `- `, as in `- match: hello`")
            return []
        if len(data) > MAX_RULES:
            self._problem("", f"{len(data)} rules; at most {MAX_RULES} are read", "leave some out")
            return []
        return [self._rule(value, f"rule {number}") for number, value in enumerate(data, 1)]

    def _rule(self, value: Any, path: str) -> Rule:
        fields = self._fields(value, _TYPES, path)
        if isinstance(value, dict) and not value.keys() & {"say", "tools", "fault"}:
            self._problem(path, "it does nothing", "add say, tools or fault")
        match = self._pattern(fields.get("match"), f"{path}.match")
        if match is None and "match" in fields:
            return Rule()  # its texts cannot be checked without the groups of its pattern
        call = fields.get("call", 0)
        if "call" in fields and call < 1:
            self._problem(f"{path}.call", f"{call} is not a whole number from 1", "write 1 for the turn's first call")
        for name in ("delay", "word_delay"):
            if fields.get(name, 0) < 0:
                self._problem(f"{path}.{name}", f"{fields[name]} is negative", "write seconds, as in 0.5")
        known = COMMON if match is None else COMMON | match.values
        tools = tuple(
            self._tool(tool, f"{path}.tools[{index}]", known) for index, tool in enumerate(fields.get("tools", ()))
        )
        self._texts(fields.get("say"), f"{path}.say", known)
        return Rule(
            match,
            fields.get("after_tool", False if tools and not call else None),
            call,
            fields.get("say"),
            tools,
            self._fault(fields["fault"], f"{path}.fault") if "fault" in fields else None,
            fields.get("delay", 0.0),
            fields.get("word_delay", 0.0),
        )

    def _pattern(self, text: str | None, path: str) -> patterns.Pattern | None:
        if text is None:
            return None
        try:
            return patterns.Pattern(text, ignore_case=True)
        except ValueError as error:
            fix = "mend it, or put a backslash before ( ) [ ] * + ? . where they are meant as they are"
            self._problem(path, f"{text!r} is not a regular expression: {error}", fix)
            return None

    def _tool(self, value: Any, path: str, known: Collection[str]) -> ToolUse:
        fields = self._fields(value, _TOOL_TYPES, path)
        if isinstance(value, dict) and not value.get("name"):
            self._problem(f"{path}.name", "it names no tool", "write the tool's name, or a pattern such as get_*")
        self._texts(fields.get("name"), f"{path}.name", known)
        self._texts(fields.get("arguments"), f"{path}.arguments", known)
        return ToolUse(fields.get("name", ""), fields.get("arguments", {}))

    def _fault(self, value: str | dict[str, Any], path: str) -> Fault:
        fields: dict[str, Any] = {"kind": value} if isinstance(value, str) else self._fields(value, _FAULT_TYPES, path)
        kind: str = fields.get("kind", "status")
        status, times = fields.get("status", 0), fields.get("times", 0)
        wanted = "write hang, close, {status: 429} or {status: 500, times: 2}"
        if kind not in {"status", "hang", "close"}:
            unknown = f"{kind!r} is no fault{did_you_mean(kind, ('hang', 'close'))}"
            self._problem(path, unknown, wanted)
        elif kind == "status" and not 400 <= status <= 599:
            self._problem(f"{path}.status", f"{status or 'none'} is no HTTP status of an error", wanted)
        elif kind != "status" and fields.keys() & {"status", "retry_after"}:
            self._problem(path, f"{kind} has no status and no retry_after", wanted)
        if "times" in fields and times < 1:
            self._problem(f"{path}.times", f"{times} is not a whole number from 1", "leave it out for always")
        known: FaultKind = "hang" if kind == "hang" else "close" if kind == "close" else "status"
        return Fault(known, status, fields.get("retry_after"), times)

    def _fields(self, value: Any, types: Mapping[str, tuple[tuple[type, ...], str]], path: str) -> dict[str, Any]:
        """Those fields of `value` that are known and of the right type."""
        if not isinstance(value, dict):
            self._problem(path, "it is not a mapping", f"write one or more of {', '.join(types)}")
            return {}
        fields = {}
        for name, entry in value.items():
            if name not in types:
                text = f"unknown field{did_you_mean(str(name), types)}"
                self._problem(f"{path}.{name}", text, f"the fields are {', '.join(types)}")
            elif not isinstance(entry, types[name][0]) or (isinstance(entry, bool) and bool not in types[name][0]):
                self._problem(f"{path}.{name}", f"it is not {types[name][1]}", f"write {types[name][1]}")
            else:
                fields[name] = entry
        return fields

    def _texts(self, value: Any, path: str, known: Collection[str]) -> None:
        """Check the placeholders of every text in `value`."""
        if isinstance(value, str):
            for found in PLACEHOLDER.finditer(value):
                name = found[2]
                if name and name not in known:
                    text = f"{{{name}}} stands for nothing{did_you_mean(name, known)}"
                    fix = f"the values here are {', '.join(sorted(known))}; write {{{{{name}}}}} for the text itself"
                    self._problem(path, text, fix)
        elif isinstance(value, dict):
            for key, entry in value.items():
                self._texts(entry, f"{path}.{key}", known)
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                self._texts(entry, f"{path}[{index}]", known)

    def _problem(self, path: str, message: str, fix: str) -> None:
        self.problems.append(Problem("InvalidRule", message, fix, path=path, source=self._source))


BUILT_IN = parse_rules(
    [
        {
            "match": r"^\s*call\s+(?P<tool>[\w.-]+)\s+(?P<json>(?s:\{.*\}))\s*$",
            "tools": [{"name": "{tool}", "arguments": "{json}"}],
        },
        {
            "match": r"\b(?:ask|delegate to)\s+(?:the\s+)?(?P<agent>[\w-]+)\b[\s:,]*(?P<rest>(?s:.*))",
            "tools": [{"name": "{agent}", "arguments": {"message": "{rest}"}}],
        },
        {
            "match": r"\b(?:repeat|echo)\b(?:\s+(?:after me|back|the text|exactly|this|the following))*\s*:?\s*"
            r"(?P<text>(?s:\S.*))",
            "tools": [{"name": "*echo*", "arguments": {"*": "{text}"}}],
        },
        {
            "match": r"\b(?:calculate|compute|what is|what's)\s+(?P<sum>[-+*/().\d\s]*\d\)*)",
            "tools": [{"name": "*calc*", "arguments": {"*": "{sum}"}}],
        },
        {
            "match": r"\b(?:search for|search|look up|find)\s+(?P<words>(?s:\S.*))",
            "tools": [{"name": "*search*", "arguments": {"*": "{words}"}}],
        },
        {"after_tool": True, "say": "Here is what I found: {tool_output}"},
        {"match": r"\b(?:repeat|echo)\b(?:\s+after me|\s+back)?\s*:?\s*(?P<text>(?s:\S.*))", "say": "{text}"},
        {"say": "I am a scripted model, and this is what you said: {message}"},
    ]
)
"""What is done without a file, and where no rule of a file applies: the last one always does."""
