"""What is released: versions that were tested, every file that the package needs, the same bytes each time."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import building
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned():
    """{name: version} for this Python, of the constraints."""
    lines = (ROOT / "scripts/constraints.txt").read_text().splitlines()
    read = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"==[^*]+", str(requirement.specifier)) for requirement in read)
    return {canonicalize_name(r.name): str(r.specifier)[2:] for r in read if not r.marker or r.marker.evaluate()}


def requirements():
    """Those of the core and of the extras that the suite is run with."""
    extras = PROJECT["project"]["optional-dependencies"]
    found, wanted = [Requirement(line) for line in PROJECT["project"]["dependencies"]], ["test"]
    while wanted:
        for requirement in map(Requirement, extras[wanted.pop()]):
            if requirement.name == "scrdit_jax":
                wanted += requirement.extras
            else:
                found.append(requirement)
    return found


def test_every_requirement_is_pinned_to_a_version_that_it_allows():
    there = pinned()
    assert len(requirements()) > 25
    for requirement in requirements():
        assert there[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_an_upper_bound_says_what_breaks_above_it():
    """Bounds by habit keep users from what works; pyproject.toml has the reason beside each."""
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if re.search(r'"[a-z0-9_\[\]-]+[^"#]*[<~!]=?\s*\d', line):
            assert "#" in line, line


@pytest.mark.skipif(not shutil.which("git"), reason="asks git which files there are")
def test_every_file_of_the_package_is_in_the_wheel():
    listed = subprocess.run(["git", "ls-files", "scrdit_jax"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["scrdit_jax"]
    data = [path.removeprefix("scrdit_jax/") for path in listed.stdout.split() if not path.endswith(".py")]
    assert len(data) > 8
    assert [path for path in data if not any(fnmatch(path, pattern) for pattern in patterns)] == []


def test_an_archive_is_normalised_to_the_same_bytes(tmp_path):
    """Other dates, modes, users and another order of files."""
    made = []
    for number, order in enumerate((("a.py", "b.py"), ("b.py", "a.py"))):
        folder, archive = tmp_path / str(number), tmp_path / f"{number}.tar.gz"
        folder.mkdir(mode=(0o755, 0o700)[number])
        with tarfile.open(archive, "w:gz") as packed:
            for name in order:
                (folder / name).write_text(name * 100)
                (folder / name).chmod((0o644, 0o600)[number])
                os.utime(folder / name, (number * 1e6 + 1e9,) * 2)
            packed.add(folder, "package", recursive=False)
            for name in order:
                packed.add(folder / name, f"package/{name}")
        made.append(archive.read_bytes())
    assert made[0] != made[1]
    assert building.normalised(made[0], 10**9) == building.normalised(made[1], 10**9)


@pytest.mark.slow
def test_a_release_has_the_same_bytes_each_time_and_works_by_itself(tmp_path, monkeypatch):
    """Of two clones, with other file dates and modes; installed into an empty environment, without extras."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    hashes = []
    for number, umask in enumerate((0o022, 0o077)):
        clone = tmp_path / f"clone{number}"
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True, umask=umask)
        command = [clone / "scripts/release", tmp_path / f"dist{number}"]
        out = subprocess.run(command, capture_output=True, text=True, check=True, umask=umask).stdout
        hashes.append({Path(line.split()[1]).name: line.split()[0] for line in out.splitlines()})
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 2

    (wheel,) = (tmp_path / "dist0").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"scrdit_jax"}
    python = tmp_path / "bare/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "bare"], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--constraint", ROOT / "scripts/constraints.txt", wheel], check=True
    )
    commands = (["info", "run"], ["sample", "run", "--cells", "16", "--out", "cells.h5ad"], ["info", "cells.h5ad"])
    make = "import scrdit_jax; scrdit_jax.pretrained(out='run'); print(scrdit_jax.__file__)"
    made = subprocess.run([python, "-c", make], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(tmp_path / "bare") in made.stdout
    for arguments in commands:
        subprocess.run([tmp_path / "bare/bin/scrdit", *arguments], cwd=tmp_path, check=True)
    evaluated = subprocess.run(
        [tmp_path / "bare/bin/scrdit", "evaluate", "pbmc3k", "cells.h5ad", "--out", "report"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert evaluated.returncode == 2
    assert "pip install" in evaluated.stderr
    assert len(evaluated.stderr.splitlines()) == 1
