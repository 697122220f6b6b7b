"""What serves a model that is to be hosted: the machine's own Ollama, else the small real model that Kadre carries."""

from __future__ import annotations

import aiohttp
import msgspec

from kadre.plan.types import AgentPlan, ModelPlan, Notice

CARRIED = "smollm2:135m"
PROBE_SECONDS = 1.0
"""An Ollama on this machine answers in milliseconds, or is not there."""


class StandIns:
    """Decides once per start or reload what `hosted` models are served by."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._offered: dict[str, frozenset[str]] = {}

    async def replace(self, plan: AgentPlan) -> AgentPlan:
        """The plan with its hosted model put where it can be reached, and a notice where it is another one."""
        model = plan.model
        if not model.hosted or model.provider != "ollama":
            return plan
        if model.model in await self._ollama(model.endpoint):
            return plan
        local = ModelPlan(provider="local", model=CARRIED, params=model.params, timeout=model.timeout, hosted=True)
        plan = msgspec.structs.replace(plan, model=local)
        if model.model == CARRIED:
            return plan
        notice = Notice(
            reason="StandInModel",
            message=f"{model.model} is answered by {CARRIED}, a small model that Kadre carries: no Ollama on this "
            f"machine offers {model.model} (`ollama pull {model.model}` brings it)",
        )
        return msgspec.structs.replace(plan, notices=(*plan.notices, notice))

    async def _ollama(self, endpoint: str) -> frozenset[str]:
        """The models of the Ollama at that OpenAI endpoint; none where nobody answers."""
        known = self._offered.get(endpoint)
        if known is None:
            known = self._offered[endpoint] = await self._ask(endpoint.removesuffix("/").removesuffix("/v1"))
        return known

    async def _ask(self, base: str) -> frozenset[str]:
        try:
            timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
            async with self._http.get(f"{base}/api/tags", timeout=timeout) as answer:
                found = msgspec.convert(await answer.json(content_type=None), dict[str, list[dict[str, object]]])
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.ValidationError):
            return frozenset()
        return frozenset(str(entry.get("name", "")) for entry in found.get("models", []))
