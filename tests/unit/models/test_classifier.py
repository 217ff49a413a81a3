import pytest
import torch

from kineflow.errors import ParamsError
from kineflow.models.registry import create_model


def test_clips_of_another_stream_are_refused() -> None:
    model = create_model("resnet10_tiny.avg", num_classes=3, in_channels=2, task="clip")
    with pytest.raises(ParamsError, match=r"reads clips of shape \(B, 2, T, H, W\), not \(1, 3, 4, 16, 16\)"):
        model(torch.zeros(1, 3, 4, 16, 16))
    with pytest.raises(ParamsError, match=r"not \(2, 4, 16, 16\)"):
        model(torch.zeros(2, 4, 16, 16))


def test_frames_given_to_an_embedding_model_are_refused() -> None:
    model = create_model("embedding.lstm", num_classes=3, in_channels=3, task="frame")
    with pytest.raises(ParamsError, match="not frames of 16x24 px"):
        model(torch.zeros(1, 3, 4, 16, 24))


def test_bert_refuses_more_steps_than_it_has_positions() -> None:
    model = create_model("embedding.bert", num_classes=3, in_channels=8, task="clip", options={"max_steps": 4})
    with pytest.raises(ParamsError, match="5 steps but BERT pooling learned 4 positions: set the model option"):
        model(torch.zeros(1, 8, 5, 1, 1))


@pytest.mark.parametrize(("num_frames", "middle"), [(1, 0), (4, 2), (5, 2)])
def test_without_pooling_only_the_middle_frame_counts(num_frames: int, middle: int) -> None:
    model = create_model("resnet10_tiny.none", num_classes=3, in_channels=3, task="clip").eval()
    clips = torch.randn(2, 3, num_frames, 24, 24)
    others = torch.randn(2, 3, num_frames, 24, 24)
    others[:, :, middle] = clips[:, :, middle]
    assert torch.equal(model(clips).logits, model(others).logits)
    others[:, :, middle] += 1
    assert not torch.equal(model(clips).logits, model(others).logits)


def test_average_pooling_does_not_see_the_order_of_frames_but_lstm_and_3d_do() -> None:
    clips = torch.randn(2, 3, 8, 24, 24)
    for name, sees_order in (("resnet10_tiny.avg", False), ("resnet10_tiny.lstm", True), ("r3d_mini.avg", True)):
        torch.manual_seed(0)
        model = create_model(name, num_classes=3, in_channels=3, task="clip").eval()
        with torch.no_grad():
            change = (model(clips).features - model(clips.flip(2)).features).abs().max()
        assert (change.item() > 1e-4) is sees_order, name


def test_frame_models_differ_between_frames() -> None:
    for name in ("resnet10_tiny.none", "resnet10_tiny.lstm", "r3d_mini.avg", "resnet10_tiny.bert"):
        model = create_model(name, num_classes=3, in_channels=3, task="frame").eval()
        with torch.no_grad():
            logits_TK = model(torch.randn(1, 3, 6, 24, 24)).logits[0]
        assert (logits_TK[1:] - logits_TK[:-1]).abs().amax(dim=1).min() > 1e-6, name


@pytest.mark.parametrize("name", ["resnet10_tiny.avg", "vgg13.avg"])
def test_batch_norm_of_a_frame_backbone_never_sees_padding(name: str) -> None:
    padded, apart = (create_model(name, num_classes=3, in_channels=3, task="clip") for _ in range(2))
    apart.load_state_dict(padded.state_dict())
    clips = torch.randn(2, 3, 4, 32, 32)
    clips[0, :, 1:] = 1000.0  # behind its only frame
    padded(clips, torch.tensor([1, 4]))
    apart(torch.cat((clips[:1, :, :1], clips[1:]), dim=2))  # the five frames as one clip
    for name_of, buffer in padded.named_buffers():
        torch.testing.assert_close(buffer, apart.get_buffer(name_of), msg=lambda text, at=name_of: f"{at}: {text}")


def moving_bars(num_clips: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of a bar that wraps round a 16 px frame to the left (0) or right (1); each frame alone says nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.arange(num_clips) % 2
    columns = torch.zeros(num_clips, 1, 8, 1, 16)
    starts = torch.randint(16, (num_clips,), generator=generator)
    for clip in range(num_clips):
        for frame in range(8):
            step = 2 * frame if labels_B[clip] == 1 else -2 * frame
            columns[clip, 0, frame, 0, (int(starts[clip]) + step) % 16] = 2.0
    clips_BCTHW = columns.expand(-1, 1, -1, 16, -1)
    return clips_BCTHW + 0.1 * torch.randn(clips_BCTHW.shape, generator=generator), labels_B


@pytest.mark.parametrize(("name", "learns"), [("r3d_mini.avg", True), ("resnet10_tiny.none", False)])
def test_a_3d_network_learns_the_direction_that_one_frame_does_not_show(name: str, learns: bool) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=2, in_channels=1, task="clip")
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(30):
        clips_BCTHW, labels_B = moving_bars(16, seed=step)
        loss = torch.nn.functional.cross_entropy(model(clips_BCTHW).logits, labels_B)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    clips_BCTHW, labels_B = moving_bars(60, seed=1000)
    with torch.no_grad():
        clip_top1_acc = (model.eval()(clips_BCTHW).logits.argmax(dim=1) == labels_B).double().mean().item()
    assert clip_top1_acc > 0.95 if learns else clip_top1_acc < 0.75
