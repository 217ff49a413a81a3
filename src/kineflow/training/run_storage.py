"""Checkpoints and results of trainings where they outlive the machine that trains: on S3.

A worker on another machine, or on one that comes back with an empty disk, goes on from there. A checkpoint is kept as
well as it goes: while the storage is away, training continues and the next epoch's takes its place. A result is worth
waiting for.
"""

import json
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kineflow import storage
from kineflow.errors import DataError, OutOfReachError
from kineflow.store import ResultStore, file_sha256
from kineflow.training.state import EpochResult, OnEpoch

MANIFEST = "files.json"  # of a result: the SHA-256 of each file; written last
RETRY_SEC = 10.0  # before another checkpoint is tried, once the storage was away


@dataclass(frozen=True)
class RunStorage:
    """Trainings under one root, by key; cheap to pickle.

    Args:
        root: `s3://bucket/prefix`, or a folder on a shared disk.
        patience_sec: how long a result waits for the storage to come back.
    """

    root: str
    patience_sec: float

    def keep_result(self, key: str, folder: Path) -> None:
        """Copy the files of a result unless they are kept; the manifest comes last, so a part of them is none.

        Raises:
            OutOfReachError: the storage stayed away for `patience_sec`.
        """
        storage.with_patience(lambda: self._keep_result(key, folder), patience_sec=self.patience_sec)

    def fetch_result(self, key: str, results: ResultStore) -> bool:
        """Copy a result into `results`; false where none is kept.

        Raises:
            DataError: it is damaged.
            OutOfReachError: as `keep_result`.
        """
        return storage.with_patience(lambda: self._fetch_result(key, results), patience_sec=self.patience_sec)

    def fetch_checkpoint(self, path: Path, *, afresh: bool = False) -> None:
        """Put the kept checkpoint called so at `path`, where there is one and none is there.

        Args:
            afresh: what is there does not count.

        Raises:
            OutOfReachError: as `keep_result`; to begin anew would be to train twice.
        """
        if path.exists() and not afresh:
            return
        uri = self.checkpoint_uri(path)
        if not storage.with_patience(lambda: storage.get_file(uri, path), patience_sec=self.patience_sec):
            path.unlink(missing_ok=True)

    def forget_checkpoint(self, path: Path) -> None:
        """Delete the kept checkpoint called so, if the storage answers."""
        with suppress(OutOfReachError):
            storage.delete_file(self.checkpoint_uri(path))

    def checkpoint_uri(self, path: Path) -> str:
        """Where the checkpoint at `path` is kept."""
        return f"{self.root}/checkpoints/{path.name}"

    def _keep_result(self, key: str, folder: Path) -> None:
        manifest = f"{self.root}/results/{key}/{MANIFEST}"
        if storage.exists(manifest):
            return
        sha256: dict[str, str] = {}
        for path in sorted(folder.iterdir()):
            storage.put_file(path, f"{self.root}/results/{key}/{path.name}")
            sha256[path.name] = file_sha256(path)
        with tempfile.TemporaryDirectory() as scratch:
            listed = Path(scratch) / MANIFEST
            listed.write_text(json.dumps(sha256, indent=1) + "\n")
            storage.put_file(listed, manifest)

    def _fetch_result(self, key: str, results: ResultStore) -> bool:
        with tempfile.TemporaryDirectory() as scratch:
            listed = Path(scratch) / MANIFEST
            if not storage.get_file(f"{self.root}/results/{key}/{MANIFEST}", listed):
                return False
            sha256: dict[str, str] = json.loads(listed.read_text())
        with results.writing(key) as folder:
            folder.mkdir()
            for name, wanted in sha256.items():
                uri = f"{self.root}/results/{key}/{name}"
                if not storage.get_file(uri, folder / name) or file_sha256(folder / name) != wanted:
                    raise DataError(f"{uri} is damaged; delete {self.root}/results/{key} and run again")
        return True


class CheckpointKeeper:
    """Copies a checkpoint after each epoch, or leaves one out while the storage is away."""

    def __init__(self, run_storage: RunStorage, path: Path, *, then: OnEpoch | None = None) -> None:
        self._uri = run_storage.checkpoint_uri(path)
        self._path = path
        self._then = then
        self._next_try = 0.0

    def __call__(self, result: EpochResult) -> None:
        """Copy the checkpoint as it is now."""
        if time.monotonic() >= self._next_try:
            try:
                storage.put_file(self._path, self._uri)
            except OutOfReachError:
                self._next_try = time.monotonic() + RETRY_SEC
        if self._then is not None:
            self._then(result)
