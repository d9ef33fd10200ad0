import os
import re
import signal
import socket
import time

import pytest

from experiments.training.lock import FolderLock, InUseError, VanishedError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def holder(folder):
    """The id of another process that holds the folder, until it is killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        lock = FolderLock(folder)
        os.write(write, b"held")
        while lock.intact():
            time.sleep(60)
        os._exit(0)
    os.read(read, 4)
    os.close(read)
    os.close(write)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_folder_is_held_once_and_free_afterwards(folder):
    said = f"is in use by process {os.getpid()} on "
    with FolderLock(folder), pytest.raises(InUseError, match=said):
        FolderLock(folder)
    assert list(folder.iterdir()) == []
    FolderLock(folder).release()


def test_who_else_holds_it_is_said_in_one_sentence(folder, holder):
    said = f"{folder} is in use by process {holder} on {socket.gethostname()}: wait until it has"
    with pytest.raises(InUseError, match=f"^{re.escape(said)} ended, or stop it\\.$"):
        FolderLock(folder)


def test_a_killed_process_holds_nothing_though_its_files_are_left(folder):
    child = os.fork()
    if child == 0:
        lock = FolderLock(folder)
        os.kill(os.getpid(), signal.SIGKILL)
        lock.release()
    os.waitpid(child, 0)
    assert {path.name for path in folder.iterdir()} == {".lock", ".lock.json"}
    with FolderLock(folder) as lock:
        assert lock.intact()


def test_a_lock_that_nothing_refers_to_is_free(folder):
    lock = FolderLock(folder)
    del lock
    FolderLock(folder).release()


def test_a_folder_that_is_gone_or_another_is_noticed(folder):
    (folder / "config.json").touch()
    lock = FolderLock(folder)
    lock.check("config.json")
    folder.rename(folder.with_name("renamed"))
    assert not lock.intact()
    folder.mkdir()
    (folder / "config.json").touch()
    assert not lock.intact("config.json")
    with pytest.raises(VanishedError, match="was removed, renamed or emptied"):
        lock.check()
    lock.release()
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_an_emptied_folder_is_noticed_by_what_it_lacks(folder):
    with FolderLock(folder) as lock:
        assert lock.intact()
        assert not lock.intact("config.json")
