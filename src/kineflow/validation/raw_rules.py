"""The rules of the gate `raw`, on the tables that `ingest` makes."""

from dataclasses import replace

from kineflow.validation.rules import Rule, absent, at_least, at_most, between_exclusive, equal_to

FRAME_RATES = (0.5, 1000.0)  # per second, exclusive: beyond them a container's clock is wrong
SIDES_PX = (16, 16384)  # below nothing can be seen, beyond nothing can be encoded by common codecs

SUPPORT = (
    "class_has_enough_events",
    "class_in_two_groups",
    "behaviour_shown",
    "behaviour_in_two_groups",
)


def raw_rules(
    *, task: str, min_frames: int, min_clips_per_class: int, max_quarantined_fraction: float, leave_out: bool = False
) -> tuple[Rule, ...]:
    """The rules for `task`, with their default severities; the first broken one is the one that is told.

    Args:
        min_frames, min_clips_per_class, max_quarantined_fraction: as in params.
        leave_out: classes without support are left out later, and so only reported here.
    """
    of_task = _clip_rules(min_clips_per_class) if task == "clip" else _frame_rules()
    rules = (*_video_rules(min_frames, max_quarantined_fraction), *_event_rules(), *of_task)
    return tuple(_left_out(rule) if leave_out and rule.name in SUPPORT else rule for rule in rules)


def _left_out(rule: Rule) -> Rule:
    return replace(rule, remedy=f"{rule.remedy}; make_splits leaves it out if its clips are too few", severity="warn")


def _video_rules(min_frames: int, max_quarantined_fraction: float) -> tuple[Rule, ...]:
    return (
        Rule(
            "some_video_ok",
            "at least one video must be decodable",
            "check data.source",
            "stop", "data_set", "num_ok_videos", *at_least(1), detail="quarantine",
        ),
        Rule(
            "few_videos_quarantined",
            f"at most {100 * max_quarantined_fraction:g}% of the videos may be quarantined",
            "repair or remove them, or raise validation.max_quarantined_fraction",
            "stop", "data_set", "quarantined_fraction", *at_most(max_quarantined_fraction), detail="quarantine",
        ),
        Rule(
            "video_decodable",
            "every video should be decodable",
            "re-encode or remove it; until then it is left out",
            "warn", "videos", "status", *equal_to("ok"), detail="reason",
        ),
        Rule(
            "video_undamaged",
            "no video should have damaged frames",
            "look at it, and copy it again from the camera or cut it; frames after a damaged one may show traces of it",
            "warn", "videos", "num_corrupt_frames", *at_most(0), detail="damage",
        ),
        Rule(
            "video_has_frames",
            "every video must have a frame",
            "remove it",
            "stop", "videos", "num_frames", *at_least(1),
        ),
        Rule(
            "frame_rate_plausible",
            "every video must have between {:g} and {:g} frames a second".format(*FRAME_RATES),
            "re-encode it with right timestamps",
            "stop", "videos", "frames_per_sec", *between_exclusive(*FRAME_RATES),
        ),
        Rule(
            "video_long_enough",
            f"every labelled video must last for at least {min_frames} frames at frames.fps",
            "remove it, raise frames.fps, or lower clips.min_frames",
            "stop", "videos", "num_extracted_frames", *at_least(min_frames),
        ),
        Rule(
            "video_large_enough",
            f"every video must be at least {SIDES_PX[0]} pixels wide and high",
            "remove it, or record it larger",
            "stop", "videos", "smaller_side_px", *at_least(SIDES_PX[0]),
        ),
        Rule(
            "video_small_enough",
            f"every video must be at most {SIDES_PX[1]} pixels wide and high",
            "re-encode it smaller",
            "stop", "videos", "larger_side_px", *at_most(SIDES_PX[1]),
        ),
        Rule(
            "content_in_one_group",
            "no two groups may hold the same video",
            "delete a copy, or give both the same group (data.group_from)",
            "stop", "videos", "copy_in_other_group", *absent(), detail="copy_in_other_group",
        ),
        Rule(
            "content_once",
            "every video should be there once",
            "delete a copy",
            "warn", "videos", "copy_in_same_group", *absent(), detail="copy_in_same_group",
        ),
        Rule(
            "near_copies_in_one_group",
            "no two groups should hold videos that show the same",
            "look at both, and delete one or give both the same group (data.group_from)",
            "warn", "videos", "near_copy", *absent(), detail="near_copy",
        ),
        Rule(
            "video_annotated",
            "every video should have annotations",
            "annotate it; until then it is not learned from",
            "warn", "videos", "num_labels", *at_least(1),
        ),
    )  # fmt: skip


