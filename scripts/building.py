"""Builds the distributions of the last commit reproducibly (see scripts/release)."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(out: Path) -> None:
    """Both into the folder `out`; what the commit does not hold goes into neither."""
    epoch = int(subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT))
    os.umask(0o022)  # file modes go into the archives
    constraints = str(ROOT / "scripts/constraints.txt")
    # Newer versions of pip read the second for what a build needs.
    environment = os.environ | {
        "SOURCE_DATE_EPOCH": str(epoch),
        "PIP_CONSTRAINT": constraints,
        "PIP_BUILD_CONSTRAINT": constraints,
    }
    with tempfile.TemporaryDirectory() as scratch:
        tree, built = Path(scratch, "scrdit_jax"), Path(scratch, "dist")
        archive = subprocess.check_output(["git", "archive", "HEAD"], cwd=ROOT)
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(tree, filter="data")
        command = [sys.executable, "-m", "build", "--outdir", built, tree]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}\nnothing was built")
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted(built.iterdir()):
            content = normalised(path.read_bytes(), epoch) if path.name.endswith(".tar.gz") else path.read_bytes()
            (out / path.name).write_bytes(content)
            print(f"{hashlib.sha256(content).hexdigest()}  {out / path.name}")


def normalised(archive: bytes, epoch: int) -> bytes:
    """A .tar.gz with its members by name, all of one date and of no user."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as before,
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=epoch) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as after,
    ):
        for member in sorted(before.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            after.addfile(member, before.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
