"""Inception-v3 and Inception-ResNet-v2 on single frames, as timm builds them."""

from functools import partial

from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.backbones.resnet2d import FrameByFrame, initialise_convolutions
from kineflow.models.specs import FRAME_POOLINGS, BackboneSpec, Options, Task
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops

MIN_SIDE_PX = 75
SOURCES = {
    "inception_v3": "Szegedy et al. 2016, Rethinking the Inception architecture for computer vision; timm",
    "inception_resnet_v2": "Szegedy et al. 2017, Inception-v4, Inception-ResNet and the impact of residual "
    "connections on learning; timm",
}
FIRST_LAYERS = {"inception_v3": "Conv2d_1a_3x3.conv", "inception_resnet_v2": "conv2d_1a.conv"}


class TimmTrunk(nn.Module):
    """A timm network up to its last activations; its parameters keep their names.

    Args:
        whole: as timm builds it, without classes and pooling.
        min_side_px: height and width below which its unpadded convolutions leave nothing.
    """

    def __init__(self, whole: nn.Module, *, min_side_px: int) -> None:
        super().__init__()
        for name, layer in whole.named_children():
            self.add_module(name, layer)
        self.min_side_px = min_side_px

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """Return maps_NDHW.

        Raises:
            ParamsError: the frames are too small.
        """
        height_px, width_px = frames_NCHW.shape[2:]
        if min(height_px, width_px) < self.min_side_px:
            raise ParamsError(
                f"Inception reads frames of at least {self.min_side_px}x{self.min_side_px} px, not "
                f"{height_px}x{width_px}: use larger frames, or a ResNet"
            )
        x_NCHW = frames_NCHW
        for layer in self.children():
            x_NCHW = layer(x_NCHW)
        return x_NCHW


def build_inception(arch: str, *, in_channels: int) -> FrameByFrame:
    """Build timm's `arch` up to its last activations.

    Names are timm's, which for inception_v3 are torchvision's too. There is no auxiliary classifier.
    """
    declare_missing_torchvision_ops()
    import timm

    whole = timm.create_model(arch, num_classes=0, global_pool="", in_chans=in_channels)
    for name, layer in list(whole.named_children()):
        if not list(layer.parameters()) and not isinstance(layer, nn.MaxPool2d):
            delattr(whole, name)  # the emptied head
    initialise_convolutions(whole)
    feature_dim: int = whole.num_features
    trunk = TimmTrunk(whole, min_side_px=MIN_SIDE_PX)
    return FrameByFrame(trunk, feature_dim=feature_dim, first_layer=FIRST_LAYERS[arch])


def _build(arch: str, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_inception(arch, in_channels=in_channels)


SPECS = tuple(
    BackboneSpec(
        name=arch,
        input="2d",
        build=partial(_build, arch),
        poolings=FRAME_POOLINGS,
        source=source,
        stated_THW=(16, 299, 299),
        receptive_frames=1,
        padded=True,
    )
    for arch, source in SOURCES.items()
)
