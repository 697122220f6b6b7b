"""Which calls of an agent are asked about: its own rules and those of its templates."""

from __future__ import annotations

import msgspec

from kadre.api.kinds.agent import ApprovalRule as WrittenRule
from kadre.api.kinds.agent import Approvals
from kadre.plan.draft import Draft
from kadre.plan.types import USUAL_APPROVALS, ApprovalPlan, ApprovalRule


def approval_plan(draft: Draft) -> ApprovalPlan:
    """What the author says, and the defaults. An agent's rules come before its template's: the first decides."""
    levels: list[Approvals | None] = [getattr(level.spec, "approvals", None) for level in draft.levels]
    rules = tuple(_rule(rule) for level in levels if level is not None for rule in level.policy or ())
    merged = draft.spec.approvals
    written = {"expires": merged.expires, "on_expiry": merged.on_expiry} if merged is not None else {}
    said = {name: value for name, value in written.items() if value is not None}
    return msgspec.convert({"rules": rules, **said}, ApprovalPlan) if rules or said else USUAL_APPROVALS


def _rule(rule: WrittenRule) -> ApprovalRule:
    return ApprovalRule(
        action=rule.action,
        tools=tuple(rule.tools or ()),
        capabilities=tuple(rule.capabilities or ()),
        arguments=rule.arguments or {},
        message=(rule.message or "").strip(),
    )
