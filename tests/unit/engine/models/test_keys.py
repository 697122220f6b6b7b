"""A model's key is named by its place, and is only ever one line."""

from __future__ import annotations

import pytest

from kadre.base.errors import ModelError
from kadre.engine.models import keys
from kadre.plan.types import ModelPlan, SecretRef

REF = SecretRef(namespace="default", name="openai", key="api-key", env="OPENAI_API_KEY")


class Secrets:
    def __init__(self, value: str | None) -> None:
        self.value = value

    def read(self, ref: SecretRef) -> str | None:
        return self.value


def test_a_key_is_named_by_where_it_comes_from() -> None:
    plan = ModelPlan(provider="openai", model="gpt", endpoint="https://api.openai.com/v1", api_key=REF)
    assert keys.told(plan, "k") == (
        "the API key in key api-key of Secret default/openai or the line OPENAI_API_KEY of .env"
    )
    assert keys.told(plan, None).startswith("why there is no API key in key api-key")
    with pytest.raises(ModelError, match="no API key for openai model gpt: there is no value in key api-key") as error:
        keys.read(plan, Secrets(None))
    assert error.value.reason == "ModelKeyMissing"


def test_a_key_may_end_in_a_line_break_as_files_do_but_hold_none() -> None:
    plan = ModelPlan(provider="openai", model="gpt", endpoint="http://model/v1", api_key=REF)
    assert keys.read(plan, Secrets("k\n")) == "k"
    assert keys.read(plan, Secrets("\n")) is None
    with pytest.raises(ModelError, match="such as a line break"):
        keys.read(plan, Secrets("k\nEvil: yes"))
