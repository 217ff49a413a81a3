"""The rules of the gate `dataset`, on the stores and on the tables that `make_splits` makes."""

from kineflow.validation.rules import Rule, Severity, absent, at_least, at_most, equal_to

DARKEST = 16  # of 255: below it a frame is black, in video levels
SMALLEST_CHANGE = 4  # of 255: below it only compression changed anything
LARGEST_FRACTION_AT_BOUND = 0.05
SMALLEST_FRACTION_WITH_JOINTS = 0.5
SMALLEST_SHARE_OF_MEAN = 0.5


def dataset_rules(
    *,
    task: str,
    min_frames: int,
    min_clips_per_class: int,
    official: bool,
    with_flow: bool,
    with_pose: bool = False,
) -> tuple[Rule, ...]:
    """The rules with their default severities; the first broken one is the one that is told.

    Args:
        task: `clip` or `frame`.
        min_frames: of a clip.
        min_clips_per_class: on task clip.
        official: whether test is as the annotations say; its groups are then only reported.
        with_flow: whether there is a flow store.
        with_pose: whether there is a pose store.
    """
    return (
        *_frame_store_rules(),
        *(_flow_store_rules() if with_flow else ()),
        *(_pose_store_rules() if with_pose else ()),
        *_clip_rules(min_frames),
        *_leak_rules("warn" if official else "stop"),
        *_support_rules(task, min_clips_per_class),
    )


def _frame_store_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "frames_stored",
            "the frames of every video, and of no other, must be stored and readable",
            "run extract_frames again",
            "stop", "stores", "frames", *equal_to("stored"), detail="frames",
        ),
        Rule(
            "frame_count_expected",
            "every video must have as many frames as its duration and frames.fps give",
            "run ingest and extract_frames again; if that does not help, re-encode the video",
            "stop", "stores", "frames_difference", *equal_to(0), detail="frames_words",
        ),
        Rule(
            "frames_not_black",
            f"every video must be brighter than {DARKEST} of 255 somewhere",
            "look at the video, and remove it if nothing is to be seen",
            "stop", "stores", "brightest", *at_least(DARKEST),
        ),
        Rule(
            "frames_not_stuck",
            f"every video should change by {SMALLEST_CHANGE} of 255 somewhere",
            "look at the video: a camera that hung shows the same frame again and again",
            "warn", "stores", "largest_change", *at_least(SMALLEST_CHANGE),
        ),
    )  # fmt: skip


def _flow_store_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "flow_stored",
            "the flow of every video, and of no other, must be stored and readable",
            "run compute_flow again",
            "stop", "stores", "flow", *equal_to("stored"), detail="flow",
        ),
        Rule(
            "flow_count_expected",
            "every video must have one flow less than frames",
            "run compute_flow again",
            "stop", "stores", "flows_difference", *equal_to(0), detail="flows_words",
        ),
        Rule(
            "flow_of_these_frames",
            "every video's flow must be of frames of the stored size and rate",
            "run compute_flow again",
            "stop", "stores", "flow_mismatch", *absent(), detail="flow_mismatch",
        ),
        Rule(
            "flow_inside_bound",
            f"at most {100 * LARGEST_FRACTION_AT_BOUND:g}% of a video's flow should be clipped to flow.bound_px",
            "raise flow.bound_px, or frames.fps",
            "warn", "stores", "fraction_at_bound", *at_most(LARGEST_FRACTION_AT_BOUND),
        ),
    )  # fmt: skip


def _pose_store_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "pose_stored",
            "the skeletons of every video, and of no other, must be stored and readable",
            "run compute_pose again",
            "stop", "stores", "pose", *equal_to("stored"), detail="pose",
        ),
        Rule(
            "pose_count_expected",
            "every video must have a skeleton picture for each frame",
            "run compute_pose again",
            "stop", "stores", "pictures_difference", *equal_to(0), detail="pictures_words",
        ),
        Rule(
            "pose_shows_joints",
            f"at least {100 * SMALLEST_FRACTION_WITH_JOINTS:g}% of a video's skeleton pictures should show a joint",
            "look at its keypoints, or lower pose.min_likelihood",
            "warn", "stores", "fraction_with_joints", *at_least(SMALLEST_FRACTION_WITH_JOINTS),
        ),
    )  # fmt: skip


