"""All of params.yaml, and which values go together."""

from typing import Literal, Self

from pydantic import Field, model_validator

from kineflow.params.clips import ClipsParams, SplitsParams, ValidationParams
from kineflow.params.release import EvaluateParams, PromotionParams, RegisterParams, ReleaseParams
from kineflow.params.search import SearchParams
from kineflow.params.section import METRICS, NETWORK_NAMES, STREAM_NAMES, Labels, Section, Seed
from kineflow.params.sources import DataParams, EmbedParams, FlowParams, FramesParams, PoseParams, SampleParams
from kineflow.params.streams import StreamsParams
from kineflow.params.training import DistillParams, TrainParams


class Params(Section):
    """All of params.yaml."""

    task: Literal["clip", "frame"]
    seed: Seed
    data: DataParams
    sample: SampleParams | None
    frames: FramesParams
    flow: FlowParams
    pose: PoseParams
    embed: EmbedParams
    clips: ClipsParams
    splits: SplitsParams
    validation: ValidationParams
    streams: StreamsParams
    train: TrainParams
    distill: DistillParams
    evaluate: EvaluateParams
    release: ReleaseParams
    register_: RegisterParams = Field(alias="register")
    promotion: PromotionParams
    search: SearchParams | None  # null: nothing to search

    @property
    def labels(self) -> Labels:
        """Whether a clip (a frame, on task frame) has exactly one of the classes, or any of them."""
        if self.task == "frame":
            return self.clips.frame_labels
        return "independent" if self.clips.overlap == "keep" else "exclusive"

    @property
    def needs_flow(self) -> bool:
        """Whether a stream or a baseline uses flow."""
        return self.streams.flow.enabled or self.streams.fv.enabled or "hof" in self.evaluate.baselines

    def _check_distillation(self) -> None:
        distill, teacher = self.distill, self.distill.teacher
        if not {"rgb", teacher} <= set(self.streams.enabled):
            raise ValueError(f"distill.enabled needs streams.rgb and streams.{teacher} enabled")
        if teacher == "flow" and distill.prob_weight:
            raise ValueError("distill.prob_weight is for teacher: fv; write 0 for flow, whose features are matched")
        if teacher == "fv" and distill.feature_weight:
            raise ValueError("distill.feature_weight must be 0 for teacher: fv, which has no features of a network")
        if teacher == "fv" and self.task == "frame":
            raise ValueError("distill.teacher: fv is for task clip; write flow")
        if teacher == "fv" and self.clips.negatives is not None and self.clips.negatives.redraw:
            raise ValueError("distill.teacher: fv judges negatives where they are; set clips.negatives.redraw: false")

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        enabled = self.streams.enabled
        if self.distill.enabled:
            self._check_distillation()
        if self.release.stream == "fusion" and len(enabled) < 2:
            raise ValueError("release.stream: fusion needs two enabled streams")
        if self.release.stream == "student" and not self.distill.enabled:
            raise ValueError("release.stream: student needs distill.enabled")
        if self.release.stream in STREAM_NAMES and self.release.stream not in enabled:
            raise ValueError(f"release.stream: {self.release.stream} is not enabled under streams")
        needed = {"files": "path", "keypointrcnn": "weights"}[self.pose.source]
        if self.streams.pose.enabled and getattr(self.pose, needed) is None:
            raise ValueError(f"streams.pose.enabled with pose.source: {self.pose.source} needs pose.{needed}")
        if self.release.form == "refit" and self.train.schedule == "plateau":
            raise ValueError(
                "train.schedule: plateau watches validation clips, which a refit has none of: write linear or "
                "cosine, or release.form: fold_ensemble"
            )
        if self.train.early_stop is not None and self.train.select == "last":
            raise ValueError("train.early_stop needs train.select: best; with last a release model trains all epochs")
        if self.labels == "independent" and self.train.watch in ("accuracy", "top1_top3"):
            raise ValueError(
                f"train.watch: {self.train.watch} is for classes that exclude each other; write macro_f1 or "
                f"average_precision"
            )
        if self.task == "frame" and self.clips.window_sec is None:
            raise ValueError("clips.window_sec is the length of the windows of task frame, and must be given")
        if self.streams.fv.enabled and (self.streams.fv.window_sec is None) == (self.task == "frame"):
            raise ValueError("streams.fv.window_sec is for task frame, where it must be given; null on task clip")
        if self.task == "clip" and self.clips.from_ == "videos" and self.clips.window_sec is not None:
            raise ValueError("clips.window_sec is for task frame and for clips.from: events, null for whole videos")
        if self.task == "frame":
            self.clips.refuse_what_only_clips_have()
        if self.task == "frame" and self.clips.negatives is not None:
            raise ValueError("clips.negatives is for task clip; unlabelled behaviours of a frame are its negatives")
        if self.task == "clip" and self.clips.negatives is None and self.train.negative_ratio is not None:
            raise ValueError("train.negative_ratio needs clips.negatives, which it draws from; write null without them")
        known = METRICS[self.task, self.labels]
        if self.promotion.metric not in known:
            raise ValueError(f"promotion.metric: task {self.task} with {self.labels} labels has {', '.join(known)}")
        if self.promotion.metric.endswith("_log_loss") and self.promotion.beat_baselines:
            raise ValueError("promotion.beat_baselines must be false for a log loss, which baselines do not have")
        if self.embed.enabled and self.task != "frame":
            raise ValueError("embed.enabled is for task frame")
        uses_embeddings = self.streams.rgb.enabled and self.streams.rgb.model.startswith("embedding.")
        if uses_embeddings and not self.embed.enabled:
            raise ValueError("streams.rgb.model: embedding.* needs embed.enabled")
        if "embedding" in self.evaluate.baselines and not self.embed.enabled:
            raise ValueError("evaluate.baselines: embedding needs embed.enabled")
        finetune = self.streams.rgb.finetune
        if self.distill.enabled and finetune is not None and finetune.head_epochs >= self.distill.epochs:
            raise ValueError("streams.rgb.finetune.head_epochs must be fewer than distill.epochs too")
        if uses_embeddings and self.distill.enabled:
            raise ValueError("distill.enabled needs a student that sees pixels, not streams.rgb.model: embedding.*")
        if uses_embeddings and (self.train.crops != "whole" or self.train.augment.cutmix > 0):
            raise ValueError("streams.rgb.model: embedding.* has no image: wants train.crops: whole and cutmix: 0")
        return self

    @model_validator(mode="after")
    def _views_that_there_are(self) -> Self:
        rgb = self.streams.rgb
        sparse = [n for n in NETWORK_NAMES if self.streams[n].enabled and self.streams[n].sampling != "dense"]
        if self.train.num_views == "all" and (sparse or self.task == "frame"):
            raise ValueError("train.num_views: all is for task clip, with sampling: dense in every enabled stream")
        if rgb.input == "difference" and rgb.subtract_background:
            raise ValueError("streams.rgb.input: difference leaves no background; write subtract_background: false")
        if rgb.input == "difference" and self.task == "clip" and rgb.num_frames == 1:
            raise ValueError("streams.rgb.input: difference needs a num_frames above 1")
        if rgb.input == "difference" and rgb.model.startswith("embedding."):
            raise ValueError("streams.rgb.input: difference needs a model that sees pixels, not embedding.*")
        return self
