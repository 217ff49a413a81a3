"""Copies are found whatever was done to them; other videos of the same place are not taken for copies."""

import itertools
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from kineflow.video.fingerprint import FingerprintMaker, find_moments
from kineflow.video.near_copies import INNER, NearCopy, Side, compare, find_near_copies
from kineflow.video.probe import probe

FPS = 20
Images = list[NDArray[np.uint8]]
Fingerprint = NDArray[np.int16]


def animal(number: int, *, num_frames: int = 60) -> Images:
    """A dark disc that wanders over a patterned floor: the same floor, another path for each number."""
    random = np.random.default_rng(number)
    floor = cv2.resize(np.random.default_rng(99).integers(90, 220, (9, 12), dtype=np.uint8), (192, 144))
    corners = random.uniform((20, 20), (172, 124), (num_frames // 10 + 2, 2))
    images = []
    for i in range(num_frames):
        step, share = divmod(i / 10, 1)
        x, y = corners[int(step)] * (1 - share) + corners[int(step) + 1] * share
        images.append(cv2.circle(floor.copy(), (round(x), round(y)), 12, 20, -1))
    return images


def fingerprint(
    images: Images, folder: Path, *, codec: str = "libx264", options: dict[str, str], fps: int = FPS
) -> Fingerprint:
    path = folder / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = images[0].shape
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode(None))
    return probe(path).fingerprint


def resized(images: Images, height: int, width: int) -> Images:
    return [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]


def found_pairs(fingerprints: list[Fingerprint], groups: list[str] | None = None) -> list[NearCopy]:
    names = groups or [str(i) for i in range(len(fingerprints))]
    return find_near_copies([find_moments(each) for each in fingerprints], names, lambda i: fingerprints[i])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Fingerprint]:
    folder = tmp_path_factory.mktemp("originals")
    return [fingerprint(animal(i), folder, options={"crf": "18"}) for i in range(12)]


def test_other_videos_of_one_place_are_no_copies(originals: list[Fingerprint]) -> None:
    assert found_pairs(originals) == []


COPIES = {
    "coarse": ({"crf": "36"}, "libx264", lambda images: images, 0.0),
    "mpeg4": ({}, "mpeg4", lambda images: images, 0.0),
    "small": ({}, "libx264", lambda images: resized(images, 72, 96), 0.0),
    "squeezed": ({}, "libx264", lambda images: resized(images, 96, 96), 0.0),
    "cropped": ({}, "libx264", lambda images: [image[4:-4, 5:-5][:, :180] for image in images], 0.0),
    "trimmed": ({}, "libx264", lambda images: images[13:50], -0.65),
    "bright": ({}, "libx264", lambda images: [cv2.convertScaleAbs(image, alpha=0.8, beta=45) for image in images], 0.0),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_and_where_it_begins(name: str, originals: list[Fingerprint], tmp_path: Path) -> None:
    options, codec, change, shift_sec = COPIES[name]
    copy = fingerprint(change(animal(7)), tmp_path, codec=codec, options=options)
    (pair,) = found_pairs([*originals, copy])
    assert (pair.first, pair.second) == (7, 12)
    assert pair.shift_sec == pytest.approx(shift_sec, abs=0.11)
    assert 0.9 <= pair.similarity <= 1.0


def test_every_second_frame_is_a_copy(originals: list[Fingerprint], tmp_path: Path) -> None:
    copy = fingerprint(animal(3)[::2], tmp_path, options={}, fps=FPS // 2)
    assert [(pair.first, pair.second) for pair in found_pairs([*originals, copy])] == [(3, 12)]


def test_videos_of_one_group_are_not_compared(originals: list[Fingerprint]) -> None:
    assert found_pairs([originals[0], originals[0]], ["g", "g"]) == []
    assert found_pairs([originals[0], originals[0]], ["g", "h"]) == [NearCopy(0, 1, 0.0, pytest.approx(1.0))]


def test_videos_without_motion_or_too_short_are_no_copies_of_anything(tmp_path: Path) -> None:
    still = fingerprint(animal(0)[:1] * 60, tmp_path, options={})
    short = fingerprint(animal(0)[:20], tmp_path, options={})
    assert found_pairs([still, still, short, short]) == []
    assert found_pairs([]) == []


def test_a_change_that_both_show_but_in_another_place_is_no_copy(originals: list[Fingerprint]) -> None:
    """The same motion before another background."""
    other = originals[0] + np.random.default_rng(0).integers(-3000, 3000, originals[0].shape[1], dtype=np.int16)
    assert compare(Side.of(originals[0]), Side.of(originals[0]), shifts=[0]) == (0, pytest.approx(1.0))
    assert compare(Side.of(originals[0]), Side.of(other), shifts=[0]) is None


def test_the_inner_part_is_what_cropping_gives() -> None:
    smooth = cv2.resize(np.random.default_rng(5).uniform(40, 220, (5, 5)), (640, 640), interpolation=cv2.INTER_CUBIC)
    image = np.clip(smooth, 0, 255).astype(np.uint8)
    edge = round(640 * (1 - INNER) / 2)
    sides = []
    for part in (image, image[edge:-edge, edge:-edge]):
        maker = FingerprintMaker()
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(part), format="gray")
        maker.add(type("Frame", (), {"image": frame, "timestamp_sec": 0.0, "rotation_deg": 0}))  # type: ignore[arg-type]
        sides.append(Side.of(maker.finish()))
    whole, cropped = sides
    error = np.linalg.norm(whole.inner().still_TC - cropped.still_TC) / np.linalg.norm(cropped.still_TC)
    assert error < 0.1 < np.linalg.norm(whole.still_TC - cropped.still_TC) / np.linalg.norm(cropped.still_TC)


def test_sixty_real_clips_of_two_places_are_no_copies_and_a_part_of_one_is(shared_data: Path) -> None:
    paths = sorted((shared_data / "ut_interaction" / "videos").glob("*.avi"))
    assert len(paths) == 60
    fingerprints = [probe(path).fingerprint for path in paths]
    assert found_pairs(fingerprints) == []
    copy = fingerprints[10][::1][5:]
    assert [(pair.first, pair.second) for pair in found_pairs([*fingerprints, copy])] == [(10, 60)]


def test_what_is_found_does_not_depend_on_the_order(originals: list[Fingerprint]) -> None:
    several = [*originals[:4], originals[1][4:], originals[2][:-6]]
    wanted = {(1, 4), (2, 5)}
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 97):
        found = found_pairs([several[i] for i in order])
        assert {tuple(sorted((order[pair.first], order[pair.second]))) for pair in found} == wanted
