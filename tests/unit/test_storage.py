import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from kineflow import storage
from kineflow.errors import DataError, ServiceError
from kineflow.store import file_sha256
from tests.s3_server import KEY, SECRET, serve_bucket


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_bucket(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    _use(monkeypatch, server)
    return server


def _use(monkeypatch: pytest.MonkeyPatch, endpoint: str, secret: str = SECRET) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    storage.s3._client_for.cache_clear()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_lists_local_files_by_key_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/\u00e9 #!().mp4", "a/deep/c.avi", ".hidden/x.mp4", "a/.x.mp4.partial"):
        write(tmp_path / name, b"12")
    found = storage.list_files(str(tmp_path))
    assert [info.key for info in found] == ["a/deep/c.avi", "a/\u00e9 #!().mp4", "b.mp4"]
    assert found[2].num_bytes == 2
    assert found[2].version == str((tmp_path / "b.mp4").stat().st_mtime_ns)


def test_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "v.mp4", b"1")
    root = tmp_path / "root"
    write(root / "sub" / "w.mp4", b"1")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "sub" / "up").symlink_to(root)
    assert [info.key for info in storage.list_files(str(root))] == ["linked/v.mp4", "sub/w.mp4"]


@pytest.mark.parametrize("target", ["nothing.mp4", "gone.mp4"])
def test_a_link_to_nothing_or_to_itself_is_refused_by_name(target: str, tmp_path: Path) -> None:
    write(tmp_path / "sub" / "w.mp4", b"1")
    (tmp_path / "sub" / "gone.mp4").symlink_to(tmp_path / "sub" / target)
    with pytest.raises(DataError, match=r"sub/gone.mp4 is a link to a file that cannot be reached; mend or delete it"):
        storage.list_files(str(tmp_path))


