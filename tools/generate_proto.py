"""Generate the Python stubs from proto/ (`--check`: say whether the committed ones are up to date)."""

import filecmp
import pathlib
import sys
import tempfile

import grpc_tools
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
WELL_KNOWN = pathlib.Path(grpc_tools.__file__).parent / "_proto"


def generate(target: pathlib.Path) -> list[pathlib.Path]:
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    code = protoc.main(
        [
            "protoc", f"-I{PROTO}", f"-I{WELL_KNOWN}",
            f"--python_out={target}", f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}", f"--mypy_grpc_out=quiet:{target}", *sources,
        ]
    )  # fmt: skip
    if code:
        sys.exit(code)
    for folder in {path.parent for path in target.rglob("*_pb2.py")}:
        while folder != target / "earwitness":
            (folder / "__init__.py").touch()
            folder = folder.parent
    return sorted(path.relative_to(target) for path in target.rglob("*.py*") if "_pb2" in path.name)


def main(check: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        target = pathlib.Path(scratch)
        (target / "earwitness").mkdir()
        fresh = generate(target)
        committed = sorted(
            path.relative_to(ROOT)
            for path in (ROOT / "earwitness").rglob("*_pb2*.py*")
            if path.suffix != ".pyc"
        )
        stale = sorted(
            (set(fresh) ^ set(committed))
            | {p for p in set(fresh) & set(committed) if not filecmp.cmp(target / p, ROOT / p, shallow=False)}
        )
        if check:
            if stale:
                sys.exit("stale generated code, run `make proto`:\n  " + "\n  ".join(map(str, stale)))
            return
        for path in set(committed) - set(fresh):
            (ROOT / path).unlink()
        for path in fresh:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_bytes((target / path).read_bytes())
        for folder in {(ROOT / path).parent for path in fresh}:
            while folder != ROOT / "earwitness":
                (folder / "__init__.py").touch()
                folder = folder.parent


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
