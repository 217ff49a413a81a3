"""The embedded S3 really starts, stores what DVC pushes, refuses strangers, and ends."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kineflow import services
from kineflow.errors import ParamsError, ServiceError
from kineflow.services import dvc_remote, process, s3

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with DVC's configuration, no service running, none left behind."""
    monkeypatch.chdir(tmp_path)
    for name in (*s3.OWN_S3_VARIABLES, s3.PORT_VARIABLE, "KINEFLOW_HOME", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".dvc").mkdir()
    shutil.copyfile(REPOSITORY / ".dvc/config", tmp_path / ".dvc/config")
    yield tmp_path
    services.down()


def test_up_is_idempotent_and_down_ends_it(place: Path) -> None:
    first = services.up()[0]
    assert (first.name, first.state) == ("s3", "running")
    assert services.up()[0] == first
    assert services.status()[0] == first
    assert services.down() == ["s3"]
    assert process.start_time(first.pid or 0) is None
    assert services.status()[0].state == "stopped"
    assert services.down() == []
    assert services.up()[0].url == first.url  # the port is remembered


def test_credentials_are_private_random_and_not_on_the_command_line(place: Path) -> None:
    row = services.up()[0]
    settings = s3.settings()
    assert settings is not None
    for path in (place / ".kineflow/services/s3.json", place / ".dvc/config.local"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert settings.secret_access_key in path.read_text()
    assert settings.secret_access_key not in Path(f"/proc/{row.pid}/cmdline").read_text()
    assert len(settings.secret_access_key) >= 32


def test_objects_survive_a_restart_and_strangers_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kineflow import storage

    services.up()
    (place / "a.txt").write_text("content")
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    storage.put_file(place / "a.txt", "s3://kineflow/x/a.txt")
    with monkeypatch.context() as bare:
        bare.delenv("AWS_ENDPOINT_URL")
        services.down()
        services.up()
    assert [info.key for info in storage.list_files("s3://kineflow/x")] == ["a.txt"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong" * 8)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger" * 2)
    with pytest.raises(ServiceError, match="refuses these credentials"):
        storage.list_files("s3://kineflow/x")
    monkeypatch.delenv("AWS_ENDPOINT_URL")


def test_dvc_pushes_to_it_and_pulls_from_it(place: Path) -> None:
    services.up()
    dvc = [str(Path(sys.executable).with_name("dvc"))]
    subprocess.run(["git", "init", "-q"], check=True)
    (place / "a.bin").write_bytes(bytes(range(256)))
    environment = os.environ | s3.CHECKSUMS
    for arguments in (["add", "-q", "a.bin"], ["push", "-q"]):
        subprocess.run([*dvc, *arguments], check=True, env=environment)
    assert list((place / ".kineflow/s3/kineflow/dvc").rglob("*")), "nothing arrived in the bucket"
    shutil.rmtree(place / ".dvc/cache")
    (place / "a.bin").unlink()
    subprocess.run([*dvc, "pull", "-q"], check=True, env=environment)
    assert (place / "a.bin").read_bytes() == bytes(range(256))


def test_a_taken_port_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("KINEFLOW_S3_PORT", str(port))
        with pytest.raises(ServiceError, match=rf"port {port} .* KINEFLOW_S3_PORT") as caught:
            services.up()
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert services.status()[0].state == "stopped"
    monkeypatch.setenv("KINEFLOW_S3_PORT", "many")
    with pytest.raises(ParamsError, match="is no port"):
        services.up()


def test_a_remembered_port_that_a_stranger_took_is_given_up(place: Path) -> None:
    before = services.up()[0]
    services.down()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int((before.url or "").rpartition(":")[2])))
        taken.listen()
        after = services.up()[0]
    assert after.state == "running"
    assert after.url != before.url
    assert dvc_remote.endpoint() == after.url


def test_a_stale_pid_file_is_seen_through(place: Path) -> None:
    stranger = os.getpid()  # alive, but it began at another time
    (place / ".kineflow/services").mkdir(parents=True)
    pid_file = place / ".kineflow/services/s3.pid.json"
    pid_file.write_text(json.dumps({"pid": stranger, "start_time": "1", "url": "http://127.0.0.1:9"}))
    assert process.find("s3") is None
    assert not pid_file.exists()
    pid_file.write_text("{")
    assert services.up()[0].pid != stranger


def test_the_users_own_s3_is_used_and_nothing_started(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services.up()
    services.down()
    monkeypatch.setenv("KINEFLOW_REMOTE", "s3://team/kineflow")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    rows = services.up()
    assert [(row.name, row.state, row.pid) for row in rows] == [("s3", "own", None)]
    assert not (place / ".kineflow/services/s3.pid.json").exists()
    text = (place / ".dvc/config.local").read_text()
    assert "access_key" not in text  # the embedded credentials are gone from it
    assert dvc_remote.url() == "s3://team/kineflow"
    assert dvc_remote.endpoint() == "https://s3.example.org"
    assert "AWS_ACCESS_KEY_ID" not in s3.environment()


def test_other_sections_of_config_local_are_kept(place: Path) -> None:
    (place / ".dvc/config.local").write_text("[cache]\n    dir = /somewhere\n")
    services.up()
    assert "dir = /somewhere" in (place / ".dvc/config.local").read_text()
    assert dvc_remote.url() == "s3://kineflow/dvc"


def test_credentials_in_an_address_are_not_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://anna:hidden@mlflow.example.org/x")
    assert "hidden" not in services.table(services.status())
    assert "https://mlflow.example.org/x" in services.table(services.status())
