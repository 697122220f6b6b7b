"""A real Kubernetes for tests, from package registries alone: `python -m tests.cluster --help`.

Two tiers of one program that holds Kubernetes' own parts: the API (etcd, API server, controller manager; no root) and
a whole node (scheduler, kubelet, kube-proxy and containerd besides). What takes long to build is kept in a cache
folder outside the repository (KADRE_CACHE), from which nothing is needed that cannot be built anew.
"""
