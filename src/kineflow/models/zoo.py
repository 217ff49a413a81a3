"""Every backbone and every pooling, gathered from the modules that define them; `registry` composes them."""

from kineflow.models.backbones import (
    embedding,
    fused_resnet,
    inception,
    pixels,
    resnet2d,
    resnet3d,
    resnet50v2,
    tsm,
    vgg,
)
from kineflow.models.pooling import (
    average,
    bert,
    concat,
    conv_gru,
    nonlocal_maps,
    recurrent,
    tcn,
    transformer,
)
from kineflow.models.specs import BackboneSpec, PoolingSpec

BACKBONES: tuple[BackboneSpec, ...] = (
    *resnet2d.SPECS,
    *fused_resnet.SPECS,
    *resnet50v2.SPECS,
    *vgg.SPECS,
    *inception.SPECS,
    *tsm.SPECS,
    *pixels.SPECS,
    *resnet3d.SPECS,
    *embedding.SPECS,
)
POOLINGS: tuple[PoolingSpec, ...] = (
    *average.SPECS,
    *concat.SPECS,
    *nonlocal_maps.SPECS,
    *recurrent.SPECS,
    *conv_gru.SPECS,
    *tcn.SPECS,
    *transformer.SPECS,
    *bert.SPECS,
)
