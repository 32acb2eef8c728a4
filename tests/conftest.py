"""Fixtures shared by test files: a GPU where there is one, and a small store for the command line."""

from __future__ import annotations

import logging
import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before numpy and torch are loaded: on two cores the threads of two workers only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Library, Ran, Run, run_process

from eval.dramas import catalogue, write_catalogue, write_manifest
from eval.edits import write_clip
from index.files import user_cache_folder
from matcher.cli import main

CLIP_START_SECONDS = 4.0
CLIP_SECONDS = 7.0


@pytest.fixture(scope="session")
def cuda() -> str:
    """The device's word; skips without CUDA, and fails where FAIL_WITHOUT_CUDA=1 says that there is one."""
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("FAIL_WITHOUT_CUDA=1, but torch sees no CUDA device")
        pytest.skip("needs CUDA")
    return "cuda"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Lets torch compute with one thread, for nets so small that a second one only waits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def matcher(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process and gives back what it did."""

    def run(*words: str | Path) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Ran(code, out, err)

    return run


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The address of a bucket in object storage on this machine; ``AWS_*`` lead there, for children too."""
    from moto.server import ThreadedMotoServer

    # One line a request otherwise.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    words = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "NO_PROXY": "127.0.0.1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in words.items():
            patch.setenv(name, value)
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/programs", method="PUT")).close()
        yield "s3://programs"
    server.stop()


@pytest.fixture
def address(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a store of one's own there; its FAISS cache is below the test's folder."""
    graphs = user_cache_folder() / "graphs"
    graphs.mkdir(parents=True, exist_ok=True)
    (tmp_path / "user-cache" / "program-matcher").mkdir(parents=True)
    # The encoder's graph takes long to make and is the same for all.
    (tmp_path / "user-cache" / "program-matcher" / "graphs").symlink_to(graphs.resolve())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.delenv("MATCHER_CACHE", raising=False)
    return f"{bucket}/{tmp_path.name}/store"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Three programs of two short episodes, and a clip of each."""
    folder = tmp_path_factory.mktemp("library")
    specs = catalogue(
        3, seed=3, n_twin_pairs=0, n_episodes=2, episode_seconds=14.0, width=192, height=108, fps=6
    )
    rows = write_catalogue(specs, folder)
    write_manifest(rows, folder / "programs.csv")
    clips = {}
    for spec in specs:
        source, path = folder / f"{spec.program_id}-e02.mp4", folder / f"clip-{spec.program_id}.mp4"
        write_clip(source, CLIP_START_SECONDS, CLIP_SECONDS, [], path, seed=1)
        clips[spec.program_id] = path
    return Library(folder, folder / "programs.csv", clips, CLIP_START_SECONDS)


@pytest.fixture(scope="session")
def kept_store(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the whole library, for reading only."""
    path = tmp_path_factory.mktemp("kept") / "store"
    ran = run_process("add", "--store", path, "--manifest", library.manifest)
    assert ran.code == 0, ran.err
    return path


@pytest.fixture
def store(kept_store: Path, tmp_path: Path) -> Path:
    """A copy of the store, to be changed."""
    return Path(shutil.copytree(kept_store, tmp_path / "store"))
