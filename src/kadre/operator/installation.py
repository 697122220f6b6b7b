"""The controller's installation without Helm: a file that the chart was rendered to, with two placeholders in it."""

from __future__ import annotations

import re
from importlib import resources

import kadre
from kadre.base.errors import KadreError

NAMESPACE = "namespace-of-the-controller"
IMAGE = "image-of-the-controller"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[\w./:@-]+")


def image() -> str:
    """The image of this version, as the chart names it."""
    return f"kadre:{kadre.__version__.replace('.dev0', '-dev')}"


def manifests(namespace: str, image: str) -> str:
    """The objects as YAML. Raises KadreError where the namespace or the image cannot be one."""
    if not _NAME.fullmatch(namespace):
        raise KadreError(f"{namespace!r} is no namespace's name: small letters, digits and dashes")
    if not _IMAGE.fullmatch(image):
        raise KadreError(f"{image!r} is no image's name: write it as registry.example/kadre:1.2")
    text = (resources.files(__package__) / "installation.yaml").read_text(encoding="utf-8")
    return text.replace(NAMESPACE, namespace).replace(IMAGE, image)