def test_a_single_file_is_a_root(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", b"123")
    assert [(info.key, info.num_bytes) for info in storage.list_files(str(path))] == [("list.csv", 3)]


def test_missing_local_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing is not there; correct the path"):
        storage.list_files(str(tmp_path / "nothing"))


def test_s3_put_list_fetch(s3: str, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    path = write(tmp_path / "v.mp4", data)
    storage.put_file(path, "s3://bucket/put/one/v 1.mp4")
    storage.put_file(path, "s3://bucket/put/two.csv")
    storage.put_file(path, "s3://bucket/putty/other.mp4")  # begins like the prefix, is not under it
    assert [(info.key, info.num_bytes) for info in storage.list_files("s3://bucket/put")] == [
        ("one/v 1.mp4", 300_000),
        ("two.csv", 300_000),
    ]
    assert [info.key for info in storage.list_files("s3://bucket/put/two.csv")] == ["two.csv"]
    assert storage.list_files("s3://bucket/nothing") == []
    assert storage.exists("s3://bucket/put/two.csv")
    assert not storage.exists("s3://bucket/put/three.csv")
    cache = tmp_path / "cache"
    local, sha256 = storage.fetch("s3://bucket/put/one/v 1.mp4", cache_dir=cache)
    assert local.read_bytes() == data
    assert sha256 == file_sha256(path)
    assert local.suffix == ".mp4"
    assert not list(cache.glob(".partial-*"))


def test_a_changed_object_is_fetched_again_and_a_stale_hash_refused(s3: str, tmp_path: Path) -> None:
    uri, cache = "s3://bucket/change/v.mp4", tmp_path / "cache"
    storage.put_file(write(tmp_path / "v1", b"first"), uri)
    _, first = storage.fetch(uri, cache_dir=cache)
    storage.put_file(write(tmp_path / "v2", b"second"), uri)
    path, second = storage.fetch(uri, cache_dir=cache)
    assert (path.read_bytes(), second) == (b"second", file_sha256(tmp_path / "v2"))
    assert storage.local_file(uri, cache_dir=cache, sha256=first).read_bytes() == b"first"  # still cached
    with pytest.raises(DataError, match="changed since sync"):
        storage.local_file(uri, cache_dir=tmp_path / "other", sha256=first)


def test_what_is_cached_needs_no_server(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "s3://bucket/cached/v.mp4"
    storage.put_file(write(tmp_path / "v", b"bytes"), uri)
    _, sha256 = storage.fetch(uri, cache_dir=tmp_path / "cache")
    _use(monkeypatch, "http://127.0.0.1:1")
    assert storage.local_file(uri, cache_dir=tmp_path / "cache", sha256=sha256).read_bytes() == b"bytes"


def test_out_of_reach_is_one_sentence_with_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, "http://127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"S3 at http://127\.0\.0\.1:1 is out of reach") as caught:
        storage.list_files("s3://bucket/x")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10


def test_wrong_secret_and_missing_bucket_and_object(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceError, match="no such bucket"):
        storage.list_files("s3://absent/x")
    with pytest.raises(DataError, match=r"s3://bucket/absent\.mp4 is not there"):
        storage.fetch("s3://bucket/absent.mp4", cache_dir=tmp_path)
    _use(monkeypatch, s3, secret="wrong")
    with pytest.raises(ServiceError, match="refuses these credentials"):
        storage.list_files("s3://bucket/x")


def test_no_credentials(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage.s3._client_for.cache_clear()
    with pytest.raises(ServiceError, match="no S3 credentials"):
        storage.list_files("s3://bucket/x")


def test_local_put_and_local_file(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", b"1")
    storage.put_file(path, str(tmp_path / "deep" / "w.mp4"))
    assert storage.exists(str(tmp_path / "deep" / "w.mp4"))
    assert storage.local_file(str(path), cache_dir=tmp_path / "cache") == path
    with pytest.raises(DataError, match="not there any more"):
        storage.local_file(str(tmp_path / "gone.mp4"), cache_dir=tmp_path / "cache")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """The real client with answers given beforehand, for what the embedded server does not do."""
    _use(monkeypatch, "http://127.0.0.1:9")
    with Stubber(storage.s3.client()) as stubber:
        yield stubber
    storage.s3._client_for.cache_clear()


def body_of(data: bytes, etag: str) -> dict[str, object]:
    return {"Body": StreamingBody(io.BytesIO(data), len(data)), "ETag": etag}


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_marker_of_a_folder_is_no_file(slash: str, answers: Stubber) -> None:
    keys = ("videos/", "videos/a.mp4", "videos/deep/", "videos/deep/b.mp4")
    objects = [{"Key": key, "Size": 5 * (not key.endswith("/")), "ETag": '"e"'} for key in keys]
    answers.add_response("list_objects_v2", {"Contents": objects, "IsTruncated": False})
    assert [info.key for info in storage.list_files(f"s3://bucket/videos{slash}")] == ["a.mp4", "deep/b.mp4"]


def test_an_object_overwritten_between_two_requests_is_kept_as_what_it_is_now(answers: Stubber, tmp_path: Path) -> None:
    uri = "s3://bucket/a.mp4"
    answers.add_response("head_object", {"ETag": '"1"'})
    answers.add_response("get_object", body_of(b"two", '"2"'))
    assert storage.fetch(uri, cache_dir=tmp_path)[0].read_bytes() == b"two"
    answers.add_response("head_object", {"ETag": '"1"'})  # and back
    answers.add_response("get_object", body_of(b"one", '"1"'))
    assert storage.fetch(uri, cache_dir=tmp_path)[0].read_bytes() == b"one"
    assert storage.fetch(uri, cache_dir=tmp_path, etag="2")[0].read_bytes() == b"two"  # no request


def test_an_object_overwritten_since_it_was_listed_is_refused(answers: Stubber, tmp_path: Path) -> None:
    answers.add_response("get_object", body_of(b"two", '"2"'))
    with pytest.raises(DataError, match=r"a\.mp4 changed while it was read"):
        storage.sha256_of("s3://bucket", storage.FileInfo("a.mp4", 3, "1"), cache_dir=tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_what_killed_downloads_left_is_swept(tmp_path: Path) -> None:
    left = write(tmp_path / ".partial-old", b"1"), write(tmp_path / "versions" / ".partial-v", b"1")
    kept = write(tmp_path / ".partial-new", b"1"), write(tmp_path / "ab" / "abcd.mp4", b"1")
    for path in (*left, kept[1]):
        os.utime(path, (0, 0))
    storage.sweep(tmp_path)
    assert [path.exists() for path in (*left, *kept)] == [False, False, True, True]
    storage.sweep(tmp_path / "absent")
