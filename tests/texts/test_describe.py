"""Descriptions from a language model, asked of a small server that misbehaves in every known way."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cliptune.texts import read_descriptions
from cliptune.texts.describe import Asking, describe_classes, distinct, sentences_in
from cliptune.texts.endpoint import Endpoint, EndpointError

NAMES = ("golden_retriever", "apple pie", "B. mark")


class Server:
    """Answers each request with the next reply of `script`, then always with `usual`."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.script: list[Callable[[BaseHTTPRequestHandler, dict], None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization"))
                assert self.path == "/v1/chat/completions"
                reply = server.script.pop(0) if server.script else usual
                reply(self, body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


def send(handler: BaseHTTPRequestHandler, content: bytes, code: int = 200, **headers: str) -> None:
    handler.send_response(code)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def says(text: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def usual(handler: BaseHTTPRequestHandler, body: dict) -> None:
    """As many numbered sentences as were asked for, about what was asked."""
    question = body["messages"][0]["content"]
    n = int(re.search(r"Write (\d+) ", question)[1])
    lines = [f"{i + 1}. Sentence number {i + 1} on: {question[:40]}." for i in range(n)]
    send(handler, says("Here are the sentences:\n" + "\n".join(lines)))


def endpoint(server: Server, **more: object) -> Endpoint:
    waits: list[float] = []
    made = Endpoint(server.url, "toy", **{"key": "secret", "sleep": waits.append, "timeout": 5.0, **more})
    object.__setattr__(made, "waits", waits)
    return made


def test_every_class_and_set_is_asked_and_written(server, tmp_path):
    found = describe_classes(endpoint(server), NAMES, ["des", "wing shape"], tmp_path, Asking("bird", wanted=4))
    assert read_descriptions(tmp_path) == found
    assert list(found["des"]) == list(NAMES)
    assert all(len(sentences) == 4 for entries in found.values() for sentences in entries.values())
    questions = [body["messages"][0]["content"] for body in server.requests]
    assert len(questions) == 6
    assert "a golden retriever, a kind of bird" in questions[0]
    assert "an apple pie" in questions[1]
    assert "B mark" in questions[2]  # full stops would end the sentence
    assert "wing shape of a bird called golden retriever" in questions[3]
    assert {body["model"] for body in server.requests} == {"toy"}
    assert set(server.keys) == {"Bearer secret"}
    about = json.loads((tmp_path / "des.about.json").read_text())
    assert about["model"] == "toy"
    assert "secret" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_a_finished_set_is_not_asked_again(server, tmp_path):
    first = describe_classes(endpoint(server), NAMES, ["des"], tmp_path, Asking(wanted=2))
    asked = len(server.requests)
    assert describe_classes(endpoint(server), NAMES, ["des"], tmp_path, Asking(wanted=2)) == first
    assert len(server.requests) == asked


def test_a_run_that_stopped_half_way_goes_on(server, tmp_path):
    refuse = lambda handler, body: send(handler, b"no", 401)
    server.script = [usual, refuse]
    with pytest.raises(EndpointError, match=r"401.*CLIPTUNE_LLM_KEY"):
        describe_classes(endpoint(server), NAMES, ["des"], tmp_path, Asking(wanted=3))
    assert list(read_descriptions(tmp_path)["des"]) == [NAMES[0]]
    before = len(server.requests)
    found = describe_classes(endpoint(server), NAMES, ["des"], tmp_path, Asking(wanted=3))
    assert len(server.requests) == before + 2  # the first class is not asked about again
    assert list(found["des"]) == list(NAMES)


def test_missing_sentences_are_asked_for_until_there_are_enough(server, tmp_path):
    repeats = lambda handler, body: send(handler, says("- The very same sentence.\n- the very same sentence\n- tiny"))
    server.script = [repeats]
    lines: list[str] = []
    found = describe_classes(endpoint(server), ["pie"], ["des"], tmp_path, Asking(wanted=3), say=lines.append)
    assert found["des"]["pie"][0] == "The very same sentence."
    assert len(found["des"]["pie"]) == 3
    assert "Write 2 different" in server.requests[1]["messages"][0]["content"]
    server.script = [repeats] * 9
    few = describe_classes(endpoint(server), ["tart"], ["dist"], tmp_path, Asking(wanted=3, rounds=2), say=lines.append)
    assert few["dist"]["tart"] == ["The very same sentence."]
    assert "1 sentences, 3 were asked for" in lines[-1]


def test_a_class_without_any_usable_sentence_is_named(server, tmp_path):
    server.script = [lambda handler, body: send(handler, says("I am sorry:"))] * 4
    with pytest.raises(ValueError, match="no usable sentence about 'pie'"):
        describe_classes(endpoint(server), ["pie"], ["des"], tmp_path, Asking())


def test_rate_limits_are_waited_out_as_the_server_asks(server):
    in_a_while = formatdate(time.time() + 45, usegmt=True)
    server.script = [
        lambda handler, body: send(handler, b"slow down", 429, Retry_After="7"),
        lambda handler, body: send(handler, b"slow down", 429, Retry_After=in_a_while),
        lambda handler, body: send(handler, b"slow down", 429, Retry_After="86400"),
        lambda handler, body: send(handler, b"busy", 503),
    ]
    one = endpoint(server)
    assert "Sentence number 1" in one.ask("Write 1 sentence")
    assert one.waits[0] == 7
    assert 40 <= one.waits[1] <= 46
    assert one.waits[2:] == [120, 8]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"<html>gateway</html>", "not JSON .*<html>gateway"),
        (says("")[:-9], "not JSON"),
        (b"[]", "no text at choices"),
        (b'{"choices": []}', "no text at choices"),
        (b'{"choices": [{"message": null}]}', "no text at choices"),
        (says(None), "no text at choices"),
        (says("  "), "no text at choices"),
    ],
)
def test_unreadable_answers_are_tried_again_then_explained(server, reply, reason):
    server.script = [lambda handler, body: send(handler, reply)] * 3
    with pytest.raises(EndpointError, match=f"3 attempts; the last time its answer .*{reason}"):
        endpoint(server, attempts=3).ask("Write 1 sentence")
    server.script = [lambda handler, body: send(handler, reply)]
    assert "Sentence" in endpoint(server).ask("Write 1 sentence")


