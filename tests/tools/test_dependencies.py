"""What is said of the packages that cliptune stands on."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest
from packaging.version import Version

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import dependencies


def test_every_dependency_has_a_lower_bound_that_is_installed_or_older():
    pinned = dict(line.split("==") for line in dependencies.oldest())
    assert {"torch", "numpy", "pillow", "safetensors", "huggingface-hub"} <= set(pinned)
    for name, version in pinned.items():
        assert Version(importlib.metadata.version(name)) >= Version(version), name


def test_a_dependency_without_a_bound_is_named(monkeypatch):
    bare = [dependencies.Requirement("numpy")]
    monkeypatch.setattr(dependencies, "requirements", lambda: bare)
    with pytest.raises(ValueError, match=r"numpy: pyproject\.toml gives no lower bound"):
        dependencies.oldest()


def test_licences_of_all_that_is_needed_are_listed(capsys):
    assert dependencies.main(["licences"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(" ")[0].lower() for line in lines]
    assert names == sorted(names)
    assert {"torch", "numpy", "jinja2"} <= set(names)  # jinja2 through torch
    assert all(": " in line and not line.endswith(": ") for line in lines)


@pytest.mark.parametrize("answer", ["", '{"dependencies": [{"name": "x", "skip_reason": "not found"}]}'])
def test_an_advisory_service_that_does_not_answer_is_said_and_no_failure(capsys, answer):
    assert dependencies.told(answer) == 0
    assert "gave no answer here" in capsys.readouterr().out


def test_known_vulnerabilities_fail(capsys):
    vulns = [{"id": "PYSEC-0000-1", "fix_versions": ["1.1"]}]
    listed = [
        {"name": "a", "version": "1.0", "vulns": vulns},
        {"name": "b", "version": "2.0", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]
    assert dependencies.told(json.dumps({"dependencies": listed})) == 1
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "a 1.0: PYSEC-0000-1, fixed in 1.1",
        "2 packages were looked up, 1 vulnerabilities are known.",
        "Not looked up: c.",
    ]
    assert dependencies.told(json.dumps({"dependencies": listed[1:]})) == 0
