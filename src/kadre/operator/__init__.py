"""From resources on a cluster to running agents: what is watched, what is made of it, and what is said of it.

Law: it knows our kinds and Kubernetes' objects; the loop is `kadre.kube`'s, the meaning of a resource `kadre.plan`'s,
and what an agent does when it runs is nothing of its business.
"""