def _clip_rules(min_frames: int) -> tuple[Rule, ...]:
    return (
        Rule(
            "clip_inside_video",
            "every clip must be inside its video",
            "run make_splits again",
            "stop", "clips", "outside_frames", *at_most(0), detail="words",
        ),
        Rule(
            "clip_long_enough",
            f"every clip must have at least {min_frames} frames",
            "remove its event or video, raise frames.fps, or lower clips.min_frames",
            "stop", "clips", "num_frames", *at_least(min_frames),
        ),
        Rule(
            "clip_labelled",
            "every clip of task clip must have a label",
            "run make_splits again",
            "stop", "clips", "label", *equal_to("there"),
        ),
        Rule(
            "clip_in_every_fold",
            "every clip must be either in test, or in every fold and validated in one",
            "run make_splits again",
            "stop", "clips", "role_problem", *absent(), detail="role_problem",
        ),
    )  # fmt: skip


def _leak_rules(test_groups: Severity) -> tuple[Rule, ...]:
    remedy = "check data.group_from, and run make_splits again"
    look = "look at them, and delete one or give all the same group (data.group_from)"
    return (
        Rule(
            "group_in_one_role",
            "no group may be in two roles of a fold",
            remedy,
            "stop", "groups", "crossing", *absent(), detail="crossing",
        ),
        Rule(
            "video_in_one_role",
            "no video may be in two roles of a fold",
            remedy,
            "stop", "videos_in_roles", "crossing", *absent(), detail="crossing",
        ),
        Rule(
            "content_in_one_role",
            "no two roles of a fold may hold the same video",
            "delete a copy, or give both the same group (data.group_from)",
            "stop", "contents", "crossing", *absent(), detail="crossing",
        ),
        Rule(
            "test_group_held_out",
            "no group may be both in test and in development",
            "check data/assignments.csv, or the official lists",
            test_groups, "groups", "test_crossing", *absent(), detail="test_crossing",
        ),
        Rule(
            "test_content_held_out",
            "test and development may not hold the same video",
            "delete a copy, or give both the same group (data.group_from)",
            "stop", "contents", "test_crossing", *absent(), detail="test_crossing",
        ),
        Rule(
            "near_copies_in_one_role",
            "no two roles of a fold should hold videos that show the same",
            look,
            "warn", "near_copies", "crossing", *absent(), detail="crossing",
        ),
        Rule(
            "near_copies_held_out",
            "test and development should not hold videos that show the same",
            look,
            "warn", "near_copies", "test_crossing", *absent(), detail="test_crossing",
        ),
    )  # fmt: skip


def _support_rules(task: str, min_clips_per_class: int) -> tuple[Rule, ...]:
    enough = Rule(
        "class_has_enough_clips",
        f"every class must have at least {min_clips_per_class} clips",
        "annotate more, drop the class, or lower validation.min_clips_per_class",
        "stop", "class_sizes", "num_clips", *at_least(min_clips_per_class),
    )  # fmt: skip
    return (
        *((enough,) if task == "clip" else ()),
        Rule(
            "class_in_training",
            "every class must be in the training set of every fold",
            "record it in more groups, drop it, or lower splits.num_folds",
            "stop", "support", "train", *at_least(1), detail="words",
        ),
        Rule(
            "class_in_validation",
            "every class should be in the validation set of every fold",
            "record it in more groups, or lower splits.num_folds; its score is the mean of the folds that have it",
            "warn", "support", "val", *at_least(1), detail="words",
        ),
        Rule(
            "class_in_test",
            "every class should be in the test set",
            "raise splits.test_fraction; its test score is missing until then",
            "warn", "support", "test", *at_least(1), detail="words",
        ),
        Rule(
            "folds_balanced",
            f"every fold should validate at least {SMALLEST_SHARE_OF_MEAN:g} times as many clips as the mean fold",
            "lower splits.num_folds, or make data.group_from finer; the scores of a small fold say little",
            "warn", "fold_sizes", "share_of_mean", *at_least(SMALLEST_SHARE_OF_MEAN), detail="words",
        ),
    )  # fmt: skip
