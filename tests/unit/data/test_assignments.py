from pathlib import Path

import pytest

from kineflow.data.assignments import append_assignments, read_assignments
from kineflow.errors import DataError


def test_roles_are_appended_and_what_was_there_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "assignments.csv"
    append_assignments(path, dataset="a", roles={"g2": "development", "g1": "test"})
    first = path.read_bytes()
    assert first == b"dataset,group,role\na,g1,test\na,g2,development\n"
    append_assignments(path, dataset="b", roles={'odd, "name"': "test"})
    assert path.read_bytes() == first + b'b,"odd, ""name""",test\n'
    assert read_assignments(path, dataset="a") == {"g1": "test", "g2": "development"}
    assert read_assignments(path, dataset="b") == {'odd, "name"': "test"}


def test_a_file_without_a_last_newline_is_not_run_together(tmp_path: Path) -> None:
    path = tmp_path / "assignments.csv"
    path.write_text("dataset,group,role\na,g1,test")
    append_assignments(path, dataset="a", roles={"g2": "development"})
    assert path.read_text() == "dataset,group,role\na,g1,test\na,g2,development\n"


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    append_assignments(tmp_path / "assignments.csv", dataset="a", roles={})
    assert read_assignments(tmp_path / "assignments.csv", dataset="a") == {}
    assert list(tmp_path.iterdir()) == []


def test_a_role_never_changes(tmp_path: Path) -> None:
    path = tmp_path / "assignments.csv"
    append_assignments(path, dataset="a", roles={"g1": "test"})
    with pytest.raises(DataError, match="'g1' of 'a' has a role already"):
        append_assignments(path, dataset="a", roles={"g1": "development"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group,role\n", "the first row is 'group,role'"),
        ("dataset,group,role\na,g1,train\n", r"\.csv:2: 'a,g1,train' is not dataset,group,role"),
        (
            "dataset,group,role\na,g1,test\na,g1,development\n",
            r"\.csv:3: group 'g1' of 'a' is development here and test",
        ),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "assignments.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_assignments(path, dataset="a")