def test_time_outs_and_lost_connections_are_tried_again_then_explained(server):
    sleepy = lambda handler, body: time.sleep(0.4)
    server.script = [sleepy]
    assert "Sentence" in endpoint(server, timeout=0.15).ask("Write 1 sentence")
    server.script = [sleepy, sleepy]
    with pytest.raises(EndpointError, match=r"no answer came within 0.15 seconds.*go on"):
        endpoint(server, timeout=0.15, attempts=2).ask("Write 1 sentence")
    hang_up = lambda handler, body: handler.connection.close()
    server.script = [hang_up]
    assert "Sentence" in endpoint(server).ask("Write 1 sentence")
    nobody = Endpoint("http://127.0.0.1:9/v1", "toy", attempts=2, sleep=lambda seconds: None)
    with pytest.raises(EndpointError, match="2 attempts; the last time .*refused"):
        nobody.ask("anything")


def test_requests_that_cannot_succeed_are_not_repeated(server):
    server.script = [lambda handler, body: send(handler, b'{"error": "no such model"}', 404)]
    with pytest.raises(EndpointError, match=r"404.*no such model.*model's name"):
        endpoint(server).ask("anything")
    assert len(server.requests) == 1


def test_the_key_follows_no_redirection(server):
    other = Server()
    server.script = [lambda handler, body: send(handler, b"", 307, Location=f"{other.url}/chat/completions")]
    with pytest.raises(EndpointError, match="not followed"):
        endpoint(server).ask("anything")
    assert other.requests == []
    other.http.shutdown()
    other.http.server_close()


def test_answers_to_another_question_are_not_mixed(server, tmp_path):
    describe_classes(endpoint(server), ["pie"], ["des"], tmp_path, Asking(wanted=1))
    with pytest.raises(ValueError, match="answers to something else \\(task differ"):
        describe_classes(endpoint(server), ["pie"], ["des"], tmp_path, Asking(task="food", wanted=1))
    (tmp_path / "dist.json").write_text('{"pie": ["By somebody else, who knows how."]}')
    with pytest.raises(ValueError, match="model, temperature, question, task, set differ"):
        describe_classes(endpoint(server), ["pie"], ["dist"], tmp_path, Asking(wanted=1))


