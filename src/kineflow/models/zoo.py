"""Every backbone and every pooling, gathered from the modules that define them; `registry` composes them."""

from kineflow.models.backbones import (
    csn,
    embedding,
    i3d,
    inflated_resnet,
    kinetics_resnet3d,
    mfnet,
    modified_resnet,
    p3d,
    rep_flow,
    resnet2d,
    resnet3d,
    slowfast,
    torchvision_video,
    x3d,
)
from kineflow.models.pooling import average, average_fc, bert, late_bert, recurrent
from kineflow.models.specs import BackboneSpec, PoolingSpec

BACKBONES: tuple[BackboneSpec, ...] = (
    *resnet2d.SPECS,
    *resnet3d.SPECS,
    *torchvision_video.SPECS,
    *kinetics_resnet3d.SPECS,
    *inflated_resnet.SPECS,
    *modified_resnet.SPECS,
    *i3d.SPECS,
    *mfnet.SPECS,
    *csn.SPECS,
    *p3d.SPECS,
    *slowfast.SPECS,
    *rep_flow.SPECS,
    *x3d.SPECS,
    *embedding.SPECS,
)
POOLINGS: tuple[PoolingSpec, ...] = (
    *average.SPECS,
    *average_fc.SPECS,
    *recurrent.SPECS,
    *bert.SPECS,
    *late_bert.SPECS,
)
