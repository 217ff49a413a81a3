"""What the lineage holds, from a lock file written by hand."""

import subprocess
from pathlib import Path

import pytest

from kineflow.registry import lineage

GRAPH = """
stages:
  sync: {cmd: x, outs: [data/sources.tsv]}
  train:
    foreach: {rgb: {}, flow: {}}
    do: {cmd: x, outs: ["models/${key}"]}
  aside: {cmd: x, outs: [aside.txt]}
  register: {cmd: x, deps: [models/rgb, src], outs: [registration.json]}
"""
LOCK = """
schema: '2.0'
stages:
  sync: {cmd: x, outs: [{path: data/sources.tsv, md5: a}], params: {params.yaml: {data: {name: s, source: d}}}}
  train@rgb:
    cmd: x
    deps: [{path: data/sources.tsv, md5: a}]
    params: {params.yaml: {seed: 0, streams.rgb: {lr: 0.1, crops: [1, 2]}}}
    outs: [{path: models/rgb, md5: b}]
  train@flow: {cmd: x, outs: [{path: models/flow, md5: c}], params: {params.yaml: {other: 1}}}
  aside: {cmd: x, outs: [{path: aside.txt, md5: d}]}
  register: {cmd: x, outs: [{path: registration.json, md5: e}]}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "dvc.lock").write_text(LOCK)
    return tmp_path


def collected(root: Path) -> lineage.Lineage:
    return lineage.collect(
        root,
        release_stream="rgb",
        training_groups=("g1",),
        training_videos=("ab",),
        clips=root / "clips.parquet",
        folds=root / "folds.parquet",
        sources=root / "data/sources.tsv",
    )


def test_only_ancestors_count(root: Path) -> None:
    assert list(lineage.ancestor_entries(root, "register")) == ["sync", "train@rgb"]
    before = collected(root)
    assert before.params == {
        "data.name": "s",
        "data.source": "d",
        "seed": 0,
        "streams.rgb.crops": [1, 2],
        "streams.rgb.lr": 0.1,
    }
    (root / "dvc.lock").write_text(LOCK.replace("md5: c", "md5: z").replace("md5: e", "md5: y"))
    assert collected(root) == before
    (root / "dvc.lock").write_text(LOCK.replace("md5: a", "md5: z"))
    assert collected(root).lock_digest != before.lock_digest
    (root / "dvc.lock").write_text(LOCK.replace("seed: 0", "seed: 1"))
    assert collected(root).params_digest != before.params_digest


def test_the_commit_and_whether_code_differs_from_it(root: Path) -> None:
    assert lineage.code_version(root) == (None, None)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (root / "src").mkdir()
    (root / "src/a.py").write_text("a = 1\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    commit, dirty = lineage.code_version(root)
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False
    (root / "dvc.lock").write_text("written by the run")
    assert lineage.code_version(root) == (commit, False)
    (root / "src/new.py").write_text("b = 2\n")
    assert lineage.code_version(root) == (commit, True)


def test_the_folds_digest_is_of_the_content(tmp_path: Path) -> None:
    import pandas as pd

    from kineflow import tables

    columns = [name for name, _ in tables.CLIPS.columns]
    rows = [("v#0-8", "v", 0, 8, "a", "g1", "trimmed"), ("w#0-8", "w", 0, 8, "b", "g2", "trimmed")]
    clips = pd.DataFrame(rows, columns=columns)
    folds = pd.DataFrame({"clip_id": ["v#0-8", "w#0-8"], "role": ["train", "val"], "fold": [0, 0]})

    def digest_of(clips: pd.DataFrame, folds: pd.DataFrame) -> str:
        tables.write_table(tmp_path / "clips", tables.CLIPS, clips)
        tables.write_table(tmp_path / "folds", tables.FOLDS, folds)
        return lineage.folds_digest(tmp_path / "clips", tmp_path / "folds")

    before = digest_of(clips, folds)
    assert digest_of(clips.iloc[::-1], folds.iloc[::-1]) == before
    assert digest_of(clips.assign(label="a"), folds) != before
    assert digest_of(clips, folds.assign(role="val")) != before
    assert lineage.library_versions()["kineflow"]
