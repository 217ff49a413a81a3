"""Every backbone and every pooling, gathered from the modules that define them; `registry` composes them."""

from kineflow.models.backbones import embedding, resnet2d, resnet3d
from kineflow.models.pooling import average, bert, recurrent
from kineflow.models.specs import BackboneSpec, PoolingSpec

BACKBONES: tuple[BackboneSpec, ...] = (*resnet2d.SPECS, *resnet3d.SPECS, *embedding.SPECS)
POOLINGS: tuple[PoolingSpec, ...] = (*average.SPECS, *recurrent.SPECS, *bert.SPECS)
