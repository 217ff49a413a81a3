"""Where weights come from: files, caches, a real S3 server, and downloads from a server on loopback."""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from kineflow.errors import DataError, ParamsError, ServiceError
from kineflow.models.registry import create_model
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.models.weight_sources import PRETRAINED, find_checkpoint
from kineflow.models.weights import fit_tensors, load_weights
from kineflow.models.zoo import BACKBONES
from tests.s3_server import KEY, SECRET, serve_bucket


@contextmanager
def serving(content: bytes, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server on loopback that answers every path with `content`; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusing_url() -> str:
    """Where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def publish(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let torchvision publish its ResNet-18 at `url`."""
    declare_missing_torchvision_ops()
    from torchvision.models import ResNet18_Weights

    default = ResNet18_Weights.DEFAULT
    monkeypatch.setattr(default, "_value_", replace(default.value, url=url))


def resnet18_file(path: Path) -> bytes:
    torch.manual_seed(1)
    model = create_model("resnet18.avg", num_classes=2, in_channels=3, task="clip")
    torch.save(model.backbone.network.state_dict(), path)
    return path.read_bytes()


def test_a_missing_file_and_a_nameless_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="there is no such file"):
        find_checkpoint(str(tmp_path / "gone.pt"))
    with pytest.raises(ParamsError, match="nor timm:NAME nor torchvision:NAME"):
        find_checkpoint("resnet18")


@pytest.mark.parametrize("source", ["torchvision:resnet18", "torchvision:ResNet18_Weights.IMAGENET1K_V1"])
def test_torchvision_weights_out_of_reach_say_where_the_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ParamsError) as caught:
        find_checkpoint(source)
    wanted = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    assert f"at {wanted}" in str(caught.value)
    wanted.parent.mkdir()
    wanted.write_bytes(b"not what was published")
    with pytest.raises(DataError, match="does not begin with f37072fd"):
        find_checkpoint(source)


def test_timm_weights_are_found_where_the_message_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ParamsError) as caught:
        find_checkpoint("timm:resnet18.a1_in1k")
    wanted = tmp_path / "checkpoints" / "resnet18.a1_in1k.safetensors"
    assert f"at {wanted}" in str(caught.value)
    assert "timm/resnet18.a1_in1k" in str(caught.value)
    wanted.parent.mkdir()
    wanted.write_bytes(b"")
    assert find_checkpoint("timm:resnet18.a1_in1k") == wanted


@pytest.mark.parametrize("source", ["torchvision:resnet181", "timm:resnet18.nothing", "timm:resnetty"])
def test_unknown_published_names_are_refused(source: str) -> None:
    with pytest.raises(ParamsError, match="no such"):
        find_checkpoint(source)


def test_pretrained_weights_are_downloaded_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    content = resnet18_file(tmp_path / "published.pth")
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    with serving(content) as url:
        publish(monkeypatch, f"{url}/{name}")
        path = find_checkpoint("pretrained", backbone="resnet18")
    assert path == tmp_path / "hub" / "checkpoints" / name and path.read_bytes() == content
    model = create_model("resnet18.bert", num_classes=2, in_channels=2, task="clip")
    report = load_weights(model, "pretrained")  # the server has gone
    assert all(name.startswith(("pooling.", "head.")) for name in report.missing)
    assert len(report.matched) == 120 and report.adapted == ("backbone.network.conv1.weight",)


