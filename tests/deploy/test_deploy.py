"""What is deployed fits the code: metrics that exist, settings that exist, files that exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.settings import PREFIX, Settings
from app.observability import metrics
from tests.support.needs import needs

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/dashboards/quorum.json"
COMPOSE = ROOT / "docker-compose.yml"
METRIC = re.compile(r"\bquorum_[a-z0-9_]+")
INSTALLING = ("Dockerfile", "Makefile", "pyproject.toml", ".ci/run", *(path.name for path in ROOT.glob("requirements*.txt")))
"""The files that say what is installed. Where from is the machine's affair: they name no host."""


def exported_metrics() -> set[str]:
    """Every sample name that the process can export."""
    families = metrics.REGISTRY.collect()
    names: set[str] = set()
    for family in families:
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}.get(family.type, ())
        names |= {family.name + suffix for suffix in suffixes}
    return names


def dashboard_queries() -> list[tuple[str, str]]:
    document = json.loads(DASHBOARD.read_text())
    panels = [(panel["title"], target["expr"]) for panel in document["panels"] for target in panel.get("targets", [])]
    return panels + [(variable["name"], variable.get("definition", "")) for variable in document["templating"]["list"]]


def alert_queries() -> list[tuple[str, str]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


@pytest.mark.parametrize(("where", "query"), [*dashboard_queries(), *alert_queries()])
def test_every_metric_of_the_dashboard_and_the_alerts_is_exported(where: str, query: str) -> None:
    unknown = set(METRIC.findall(query)) - exported_metrics()

    assert not unknown, f"{where!r} asks for {sorted(unknown)}, which app/observability/metrics.py does not export"


def test_every_metric_of_the_service_is_on_the_dashboard() -> None:
    shown = {name for _, query in dashboard_queries() for name in METRIC.findall(query)}
    families = {family.name for family in metrics.REGISTRY.collect() if family.name.startswith("quorum_")}

    unseen = {name for name in families if not any(metric.startswith(name) for metric in shown)}

    assert not unseen


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        for cell in ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])):
            assert cell not in taken, f"{panel['title']!r} lies over {taken[cell]!r}"
            taken[cell] = panel["title"]


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
    ids=" ".join,
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [needs("promtool"), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


USED_ONCE = """
from app.observability import metrics
from prometheus_client import Counter, Gauge, Histogram
for value in vars(metrics).values():
    if isinstance(value, (Counter, Gauge, Histogram)):
        child = value.labels(*["x"] * len(value._labelnames)) if value._labelnames else value
        if isinstance(value, Histogram):
            child.observe(0.1)
        else:
            child.set(1) if isinstance(value, Gauge) else child.inc()
import sys
sys.stdout.buffer.write(metrics.exposition()[0])
"""


@pytest.mark.parametrize("workers", ["one", "several"])
def test_promtool_accepts_the_names_and_helps_of_our_metrics(workers: str, tmp_path: Path) -> None:
    promtool = needs("promtool")
    environment = dict(os.environ)
    if workers == "several":
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    text = subprocess.run(
        [sys.executable, "-c", USED_ONCE], capture_output=True, env=environment, timeout=60, check=True
    ).stdout

    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)

    assert b"quorum_runs_total" in text
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def test_compose_mounts_files_that_exist() -> None:
    mounted = [volume.split(":")[0] for service in compose()["services"].values() for volume in service.get("volumes", [])]
    ours = [path for path in mounted if path.startswith("./")]

    assert ours
    assert [path for path in ours if not (ROOT / path).exists()] == []


def test_compose_sets_only_settings_that_exist() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    ours = {name for name in compose()["services"]["quorum"]["environment"] if name.startswith(PREFIX)}
    ours |= set(re.findall(rf"{PREFIX}[A-Z_]+(?==)", (ROOT / "Dockerfile").read_text()))

    assert {"QUORUM_HOST", "QUORUM_REDIS_URL", "QUORUM_DATA_DIR"} <= ours
    assert ours <= known


def test_every_variable_of_compose_is_explained_in_the_example() -> None:
    wanted = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text()))
    wanted |= {name for name, value in compose()["services"]["quorum"]["environment"].items() if value is None}
    example = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))

    assert wanted == example


def test_compose_waits_longer_than_the_service_drains() -> None:
    settings = Settings.model_fields
    grace = int(compose()["services"]["quorum"]["stop_grace_period"].removesuffix("s"))

    assert grace > settings["grace_s"].default + settings["drain_s"].default


def test_the_image_is_built_from_files_that_exist_and_are_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]

    assert copied
    assert [source for source in copied if not (ROOT / source).exists() or source not in sent] == []


@pytest.mark.parametrize("name", INSTALLING)
def test_what_is_installed_comes_from_no_named_host(name: str) -> None:
    text = (ROOT / name).read_text()

    assert re.findall(r"https?://\S+|--(?:extra-)?index-url\b|--find-links\b", text) == []


def test_images_come_from_no_named_host() -> None:
    images = [service["image"] for service in compose()["services"].values()]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert len(images) >= 7
    assert [image for image in images if "." in image.split("/")[0].split(":")[0] or image.startswith("localhost")] == []


@pytest.mark.parametrize("name", [name for name in INSTALLING if name.startswith("requirements")])
def test_every_locked_package_has_its_hash(name: str) -> None:
    packages = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE))

    assert packages
    assert [package for package in packages if "==" not in package or "--hash=sha256:" not in package] == []
