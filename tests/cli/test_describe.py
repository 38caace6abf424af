"""`cliptune describe` against a small local server."""

from __future__ import annotations

from cliptune.texts import read_descriptions
from tests.texts.test_describe import send, server  # noqa: F401  (a fixture)


def test_describe_asks_and_writes_what_methods_read(cli, server, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CLIPTUNE_LLM_KEY", "secret")
    monkeypatch.setenv("CLIPTUNE_LLM_URL", server.url)
    out = tmp_path / "sentences"
    words = ("describe", out, "--classes", "red panda, yawl", "--sets", "des,shape", "--n", 2, "--model", "toy")
    answer = cli(*words)
    assert answer.code == 0, answer.err
    assert "des: red panda (1 of 2): 2 sentences" in answer.out
    found = read_descriptions(out)
    assert {name: list(entries) for name, entries in found.items()} == {
        "des": ["red panda", "yawl"],
        "shape": ["red panda", "yawl"],
    }
    asked = len(server.requests)
    assert cli(*words).code == 0
    assert len(server.requests) == asked


def test_describe_reads_class_names_from_a_file_and_questions_too(cli, server, tmp_path):  # noqa: F811
    (tmp_path / "names.txt").write_text("red panda\nyawl\n")
    (tmp_path / "question.txt").write_text("Say it of {class}. Write {n} lines.")
    answer = cli(
        "describe", tmp_path / "out", "--classes", tmp_path / "names.txt", "--question", tmp_path / "question.txt",
        "--url", server.url, "--model", "toy", "--sets", "des", "--n", 1,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert server.requests[1]["messages"][0]["content"] == "Say it of yawl. Write 1 lines."


def test_describe_explains_what_is_missing(cli, server):  # noqa: F811
    assert "either --data or --classes" in cli("describe", "out", "--url", server.url, "--model", "toy").err
    assert "must start with http" in cli("describe", "out", "--classes", "a,b").err
    server.script = [lambda handler, body: send(handler, b"who are you", 401)]
    answer = cli("describe", "out", "--classes", "a,b", "--url", server.url, "--model", "toy")
    assert answer.code == 2
    assert "CLIPTUNE_LLM_KEY" in answer.err
