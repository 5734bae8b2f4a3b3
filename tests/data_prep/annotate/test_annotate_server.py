"""The annotation page's server without a browser: answers, refusals, ranges, edits at once."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from annotated_run import DURATION_US, IDS, PICTURE_ONLY, SOUND_ONLY, caption, make_run
from avgen_data_prep.annotate import annotations
from avgen_data_prep.annotate.clips import RunClips
from avgen_data_prep.annotate.curves import MOST_STEPS, curves
from avgen_data_prep.annotate.server import MOST_BYTES, AnnotationServer
from avgen_data_prep.annotate.server import run as run_server
from avgen_data_prep.build import build
from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.pipeline.pack import PackSource
from avgen_data_prep.pipeline.spec import PipelineError
from avgen_data_prep.pipeline.work import Work

from avgen.caption import Event
from avgen.clip import Clip
from avgen.data.dataset import MediaDataset

CLIP = IDS[0]
Ask = Callable[..., tuple[int, dict[str, str], bytes]]
KNOCK = Event(start_us=100_000, end_us=200_000, track="sfx", text="a knock", confidence=0.4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def none_annotated(run: Path) -> None:
    for path in (run / annotations.FOLDER).glob("*.json"):
        path.unlink()


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[AnnotationServer]:
    with AnnotationServer(run, port=0) as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        yield started
        started.shutdown()


@pytest.fixture
def ask(server: AnnotationServer) -> Ask:
    def request(
        method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named = {"Content-Type": "application/json", **named}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    return request


def body(*captions: Any, version: Any = "") -> bytes:
    items = [c if isinstance(c, dict) else c.to_dict() for c in captions]
    return json.dumps({"version": version, "captions": items}).encode()


def save(ask: Ask, sent: bytes, clip_id: str = CLIP) -> tuple[int, dict[str, Any]]:
    status, _, answer = ask("PUT", f"/api/clips/{clip_id}", sent)
    return status, json.loads(answer)


def load(ask: Ask, clip_id: str = CLIP) -> dict[str, Any]:
    status, _, answer = ask("GET", f"/api/clips/{clip_id}")
    assert status == 200
    return json.loads(answer)


def test_page_and_list(ask: Ask, run: Path) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/annotate.js", "text/javascript"),
        ("/annotate.css", "text/css"),
    ):
        status, headers, data = ask("GET", path)
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert b"http://" not in data.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in data
    annotations.write(run, IDS[1], [caption()], "")
    clips = json.loads(ask("GET", "/api/clips")[2])["clips"]
    assert [clip["id"] for clip in clips] == list(IDS)
    assert [clip["annotated"] for clip in clips] == [False, True, False, False]
    assert clips[0]["source"] == "holiday/a.mp4"


def test_clips_are_listed_by_source_and_by_time_in_it(tmp_path: Path) -> None:
    rows = [("f", "b.mp4", 0), ("a", "a.mp4", 12_000_000), ("c", "a.mp4", 2_000_000)]
    told = [
        {"id": name, "source": source, "start_us": start, "duration_us": 5, "num_frames": start}
        for name, source, start in rows
    ]
    pq.write_table(pa.Table.from_pylist(told), tmp_path / MANIFEST)
    clips = RunClips(tmp_path)
    assert [(row["source"], row["start_us"]) for row in clips.listing()] == [
        ("a.mp4", 2_000_000),
        ("a.mp4", 12_000_000),
        ("b.mp4", 0),
    ]
    for name, source, start in rows:
        found = clips.clip(name)
        assert (found["id"], found["source"], found["num_frames"]) == (name, source, start)
    pq.write_table(pa.Table.from_pylist(told).drop_columns("start_us"), tmp_path / MANIFEST)
    with pytest.raises(PipelineError, match=r"lacks \['start_us'\]; run a pipeline with `cut`"):
        RunClips(tmp_path)


@pytest.mark.parametrize(
    ("host", "local", "known", "strange"),
    [
        ("127.0.0.1", True, ("127.0.0.1:1", "localhost:1", "LOCALHOST"), ("10.0.0.7:1",)),
        ("localhost", True, ("127.0.0.1:1", "localhost:1"), ("10.0.0.7:1",)),
        ("127.0.0.2", True, ("127.0.0.2:1", "localhost"), ("127.0.0.1:1",)),
        ("0.0.0.0", False, ("10.0.0.7:1", "127.0.0.1", "localhost:1"), ("10.0.0.7.example.org",)),
    ],
)
def test_only_its_own_names_reach_a_server(
    run: Path, host: str, local: bool, known: tuple[str, ...], strange: tuple[str, ...]
) -> None:
    with AnnotationServer(run, host, port=0) as made:
        assert made.local == local
        assert [name for name in known if not made.is_named(name)] == []
        others = (*strange, "", "example.org", "example.org:1", "localhost.example.org")
        assert [name for name in others if made.is_named(name)] == []


def test_another_site_cannot_rebind_into_a_server_of_all_interfaces(run: Path) -> None:
    with AnnotationServer(run, "0.0.0.0", port=0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        answers = []
        for host in ("127.0.0.1", "example.org"):
            connection = http.client.HTTPConnection("127.0.0.1", made.server_port, timeout=20)
            connection.request("GET", "/api/clips", headers={"Host": f"{host}:{made.server_port}"})
            answer = connection.getresponse()
            answers.append((answer.status, answer.read().decode()))
            connection.close()
        made.shutdown()
    assert [status for status, _ in answers] == [200, 421]
    assert "this server is not 'example.org:" in answers[1][1]
    assert "start it with that name as --host" in answers[1][1]


def test_a_saved_caption_comes_back_as_a_persons(ask: Ask, run: Path) -> None:
    given = load(ask)
    assert (given["version"], given["annotated"], given["fps"]) == ("", False, [25, 1])
    assert any(
        "confidence" in e or e["provenance"] != "human" for e in given["captions"][0]["events"]
    )
    status, answer = save(ask, body(caption("Somebody knocks.", KNOCK), caption("A knock.", KNOCK)))
    assert status == 200
    now = load(ask)
    assert (now["annotated"], now["version"]) == (True, answer["version"])
    knock = KNOCK.replace(confidence=None, provenance="human")
    wanted = (caption("Somebody knocks.", knock), caption("A knock.", knock))
    assert annotations.read(run, CLIP) == wanted
    assert [c["text"] for c in now["captions"]] == ["Somebody knocks.", "A knock."]
    text = (run / "annotations" / f"{CLIP}.json").read_text()
    assert [item["schema"] for item in json.loads(text)] == ["avgen.caption/1"] * 2
    assert load(ask, IDS[1])["annotated"] is False


def test_two_tabs_cannot_undo_each_others_work(ask: Ask, run: Path) -> None:
    _, first = save(ask, body(caption("first")))
    status, second = save(ask, body(caption("of a tab that saw none")))
    assert status == 409
    assert "saved from another page" in second["error"]
    assert annotations.read(run, CLIP) == (caption("first"),)
    assert save(ask, body(caption("second"), version=first["version"]))[0] == 200
    assert save(ask, body(caption("late"), version=first["version"]))[0] == 409
    assert annotations.read(run, CLIP) == (caption("second"),)


def test_of_saves_at_once_one_wins_whole(ask: Ask, run: Path) -> None:
    bodies = [body(caption(f"tab {n} " + "x" * 20_000)) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        statuses = [status for status, _ in pool.map(lambda sent: save(ask, sent), bodies)]
    assert sorted(statuses) == [200] + [409] * 7
    kept = annotations.read(run, CLIP)
    assert kept is not None
    assert kept[0].text.startswith(f"tab {statuses.index(200)} x")
    assert [p.name for p in (run / "annotations").iterdir() if p.name != ".lock"] == [
        f"{CLIP}.json"
    ]


LATE = {"start_us": 0, "end_us": DURATION_US + 1, "track": "sfx", "text": "too long"}
GOOD = {"start_us": 0, "end_us": 1000, "track": "sfx", "text": "fine"}


@pytest.mark.parametrize(
    ("events", "event", "field", "words"),
    [
        ([GOOD, LATE], 1, "end_us", "at most the caption's duration_us = 2000000"),
        ([GOOD, {**GOOD, "start_us": 2000}], 1, "end_us", "must come after start_us = 2000"),
        ([{**GOOD, "text": " "}], 0, "text", "give a non-empty string"),
        ([{**GOOD, "track": "smell"}], 0, "track", "use one of visual, camera"),
        ([GOOD, {**GOOD, "start_us": 0.5}], 1, "start_us", "integer microseconds"),
        ([{**GOOD, "cause": "e9"}], 0, "cause", "name the id of another event"),
        ([GOOD, 7], 1, "event", "give an object"),
        ([{**GOOD, "colour": "red"}], 0, "colour", "no such field"),
        ([{**GOOD, "text": "\ud800"}], 0, "text", "control characters"),
    ],
)
def test_a_wrong_event_is_named(
    ask: Ask, run: Path, events: list[Any], event: int, field: str, words: str
) -> None:
    status, answer = save(ask, body({**caption().to_dict(), "events": events}))
    assert status == 400
    assert (answer["event"], answer["field"], answer["caption"]) == (event, field, 0)
    assert words in answer["error"]
    assert annotations.read(run, CLIP) is None


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe\xfa", "no JSON"),
        (b"[]", "must be"),
        (b'{"version": "", "captions": {}}', "must be"),
        (b'{"version": "", "captions": ["{}"]}', "must be objects"),
        (body(version=""), "0 captions; give 1 to 32"),
        (body(caption(), version=None), "must be"),
        (body({"text": "no schema"}), "schema"),
        (
            body({**caption().to_dict(), "duration_us": 5}),
            "duration_us is 5; the clip's is 2000000",
        ),
        (body(caption("  ")), "text is empty and there are no events"),
    ],
)
def test_wrong_requests_are_refused_with_reasons(
    ask: Ask, run: Path, sent: bytes, words: str
) -> None:
    status, answer = save(ask, sent)
    assert status == 400
    assert words in answer["error"]
    assert annotations.read(run, CLIP) is None


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        f"/api/clips/{'f' * 24}",
        "/api/clips/../../pipeline",
        "/api/clips/..%2f..%2fpipeline",
        "/clips/../manifest.mp4",
        "/clips/%2e%2e/%2e%2e/etc/passwd",
        f"/clips/{CLIP}.mp4/../../manifest.parquet",
        "/../annotate.js",
        "/page/annotate.js",
        "//etc/passwd",
        f"/clips/{'f' * 24}.mp4",
        f"/api/clips/{CLIP}/",
    ],
)
def test_unknown_paths_are_not_found(ask: Ask, path: str) -> None:
    status, headers, answer = ask("GET", path)
    assert status == 404
    assert headers["Content-Type"] == "application/json"
    assert json.loads(answer)["error"]
    assert ask("PUT", path, body(caption()))[0] == 404


def test_other_refusals(ask: Ask, server: AnnotationServer) -> None:
    path = f"/api/clips/{CLIP}"
    assert ask("PUT", path, body(caption()), Content_Type="text/plain")[0] == 415
    for method in ("POST", "DELETE", "PATCH", "OPTIONS"):
        assert ask(method, path)[0] == 405
    status, _, answer = ask("PUT", path, b" " * (MOST_BYTES + 1))
    assert status == 413
    assert f"at most {MOST_BYTES}" in json.loads(answer)["error"]
    assert ask("GET", "/", Host="example.org")[0] == 421
    assert ask("GET", "/", Host=f"localhost:{server.server_port}")[0] == 200
    assert ask("PUT", path, body(caption()), Origin="http://example.org")[0] == 403
    origin = f"http://127.0.0.1:{server.server_port}"
    assert ask("PUT", path, body(caption()), Origin=origin)[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (
            b"PUT /api/clips/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n",
            b"411",
        ),
        (b"PUT /api/clips/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", b"411"),
        (
            b"PUT /api/clips/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"411",
        ),
        (
            b"PUT /api/clips/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nshort",
            b"400",
        ),
        (b"GET / HTTP/1.1\r\n\r\n", b"421"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", b"400"),
    ],
)
def test_malformed_requests_end_with_4xx_and_the_server_lives(
    ask: Ask, server: AnnotationServer, sent: bytes, status: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert status in answer[:300]
    assert ask("GET", "/api/clips")[0] == 200


def test_ranges_of_a_clip(ask: Ask, run: Path) -> None:
    data = Work(Path(), run).clip_file(CLIP).read_bytes()
    size, path = len(data), f"/clips/{CLIP}.mp4"
    status, headers, whole = ask("GET", path)
    assert (status, whole, headers["Accept-Ranges"]) == (200, data, "bytes")
    for asked, first, last in (
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, size - 1),
        ("bytes=-50", size - 50, size - 1),
        (f"bytes=10-{size + 1000}", 10, size - 1),
        (f"bytes=-{size + 5}", 0, size - 1),
    ):
        status, headers, part = ask("GET", path, Range=asked)
        assert (status, part) == (206, data[first : last + 1]), asked
        assert headers["Content-Range"] == f"bytes {first}-{last}/{size}"
        assert int(headers["Content-Length"]) == last + 1 - first
    for asked in (f"bytes={size}-", "bytes=-0"):
        status, headers, part = ask("GET", path, Range=asked)
        assert (status, headers["Content-Range"], part) == (416, f"bytes */{size}", b"")
    for asked in ("bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "bytes=-", "bytes=x-"):
        assert ask("GET", path, Range=asked)[0] == 200
    status, headers, nothing = ask("HEAD", path)
    assert (status, int(headers["Content-Length"]), nothing) == (200, size, b"")


def test_a_missing_and_a_damaged_file(ask: Ask, run: Path) -> None:
    path = Work(Path(), run).clip_file(IDS[1])
    data = path.read_bytes()
    try:
        path.write_bytes(b"not a film at all")
        status, _, answer = ask("GET", f"/api/clips/{IDS[1]}/curves")
        assert status == 422
        assert IDS[1] in json.loads(answer)["error"]
        path.unlink()
        for place in (f"/clips/{IDS[1]}.mp4", f"/api/clips/{IDS[1]}/curves"):
            status, _, answer = ask("GET", place)
            assert status == 404
            assert "avgen prep run" in json.loads(answer)["error"]
    finally:
        path.write_bytes(data)
    assert ask("GET", f"/api/clips/{IDS[1]}/curves")[0] == 200


def test_a_damaged_annotation_is_neither_shown_nor_replaced(ask: Ask, run: Path) -> None:
    annotations.write(run, CLIP, [caption("work")], "")
    path = run / "annotations" / f"{CLIP}.json"
    path.write_text('[{"schema": "avgen.caption/1", "duration_us": 2000000, "text": "wo')
    status, _, answer = ask("GET", f"/api/clips/{CLIP}")
    assert status == 422
    assert "mend the file, or move it away" in json.loads(answer)["error"]
    assert save(ask, body(caption("over it")))[0] == 409
    assert path.read_text().endswith('"wo')
    with pytest.raises(PipelineError, match="mend the file"):
        annotations.read(run, CLIP)
    for name in ("../manifest", "", "x" * 81):
        with pytest.raises(PipelineError, match="is no clip's id"):
            annotations.read(run, name)


def test_curves_stand_where_sound_and_motion_are(tmp_path: Path) -> None:
    rate, fps, seconds = 48_000, 30, 5
    frames = np.full((fps * seconds, 32, 32, 3), 40, np.uint8)
    frames[97:] = 200
    waveform = np.zeros((2, rate * seconds), np.float32)
    at = 161_234  # in the second window, and not on a step
    waveform[1, at : at + 400] = 0.5 * np.sin(np.arange(400) / 3)
    Clip(frames=frames, fps=Fraction(fps), waveform=waveform, sample_rate=rate).save(
        tmp_path / "clip.mp4"
    )
    found = curves(tmp_path / "clip.mp4")
    wave, motion = found["wave"], found["motion"]
    assert len(wave["high"]) == len(wave["low"]) == pytest.approx(seconds / wave["step"], abs=1)
    assert len(wave["high"]) <= MOST_STEPS
    loudest = int(np.argmax(wave["high"]))
    assert loudest * wave["step"] == pytest.approx(at / rate, abs=0.012)
    assert max(wave["high"]) == pytest.approx(0.5, abs=0.1)
    assert min(wave["low"]) == pytest.approx(-0.5, abs=0.1)
    assert motion["step"] == pytest.approx(1 / fps)
    assert len(motion["values"]) == fps * seconds
    assert int(np.argmax(motion["values"])) == 97
    assert sum(value > 0.1 for value in motion["values"]) == 1


def test_curves_of_one_stream(run: Path) -> None:
    work = Work(Path(), run)
    assert curves(work.clip_file(PICTURE_ONLY))["wave"] is None
    assert curves(work.clip_file(SOUND_ONLY))["motion"] is None


def test_a_dataset_takes_the_persons_captions_and_is_packed_anew(run: Path, tmp_path: Path) -> None:
    first, before = build_jobs(run)
    knock = KNOCK.replace(confidence=None, provenance="human")
    annotations.write(run, CLIP, [caption("A person says.", KNOCK)], "")
    second, after = build_jobs(run)
    assert before != after
    assert build_jobs(run)[1] == after
    build(tmp_path / "out", second)
    dataset = MediaDataset(tmp_path / "out")
    told = {row["id"]: row for row in (dataset.provenance(i) for i in range(len(dataset)))}
    assert told[CLIP]["captions"] == (caption("A person says.", knock),)
    assert told[CLIP]["metadata"]["caption_source"] == "human"
    assert told[CLIP]["metadata"]["caption_coverage"] is None
    assert told[IDS[1]]["metadata"]["caption_source"] == "template"
    assert len(told[IDS[1]]["captions"]) == 4
    assert [row["captions"] for row in first.rows[1:]] == [
        row["captions"] for row in second.rows[1:]
    ]


def build_jobs(run: Path) -> tuple[PackSource, list[str]]:
    source = PackSource(run=run)
    return source, [job.key for job in source.jobs()]


def test_what_cannot_be_served_says_why(
    tmp_path: Path, run: Path, server: AnnotationServer
) -> None:
    with pytest.raises(PipelineError, match="give the folder of a run"):
        AnnotationServer(tmp_path, port=0)
    (tmp_path / MANIFEST).write_bytes(b"PAR1 not really")
    with pytest.raises(PipelineError, match="cannot be read"):
        AnnotationServer(tmp_path, port=0)
    with pytest.raises(PipelineError, match="give another --port"):
        AnnotationServer(run, port=server.server_port)
    with pytest.raises(PipelineError, match="port is 70000"):
        AnnotationServer(run, port=70_000)


def test_the_command_says_where_and_ends_quietly(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations.write(run, CLIP, [caption()], "")
    annotations.write(run, "e" * 24, [caption()], "")
    said: list[str] = []

    def interrupted(_: AnnotationServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AnnotationServer, "serve_forever", interrupted)
    assert run_server(run, port=0, say=said.append) == 0
    assert said[0].endswith("4 clips, 1 annotated")
    assert "e" * 24 in said[1]
    assert said[2].startswith("open http://127.0.0.1:")
