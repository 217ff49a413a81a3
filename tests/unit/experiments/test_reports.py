"""The pages of searches and comparisons: whole, escaped, offline, and true to their numbers."""

import re
from pathlib import Path

import numpy as np

from kineflow.evaluation.paired import GroupScores
from kineflow.experiments.compare_report import CompareReport, verdict, write_compare_report
from kineflow.experiments.comparison import Contender, Result
from kineflow.experiments.cost import Cost
from kineflow.experiments.pages import shown_duration, shown_macs, shown_ms
from kineflow.experiments.search_report import SearchReport, write_search_report
from kineflow.experiments.space import draw, make_space
from kineflow.experiments.trials import ranked
from tests.unit.experiments.samples import trial

SPACE = make_space(
    {
        "streams.rgb.lr": {"loguniform": [1e-4, 1e-1]},
        "streams.rgb.num_frames": {"choice": [8, 16]},
        "train.grad_clip_norm": {"choice": [None, 2.0]},
    }
)


def is_offline(page: str) -> bool:
    return not re.search(r"(src|href)=|url\((?!#)|<script|@import|https?://", page)


def test_the_report_of_a_search(tmp_path: Path) -> None:
    drawn = draw(SPACE, num_draws=9, seed=0)
    trials = [trial([0.5 + 0.01 * i, 0.6], **changes) for i, changes in enumerate(drawn[:7])]
    trials += [trial([0.4], "pruned", **drawn[7]), trial([], "failed", **drawn[8])]
    trials[-1].reason = "no <such> model"
    command = "kineflow search --space fish.yaml"
    source = SearchReport(
        "space fish & co", command, "data", "rgb", "random", SPACE, "video_top1_acc", 2, tuple(ranked(trials))
    )
    write_search_report(tmp_path / "a.html", source)
    write_search_report(tmp_path / "b.html", source)
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text() and is_offline(page)
    assert "fish &amp; co" in page and "<code>kineflow search --space fish.yaml --apply</code>" in page
    assert "best of 7 trials that saw every fold" in page and page.count(">no clip of it<") == 1  # recall of <rest>
    assert page.count(">never predicted<") == 1  # rear
    assert "no &lt;such&gt; model" in page and "&lt;rest&gt;" in page
    assert f"<b>{trials[6].key}</b>" in page and "0.580" in page  # (0.56 + 0.60) / 2
    assert page.count('class="parallel') == 8 and page.count('class="parallel best"') == 1
    assert page.count('class="parallel pruned"') == 1 and "fANOVA" in page


def test_how_times_and_sizes_are_shown() -> None:
    durations = [0.16, 0.247, 9.99, 12.34, 99.0, 750.0, 12600.0, float("nan")]
    shown = ["0.16 s", "0.25 s", "9.99 s", "12.3 s", "99.0 s", "12.5 min", "3.5 h", "–"]
    assert [shown_duration(seconds) for seconds in durations] == shown
    assert [shown_macs(macs) for macs in (29_400_000, 999_000_000, 40_700_000_000)] == ["29.4 M", "999.0 M", "40.7 G"]
    assert [shown_ms(ms) for ms in (0.418, 6.98, 12.5, 698.2)] == ["0.42", "7.0", "12.5", "698"]


def test_scores_that_are_all_alike_are_drawn_without_values_that_nobody_has(tmp_path: Path) -> None:
    space = make_space({"streams.rgb.lr": {"choice": [0.1, 0.2]}})
    trials = tuple(trial([0.5, 0.5], **{"streams.rgb.lr": rate}) for rate in (0.1, 0.2))
    source = SearchReport("space alike", "kineflow search", "data", "rgb", "grid", space, "video_top1_acc", 2, trials)
    write_search_report(tmp_path / "a.html", source)
    ticks = re.findall(r'<text class="muted[^>]*>([\d.]+)</text>', (tmp_path / "a.html").read_text())
    assert "0.500" in ticks and all(float(tick) <= 1 for tick in ticks)


def result(name: str, value: float, draws: np.ndarray, first: GroupScores | None = None) -> Result:
    scores = GroupScores(value, draws)
    cost = Cost(230_000, 29_000_000, (3, 8, 24, 24), 12.5, "cpu", 1, "fp32")
    differences = None if first is None else {"video_top1_acc": scores.minus(first)}
    values = {"video_top1_acc": (value,)}
    return Result(Contender(name, "rgb", {}), name, {"video_top1_acc": scores}, values, values, differences, cost, 90.0)


def test_the_report_of_a_comparison_says_what_intervals_allow(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first = result("a.avg", 0.6, 0.6 + rng.normal(0, 0.05, 500))
    base = first.scores["video_top1_acc"]
    better = result("b<r>t", 0.7, base.draws_D + 0.1 + rng.normal(0, 0.01, 500), base)
    same = result("c.avg", 0.61, base.draws_D + 0.01 + rng.normal(0, 0.02, 500), base)
    source = CompareReport("data", "video_top1_acc", (0, 1), 4, 5, (first, better, same))
    write_compare_report(tmp_path / "compare.html", source)
    page = (tmp_path / "compare.html").read_text()
    assert is_offline(page) and "b&lt;r&gt;t" in page and "Few groups" in page and "+0.100" in page
    assert verdict(source, better) == "is better than a.avg"
    assert verdict(source, same) == "cannot be told from a.avg on these groups"
