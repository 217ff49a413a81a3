"""Every service, port, volume, option and variable in infra/ is something that the code or another service uses."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
INFRA = REPOSITORY / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
VARIABLE = re.compile(r"\$\{([A-Z_0-9]+)(?::([-?])([^}]*))?\}")
URL = re.compile(r"[a-z+0-9]+://[^\s\"',]+")
# What images of others read, and no code of ours names: https://hub.docker.com/_/postgres, rclone's --auth-key.
READ_BY_IMAGES = {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "RCLONE_AUTH_KEY"}
LISTENS = {  # by service, how its port is told to it; None where it is the program's own default
    "postgres": {5432: None},
    "s3": {9000: ":9000"},
    "mlflow": {5000: "--port=5000"},
    "prefect": {4200: "4200"},
    "ray-head": {6379: "--port=6379", 8265: None},
}


def command(service: str) -> list[str]:
    return [str(word) for word in SERVICES[service].get("command", [])]


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [str(value)]


def source_text() -> str:
    files = [*REPOSITORY.glob("src/**/*.py"), *REPOSITORY.glob("flows/**/*.py")]
    return "\n".join(path.read_text() for path in files)


def test_addresses_lead_to_a_service_that_listens_there() -> None:
    found = 0
    for name, service in SERVICES.items():
        for text in texts({key: service.get(key, {}) for key in ("environment", "command")}):
            resolved = VARIABLE.sub(lambda match: match[3] if match[2] == "-" else "secret", text)
            for url in URL.findall(resolved):
                parts = urlsplit(url)
                if parts.scheme == "s3" or parts.hostname in ("127.0.0.1", "localhost"):
                    continue
                assert parts.hostname in SERVICES, f"{name}: {url} leads to no service"
                assert parts.port in LISTENS[parts.hostname], f"{name}: nothing listens at {url}"
                found += 1
    assert found >= 5
    address = next(word for word in command("ray-worker") if word.startswith("--address="))
    for named in (address.removeprefix("--address="), SERVICES["worker"]["environment"]["RAY_ADDRESS"]):
        host, port = named.split(":")
        assert int(port) in LISTENS[host]


def test_services_listen_where_they_are_said_to() -> None:
    assert set(LISTENS) | {"worker", "ray-worker"} == set(SERVICES)
    for name, ports in LISTENS.items():
        for port, word in ports.items():
            assert word is None or word in command(name), f"{name} is not told to listen on {port}"


def test_published_ports_are_on_loopback_and_listened_on() -> None:
    for name, service in SERVICES.items():
        for published in service.get("ports", []):
            host, outside, inside = published.split(":")
            assert host == "127.0.0.1", f"{name}: {published} is open to the network"
            assert outside == inside
            assert int(inside) in LISTENS[name]


def test_dependencies_volumes_and_configs_exist_and_are_used() -> None:
    used_volumes, used_configs = set(), set()
    for name, service in SERVICES.items():
        for other in service.get("depends_on", []):
            assert other in SERVICES, f"{name} depends on {other}, which is no service"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (INFRA / source).resolve() == REPOSITORY
            else:
                used_volumes.add(source)
        used_configs |= {config["source"] for config in service.get("configs", [])}
        if "healthcheck" not in service:
            continue
        assert service["healthcheck"]["test"][0] == "CMD"
    assert used_volumes == set(COMPOSE["volumes"])
    assert used_configs == set(COMPOSE["configs"])
    for name in ("worker", "ray-head", "ray-worker"):  # all see the same files at the same path
        assert SERVICES[name]["volumes"] == ["..:/workspace"]
    assert "WORKDIR /workspace" in (INFRA / "Dockerfile").read_text()


def test_every_variable_is_read_by_the_code_or_the_image() -> None:
    from prefect.settings import Settings

    code = source_text()
    known_to_prefect = {name.upper() for name in Settings().to_environment_variables(include_aliases=True)}
    dockerfile = re.findall(r"^\s+(?:ENV )?([A-Z_]+)=", (INFRA / "Dockerfile").read_text(), flags=re.M)
    names = {name for service in SERVICES.values() for name in service.get("environment", {})} | set(dockerfile)
    unknown = {
        name
        for name in names - READ_BY_IMAGES - {"PYTHONUNBUFFERED"}
        if not re.search(rf"\b{name}\b", code) and name not in known_to_prefect
    }
    assert not unknown, f"nothing reads {', '.join(sorted(unknown))}"


def test_secrets_have_no_defaults_and_the_readme_names_them() -> None:
    readme = (INFRA / "README.md").read_text()
    text = (INFRA / "compose.yaml").read_text()
    required = {match[1] for match in VARIABLE.finditer(text) if match[2] == "?"}
    assert required == {"POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    for match in VARIABLE.finditer(text):
        if "PASSWORD" in match[1] or "KEY" in match[1]:
            assert match[2] == "?", f"{match[1]} must have no default"
    for name in required:
        assert f"`{name}`" in readme
    ignored = subprocess.run(["git", "check-ignore", "-q", "infra/.env"], cwd=REPOSITORY)
    assert ignored.returncode == 0, "infra/.env must be ignored by git"


@pytest.mark.parametrize(
    ("service", "program", "num_words"),
    [("mlflow", "mlflow", 2), ("prefect", "prefect", 3), ("worker", "prefect", 3), ("ray-head", "ray", 2)],
)
def test_commands_have_the_options_that_they_are_given(service: str, program: str, num_words: int) -> None:
    words = command(service)
    assert words[0] == program
    executable = str(Path(sys.executable).with_name(program))
    shown = subprocess.run([executable, *words[1:num_words], "--help"], capture_output=True, text=True, check=True)
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    if service == "ray-head":
        of_nodes = [*command("ray-worker"), *SERVICES["worker"]["entrypoint"][2].split()]
        options |= {re.split("[=;]", word)[0] for word in of_nodes if word.startswith("--")}
    for option in options:
        assert re.search(rf"{option}\b", shown.stdout), f"{program} knows no {option}"


def test_rclone_knows_what_the_s3_service_is_told() -> None:
    rclone = str(Path(sys.executable).with_name("rclone"))
    shown = subprocess.run([rclone, "serve", "s3", "--help"], capture_output=True, text=True, check=True)
    assert command("s3")[:2] == ["serve", "s3"]
    for option in [word for word in command("s3") if word.startswith("--")]:
        assert option in shown.stdout


def test_databases_and_buckets_that_are_named_are_made() -> None:
    made = {SERVICES["postgres"]["environment"]["POSTGRES_DB"]}
    made |= set(re.findall(r"CREATE DATABASE (\w+);", COMPOSE["configs"]["prefect-database"]["content"]))
    used = set(re.findall(r"@postgres:5432/(\w+)", (INFRA / "compose.yaml").read_text()))
    assert used == made
    buckets = set(re.findall(r"s3://([\w-]+)/", (INFRA / "compose.yaml").read_text()))
    assert buckets == {"kineflow"}
    assert "mkdir -p /data/kineflow" in (INFRA / "README.md").read_text()


def test_the_worker_serves_the_pool_of_the_deployments() -> None:
    words = command("worker")
    pool = words[words.index("--pool") + 1]
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    assert {deployment["work_pool"]["name"] for deployment in deployments} == {pool}


def test_what_the_image_copies_is_there() -> None:
    dockerfile = (INFRA / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", dockerfile, flags=re.M):
        for source in line.split()[:-1]:
            assert (REPOSITORY / source).exists(), f"the Dockerfile copies {source}, which is not there"
    for service in SERVICES.values():
        if "build" in service:
            context = (INFRA / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).is_file()


def test_terraform_names_only_what_it_declares() -> None:
    text = "\n".join(path.read_text() for path in sorted((INFRA / "terraform").glob("*.tf")))
    declared = set(re.findall(r'^variable "(\w+)"', text, flags=re.M))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == declared
    resources = {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', text, flags=re.M)}
    documents = {f"data.{kind}.{name}" for kind, name in re.findall(r'^data "(\w+)" "(\w+)"', text, flags=re.M)}
    used = set(re.findall(r"\b((?:data\.)?aws_\w+\.\w+)\b", text))
    assert used <= resources | documents
    assert documents <= used
    bucket = {name for name in resources if name.startswith("aws_s3_bucket_")}
    assert {name.split(".")[0].removeprefix("aws_s3_bucket_") for name in bucket} >= {
        "versioning",
        "lifecycle_configuration",
        "public_access_block",
    }
    for output in re.findall(r"Value of ([\w-]+)", text):
        assert output in (INFRA / "README.md").read_text(), f"{output} is explained nowhere"
    assert text.count("{") == text.count("}")


def test_terraform_is_formatted() -> None:
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("terraform is not installed")
    done = subprocess.run(
        [terraform, "fmt", "-check", "-diff", str(INFRA / "terraform")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
