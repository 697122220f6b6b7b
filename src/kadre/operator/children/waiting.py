"""KAOS: an agent starts when its model and its tools answer, unless its author does not want it to wait."""

from __future__ import annotations

from urllib.parse import urlsplit

from kadre.kube.kinds import Object
from kadre.operator.children.common import Settings
from kadre.plan.types import AgentPlan

# Whatever they answer: a Service of which no pod is ready answers nothing.
_WAIT = """for url in "$@"; do
  until curl --silent --output /dev/null --max-time 5 "$url"; do echo "waiting for $url"; sleep 1; done
done"""


def containers(plan: AgentPlan, settings: Settings) -> list[Object]:
    """What runs before the agent: a container that ends when each of its servers answers; none where it uses none."""
    servers = plan.workload.get("servers") or ()
    if not servers or plan.workload.get("waitForDependencies") is False:
        return []
    urls = [f"{urlsplit(each['url']).scheme}://{urlsplit(each['url']).netloc}/" for each in servers]
    return [
        {
            "name": "wait",
            "image": settings.image,
            "imagePullPolicy": settings.pull_policy,
            "command": ["/bin/sh", "-c", _WAIT, "wait", *urls],
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ]
