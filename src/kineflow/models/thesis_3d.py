"""The theses' 3D systems, with the sizes and costs that they publish: what `kineflow models --thesis` compares with.

Sources: Kalfaoglu 2020, tables 3.8, 3.10, 4.1 and 4.3 to 4.6; Toering 2018, tables 3.1 and 3.2; the thesis on fish,
4.6.1. Published multiply-accumulates count batch norm, ReLU and pooling too, but no attention products
(`ModelDescription.macs_as_published`).
"""

from kineflow.models.thesis_rows import ThesisRow

_RGB_112_64 = (3, 64, 112, 112)
_FLOW_112_64 = (2, 64, 112, 112)
_RGB_224_64 = (3, 64, 224, 224)
_FLOW_224_64 = (2, 64, 224, 224)
_NORMAL_INIT = {"normal_init": True}  # behind I3D alone: Kalfaoglu 2020, 4.2.2
_UNUSED_HEAD = (
    "published with the 922,000 parameters of the Kinetics head of 400 classes, which its code keeps and never runs"
)
_FREE_WIDTH = "the text leaves the width of the added layer open: the width of its author's code"

ROWS_3D: tuple[ThesisRow, ...] = (
    ThesisRow("resnet101_3d 16f", "resnet101_3d.avg", (3, 16, 112, 112), 51, 85.35, 13.95, "yes"),
    ThesisRow("resnet101_3d 64f", "resnet101_3d.avg", _RGB_112_64, 51, 85.35, 55.80, "yes"),
    ThesisRow("resnext101_3d 16f", "resnext101_3d.avg", (3, 16, 112, 112), 51, 47.63, 9.64, "yes"),
    ThesisRow("resnext101_3d 64f", "resnext101_3d.avg", _RGB_112_64, 51, 47.63, 38.56, "yes"),
    ThesisRow("resnext101_3d 64f 224", "resnext101_3d.avg", _RGB_224_64, 51, 47.63, 153.36, "yes"),
    ThesisRow("mfnet_3d 16f", "mfnet_3d.avg", (3, 16, 224, 224), 51, 7.73, 11.25, "yes"),
    ThesisRow(
        "rep_flow_50 32f",
        "rep_flow_50.avg",
        (3, 32, 224, 224),
        51,
        29.09,
        44.59,
        "exempt",
        note="the text does not give the architecture: that of the published code, with a flow for each channel",
    ),
    ThesisRow("modified_resnet50 32x2f", "modified_resnet50.avg", (3, 32, 224, 224), 51, 27.33, 33.05, "yes"),
    ThesisRow(
        "modified_resnet50 non-local 32x2f", "modified_resnet50_nl.avg", (3, 32, 224, 224), 51, 34.69, 38.22, "yes"
    ),
    ThesisRow("modified_resnet50 64f", "modified_resnet50.avg", _RGB_224_64, 51, 27.33, 66.10, "yes"),
    ThesisRow("modified_resnet50 non-local 64f", "modified_resnet50_nl.avg", _RGB_224_64, 51, 34.69, 76.43, "yes"),
    ThesisRow("i3d 64f", "i3d.avg", _RGB_224_64, 51, 12.34, 111.33, "yes"),
    ThesisRow("i3d flow 64f", "i3d.avg", _FLOW_224_64, 51, 12.32, 102.52, "yes"),
    ThesisRow("slowfast_50 8x8 64f", "slowfast_50.avg", _RGB_224_64, 51, 33.76, 50.72, "yes"),
    ThesisRow("r2plus1d_34 32f", "r2plus1d_34.avg", (3, 32, 112, 112), 51, 63.52, 152.95, "yes"),
    ThesisRow("resnext101_3d FRMB avg", "resnext101_3d_frmb.avg", _RGB_112_64, 51, 44.22, 38.36, "yes"),
    ThesisRow(
        "resnext101_3d FRMB concat",
        "resnext101_3d_frmb.concat",
        _RGB_112_64,
        51,
        44.30,
        38.36,
        "yes",
        {"num_steps": 4},
    ),
    ThesisRow(
        "resnext101_3d FRMB lstm",
        "resnext101_3d_frmb.lstm",
        _RGB_112_64,
        51,
        47.58,
        38.37,
        "yes",
        {"hidden_dim": 450},
    ),
    ThesisRow(
        "resnext101_3d FRMB concat + fc",
        "resnext101_3d_frmb.concat_fc",
        _RGB_112_64,
        51,
        47.45,
        38.36,
        "exempt",
        {"num_steps": 4, "fc_dim": 1550},
        _FREE_WIDTH,
    ),
    ThesisRow(
        "resnext101_3d FRMB non-local + concat + fc",
        "resnext101_3d_frmb.nonlocal_concat_fc",
        _RGB_112_64,
        51,
        47.35,
        38.43,
        "exempt",
        {"num_steps": 4, "fc_dim": 1000},
        _FREE_WIDTH,
    ),
    ThesisRow("resnext101_3d FRMB bert", "resnext101_3d_frmb.bert", _RGB_112_64, 51, 47.38, 38.37, "yes"),
    ThesisRow("resnext101_3d flow", "resnext101_3d.avg", _FLOW_112_64, 51, 47.60, 34.16, "yes"),
    ThesisRow("resnext101_3d flow FRMB bert", "resnext101_3d_frmb.bert", _FLOW_112_64, 51, 47.36, 33.97, "yes"),
    ThesisRow("i3d FRAB bert", "i3d_frab.bert", _RGB_224_64, 51, 16.40, 111.72, "exempt", _NORMAL_INIT),
    ThesisRow("i3d bert", "i3d.bert", _RGB_224_64, 51, 24.95, 111.44, "yes", _NORMAL_INIT),
    ThesisRow("i3d flow FRAB bert", "i3d_frab.bert", _FLOW_224_64, 51, 16.37, 102.91, "exempt", _NORMAL_INIT),
    ThesisRow("i3d flow bert", "i3d.bert", _FLOW_224_64, 51, 24.92, 102.63, "yes", _NORMAL_INIT),
    ThesisRow(
        "slowfast_50 bert early fusion",
        "slowfast_50_early.bert",
        _RGB_224_64,
        51,
        43.17,
        52.39,
        "exempt",
        note=_UNUSED_HEAD,
    ),
    ThesisRow(
        "slowfast_50 bert late fusion",
        "slowfast_50_late.bert_late",
        _RGB_224_64,
        51,
        42.04,
        52.14,
        "exempt",
        note=_UNUSED_HEAD,
    ),
    ThesisRow("r2plus1d_34 bert", "r2plus1d_34.bert", (3, 32, 112, 112), 51, 66.67, 152.97, "yes"),
    ThesisRow("r2plus1d_34 bert 64f", "r2plus1d_34.bert", _RGB_112_64),
    ThesisRow("r3d_18", "r3d_18.avg", (3, 15, 540, 960), 3),
    ThesisRow("3d_resnet50 scratch", "resnet50_3d.avg", (3, 13, 240, 240)),
    ThesisRow(
        "inflated resnet50 + tracking + direction",
        "inflated_resnet50.avg",
        (3, 13, 240, 240),
        options={"classification_branch": True},
        note="the branch that classifies; tracking and direction share its backbone in training",
    ),
    ThesisRow("csn ip and ir", "ip_csn_50.avg", (3, 32, 224, 224), note="described, not measured; ir_csn_50 too"),
    ThesisRow("s3d", "s3d.avg", _RGB_224_64, note="described, not measured"),
    ThesisRow("p3d", "p3d_63.avg", (3, 16, 160, 160), note="described, not measured"),
)
