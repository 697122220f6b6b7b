"""Kadre: AI agents declared as Kubernetes resources."""

__version__ = "0.1.0.dev0"
