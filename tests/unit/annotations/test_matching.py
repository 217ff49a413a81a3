import pytest

from kineflow.annotations.matching import UnknownVideoError, VideoIndex

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
        ("/old/place/top.avi", "top.avi"),
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
