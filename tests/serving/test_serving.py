from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import threading

import httpx
import numpy as np
import pytest
from PIL import Image

import cliptune
from cliptune.preprocessing import Preprocessing
from cliptune.serving import Batcher, Busy, Limits, Served, ServedRun, application
from cliptune.serving.pictures import from_base64, prepared
from cliptune.serving.running import check_open, is_loopback
from tests.cli.conftest import picture

NAMES = ("red fox", "blue jay")


class Mean:
    """Answers with the mean of the picture, and remembers its batches."""

    changeable, class_names, resolution = True, NAMES, 8
    pictures = Preprocessing()

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.hold = threading.Event()
        self.hold.set()

    def answer(self, prepared: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        self.hold.wait(30)
        self.batches.append(len(prepared))
        share = prepared.reshape(len(prepared), -1).mean(axis=1) / 255
        return self.class_names, np.stack([share, 1 - share], axis=1).astype(np.float32)

    def set_classes(self, names, template) -> None:
        self.class_names = tuple(names)


def png(grey: int = 51, size: tuple[int, int] = (10, 12)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(content, "PNG")
    return content.getvalue()


class Client:
    """Requests to an application in this process, whose lifespan is open."""

    def __init__(self, model: Served, **options) -> None:
        self.model = model
        self.app = application({"first": model, "second": Mean()}, **options)

    def run(self, *requests, at_once: bool = False) -> list[httpx.Response]:
        """Each request is (method, path, arguments of httpx)."""

        async def all_of_them() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with (
                self.app.router.lifespan_context(self.app),
                httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
            ):
                asked = [client.request(method, path, **more) for method, path, more in requests]
                return list(await asyncio.gather(*asked)) if at_once else [await one for one in asked]

        return asyncio.run(all_of_them())

    def one(self, method: str, path: str, **more) -> httpx.Response:
        return self.run((method, path, more))[0]


@pytest.fixture
def client() -> Client:
    return Client(Mean())


def test_all_kinds_of_bodies_get_the_same_answer(client):
    text = base64.b64encode(png()).decode()
    expected = [{"class": "blue jay", "probability": pytest.approx(0.8)}]
    for body in (
        {"files": {"image": ("a.png", png())}},
        {"json": {"image": text}},
        {"json": {"images": [f"data:image/png;base64,{text}"]}},
        {"content": png(), "headers": {"content-type": "image/png"}},
        {"content": png(), "headers": {"content-type": "application/octet-stream"}},
    ):
        answer = client.one("POST", "/predict?top=1", **body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == "first"
        assert answer.json()["results"][0]["predictions"] == expected
    several = client.one("POST", "/predict", files=[("image", (f"{i}.png", png(i))) for i in (0, 255)]).json()
    assert [one["image"] for one in several["results"]] == ["0.png", "255.png"]
    assert [one["predictions"][0]["class"] for one in several["results"]] == ["blue jay", "red fox"]


def test_requests_at_once_are_computed_together(client):
    requests = [("POST", "/predict", {"files": {"image": png(i)}}) for i in range(60)]
    answers = client.run(*requests, at_once=True)
    for i, answer in enumerate(answers):
        found = {one["class"]: one["probability"] for one in answer.json()["results"][0]["predictions"]}
        assert found["red fox"] == pytest.approx(i / 255)
    assert sum(client.model.batches) == 60
    assert len(client.model.batches) < 30


BAD = [
    ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
    ({"content": b"\xff\xfe", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
    ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "no JSON"),
    ({"json": []}, 422, "JSON object"),
    ({"json": {}}, 422, "base64"),
    ({"json": {"images": []}}, 422, "1 to 64 pictures"),
    ({"json": {"images": ["x"] * 65}}, 422, "base64|1 to 64"),
    ({"json": {"images": 3}}, 422, "base64"),
    ({"json": {"image": 3}}, 422, "must be a text"),
    ({"json": {"image": "/etc/passwd"}}, 422, "base64|picture"),
    ({"json": {"image": "file:///etc/passwd"}}, 422, "base64"),
    ({"json": {"image": "http://localhost/a.png"}}, 422, "base64"),
    ({"json": {"image": ""}}, 422, "empty"),
    ({"json": {"image": "AAAA"}}, 422, "no picture"),
    ({"data": {"image": "text"}}, 415, "multipart"),
    ({"files": {"image": ("a.png", b"")}}, 422, "empty"),
    ({"files": {"image": ("a.png", b"no picture")}}, 422, "no picture"),
    ({"files": {"image": ("a.png", png()[:40])}}, 422, "cannot be decoded|no picture"),
    ({"files": {"image": ("../../a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n")}}, 422, "no picture"),
    ({"files": [("image", ("a.png", png()))] * 65}, 400, "[Tt]oo many files"),
    ({"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "cut short"),
    ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
    ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "Expected multipart"),
    ({"content": b"x"}, 415, "Expected multipart"),
    ({"content": b"", "headers": {"content-type": "image/png"}}, 422, "empty"),
    ({"content": bytes(1001 * 1024), "headers": {"content-type": "image/png"}}, 413, "more than 1,024,000 bytes"),
    ({"files": {"image": png(size=(2000, 1000))}}, 422, "2,000,000 pixels; at most 1,000,000"),
    ({"files": {"image": png(size=(3000, 2))}}, 422, "too long and narrow"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), BAD)
def test_a_bad_body_is_refused_in_a_sentence(body, status, sentence):
    client = Client(Mean(), limits=Limits(body=1000 * 1024, pixels=1_000_000))
    answer = client.one("POST", "/predict", **body)
    assert answer.status_code == status, answer.text
    assert re.search(sentence, answer.json()["error"]), answer.json()
    assert "Traceback" not in answer.text


def test_a_form_that_was_cut_short_loses_no_picture_in_silence(client):
    whole = httpx.Request("POST", "http://a", files=[("image", (name, png())) for name in "ab"])
    for end, status in ((30, 400), (3, 400), (2, 200)):  # the end of the last line alone may be missing
        body = {"content": whole.read()[:-end], "headers": {"content-type": whole.headers["content-type"]}}
        answer = client.one("POST", "/predict", **body)
        assert (answer.status_code, "cut short" in answer.text) == (status, status == 400)


def test_hundreds_of_damaged_bodies_are_answered_and_the_next_good_one_as_well(client):
    draw = np.random.default_rng(0)
    bodies = []
    for i in range(300):
        content = bytearray(png(i % 256) if i % 2 else json.dumps({"image": "iVBORw0KGgo" * 9}).encode())
        for place in draw.integers(0, len(content), 6):
            content[place] = draw.integers(256)
        kinds = ("image/png", "application/json", "multipart/form-data; boundary=abc")
        cut = bytes(content[: draw.integers(len(content) + 1)])
        bodies.append({"content": cut, "headers": {"content-type": kinds[i % 3]}})
    bodies.append({"files": {"image": png()}})
    *answers, last = client.run(*(("POST", "/predict", body) for body in bodies))
    assert {answer.status_code // 100 for answer in answers} <= {2, 4}
    assert sum(answer.status_code // 100 == 4 for answer in answers) > 250
    assert last.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/predict?model=third", 404),
        ("POST", "/predict?top=0", 422),
        ("POST", "/predict?top=x", 422),
        ("GET", "/predict", 405),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/docs", 404),
        ("GET", "/classes?model=%00", 404),
    ],
)
def test_other_questions_are_refused(client, method, path, status):
    answer = client.one(method, path, **({"files": {"image": png()}} if method == "POST" else {}))
    assert answer.status_code == status
    assert answer.json()["error"]


def test_classes_are_told_and_set(client):
    told, changed, after = client.run(
        ("GET", "/classes", {}),
        ("PUT", "/classes", {"json": {"classes": ["lynx", "puma"]}}),
        ("POST", "/predict", {"files": {"image": png()}}),
    )
    assert told.json() == {
        "model": "first",
        "classes": list(NAMES),
        "changeable": True,
        "models": ["first", "second"],
    }
    assert changed.json()["classes"] == ["lynx", "puma"]
    assert after.json()["results"][0]["predictions"][0]["class"] == "puma"
    for wrong in ([], [1], [" "], ["a", "a"], "ab", None):
        assert client.one("PUT", "/classes", json={"classes": wrong}).status_code == 422
    assert client.one("PUT", "/classes", json={"classes": ["a"], "template": 3}).status_code == 422


@pytest.mark.filterwarnings("ignore:.*validation images")
def test_a_run_speaks_of_other_classes_where_its_method_can(dataset, tiny_clip):
    served = ServedRun(cliptune.build("coop", tiny_clip, dataset.class_names).adapter)
    image = picture((200, 30, 30), (50, 40), seed=0)
    content = io.BytesIO()
    image.save(content, "PNG")
    client = Client(served)
    body = {"files": {"image": content.getvalue()}}
    before, _, after, bad, long = client.run(
        ("POST", "/predict", body),
        ("PUT", "/classes", {"json": {"classes": ["wolf", "bear"]}}),
        ("POST", "/predict", body),
        ("PUT", "/classes", {"json": {"classes": ["wolf"], "template": "without a place"}}),
        ("PUT", "/classes", {"json": {"classes": ["word " * 100]}}),
    )
    adapter = cliptune.build("coop", tiny_clip, dataset.class_names).adapter
    for answer, names in ((before, dataset.class_names), (after, ("wolf", "bear"))):
        expected = adapter.set_classes(names).logits([image]).softmax(-1)[0].tolist()
        found = {one["class"]: one["probability"] for one in answer.json()["results"][0]["predictions"]}
        assert [found[name] for name in names] == pytest.approx(expected, abs=1e-6)
    assert (bad.status_code, long.status_code) == (422, 422)
    assert served.class_names == ("wolf", "bear")
    probe = Client(ServedRun(cliptune.build("linear_probe", tiny_clip, dataset.class_names).adapter))
    assert probe.one("GET", "/classes").json()["changeable"] is False
    refused = probe.one("PUT", "/classes", json={"classes": ["wolf", "bear"]})
    assert refused.status_code == 409
    assert "cannot speak of other classes" in refused.json()["error"]


def test_a_token_is_asked_for_everywhere_but_on_the_page_and_health():
    client = Client(Mean(), token="a-token-of-some-length")
    given = {"authorization": "Bearer a-token-of-some-length"}
    assert [client.one("GET", path).status_code for path in ("/", "/health", "/classes", "/openapi.json")] == [
        200,
        200,
        401,
        401,
    ]
    for wrong in ("Bearer a-token-of-some-lengtH", "Bearer", "Basic a-token-of-some-length", "Bearer é"):
        headers = {"authorization": wrong.encode()}
        assert client.one("POST", "/predict", files={"image": png()}, headers=headers).status_code == 401
    assert client.one("POST", "/predict", files={"image": png()}, headers=given).status_code == 200
    assert "token" not in client.one("GET", "/openapi.json", headers=given).json().get("servers", "")


def test_no_page_elsewhere_can_borrow_the_server():
    client = Client(Mean(), hosts=("localhost", "127.0.0.1"))
    assert client.one("GET", "/health", headers={"host": "attacker.example"}).status_code == 400
    assert client.one("GET", "/health", headers={"host": "localhost:8000"}).status_code == 200
    page = client.one("GET", "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("http-equiv", "")  # nothing is fetched from elsewhere
    assert "access-control-allow-origin" not in page.headers


def test_openapi_describes_the_bodies(client):
    said = client.one("GET", "/openapi.json").json()
    bodies = said["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(bodies) == {"multipart/form-data", "application/json", "image/*"}
    assert set(said["paths"]) == {"/predict", "/classes", "/health"}


def test_an_answer_that_takes_too_long_is_given_up():
    model = Mean()
    model.hold.clear()
    threading.Timer(1.0, model.hold.set).start()
    client = Client(model, limits=Limits(seconds=0.2))
    answer = client.one("POST", "/predict", files={"image": png()})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_a_body_that_does_not_come_is_given_up():
    async def slow() -> bytes:
        yield b"x"
        await asyncio.sleep(5)
        yield b"y"

    client = Client(Mean(), limits=Limits(seconds=0.2))
    answer = client.one("POST", "/predict", content=slow(), headers={"content-type": "image/png"})
    assert answer.status_code == 408


def test_more_than_may_wait_is_refused():
    async def fill() -> None:
        model = Mean()
        model.hold.clear()
        batcher = Batcher(model.answer, most=1, waiting=2)
        batcher.start()
        picture = np.zeros((3, 8, 8), np.uint8)
        asked = [asyncio.ensure_future(batcher.ask(picture)) for _ in range(1)]
        await asyncio.sleep(0.05)
        asked += [asyncio.ensure_future(batcher.ask(picture)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Busy, match="waiting already"):
            await batcher.ask(picture)
        model.hold.set()
        await asyncio.gather(*asked)
        await batcher.stop()

    asyncio.run(fill())


def test_a_batch_waits_for_pictures_that_are_on_their_way():
    async def asked(arriving: int, failing: int, together: float) -> list[int]:
        model = Mean()
        batcher = Batcher(model.answer, together=together)
        batcher.start()
        leave = asyncio.Event()

        async def one(wait: bool, broken: bool = False) -> None:
            with batcher.expecting():
                if wait:
                    await leave.wait()
                if broken:
                    raise ValueError
            await batcher.ask(np.zeros((3, 8, 8), np.uint8))

        first = asyncio.create_task(one(False))
        others = [asyncio.create_task(one(True)) for _ in range(arriving)]
        others += [asyncio.create_task(one(True, broken=True)) for _ in range(failing)]
        for _ in range(20):  # the first was asked about, and the batch waits
            await asyncio.sleep(0)
        if together < 1:
            await first
        leave.set()
        await asyncio.gather(first, *others, return_exceptions=True)
        await batcher.stop()
        return model.batches

    assert asyncio.run(asked(3, 0, together=60)) == [4]
    assert asyncio.run(asked(40, 0, together=60)) == [32, 9]  # no batch has more
    assert asyncio.run(asked(0, 3, together=60)) == [1]  # what cannot be decoded comes never
    assert asyncio.run(asked(3, 0, together=0.01)) == [1, 3]  # those who are late are the next batch


def test_an_error_reaches_those_who_wait_and_no_others():
    async def ask() -> None:
        def answer(prepared: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
            if prepared.any():
                raise ValueError("odd")
            return NAMES, np.zeros((len(prepared), 2), np.float32)

        batcher = Batcher(answer)
        batcher.start()
        with pytest.raises(ValueError, match="odd"):
            await batcher.ask(np.ones((3, 8, 8), np.uint8))
        names, row = await batcher.ask(np.zeros((3, 8, 8), np.uint8))
        assert (names, row.tolist()) == (NAMES, [0, 0])
        await batcher.stop()

    asyncio.run(ask())


def test_pictures_are_turned_and_prepared_as_in_predict(tmp_path):
    image = picture((200, 30, 30), (50, 40), seed=0)
    exif = Image.Exif()
    exif[274] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    from cliptune.exported import pixels

    expected = pixels(cliptune.data.read_image(tmp_path / "a.jpg", exif=True), 32)
    assert np.array_equal(prepared((tmp_path / "a.jpg").read_bytes(), 32, 10**6, "Picture"), expected)
    assert from_base64(base64.b64encode(b"abc").decode(), "Picture") == b"abc"


def test_other_machines_need_a_token():
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    check_open("127.0.0.1", None, False)
    check_open("0.0.0.0", "x" * 16, False)
    check_open("0.0.0.0", None, True)
    with pytest.raises(ValueError, match="no token is set"):
        check_open("0.0.0.0", None, False)
    with pytest.raises(ValueError, match="at least 16"):
        check_open("127.0.0.1", "short", False)


def test_limits_must_be_above_zero_and_a_model_is_needed():
    with pytest.raises(ValueError, match="pixels must be above 0"):
        Limits(pixels=0)
    with pytest.raises(ValueError, match="at least one run"):
        application({})
