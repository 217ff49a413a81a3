"""The documentation against the code: what it names exists, and what exists is named where a reference lists it."""

import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import UnionType

import pytest
import typer
import yaml

from kineflow import annotations, errors, tables
from kineflow.cli import app
from kineflow.evaluation.metrics import METRICS
from kineflow.params import NETWORK_NAMES, STREAM_NAMES, EvaluateParams, Params, Section
from kineflow.stages import STAGES, paths

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").rglob("*.md")]
)
REFERENCE = ROOT / "docs" / "reference"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
ROW = re.compile(r"^\| `([^`]+)` \| (.*?) \|", re.MULTILINE)
EXAMPLE = re.compile(r"<!-- example (\w+): (\S+)(?: of (.*?))? -->\n```\w*\n(.*?)```", re.DOTALL)
MADE = ("data/sample", "reports/stages", "data/assignments.csv")  # beside the outs of dvc.yaml


@dataclass(frozen=True)
class Code:
    """A code span, or a line of a code block, and the page it is on."""

    page: Path
    text: str


def code() -> Iterator[Code]:
    for page in PAGES:
        text = page.read_text()
        for block in FENCE.findall(text):
            yield from (Code(page, line.partition(" #")[0].strip()) for line in block.splitlines() if line.strip())
        yield from (Code(page, span.strip()) for span in SPAN.findall(FENCE.sub("", text)))


