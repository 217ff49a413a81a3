import pytest

from kineflow.annotations.matching import AmbiguousVideoError, UnknownVideoError, VideoIndex

KEYS = ["arena1/a.mp4", "arena2/a.mp4", "arena2/b b.MP4", "top.avi", "r/rec.2020.mkv", "caf\u00e9.mp4", "x/b .mp4"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("arena1/a.mp4", "arena1/a.mp4"),
        ("./arena1/a.mp4", "arena1/a.mp4"),
        ("/home/x/videos/arena2/a.mp4", "arena2/a.mp4"),  # the key ends an absolute path
        ("C:\\videos\\arena1\\a.mp4", "arena1/a.mp4"),
        ("b b.MP4", "arena2/b b.MP4"),  # a bare name
        ("b b", "arena2/b b.MP4"),
        ("arena2/b b.avi", "arena2/b b.MP4"),  # converted since
        ("rec.2020", "r/rec.2020.mkv"),
        ("/old/place/top.avi", "top.avi"),  # where the source was is not known
        ("/old/place/top.mpg", "top.avi"),
        ("project/arena1/a.mp4", "arena1/a.mp4"),  # relative to a folder above the source
        ("/old/place/arena2/b b.avi", "arena2/b b.MP4"),
        ("cafe\u0301.mp4", "caf\u00e9.mp4"),  # decomposed by macOS
        ("x/b ", "x/b .mp4"),  # blanks around names do not count
    ],
)
def test_finds(name: str, key: str) -> None:
    assert VideoIndex(KEYS).find(name) == key


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.mp4", "could be arena1/a.mp4 or arena2/a.mp4"),
        ("arena3/a.mp4", "not in the source"),  # the same name in another folder is another video
        ("arena1/b b.MP4", "is not in the source, where arena2/b b.MP4 is in another folder; write the path"),
        ("/home/x/arena1/b b.MP4", "is in another folder"),
        ("C:\\v\\arena1\\b b.avi", "is in another folder"),
        ("arena1/top.avi", "top.avi is in no folder"),  # relative, so not at the top of the source
        ("rec", "not in the source"),
        ("", "no video is named"),
        ("arena2/b  b.MP4", "nearest: arena2/b b.MP4"),
    ],
)
def test_refuses(name: str, reason: str) -> None:
    with pytest.raises(UnknownVideoError, match=reason):
        VideoIndex(KEYS).find(name)


def test_two_keys_that_differ_in_unicode_form_only_are_never_chosen_between() -> None:
    with pytest.raises(UnknownVideoError, match="could be"):
        VideoIndex(["caf\u00e9.mp4", "cafe\u0301.mp4"]).find("caf\u00e9.mp4")


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["/lab/day1/top.avi", "/lab/day2/top.avi"], "/lab/day2/top.avi"),
        (["top", "/lab/day1/top.avi", "D:/lab/day2/top.mkv"], "D:/lab/day2/top.mkv"),
    ],
)
def test_two_paths_that_differ_are_never_one_video(names: list[str], refused: str) -> None:
    index = VideoIndex(KEYS)
    for name in names[:-1]:
        assert index.find(name) == "top.avi"
    with pytest.raises(
        AmbiguousVideoError, match=f"'{refused}' and '/lab/day1/top.avi' are two paths, and top.avi could"
    ):
        index.find(refused)


def test_a_flat_source_is_one_folder() -> None:
    index = VideoIndex(["a.mp4", "b.mp4", "c.mp4", "d.mp4"])
    names = ["day1/a.mp4", "day1/b.avi", "/lab/day2/c.mp4"]
    assert [index.find(name) for name in names] == ["a.mp4", "b.mp4", "c.mp4"]
    for name in ("day2/d.mp4", "other/day1/d.mp4"):
        with pytest.raises(
            AmbiguousVideoError, match=f"'{name}' and 'day1/a.mp4' are in two folders, and d.mp4 in none"
        ):
            index.find(name)


def test_one_path_may_be_written_long_and_short() -> None:
    index = VideoIndex(KEYS)
    assert {index.find(name) for name in ("/m/arena1/a.mp4", "arena1/a.mp4", "arena1/a", ".\\arena1\\a.mp4")} == {
        "arena1/a.mp4"
    }