def test_a_download_of_other_content_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with serving(b"a page that asks you to log in") as url:
        publish(monkeypatch, f"{url}/resnet18-0123abcd.pth")
        with pytest.raises(DataError, match=r"not what was published .*run again"):
            find_checkpoint("pretrained", backbone="resnet18")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_a_network_one_sentence_says_which_url_and_where_the_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = f"{refusing_url()}/resnet18-0123abcd.pth"
    publish(monkeypatch, url)
    with pytest.raises(ServiceError) as caught:
        find_checkpoint("pretrained", backbone="resnet18")
    wanted = tmp_path / "checkpoints" / "resnet18-0123abcd.pth"
    assert f"{url} cannot be downloaded" in str(caught.value) and f"put the file at {wanted}" in str(caught.value)
    assert "\n" not in str(caught.value) and "refused" in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets where the hub is, and lets nothing that is cached on this machine be found."""
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    path = "/{repo_id}/resolve/{revision}/{filename}"
    yield lambda url: monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + path)
    close_session()  # its sockets


INCEPTION = "timm/inception_resnet_v2.tf_in1k/resolve/main/model.safetensors"


def test_timms_weights_are_downloaded_once_and_checked(tmp_path: Path, hub: Callable[[str], None]) -> None:
    content = b"weights"
    path = tmp_path / "checkpoints" / "inception_resnet_v2.tf_in1k.safetensors"
    with serving(content, {"ETag": f'"{"0" * 64}"'}) as url:
        hub(url)
        with pytest.raises(DataError, match=r"not what was published"):
            find_checkpoint("pretrained", backbone="inception_resnet_v2")
        assert not path.exists()
    with serving(content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}) as url:
        hub(url)
        assert find_checkpoint("pretrained", backbone="inception_resnet_v2") == path
    assert path.read_bytes() == content
    assert find_checkpoint("pretrained", backbone="inception_resnet_v2") == path  # the server has gone


def test_a_hub_out_of_reach_is_one_sentence(tmp_path: Path, hub: Callable[[str], None]) -> None:
    url = refusing_url()
    hub(url)
    with pytest.raises(ServiceError) as caught:
        find_checkpoint("pretrained", backbone="inception_resnet_v2")
    wanted = tmp_path / "checkpoints" / "inception_resnet_v2.tf_in1k.safetensors"
    assert f"{url}/{INCEPTION} cannot be downloaded" in str(caught.value)
    assert f"put the file at {wanted}" in str(caught.value) and "\n" not in str(caught.value)


def test_backbones_that_nobody_publishes_are_refused_with_those_that_are() -> None:
    with pytest.raises(ParamsError, match=r"publishes weights of resnext101_3d; .*choose among .*r3d_18"):
        find_checkpoint("pretrained", backbone="resnext101_3d")


@pytest.mark.parametrize("backbone", PRETRAINED)
def test_published_weights_fill_the_whole_backbone(backbone: str) -> None:
    """By names and shapes of the libraries' own models; `pooling none` or `avg` has no weights of its own."""
    declare_missing_torchvision_ops()
    import timm
    import torchvision

    assert backbone in {spec.name for spec in BACKBONES}
    kind, _, name = PRETRAINED[backbone].partition(":")
    with torch.device("meta"):
        model = create_model(f"{backbone}.avg", num_classes=2, in_channels=3, task="clip")
        if kind == "torchvision":
            options = {"aux_logits": True, "init_weights": False} if name == "inception_v3" else {}
            published = torchvision.models.get_model(name, weights=None, **options)
        else:
            published = timm.create_model(name)
    filled = fit_tensors(model, published.state_dict()).filled
    assert set(filled) == {key for key in model.state_dict() if key.startswith("backbone.")}


def test_an_object_on_s3_is_fetched_once_and_kept_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINEFLOW_HOME", str(tmp_path / "home"))
    content = resnet18_file(tmp_path / "resnet18.pth")
    (tmp_path / "s3").mkdir()
    with serve_bucket(tmp_path / "s3") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        uri = "s3://bucket/weights/resnet18.pth"
        with pytest.raises(DataError, match=r"s3://bucket/weights/resnet18.pth is not there"):
            find_checkpoint(uri)
        (tmp_path / "s3" / "bucket" / "weights").mkdir()
        os.link(tmp_path / "resnet18.pth", tmp_path / "s3" / "bucket" / "weights" / "resnet18.pth")
        path = find_checkpoint(uri)
        assert path.stem == hashlib.sha256(content).hexdigest() and path.read_bytes() == content
        assert find_checkpoint(uri) == path
        with pytest.raises(ParamsError, match=r"ending in \.pt"):
            find_checkpoint("s3://bucket/weights/resnet18")
    with pytest.raises(ServiceError, match="out of reach"):
        find_checkpoint(uri)


def test_a_registry_version_is_for_streams() -> None:
    with pytest.raises(ParamsError, match=r"start streams\.<stream>\.weights only"):
        find_checkpoint("registry:mice/3")
