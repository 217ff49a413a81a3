"""torchvision's video networks, without their pooling and classification layers, under torchvision's names."""

from functools import partial

from torch import Tensor, nn

from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork, set_input_channels
from kineflow.models.specs import BackboneSpec, Options, Task
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops

_RESNET_PARTS = ("stem", "layer1", "layer2", "layer3", "layer4")


def build_video_resnet(arch: str, *, in_channels: int) -> ClipNetwork:
    """Build torchvision's `r3d_18`, `mc3_18` or `r2plus1d_18`.

    Source: Tran et al. 2018, A closer look at spatiotemporal convolutions; torchvision.models.video.
    """
    declare_missing_torchvision_ops()
    from torchvision.models import get_model

    temporal_stride = 1 if arch == "mc3_18" else 8  # mc3_18's blocks with strides are 2D
    return _without_head(get_model(arch, weights=None), in_channels=in_channels, temporal_stride=temporal_stride)


def build_r2plus1d_34(*, in_channels: int) -> ClipNetwork:
    """Build the R(2+1)D of 34 layers that was trained on IG65M.

    Each convolution is split so that it keeps the weights of the 3D one: its own number of channels between the
    spatial and the temporal part. torchvision shares one number within a block, which differs where a block
    doubles its channels. Batch norm's epsilon is that of the published weights.

    Source: Tran et al. 2018; Ghadiyaram et al. 2019, Large-scale weakly-supervised pre-training; key names of
    https://github.com/moabitcoin/ig65m-pytorch/blob/56b7e9d52e20fd513e3176f749524c2b792efa92/ig65m/models.py
    """
    declare_missing_torchvision_ops()
    from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

    whole = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, [3, 4, 6, 3], R2Plus1dStem)
    for stage, planes in ((whole.layer2, 128), (whole.layer3, 256), (whole.layer4, 512)):
        split = Conv2Plus1D(planes, planes, num_middle_planes(planes, planes))
        for convolution in (split[0], split[3]):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        stage[0].conv2[0] = split
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    return _without_head(whole, in_channels=in_channels, temporal_stride=8)


def num_middle_planes(in_planes: int, planes: int) -> int:
    """Return the channels between 1x3x3 and 3x1x1 that give a 3x3x3 convolution's number of weights, or just less."""
    return in_planes * planes * 27 // (in_planes * 9 + planes * 3)


def build_s3d(*, in_channels: int) -> ClipNetwork:
    """Build torchvision's `s3d`: Inception with separable 3D convolutions.

    Source: Xie et al. 2018, Rethinking spatiotemporal feature learning; torchvision.models.video.
    """
    declare_missing_torchvision_ops()
    from torchvision.models.video import s3d

    whole = s3d(weights=None)
    network = nn.Sequential()
    network.add_module("features", whole.features)
    set_input_channels(network, "features.0.0.0", in_channels)
    return ClipNetwork(
        network,
        feature_dim=1024,
        first_layer="features.0.0.0",
        temporal_stride=8,
        min_frames=5,
        min_side_px=17,
    )


def build_swin3d(arch: str, *, in_channels: int) -> ClipNetwork:
    """Build torchvision's `swin3d_t`, `swin3d_s` or `swin3d_b`.

    Source: Liu et al. 2022, Video Swin transformer; torchvision.models.video.
    """
    declare_missing_torchvision_ops()
    from torchvision.models import get_model

    whole = get_model(arch, weights=None)
    network = SwinMaps()
    for name in ("patch_embed", "pos_drop", "features", "norm"):
        network.add_module(name, getattr(whole, name))
    set_input_channels(network, "patch_embed.proj", in_channels)
    return ClipNetwork(network, feature_dim=whole.num_features, first_layer="patch_embed.proj", temporal_stride=2)


