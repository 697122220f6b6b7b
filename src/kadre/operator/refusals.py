"""What to do where Kubernetes makes no pod of a Deployment, by what it says.

Who refuses a pod (a quota, a limit, a policy, a webhook) says so in a sentence of its own, which the Deployment's
status repeats; no field of it says which of them it was.
"""

from __future__ import annotations

import re

_FIXES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"exceeded quota: (?P<quota>[^,\s]+)"),
        "lower spec.resources or the number of pods, or raise the ResourceQuota {quota} of namespace {namespace}",
    ),
    (
        re.compile(r"failed quota: (?P<quota>[^:\s]+): must specify (?P<what>[a-z0-9./,-]+)"),
        "write spec.resources with {what}: the ResourceQuota {quota} of namespace {namespace} counts it",
    ),
    (
        re.compile(r"(?:maximum|minimum) \S+ usage per (?:Container|Pod) is|max limit to request ratio per"),
        "bring spec.resources within the namespace's LimitRange: kubectl describe limitrange -n {namespace}",
    ),
    (
        re.compile(r'violates PodSecurity "'),
        (
            "an agent's pod keeps to the level restricted as it is made: leave it alone in what changes pods (a"
            " sidecar's webhook), or lower the label pod-security.kubernetes.io/enforce of namespace {namespace}"
        ),
    ),
    (
        re.compile(r"error looking up service account (?P<of>[^/\s]+)/(?P<account>[^:\s]+)"),
        "kubectl create serviceaccount {account} -n {of}, or take spec.serviceAccountName out",
    ),
    (
        re.compile(r'admission webhook "(?P<webhook>[^"]+)" denied'),
        "change in the agent what it denies, or have the webhook {webhook} let the pods of namespace {namespace} pass",
    ),
    (
        re.compile(r'failed calling webhook "(?P<webhook>[^"]+)"'),
        "bring back whoever serves the webhook {webhook}, or take it away: no pod is made without its answer",
    ),
    (
        re.compile(r"ValidatingAdmissionPolicy '(?P<policy>[^']+)'"),
        "change in the agent what it denies, or have the ValidatingAdmissionPolicy {policy} let its pods pass",
    ),
    (re.compile(r"because it is being terminated"), "namespace {namespace} is being deleted: there is nothing to mend"),
)
"""What a message has in it, and what to do then; the first that fits."""


def fix(message: str, namespace: str, name: str) -> str:
    """What to do about it. `message`: why a Deployment does not get on, in its own words; the others name it."""
    otherwise = f"look at kubectl describe replicaset -n {namespace} -l app={name}"
    for pattern, told in _FIXES:
        found = pattern.search(message)
        if found is not None:
            words = found.groupdict()
            # An account of the agent's name is made by the controller: nobody has to.
            return otherwise if words.get("account") == name else told.format(namespace=namespace, **words)
    return otherwise