def test_own_questions_need_the_class_and_known_places():
    asking = Asking(task="pet", question="Tell me about {class}: {cause}? Write {n} lines.")
    assert asking.question_for("fur", "red_panda", 3) == "Tell me about red panda: fur? Write 3 lines."
    with pytest.raises(ValueError, match="needs {class}.*it has {n}"):
        Asking(question="Write {n} lines.")
    with pytest.raises(ValueError, match="it has {class}, {colour}"):
        Asking(question="{class} in {colour}")


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CLIPTUNE_LLM_URL", "http://here/v1")
    monkeypatch.setenv("CLIPTUNE_LLM_MODEL", "m")
    monkeypatch.setenv("CLIPTUNE_LLM_KEY", "hidden")
    one = Endpoint.from_environment()
    assert (one.url, one.model, one.key) == ("http://here/v1", "m", "hidden")
    assert "hidden" not in repr(one)
    assert Endpoint.from_environment(url="http://there/v1").url == "http://there/v1"
    monkeypatch.delenv("CLIPTUNE_LLM_URL")
    with pytest.raises(ValueError, match="must start with http"):
        Endpoint.from_environment()
    monkeypatch.delenv("CLIPTUNE_LLM_MODEL")
    with pytest.raises(ValueError, match="CLIPTUNE_LLM_MODEL"):
        Endpoint.from_environment(url="http://there/v1")


def test_models_texts_become_single_sentences():
    assert sentences_in(
        "1. It has a really long tail. It is also red all over.\n2) Tiny.\n- Its wings are swept back"
    ) == [
        "It has a really long tail.",
        "It is also red all over.",
        "Its wings are swept back",
    ]
    assert sentences_in("Here are some descriptions of it:\n4") == []
    assert distinct(["One thing.", "one thing", "Other"]) == ["One thing.", "Other"]


@pytest.mark.parametrize("name", ["../des", "", "a/b", ".hidden"])
def test_names_of_sets_stay_in_the_folder(server, tmp_path, name):
    with pytest.raises(ValueError, match="plain words"):
        describe_classes(endpoint(server), ["pie"], [name], tmp_path)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"[" * 20_000, "its answer was not JSON"),
        (b'{"choices": [{"message": {"content": "half \\ud83d"}}]}', "half a character"),
        (b"\xff\xfe", "its answer was not JSON"),
    ],
)
def test_answers_that_python_cannot_take_are_asked_for_again(server, answer, sentence):
    server.script = [lambda handler, body: send(handler, answer)] * 2
    with pytest.raises(EndpointError, match=sentence):
        endpoint(server, attempts=2).ask("?")
    server.script = [lambda handler, body: send(handler, answer), lambda handler, body: send(handler, says("Yes."))]
    assert endpoint(server, attempts=2).ask("?") == "Yes."


@pytest.mark.parametrize("header", ["nan", "-5", "Fri, 99 Foo 99999 99:99:99 GMT"])
def test_times_to_wait_that_are_none_are_left_out(server, header):
    server.script = [lambda handler, body: send(handler, b"", 503, Retry_After=header)]
    asked = endpoint(server, attempts=2)
    server.script.append(lambda handler, body: send(handler, says("Yes.")))
    assert asked.ask("?") == "Yes."
    assert asked.waits == [1.0]


def test_an_error_whose_text_does_not_arrive_is_told_without_it(server):
    def cut(handler: BaseHTTPRequestHandler, body: dict) -> None:
        handler.wfile.write(b"HTTP/1.1 403 No\x1b[31m\r\nTransfer-Encoding: chunked\r\n\r\nzz")

    server.script = [cut]
    with pytest.raises(EndpointError, match=r"it answered 403 No\\x1b\[31m\. Set CLIPTUNE_LLM_KEY"):
        endpoint(server).ask("?")


def test_an_answer_that_only_trickles_in_is_given_up(server):
    def trickle(handler: BaseHTTPRequestHandler, body: dict) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(100):
                handler.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:  # the asker has left
            pass

    server.script = [trickle]
    with pytest.raises(EndpointError, match=r"no answer came within 0\.2 seconds"):
        endpoint(server, attempts=1, timeout=0.2).ask("?")
