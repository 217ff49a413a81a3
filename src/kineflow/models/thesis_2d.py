"""The theses' systems on frames, embeddings and pixels, with the sizes and costs that they publish.

Sources: Kalfaoglu 2020, tables 3.3 to 3.5, 3.10 and C.4; the UCF-101 thesis on Inception-v3 and GRU, tables 4.3, 5.2
and 6.2; the thesis on fish, table 4.4; the mouse LSTM and TCN thesis, table 4.1.
"""

from functools import partial

from kineflow.models.thesis_rows import ThesisRow

_FRAME, _CLIP = (3, 1, 224, 224), (3, 16, 224, 224)
_per_frame = partial(ThesisRow, per_frame=True)
_DEEP_FUSION = "more parameters than published by those of conv1 and conv2_x, which the thesis freezes"

ROWS_2D: tuple[ThesisRow, ...] = (
    _per_frame("resnet18_2d none (single frame)", "resnet18.none", _FRAME, 51, 11.2, 1.82, "yes"),
    _per_frame("resnet18_2d avg", "resnet18.avg", _CLIP, 51, 11.2, 1.82, "yes"),
    _per_frame("resnet18_2d non-local + avg", "resnet18.nonlocal_avg", _CLIP, 51, 12.25, 1.87, "yes"),
    _per_frame("resnet18_2d concat", "resnet18.concat", _CLIP, 51, 11.59, 1.82, "yes"),
    _per_frame("resnet18_2d non-local + concat", "resnet18.nonlocal_concat", _CLIP, 51, 12.64, 1.87, "yes"),
    _per_frame("resnet18_2d lstm", "resnet18.lstm", _CLIP, 51, 15.4, 1.83, "yes"),
    _per_frame("resnet18_2d conv-gru", "resnet18.conv_gru", _CLIP, 51, 14.93, 2.01, "yes"),
    _per_frame("resnet18_2d bert", "resnet18.bert", _CLIP, 51, 14.36, 1.83, "yes"),
    _per_frame("resnet18_2d concat triple fusion", "resnet18_triple.concat", _CLIP, 51, 11.91, 1.82, "yes"),
    _per_frame("resnet34_2d concat triple fusion", "resnet34_triple.concat", _CLIP, 51, 22.02, 3.68, "yes"),
    _per_frame(
        "resnet50_2d concat triple fusion", "resnet50_triple.concat", _CLIP, 51, 26.21, 4.12, "yes", note=_DEEP_FUSION
    ),
    _per_frame(
        "resnet101_2d concat triple fusion", "resnet101_triple.concat", _CLIP, 51, 45.20, 7.85, "yes", note=_DEEP_FUSION
    ),
    _per_frame("resnet18_2d concat dual and quadruple fusion", "resnet18_dual.concat", _CLIP),
    _per_frame("resnet18_2d concat dual and quadruple fusion", "resnet18_quadruple.concat", _CLIP),
    _per_frame("resnet101_2d FRMB bert", "resnet101_frmb.bert", _CLIP),
    ThesisRow("tsm_50 8f", "tsm_resnet50.avg", (3, 8, 224, 224), 51, 23.61, 32.96, "yes"),
    _per_frame(
        "inception_v3 frames",
        "inception_v3.none",
        (3, 1, 299, 299),
        101,
        23,
        check="exempt",
        note="the text does not say what it counts; ours has no auxiliary head",
    ),
    ThesisRow(
        "lstm on 50x50 pixels",
        "pixels.lstm",
        (3, 100, 50, 50),
        101,
        33,
        check="exempt",
        options={"num_layers": 1, "bidirectional": True},
        note="the text leaves the layers open: one of 512 in both directions fits",
    ),
    ThesisRow(
        "gru on 50x50 pixels",
        "pixels.gru",
        (3, 100, 50, 50),
        101,
        25,
        check="exempt",
        options={"bidirectional": True, "batch_norm": False},
        note="the text leaves the layers open: one of 512 in both directions fits",
    ),
    _per_frame("inception_v3 + gru512 + batch norm", "inception_v3.gru", (3, 16, 299, 299), 101, 26, check="yes"),
    *(
        ThesisRow(
            "rcnn resnet18 / resnet50 / vgg13 + lstm",
            f"{backbone}.fc_lstm",
            (3, 15, 540, 960),
            3,
            options={"num_layers": 1},
            note="the thesis searches over its sizes: here representations of 512, one layer of 512",
        )
        for backbone in ("resnet18", "resnet50", "vgg13")
    ),
    ThesisRow(
        "resnet50 embeddings + lstm per frame",
        "embedding.lstm",
        (2048, 300, 1, 1),
        1,
        options={"hidden_dim": 64, "num_layers": 3, "halving": True, "input_dropout": 0.5},
        note="embeddings of resnet50v2",
        task="frame",
    ),
    ThesisRow(
        "inception_resnet_v2 embeddings + lstm per frame",
        "embedding.lstm",
        (1536, 600, 1, 1),
        1,
        options={"hidden_dim": 64, "num_layers": 2, "halving": True, "input_dropout": 0.5},
        note="embeddings of inception_resnet_v2",
        task="frame",
    ),
    ThesisRow(
        "resnet50 embeddings + tcn per frame",
        "embedding.tcn",
        (2048, 300, 1, 1),
        1,
        note="embeddings of resnet50v2",
        task="frame",
    ),
    ThesisRow(
        "inception_resnet_v2 embeddings + tcn per frame",
        "embedding.tcn",
        (1536, 300, 1, 1),
        1,
        note="embeddings of inception_resnet_v2",
        task="frame",
    ),
)
