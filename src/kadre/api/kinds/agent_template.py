"""AgentTemplate: fields that several agents share. What an Agent writes wins; lists are joined."""

from collections.abc import Iterator
from typing import Literal

from kadre.api.kinds.agent import AgentSpec, check_agent
from kadre.api.resource import NATIVE, Column, Listing, Resource
from kadre.base.problems import Problem


class AgentTemplateSpec(AgentSpec):
    """Fields that several agents share; the same as an Agent's."""


class AgentTemplate(Resource):
    """Fields that agents take over with `templateRef`."""

    listing = Listing(
        "agenttemplates",
        short=("agt",),
        columns=(
            Column("Template", ".spec.templateRef", priority=1),
            Column("Description", ".spec.description"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', priority=1),
        ),
        defaults=False,
    )

    api_version: str = NATIVE
    kind: Literal["AgentTemplate"] = "AgentTemplate"
    spec: AgentTemplateSpec

    def check(self) -> Iterator[Problem]:
        """See `check_agent`; a template can't be its own."""
        yield from check_agent(self.spec)
        if self.spec.template_ref == self.name:
            yield Problem(
                "SelfReference",
                f"{self.name} can't be its own template",
                fix="name another AgentTemplate, or remove templateRef",
                path="spec.templateRef",
            )
