import os
import platform
import subprocess
import sys

import pytest

from scrdit_jax.errors import DiskFailed, OutputExists, writing
from scrdit_jax.io.atomic import atomic_write, write_if_absent
from scrdit_jax.io.locks import FileLocks


def write_folder(path, text):
    path.mkdir()
    (path / "inside.txt").write_text(text)


def test_a_file_and_a_folder_take_the_place_of_the_old_one(tmp_path):
    for text in ("old", "new"):
        with atomic_write(tmp_path / "new" / "a.txt") as partial:
            partial.write_text(text)
        with atomic_write(tmp_path / "new" / "b.zarr") as partial:
            write_folder(partial, text)
    assert (tmp_path / "new/a.txt").read_text() == "new" == (tmp_path / "new/b.zarr/inside.txt").read_text()
    assert sorted(os.listdir(tmp_path / "new")) == ["a.txt", "b.zarr"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_everything_as_it_was(tmp_path, error):
    write_folder(tmp_path / "b.zarr", "old")
    for path in (tmp_path / "b.zarr", tmp_path / "two/folders/a.txt"):
        with pytest.raises(error), atomic_write(path) as partial:  # noqa: PT012 - the block is what is tested
            write_folder(partial, "half")
            raise error
    assert os.listdir(tmp_path) == ["b.zarr"]
    assert (tmp_path / "b.zarr/inside.txt").read_text() == "old"


def test_a_folder_comes_back_when_its_successor_cannot_be_moved_in(tmp_path):
    write_folder(tmp_path / "b.zarr", "old")
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "b.zarr"):
        pass  # nothing was written
    assert os.listdir(tmp_path) == ["b.zarr"]
    assert (tmp_path / "b.zarr/inside.txt").read_text() == "old"


def test_a_file_where_a_folder_is_needed_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    refusal = pytest.raises(OutputExists, match=r"file is a file, so .*a\.txt cannot be written in it; choose another")
    with refusal, atomic_write(tmp_path / "file/below/a.txt"):
        raise AssertionError("must not come here")


def test_what_a_killed_process_has_left_goes_with_the_next(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for there in (False, True):
        leftover = tmp_path / f".manifest.{platform.node()}-{dead.pid}.partial.json"
        leftover.write_text("{")
        assert write_if_absent(tmp_path / "manifest.json", "{}") is not there
        assert os.listdir(tmp_path) == ["manifest.json"]
    alive = tmp_path / f".manifest.{platform.node()}-{os.getppid()}.partial.json"
    alive.write_text("{")
    write_if_absent(tmp_path / "manifest.json", "{}")
    assert alive.exists()


def test_a_lock_may_be_released_after_all_were(tmp_path):
    locks = FileLocks(tmp_path / ".locks")
    held = locks.held(1)
    held.__enter__()
    locks.close()
    held.__exit__(None, None, None)


def test_what_was_not_written_in_time_is_one_line(tmp_path):
    with pytest.raises(DiskFailed, match="was not written in time"), writing(tmp_path):
        raise TimeoutError("ChainedFuture completed 2/8 futures but timed out after 31536000.02 seconds.")
