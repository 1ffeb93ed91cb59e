"""A bounded run of a coverage-guided fuzzer over every parser: no uncaught exception, no input that takes long."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import fuzz_targets
import pytest

RUNS = 4000
SECONDS = 12
SLOWEST_S = 5  # for one input of at most 4 KiB; libFuzzer ends with an error beyond


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine"
)
@pytest.mark.parametrize("name", sorted(fuzz_targets.TARGETS))
def test_target_survives(name: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds = [fuzz_targets.sealed_seed()] if name == "sealed" else fuzz_targets.SEEDS[name]
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    command = [
        sys.executable, fuzz_targets.__file__, name, f"-runs={RUNS}", f"-max_total_time={SECONDS}", "-seed=7",
        f"-timeout={SLOWEST_S}", "-max_len=4096", "-rss_limit_mb=2048", f"-artifact_prefix={tmp_path}/", str(corpus),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=tmp_path)
    found = [path.read_bytes()[:2000] for path in tmp_path.glob("*-*") if path.is_file()]
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{found}"
