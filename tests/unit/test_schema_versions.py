"""Every file that outlives a run says its version: one of before migrates or is refused by name, as is a newer one."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from kineflow import tables
from kineflow.data.preprocessing import SCHEMA as PREPROCESSING
from kineflow.data.readers import StreamStore
from kineflow.descriptors.inputs import SCHEMA as DESCRIPTORS
from kineflow.errors import DataError
from kineflow.registry.registration_file import SCHEMA as REGISTRATION
from kineflow.registry.registration_file import read_registration, write_registration
from kineflow.schema import FileSchema
from kineflow.stages.source_manifest import SCHEMA as SOURCES
from kineflow.stages.source_manifest import Source, read_sources, write_sources
from kineflow.training.bundle import SCHEMA as BUNDLE
from kineflow.training.bundle import read_bundle
from kineflow.validation.verdict import SCHEMA as GATE
from kineflow.validation.verdict import read_verdict, write_verdict
from kineflow.video import flow_store, frame_store
from kineflow.video.flow_store import FlowReader, FlowRule, writing_flow
from kineflow.video.frame_store import FrameReader, writing_frames
from kineflow.video.pack import PackReader, writing_pack
from kineflow.video.result_index import SCHEMA as INDEX
from kineflow.video.result_index import VideoResult, read_index, write_index

ROW = VideoResult("a b.mp4", "0" * 64, 5)
SOURCE = Source("video", "a b.mp4", 7, "1" * 64)


@dataclass(frozen=True)
class Kind:
    """A kind of file in a folder: how one is written and read, and how its version is changed in the file itself."""

    schema: FileSchema
    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    change: Callable[[Path, int], None]


def in_json(*keys: str) -> Callable[[Path, int], None]:
    def change(path: Path, version: int) -> None:
        file = path / "bundle.json" if path.is_dir() else path
        values = json.loads(file.read_text())
        section = values
        for key in keys[:-1]:
            section = section[0] if key == "0" else section[key]
        section[keys[-1]] = version
        file.write_text(json.dumps(values))

    return change


def in_first_line(path: Path, version: int) -> None:
    first, _, rest = path.read_text().partition("\n")
    assert first.startswith("# kineflow ")
    path.write_text(f"{first.rpartition(' ')[0]} {version}\n{rest}")


def index_file(folder: Path) -> Path:
    write_index(folder, [ROW])
    return folder / "index.tsv"


def sources_file(folder: Path) -> Path:
    write_sources(folder / "sources.tsv", [SOURCE])
    return folder / "sources.tsv"


def gate_file(folder: Path) -> Path:
    write_verdict(folder / "raw.json", "raw", [])
    return folder / "raw.json"


def registration_file(folder: Path) -> Path:
    write_registration(folder / "registration.json", {"name": "m", "version": "3"})
    return folder / "registration.json"


def bundle_folder(folder: Path) -> Path:
    preprocessing = {"schema_version": PREPROCESSING.version}
    member = {"stream": "rgb", "weights": "w.pt", "model": {}, "precision": "fp32", "preprocessing": preprocessing}
    return bundle_of(folder, member)


def fisher_folder(folder: Path) -> Path:
    described = {"schema_version": DESCRIPTORS.version}
    return bundle_of(folder, {"stream": "fv", "kind": "fisher", "weights": "w", "preprocessing": described})


def bundle_of(folder: Path, *members: dict[str, Any]) -> Path:
    values = {"schema_version": BUNDLE.version, "task": "clip", "classes": ["a"], "members": list(members)}
    (folder / "bundle.json").write_text(json.dumps(values | {"training_videos": [], "training_groups": []}))
    return folder


KINDS = {
    "index": Kind(INDEX, index_file, lambda path: read_index(path.parent), in_first_line),
    "sources": Kind(SOURCES, sources_file, read_sources, in_first_line),
    "gate": Kind(GATE, gate_file, read_verdict, in_json("version")),
    "registration": Kind(REGISTRATION, registration_file, read_registration, in_json("schema_version")),
    "bundle": Kind(BUNDLE, bundle_folder, read_bundle, in_json("schema_version")),
    "descriptors": Kind(
        DESCRIPTORS, fisher_folder, read_bundle, in_json("members", "0", "preprocessing", "schema_version")
    ),
    "preprocessing": Kind(
        PREPROCESSING, bundle_folder, read_bundle, in_json("members", "0", "preprocessing", "schema_version")
    ),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("step", [1, -1])
def test_another_version_is_refused_with_the_file_the_version_and_what_to_do(
    name: str, step: int, tmp_path: Path
) -> None:
    kind = KINDS[name]
    path = kind.write(tmp_path)
    oldest = kind.schema.version if kind.schema.oldest is None else kind.schema.oldest
    version = kind.schema.version + 1 if step == 1 else oldest - 1
    kind.change(path, version)
    with pytest.raises(DataError) as refused:
        kind.read(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert f"{kind.schema.name} version {version} " in message
    assert ("upgrade it" if step == 1 else kind.schema.remedy) in message


def test_what_is_written_today_is_read(tmp_path: Path) -> None:
    assert read_index(index_file(tmp_path).parent) == [ROW]
    assert StreamStore.of("rgb", tmp_path).num_frames == {"a b.mp4": 5}
    assert read_sources(sources_file(tmp_path)) == [SOURCE]
    assert read_verdict(gate_file(tmp_path)) == {"gate": "raw", "version": GATE.version, "rules": []}
    assert read_registration(registration_file(tmp_path)) == {"name": "m", "version": "3"}


def test_files_of_the_version_before_are_read(tmp_path: Path) -> None:
    (tmp_path / "index.tsv").write_text(f"video_id\tkey\tnum_frames\na b.mp4\t{'0' * 64}\t5\n")
    assert read_index(tmp_path) == [ROW]
    (tmp_path / "sources.tsv").write_text(f"kind\tkey\tnum_bytes\tsha256\nvideo\ta b.mp4\t7\t{'1' * 64}\n")
    assert read_sources(tmp_path / "sources.tsv") == [SOURCE]
    (tmp_path / "registration.json").write_text('{"name": "m", "version": "3"}')
    assert read_registration(tmp_path / "registration.json") == {"name": "m", "version": "3"}


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.tsv").write_text(sources_file(tmp_path).read_text())
    with pytest.raises(DataError, match="holds sources, not index; run the stage that makes this folder again"):
        read_index(tmp_path)
    (tmp_path / "index.tsv").write_text("video\tframes\n")
    with pytest.raises(DataError, match="is not an index"):
        read_index(tmp_path)
    gate_file(tmp_path).write_text('{"gate": "raw"}')
    with pytest.raises(DataError, match="gate version None is none; run the stage of this gate again"):
        read_verdict(tmp_path / "raw.json")


@pytest.mark.parametrize("reader", [FrameReader, FlowReader])
@pytest.mark.parametrize("step", [1, -1])
def test_a_pack_of_another_version_is_refused(reader: Callable[[Path], object], step: int, tmp_path: Path) -> None:
    module = frame_store if reader is FrameReader else flow_store
    with writing_pack(tmp_path / "a.zip", suffix="jpg") as pack:
        pack.finish({"kind": module.KIND, "version": module.VERSION + step})
    wanted = f"holds {module.KIND} version {module.VERSION + step}, wanted {module.KIND} version {module.VERSION}"
    with pytest.raises(DataError, match=f"a.zip: {wanted}; run the stage"):
        reader(tmp_path / "a.zip")


def test_packs_say_their_version(tmp_path: Path) -> None:
    rule = FlowRule("dis_fast", 8.0)
    with writing_frames(tmp_path / "frames.zip", fps=1.0, height=4, width=4, quality=90):
        pass
    with writing_flow(tmp_path / "flow.zip", rule=rule, fps=1.0, height=4, width=4, jpeg_quality=None) as writer:
        writer.append(np.zeros((4, 4, 2), np.float32))
    PackReader(tmp_path / "frames.zip", kind=frame_store.KIND, version=frame_store.VERSION).close()
    PackReader(tmp_path / "flow.zip", kind=flow_store.KIND, version=flow_store.VERSION).close()


@pytest.mark.parametrize("name", tables.ALL)
@pytest.mark.parametrize("step", [1, -1])
def test_a_table_of_another_version_is_refused(name: str, step: int, tmp_path: Path) -> None:
    schema, path = tables.ALL[name], tmp_path / f"{name}.parquet"
    other = replace(schema, version=schema.version + step)
    if schema.version + step in schema.migrations:
        pytest.skip("it is migrated")
    pq.write_table(other.arrow_schema().empty_table(), path)
    with pytest.raises(DataError, match=f"table {name} version {schema.version + step} ") as refused:
        tables.read_table(path, schema)
    assert str(refused.value).startswith(str(path))


def test_a_table_is_migrated_step_by_step(tmp_path: Path) -> None:
    old = tables.TableSchema("clips", 1, tables.CLIPS.columns[:2])
    rows = pd.DataFrame({"clip_id": ["c"], "video_id": ["v"]})
    tables.write_table(tmp_path / "clips.parquet", old, rows)
    new = tables.TableSchema(
        "clips",
        3,
        old.columns,
        migrations={
            1: lambda table: table.set_column(0, "clip_id", [["second"]]),
            2: lambda table: table.set_column(1, "video_id", [[str(table["clip_id"][0]) + " third"]]),
        },
    )
    found = tables.read_table(tmp_path / "clips.parquet", new)
    assert found.to_dict("list") == {"clip_id": ["second"], "video_id": ["second third"]}


def test_videos_of_the_version_before_have_unknown_damage(tmp_path: Path) -> None:
    columns = tuple(column for column in tables.VIDEOS.columns if column[0] != "num_corrupt_frames")
    old = tables.TableSchema("videos", 1, columns)
    tables.write_table(tmp_path / "videos.parquet", old, pd.DataFrame({name: [None] for name, _ in columns}))
    found = tables.read_table(tmp_path / "videos.parquet", tables.VIDEOS)
    assert list(found.columns) == [name for name, _ in tables.VIDEOS.columns]
    assert found["num_corrupt_frames"].isna().all()