def _event_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "event_of_known_video",
            "every event must be of a video of the data set",
            "add the video or remove the row",
            "stop", "events", "video", *equal_to("known"),
        ),
        Rule(
            "event_starts_before_it_stops",
            "every event must start before it stops",
            "correct its times",
            "stop", "events", "length_sec", "ExpectColumnValuesToBeBetween", {"min_value": 0, "strict_min": True},
            detail="words",
        ),
        Rule(
            "event_inside_video",
            "every event must be inside its video, give or take a frame",
            "correct its times, or the video that it names",
            "stop", "events", "outside_sec", *at_most(0), detail="words",
        ),
        Rule(
            "subject_known",
            "every subject of an event must be one of validation.subjects",
            "correct its name, or add it there",
            "stop", "events", "subject", *equal_to("known"), detail="subject_words",
        ),
        Rule(
            "exclusive_states_apart",
            "no subject may show two states of a set of validation.exclusive at once, give or take a frame",
            "correct their times, or take one out of the set",
            "stop", "events", "overlap", *absent(), detail="overlap",
        ),
    )  # fmt: skip


def _clip_rules(min_clips_per_class: int) -> tuple[Rule, ...]:
    return (
        Rule(
            "several_classes",
            "there must be at least two classes",
            "annotate another one, or, where they are point events, set clips.window_sec",
            "stop", "data_set", "num_classes", *at_least(2),
        ),
        Rule(
            "label_makes_clips",
            "every label should make a clip",
            "set clips.window_sec to make clips around point events, or name the labels to be learned in clips.classes",
            "warn", "labels", "without_clip", *absent(), detail="without_clip",
        ),
        Rule(
            "class_has_enough_events",
            f"every class must have at least {min_clips_per_class} events",
            "annotate more, drop the class, or lower validation.min_clips_per_class",
            "stop", "classes", "num_events", *at_least(min_clips_per_class),
        ),
        Rule(
            "class_in_two_groups",
            "every class must be in at least two groups, one to train on and one to validate",
            "record it in another group, drop the class, or make data.group_from finer",
            "stop", "classes", "num_groups", *at_least(2),
        ),
    )  # fmt: skip


def _frame_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "frame_labels_of_known_video",
            "every frame label must be of a video of the data set",
            "add the video or remove the rows",
            "stop", "labelled_videos", "video", *equal_to("known"),
        ),
        Rule(
            "frame_labels_inside_video",
            "every frame label must be of a frame that the video has",
            "check that labels and video belong together",
            "stop", "labelled_videos", "frames_outside", *at_most(0), detail="words",
        ),
        Rule(
            "frame_labelled_once",
            "every frame must be labelled once",
            "remove the repeated rows",
            "stop", "labelled_videos", "frames_labelled_twice", *at_most(0),
        ),
        Rule(
            "exclusive_behaviours_apart",
            "no frame may have two behaviours of a set of validation.exclusive",
            "correct its labels, or take one out of the set",
            "stop", "labelled_videos", "frames_with_two_states", *at_most(0),
        ),
        Rule(
            "some_behaviour",
            "there must be at least one behaviour",
            "annotate one",
            "stop", "data_set", "num_classes", *at_least(1),
        ),
        Rule(
            "behaviour_shown",
            "every behaviour must be shown in some frame",
            "annotate it or drop it",
            "stop", "classes", "num_positive_frames", *at_least(1),
        ),
        Rule(
            "behaviour_absent_somewhere",
            "every behaviour must be absent from some labelled frame",
            "label frames without it by 0, or drop it",
            "stop", "classes", "num_negative_frames", *at_least(1),
        ),
        Rule(
            "behaviour_in_two_groups",
            "every behaviour must be shown in at least two groups, one to train on and one to validate",
            "record it in another group, drop it, or make data.group_from finer",
            "stop", "classes", "num_groups", *at_least(2),
        ),
    )  # fmt: skip
