"""What `kaos install` makes of pods that do not become ready."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kadre.cli import kaos


def pod(**waiting: Any) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"image": "kadre:1", "state": {"waiting": waiting} if waiting else {}}]}}


@pytest.mark.parametrize(
    ("pods", "image"),
    [
        ([], ""),
        ([{}, {"status": {}}], ""),
        ([pod(), pod(reason="ContainerCreating")], ""),
        ([pod(reason="ErrImagePull")], ""),  # it may have been for a moment
        ([pod(), pod(reason="ImagePullBackOff")], "kadre:1"),
    ],
)
def test_an_image_that_was_tried_in_vain_is_found(pods: list[dict[str, Any]], image: str) -> None:
    assert kaos._unpulled(json.dumps({"items": pods})) == image
