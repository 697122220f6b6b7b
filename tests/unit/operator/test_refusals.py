"""Where Kubernetes makes no pod its own words tell what to do, one refusal apart from the other."""

from __future__ import annotations

import pytest

from kadre.operator.refusals import fix

FORBIDDEN = 'pods "first-6d5b8c7f9b-x7x2p" is forbidden: '
QUOTA = (
    "exceeded quota: compute, requested: limits.memory=512Mi,requests.cpu=50m, used: limits.memory=1Gi,"
    "requests.cpu=100m, limited: limits.memory=1Gi,requests.cpu=100m"
)
PRIVILEGE = (
    'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "proxy" must set'
    " securityContext.allowPrivilegeEscalation=false), seccompProfile (pod or container must set it)"
)
CALLING = (
    'Internal error occurred: failed calling webhook "pods.vault.io": failed to call webhook: Post'
    ' "https://vault.vault.svc:443/mutate?timeout=10s": dial tcp 10.0.0.7:443: connect: connection refused'
)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (FORBIDDEN + QUOTA, "raise the ResourceQuota compute of namespace team"),
        (FORBIDDEN + QUOTA, "lower spec.resources"),
        (
            f"{FORBIDDEN}failed quota: compute: must specify limits.cpu for: agent; requests.cpu for: agent",
            "write spec.resources with limits.cpu: the ResourceQuota compute",
        ),
        (
            f"{FORBIDDEN}failed quota: compute: must specify limits.cpu,limits.memory",
            "with limits.cpu,limits.memory: the ResourceQuota compute",
        ),
        (f"{FORBIDDEN}maximum memory usage per Container is 256Mi, but limit is 512Mi", "the namespace's LimitRange"),
        (
            (
                f"{FORBIDDEN}[minimum cpu usage per Container is 100m, but request is 50m, maximum memory usage per Pod"
                " is 256Mi, but limit is 536870912]"
            ),
            "kubectl describe limitrange -n team",
        ),
        (
            f"{FORBIDDEN}memory max limit to request ratio per Container is 2, but provided ratio is 4.000000",
            "the namespace's LimitRange",
        ),
        (FORBIDDEN + PRIVILEGE, "the label pod-security.kubernetes.io/enforce of namespace team"),
        (
            (
                'pods "first-6d5b8c7f9b-" is forbidden: error looking up service account team/builder:'
                ' serviceaccount "builder" not found'
            ),
            "kubectl create serviceaccount builder -n team, or take spec.serviceAccountName out",
        ),
        (
            'admission webhook "validate.kyverno.svc-fail" denied the request: \n\nresource Pod/team/first was blocked',
            "have the webhook validate.kyverno.svc-fail let the pods of namespace team pass",
        ),
        (CALLING, "whoever serves the webhook pods.vault.io"),
        (
            f"{FORBIDDEN}ValidatingAdmissionPolicy 'no-latest' with binding 'all' denied request: no tag latest",
            "ValidatingAdmissionPolicy no-latest",
        ),
        (f"{FORBIDDEN}unable to create new content in namespace team because it is being terminated", "being deleted"),
    ],
)
def test_a_refusal_is_told_with_what_to_do_about_it(message: str, told: str) -> None:
    assert told in fix(message, "team", "first")


@pytest.mark.parametrize(
    "message",
    [
        'ReplicaSet "first-6d5b8c7f9b" has timed out progressing.',
        f"{FORBIDDEN}no PriorityClass with name high was found",
        # The agent's own account, which the controller makes.
        f'{FORBIDDEN}error looking up service account team/first: serviceaccount "first" not found',
        "",
    ],
)
def test_of_anything_else_more_is_to_be_seen_where_pods_are_made(message: str) -> None:
    assert fix(message, "team", "first") == "look at kubectl describe replicaset -n team -l app=first"
