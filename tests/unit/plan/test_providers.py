"""The table of providers."""

from __future__ import annotations

import pytest

from kadre.plan.providers import ALL, PROVIDERS, SAMPLING, base_url


def test_every_provider_has_its_defaults() -> None:
    assert set(PROVIDERS) == set(ALL)


def test_a_provider_lacks_only_fields_that_exist() -> None:
    for defaults in PROVIDERS.values():
        assert defaults.lacks <= set(SAMPLING)


def test_a_default_address_is_complete() -> None:
    for defaults in PROVIDERS.values():
        assert defaults.endpoint == base_url(defaults.endpoint)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("http://ollama.ollama:11434", "http://ollama.ollama:11434/v1"),
        ("http://ollama:11434/", "http://ollama:11434/v1"),
        ("http://vllm:8000/v1", "http://vllm:8000/v1"),
        ("http://gateway/models/openai/", "http://gateway/models/openai"),
        ("", ""),
    ],
)
def test_an_address_without_a_path_gets_its_version_segment(written: str, expected: str) -> None:
    assert base_url(written) == expected