class SwinMaps(nn.Sequential):
    """Swin's stages in order, their channels brought to the front."""

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return maps_BDTHW."""
        maps_BTHWD: Tensor = super().forward(clips_BCTHW)
        return maps_BTHWD.permute(0, 4, 1, 2, 3)


def build_mvit_v2_s(*, in_channels: int) -> ClipNetwork:
    """Build torchvision's `mvit_v2_s`.

    torchvision classifies the class token; here the maps are the tokens of the image, which see the class token.
    Positions are relative and interpolated, so clips of another size than 16 frames of 224x224 px are read too.

    Source: Li et al. 2022, MViTv2; torchvision.models.video.
    """
    declare_missing_torchvision_ops()
    from torchvision.models.video import mvit_v2_s

    network = MvitMaps(mvit_v2_s(weights=None))
    set_input_channels(network, "conv_proj", in_channels)
    return ClipNetwork(network, feature_dim=768, first_layer="conv_proj", temporal_stride=2)


class MvitMaps(nn.Module):
    """torchvision's MViT up to its last norm, its image tokens laid out as maps."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.conv_proj: nn.Conv3d = whole.conv_proj  # type: ignore[assignment]
        self.pos_encoding: nn.Module = whole.pos_encoding  # type: ignore[assignment]
        self.blocks: nn.ModuleList = whole.blocks  # type: ignore[assignment]
        self.norm: nn.Module = whole.norm  # type: ignore[assignment]

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return maps_BDTHW, height and width the clip's over 32."""
        patches_BDTHW: Tensor = self.conv_proj(clips_BCTHW)
        size_THW = tuple(patches_BDTHW.shape[2:])
        x_BND = self.pos_encoding(patches_BDTHW.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x_BND, size_THW = block(x_BND, size_THW)
        tokens_BND: Tensor = self.norm(x_BND)[:, 1:]
        return tokens_BND.transpose(1, 2).unflatten(2, size_THW)


def _without_head(whole: nn.Module, *, in_channels: int, temporal_stride: int) -> ClipNetwork:
    network = nn.Sequential()
    for name in _RESNET_PARTS:
        network.add_module(name, getattr(whole, name))
    set_input_channels(network, "stem.0", in_channels)
    return ClipNetwork(network, feature_dim=512, first_layer="stem.0", temporal_stride=temporal_stride)


def _build_video_resnet(arch: str, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_video_resnet(arch, in_channels=in_channels)


def _build_r2plus1d_34(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_r2plus1d_34(in_channels=in_channels)


def _build_s3d(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_s3d(in_channels=in_channels)


def _build_swin3d(arch: str, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_swin3d(arch, in_channels=in_channels)


def _build_mvit_v2_s(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_mvit_v2_s(in_channels=in_channels)


_EIGHT_FRAMES = "its strides leave one time step for every 8 frames"
_TWO_FRAMES = "its patches leave one time step for every 2 frames"
_R2PLUS1D = "Tran et al. 2018, A closer look at spatiotemporal convolutions"

SPECS = (
    BackboneSpec(
        name="mc3_18",
        input="3d",
        build=partial(_build_video_resnet, "mc3_18"),
        poolings=CLIP_POOLINGS,
        source=f"{_R2PLUS1D}; torchvision",
        stated_THW=(16, 112, 112),
        receptive_frames=11,
    ),
    *(
        BackboneSpec(
            name=arch,
            input="3d",
            build=partial(_build_video_resnet, arch),
            poolings=CLIP_POOLINGS,
            source=f"{_R2PLUS1D}; torchvision",
            tasks=("clip",),
            why_not=_EIGHT_FRAMES,
            stated_THW=(16, 112, 112),
            receptive_frames=109,
        )
        for arch in ("r3d_18", "r2plus1d_18")
    ),
    BackboneSpec(
        name="r2plus1d_34",
        input="3d",
        build=_build_r2plus1d_34,
        poolings=CLIP_POOLINGS,
        source=f"{_R2PLUS1D}; Ghadiyaram et al. 2019 (IG65M)",
        stated_THW=(32, 112, 112),
        receptive_frames=225,
        tasks=("clip",),
        why_not=_EIGHT_FRAMES,
    ),
    BackboneSpec(
        name="s3d",
        input="3d",
        build=_build_s3d,
        poolings=CLIP_POOLINGS,
        source="Xie et al. 2018, Rethinking spatiotemporal feature learning; torchvision",
        stated_THW=(64, 224, 224),
        receptive_frames=99,
        tasks=("clip",),
        why_not=_EIGHT_FRAMES,
    ),
    *(
        BackboneSpec(
            name=arch,
            input="3d",
            build=partial(_build_swin3d, arch),
            poolings=CLIP_POOLINGS,
            source="Liu et al. 2022, Video Swin transformer; torchvision",
            tasks=("clip",),
            why_not=_TWO_FRAMES,
            stated_THW=(32, 224, 224),
            receptive_frames=16 * num_blocks,  # a window is 8 patches of 2 frames, and each block shifts it by half
        )
        for arch, num_blocks in (("swin3d_t", 12), ("swin3d_s", 24), ("swin3d_b", 24))
    ),
    BackboneSpec(
        name="mvit_v2_s",
        input="3d",
        build=_build_mvit_v2_s,
        poolings=CLIP_POOLINGS,
        source="Li et al. 2022, MViTv2; torchvision",
        tasks=("clip",),
        why_not=_TWO_FRAMES,
        stated_THW=(16, 224, 224),
        receptive_frames=None,
    ),
)