def wrong(found: typing.Iterable[tuple[Code, str]]) -> list[str]:
    return [f"{item.page.relative_to(ROOT)}: `{item.text}`: {why}" for item, why in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(FENCE.sub("", page.read_text()))
    local = [target.partition("#")[0] for target in targets if not re.match(r"(https?|mailto):|#", target)]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert missing == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    todo = [ROOT / "README.md", ROOT / "docs" / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        todo += [
            page.parent / target.partition("#")[0] for target in LINK.findall(page.read_text()) if "://" not in target
        ]
    dated = {page for page in PAGES if page.parent.name in ("decisions", "benchmarks") and page.name[:1].isdigit()}
    assert {page for page in PAGES if page not in seen} - dated == set()


def commands() -> dict[str, set[str]]:
    """The options of every command, by its words after `kineflow`."""
    found: dict[str, set[str]] = {}

    def add(command: typing.Any, words: str) -> None:
        found[words] = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
        found[words].add("--help")
        for name, inner in getattr(command, "commands", {}).items():
            add(inner, f"{words} {name}".strip())

    add(typer.main.get_command(app), "")
    return found


def test_commands_and_their_options_exist() -> None:
    known = commands()
    found = []
    for item in code():
        for call in re.findall(r"(?:^|(?<=[\s/(]))kineflow ((?!stage \$)[a-z-][^|&;]*)", item.text):
            words = call.split()
            name = words[0] if len(words) < 2 or f"{words[0]} {words[1]}" not in known else f"{words[0]} {words[1]}"
            if words[0] == "services" and len(words) > 1 and name == "services":
                found.append((item, f"there is no `kineflow services {words[1].split('|')[0]}`"))
            elif words[0].startswith("-"):
                found += [(item, f"no option {words[0]}") for _ in [0] if words[0] not in known[""]]
            elif name not in known:
                found.append((item, f"there is no command `kineflow {words[0]}`"))
            else:
                options = {word.partition("=")[0] for word in words if word.startswith("--")}
                found += [(item, f"`kineflow {name}` has no {option}") for option in options - known[name]]
    assert wrong(found) == []


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_make_targets_exist() -> None:
    found = [
        (item, f"there is no target {target}")
        for item in code()
        for target in re.findall(r"^make (?:[A-Z]+=\S+ )?([a-z-]+)", item.text)
        if target not in make_targets()
    ]
    assert wrong(found) == []


def test_modules_and_their_options_exist() -> None:
    found = []
    for item in code():
        for module, rest in re.findall(r"python -m ((?:flows|benchmarks|kineflow)[\w.]*)([^|&;`]*)", item.text):
            path = ROOT / module.replace(".", "/")
            file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
            if not file.is_file():
                found.append((item, f"there is no module {module}"))
                continue
            found += [(item, f"no {o}") for o in re.findall(r"--[a-z-]+", rest) if f'"{o}"' not in file.read_text()]
    assert wrong(found) == []


def outs() -> list[str]:
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    found = list(MADE)
    for stage in graph.values():
        body = stage.get("do", stage)
        listed = [*body.get("outs", []), *body.get("metrics", []), *body.get("plots", [])]
        found += [next(iter(out)) if isinstance(out, dict) else out for out in listed]
    found += [out.replace("${key}", stream) for out in found if "${key}" in out for stream in STREAM_NAMES]
    return found


def test_paths_exist_or_are_made() -> None:
    top = tuple(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
    made = outs()
    files = {path.name for path in ROOT.iterdir() if path.is_file()}
    found = []
    for item in code():
        text = item.text.partition(":")[0]
        if " " in text or "*" in text or not (text.startswith(top) or text in files):
            continue
        candidates = [text.replace("<stream>", stream) for stream in (*STREAM_NAMES, "student")]
        is_made = any(c == out or c.startswith(f"{out}/") or out.startswith(c) for c in candidates for out in made)
        if not is_made and not (ROOT / text).exists():
            found.append((item, "is neither in the repository nor made by a stage"))
    assert wrong(found) == []


def test_places_under_the_home_are_those_of_the_code() -> None:
    sources = "".join(path.read_text() for folder in ("src", "flows") for path in (ROOT / folder).rglob("*.py"))
    found = []
    for item in code():
        for place in re.findall(r"\.kineflow/([\w.]+)", item.text):
            if f'"{place}"' not in sources and f'"{place}/' not in sources:
                found.append((item, f"no code names {place}"))
    assert wrong(found) == []


def test_environment_variables_are_read() -> None:
    sources = "".join(path.read_text() for folder in ("src", "flows") for path in (ROOT / folder).rglob("*.py"))
    found = []
    for item in code():
        for name in re.findall(r"\b((?:KINEFLOW|MLFLOW|PREFECT|RAY|AWS)_[A-Z0-9_]+)\b", item.text):
            if f'"{name}"' not in sources and name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                found.append((item, f"no code reads {name}"))
    assert wrong(found) == []


def params_keys(section: type[Section] = Params, prefix: str = "") -> dict[str, typing.Any]:
    """The type of every value of params.yaml, by dotted key."""
    found: dict[str, typing.Any] = {}
    for name, info in section.model_fields.items():
        key = prefix + (info.alias or name)
        parts = [info.annotation, *typing.get_args(info.annotation)]
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, Section)]
        found |= params_keys(inner[0], f"{key}.") if inner else {key: info.annotation}
    return found


def listed_params() -> dict[str, str]:
    """What docs/reference/params.md allows, by key; `<stream>` stands for each that a network learns."""
    rows = dict(ROW.findall((REFERENCE / "params.md").read_text()))
    found = {key: allowed for key, allowed in rows.items() if "<stream>" not in key}
    for stream in NETWORK_NAMES:
        found |= {k.replace("<stream>", stream): allowed for k, allowed in rows.items() if "<stream>" in k}
    return found


def test_the_reference_lists_every_params_key_and_no_other() -> None:
    listed, known = set(listed_params()), set(params_keys())
    assert listed - known == set(), "listed, but unknown to kineflow.params"
    assert known - listed == set(), "missing in docs/reference/params.md"


def literals(annotation: typing.Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    return [value for part in typing.get_args(annotation) for value in literals(part)]


@pytest.mark.parametrize("key", sorted(params_keys()))
def test_the_reference_names_the_allowed_values(key: str) -> None:
    annotation, allowed = params_keys()[key], listed_params()[key]
    known = literals(annotation)
    assert key == "validation.severity" or [v for v in re.findall(r"`(\w+)`", allowed) if v in known] == known
    is_union = typing.get_origin(annotation) in (typing.Union, UnionType)
    assert ("`null`" in allowed) == (is_union and type(None) in typing.get_args(annotation))
    assert ("`true`" in allowed) == (annotation is bool)


def test_params_keys_in_the_text_exist() -> None:
    known = params_keys()
    sections = {key.partition(".")[0] for key in known}
    prefixes = {".".join(key.split(".")[:length]) for key in known for length in range(1, 4)}
    found = []
    for item in code():
        match = re.fullmatch(r"([a-z_]+(?:\.[a-z_<>]+)+)(?:: .*)?", item.text)
        if match is None or match[1].partition(".")[0] not in sections or (ROOT / match[1]).exists():
            continue
        if match[1].replace("<stream>", "rgb") not in prefixes | set(known) and match[1] != "params.yaml":
            found.append((item, "is no key of params.yaml"))
    assert wrong(found) == []


@pytest.mark.parametrize("schema", tables.ALL.values(), ids=lambda schema: schema.name)
def test_the_reference_lists_the_columns_of_every_table(schema: tables.TableSchema) -> None:
    sections = re.split(r"^## ", (REFERENCE / "tables.md").read_text(), flags=re.MULTILINE)
    (section,) = [text for text in sections if text.startswith(f"{schema.name}:")]
    cells = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    columns = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert columns == [name for name, _ in schema.columns]
    assert ("one for each" in section) == (schema.extra_type is not None)


def test_the_reference_names_the_files_of_the_tables() -> None:
    text = (REFERENCE / "tables.md").read_text()
    named = [paths.VIDEOS, paths.EVENTS, paths.FRAME_LABELS, paths.CLIPS, paths.FOLDS, paths.SOURCES]
    assert [str(path) for path in named if f"`{path}`" not in text] == []


def test_the_reference_defines_every_metric_and_baseline() -> None:
    text = (REFERENCE / "metrics.md").read_text()
    rows = [name for name, _ in ROW.findall(text)]
    assert [name for name in rows if name.startswith(("video_", "frame_"))] == list(chain(*METRICS.values()))
    known = literals(EvaluateParams.model_fields["baselines"].annotation)
    assert [name for name in rows if name in known] == known


def test_the_reference_lists_every_command_option_and_target() -> None:
    text = (REFERENCE / "cli.md").read_text()
    groups = {""} | {words.rpartition(" ")[0] for words in commands()}
    assert [words for words in commands() if words not in groups and f"`kineflow {words}" not in text] == []
    options = {o for words in commands().values() for o in words if o.startswith("--")}
    options -= {"--help", "--version", "--no-force"}
    assert [option for option in sorted(options) if option not in text] == []
    assert [target for target in sorted(make_targets()) if f"`make {target}`" not in text and target != "help"] == []


def test_exit_codes_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", (ROOT / "docs/how-to/operate.md").read_text(), re.MULTILINE)
    meaning = {int(code): text for code, text in rows}
    assert set(meaning) == {0, 1, 2, 3, 4}
    assert "bug" in meaning[errors.KineflowError.exit_code]
    assert "params" in meaning[errors.ParamsError.exit_code]
    assert "gate" in meaning[errors.GateError.exit_code]
    assert "service" in meaning[errors.ServiceError.exit_code]


def test_the_architecture_shows_every_stage() -> None:
    (picture,) = re.findall(r"```mermaid\n(.*?)```", (ROOT / "docs/explanation/architecture.md").read_text(), re.DOTALL)
    assert [stage for stage in STAGES if not re.search(rf"\b{stage}\b", picture)] == []


def examples() -> dict[str, list[tuple[str, str, str]]]:
    """(file name, videos, content) of the examples in formats.md, by format."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for name, file, videos, content in EXAMPLE.findall((ROOT / "docs/reference/formats.md").read_text()):
        found.setdefault(name, []).append((file, videos, content))
    return found


def test_every_format_is_shown() -> None:
    text = (ROOT / "docs/reference/formats.md").read_text()
    assert [known.name for known in annotations.FORMATS if f"### `{known.name}`" not in text] == []
    assert {known.name for known in annotations.FORMATS if known.suffixes} == set(examples())


@pytest.mark.parametrize("name", sorted(examples()))
def test_the_example_tables_can_be_read(name: str, tmp_path: Path) -> None:
    for file, _, content in examples()[name]:
        (tmp_path / file).write_text(content)
    file, videos, _ = examples()[name][0]
    path = tmp_path if name == "frame_csv" else tmp_path / file
    found = annotations.read(name, path, videos=videos.split())
    assert {event.video_id for event in found.events} | set(found.frame_tables) == set(videos.split())
    if name == "boris_csv":
        assert [(event.label, event.start_sec, event.stop_sec) for event in found.events] == [
            ("groom", 1.2, 3.45),
            ("sniff", 4.0, None),
            ("rear", 0.5, 2.0),
        ]
        assert {row["cage"] for row in found.columns.values()} == {"A", "B"}
    if name == "manifest":
        assert set(found.groups.values()) == {"subject1", "subject2"}
        assert set(found.roles.values()) == {"train", "test"}
    if name == "frame_csv":
        table = found.frame_tables["day1.mp4"]
        assert table.behaviours == ("groom", "rear")
        assert table.values.tolist() == [[0, 0], [1, 0], [1, 1], [-1, 0]]


def test_class_folders_are_read_as_shown() -> None:
    videos = ["jump/a.mp4", "jump/day2/b.mp4", "run/c.mp4"]
    text = (ROOT / "docs/reference/formats.md").read_text()
    assert all(f"videos/{video}\n" in text for video in videos)
    found = annotations.read("class_folders", Path("unused"), videos=videos)
    assert [event.label for event in found.events] == ["jump", "jump", "run"]
