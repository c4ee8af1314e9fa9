"""Deployment files: the manifests are complete, and agree with their descriptions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ksmwatch import __version__, config
from ksmwatch.options import DEFAULT_LISTEN, DEFAULT_SOCKET

ROOT = Path(__file__).resolve().parents[3]
KUBERNETES = ROOT / "deploy/kubernetes"
MANIFESTS: dict[str, dict[str, Any]] = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted(KUBERNETES.glob("*.yaml"))
}
POD = MANIFESTS["daemonset.yaml"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PORT = int(DEFAULT_LISTEN.rpartition(":")[2])


def first_column(heading: str) -> list[str]:
    """The code in the first column of the table below a heading of the README."""
    text = (KUBERNETES / "README.md").read_text().partition(f"## {heading}\n")[2]
    return re.findall(r"^\| `([^`]+)` \|", text.partition("\n## ")[0], re.MULTILINE)


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_objects(name: str) -> None:
    manifest = MANIFESTS[name]
    assert manifest["apiVersion"]
    assert manifest["kind"].lower() == Path(name).stem


def test_everything_is_applied() -> None:
    listed = MANIFESTS["kustomization.yaml"]["resources"]
    assert {*listed, "kustomization.yaml"} == set(MANIFESTS)


def test_the_image_is_replaced() -> None:
    (image,) = MANIFESTS["kustomization.yaml"]["images"]
    assert image["name"] == CONTAINER["image"]
    assert image["newTag"] == __version__


def test_the_selectors_find_the_pod() -> None:
    labels = MANIFESTS["daemonset.yaml"]["spec"]["template"]["metadata"]["labels"]
    for name in ("daemonset.yaml", "podmonitor.yaml"):
        wanted = MANIFESTS[name]["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= labels.items()


def test_capabilities_are_those_that_are_explained() -> None:
    security = CONTAINER["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security["capabilities"]["add"] == first_column("Capabilities")
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert "privileged" not in security


def test_mounts_are_those_that_are_explained_and_have_volumes() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert list(mounts.values()) == first_column("Mounts")
    assert set(mounts) == {volume["name"] for volume in POD["volumes"]}
    assert str(Path(DEFAULT_SOCKET).parent) in mounts.values()


def test_exceptions_are_explained() -> None:
    namespace = MANIFESTS["namespace.yaml"]["metadata"]["labels"]
    found = {name for name in POD if name.startswith("host")}
    found |= {"runAsUser: 0"} if CONTAINER["securityContext"]["runAsUser"] == 0 else set()
    found |= {
        f"{name}: Unconfined"
        for name, value in (("appArmorProfile", "type"), ("seccompProfile", "type"))
        if CONTAINER["securityContext"][name][value] == "Unconfined"
    }
    found.add(f"pod-security: {namespace['pod-security.kubernetes.io/enforce']}")
    assert found == set(first_column("Exceptions"))


def test_the_port_is_the_one_that_is_listened_on() -> None:
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == PORT
    (endpoint,) = MANIFESTS["podmonitor.yaml"]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == CONTAINER["readinessProbe"]["httpGet"]["port"] == port["name"]
    containerfile = (ROOT / "deploy/container/Containerfile").read_text()
    assert f"EXPOSE {PORT}\n" in containerfile


def test_the_image_has_what_the_wheel_is_made_of() -> None:
    ignored = (ROOT / "deploy/container/Containerfile.containerignore").read_text().split()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert {"bpf", "ksmwatch", "pyproject.toml", "README.md", "LICENSE"} == kept
    for name in kept:
        assert (ROOT / name).exists()


# ---- rolling out ----


def settings(name: str) -> str:
    """The configuration file that a roll-out writes."""
    document = yaml.safe_load((ROOT / "deploy" / name).read_text())
    if name.startswith("ansible"):
        (variables,) = (play["vars"] for play in document)
        return str(variables["ksmwatch_settings"]).replace(
            "{{ ksmwatch_port }}", str(variables["ksmwatch_port"])
        )
    (file,) = document["write_files"]
    return str(file["content"])


@pytest.mark.parametrize("name", ["ansible/ksmwatch.yml", "cloud-init/ksmwatch.yml"])
def test_settings_that_are_rolled_out_are_good(tmp_path: Path, name: str) -> None:
    path = tmp_path / "ksmwatch.toml"
    path.write_text(settings(name))
    made = config.make(config.read_file(path), {}, str(path))
    assert [address.port for address in made.web_listen_address] == [PORT]
