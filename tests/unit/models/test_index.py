"""The list of models is counted once for a version of the code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kineflow.models import catalogue, index


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


describe = catalogue.describe_models


def few_models() -> tuple[index.ModelEntry, ...]:
    return describe("embedding.lstm")


def test_what_was_counted_is_not_counted_again(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "describe_models", few_models)
    first = index.list_entries()
    monkeypatch.delattr(catalogue, "describe_models")
    assert index.list_entries() == first
    assert [entry.name for entry in first] == ["embedding.lstm"]
    assert index.is_counted()


def test_other_code_is_counted_anew(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "describe_models", few_models)
    index.list_entries()
    monkeypatch.setattr(index, "_code_version", lambda: "other")
    assert not index.is_counted()


def test_a_damaged_file_and_a_folder_that_cannot_be_written_only_cost_time(
    cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index.list_poolings()
    (file,) = cache_home.rglob("poolings.json")
    file.write_text('[{"name": "no')
    assert index.list_poolings() == first
    (cache_home / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home / "file"))
    assert index.list_poolings() == first


def test_speeds_are_kept_beside_each_other(cache_home: Path) -> None:
    assert index.measured_ms() == {}
    index.keep_measured({"a.avg": 1.5})
    index.keep_measured({"b.avg": 2.5, "a.avg": 1.0})
    assert index.measured_ms() == {"a.avg": 1.0, "b.avg": 2.5}


def test_a_kept_list_is_read_without_torch(cache_home: Path) -> None:
    index.list_poolings()
    code = (
        "import sys, json; from kineflow.models import index; "
        "print(json.dumps([len(index.list_poolings()), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [len(index.list_poolings()), False]
