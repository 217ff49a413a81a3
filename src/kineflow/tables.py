"""The tables that stages hand to each other: their columns, their versions, reading and writing.

Every table is one Parquet file whose metadata name the table and its schema version. A file of an older
version is migrated on reading; a file of another table or of a newer version is refused by name.
Frames count from 0; `stop_frame` is exclusive; seconds run from the first frame of the video.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from kineflow.atomic import replacing
from kineflow.errors import DataError
from kineflow.schema import FileSchema

if TYPE_CHECKING:
    import pandas as pd

Migration = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class TableSchema:
    """The columns of one table.

    Args:
        name: what the file's metadata call it.
        version: rises with every change of columns or of their meaning.
        columns: always present, in this order.
        extra_type: the type of the columns that depend on the data (one for each class or behaviour);
            None where there are none.
        migrations: from version i to i + 1, by i.
    """

    name: str
    version: int
    columns: tuple[tuple[str, pa.DataType], ...]
    extra_type: pa.DataType | None = None
    migrations: dict[int, Migration] = field(default_factory=dict)

    def arrow_schema(self, extra_columns: Sequence[str] = ()) -> pa.Schema:
        """The Arrow schema with `extra_columns` appended, and the metadata that name it."""
        fields = [pa.field(name, kind) for name, kind in self.columns]
        fields += [pa.field(name, self.extra_type) for name in extra_columns]
        metadata = {"kineflow.table": self.name, "kineflow.version": str(self.version)}
        return pa.schema(fields, metadata=metadata)

    def check(self, path: Path, version: int) -> int:
        """The version of a file, if there is a way from it to today's.

        Raises:
            DataError: there is none, or it is newer.
        """
        oldest = self.version
        while oldest - 1 in self.migrations:
            oldest -= 1
        remedy = "run the stage that makes it again"
        return FileSchema(f"table {self.name}", self.version, remedy, oldest).check(path, version)

    def extra_columns(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not fixed columns: the classes or behaviours."""
        fixed = {name for name, _ in self.columns}
        return [name for name in names if name not in fixed]


VIDEOS = TableSchema(
    "videos",
    2,
    (
        ("video_id", pa.string()),  # the key under the source, with its extension
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("num_bytes", pa.int64()),
        ("container", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation_deg", pa.int32()),
        ("fps_num", pa.int64()),
        ("fps_den", pa.int64()),
        ("variable_rate", pa.bool_()),
        ("num_frames", pa.int64()),  # decoded, not the header's word
        ("num_corrupt_frames", pa.int64()),  # of these, where the decoder patched over damage; null if not looked at
        ("duration_sec", pa.float64()),
        ("group", pa.string()),
        ("official_role", pa.string()),  # train, val or test where the annotations say so, else null
        ("status", pa.string()),  # ok or quarantined
        ("reason", pa.string()),  # why it is quarantined
    ),
    migrations={1: lambda table: _with_unknown(table, "num_corrupt_frames", pa.int64(), after="num_frames")},
)

EVENTS = TableSchema(
    "events",
    1,
    (
        ("video_id", pa.string()),
        ("label", pa.string()),
        ("start_sec", pa.float64()),
        ("stop_sec", pa.float64()),  # null for a point event; null start and stop mean the whole video
        ("subject", pa.string()),
        ("source", pa.string()),  # file:row that it was read from
    ),
)

FRAME_LABELS = TableSchema(
    "frame_labels",
    1,
    (("video_id", pa.string()), ("frame", pa.int64())),  # frame of the source video
    extra_type=pa.int8(),  # one column for each behaviour: 0, 1, null = unlabelled
)

CLIPS = TableSchema(
    "clips",
    2,
    (
        ("clip_id", pa.string()),
        ("video_id", pa.string()),
        ("start_frame", pa.int64()),  # extracted frames
        ("stop_frame", pa.int64()),
        ("label", pa.string()),  # null on task frame, and where a clip may have several
        ("group", pa.string()),
        ("origin", pa.string()),  # trimmed, event, negative, window
    ),
    extra_type=pa.int8(),  # where a clip may have several labels: one column for each class, 0 or 1
    migrations={1: lambda table: table},  # had no clips of several labels
)

FOLDS = TableSchema(
    "folds",
    1,
    (
        ("clip_id", pa.string()),
        ("role", pa.string()),  # train, val, test
        ("fold", pa.int64()),  # -1 for test
    ),
)

LOGITS = TableSchema(
    "logits",
    1,
    (
        ("model", pa.string()),
        ("fold", pa.int64()),  # -1 for the release model
        ("clip_id", pa.string()),
        ("video_id", pa.string()),
        ("frame", pa.int64()),  # extracted frame; null on task clip
    ),
    extra_type=pa.float32(),  # one column for each class
)

NEAR_COPIES = TableSchema(
    "near_copies",
    1,
    (
        ("video_id", pa.string()),
        ("other_id", pa.string()),  # of another group; each pair once, the smaller id first
        ("shift_sec", pa.float64()),  # when in the other video this one begins
        ("similarity", pa.float64()),  # of what moves, at most 1
    ),
)

# Names that no class may have: its column would collide with another one, `label` with that of predictions.
RESERVED_LABELS = frozenset(name for schema in (FRAME_LABELS, LOGITS) for name, _ in schema.columns) | {"label"}

ALL = {schema.name: schema for schema in (VIDEOS, EVENTS, FRAME_LABELS, CLIPS, FOLDS, LOGITS, NEAR_COPIES)}


def write_table(path: Path, schema: TableSchema, frame: "pd.DataFrame") -> None:
    """Write `frame` as `schema` to `path`, whole or not at all; the same content gives the same bytes.

    Raises:
        DataError: a column is missing or does not convert to its type.
    """
    extra = schema.extra_columns([str(name) for name in frame.columns])
    if extra and schema.extra_type is None:
        raise DataError(f"table {schema.name}: unknown columns {', '.join(extra)}")
    arrow_schema = schema.arrow_schema(extra)
    missing = [name for name in arrow_schema.names if name not in frame.columns]
    if missing:
        raise DataError(f"table {schema.name}: columns {', '.join(missing)} are missing")
    try:
        table = pa.Table.from_pandas(frame[arrow_schema.names], schema=arrow_schema, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as err:
        raise DataError(f"table {schema.name}: {err}") from err
    with replacing(path) as partial:
        pq.write_table(table.replace_schema_metadata(arrow_schema.metadata), partial)


def read_table(path: Path, schema: TableSchema) -> "pd.DataFrame":
    """Read a table that `write_table` wrote, migrated to the present version.

    Raises:
        DataError: the file is missing, of another table, or of a newer version.
    """
    if not path.is_file():
        raise DataError(f"{path}: the table {schema.name} is not there; run the stage that makes it")
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    name = metadata.get(b"kineflow.table", b"?").decode()
    if name != schema.name:
        raise DataError(f"{path}: holds the table {name!r}, not {schema.name!r}; run the stage that makes it again")
    for version in range(schema.check(path, int(metadata.get(b"kineflow.version", b"0"))), schema.version):
        table = schema.migrations[version](table)
    return table.to_pandas(types_mapper={pa.int8(): _nullable_int8()}.get)


def _with_unknown(table: pa.Table, name: str, kind: pa.DataType, *, after: str) -> pa.Table:
    column = pa.nulls(len(table), kind)
    return table.add_column(table.column_names.index(after) + 1, pa.field(name, kind), column)


def _nullable_int8() -> "pd.Int8Dtype":
    import pandas as pd

    return pd.Int8Dtype()
