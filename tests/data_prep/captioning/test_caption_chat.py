import contextlib
import dataclasses
import json
import socket
import sys
import time
from collections.abc import Callable

import pytest
from avgen_data_prep.captioning import canary, chat, parts
from avgen_data_prep.captioning import completion as completion_module
from avgen_data_prep.captioning.captioner import (
    CaptionerError,
    CaptionerUnavailableError,
    CaptionRequest,
)
from avgen_data_prep.captioning.chat import ChatCaptioner
from avgen_data_prep.captioning.completion import Server
from avgen_data_prep.captioning.compose import compose
from avgen_data_prep.captioning.verify import verify
from caption_clips import knocking, make_request
from caption_server import (
    ChatServer,
    beeps_heard,
    completion,
    intervals_of,
    samples,
    sensible,
    trickle,
    written,
)
from caption_server import parts as parts_of


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are kept, but short; what one test heard, the next does not know."""
    import openai._base_client

    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.02)
    chat._passed.cache_clear()
    completion_module._ANSWERED.clear()


def captioner(server: ChatServer, **options: object) -> ChatCaptioner:
    return ChatCaptioner(
        **{"model": "m", "base_url": server.url, "retries": 2, "timeout": 5, **options}
    )  # type: ignore[arg-type]


def test_right_answer(server: ChatServer, request_of_two_knocks: CaptionRequest) -> None:
    draft = captioner(server).describe(request_of_two_knocks)
    assert [e.interval for e in draft.events] == [i.id for i in request_of_two_knocks.intervals]
    assert draft.full.startswith("A plain red wall")
    assert draft.usage == {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    assert len(draft.prompt_sha256) == 64
    assert len(server.clips) == 1


def test_what_the_model_is_sent(server: ChatServer, request_of_two_knocks: CaptionRequest) -> None:
    captioner(server, num_frames=3, frame_size=32).describe(request_of_two_knocks)
    (question,) = server.clips
    pictures = parts_of(question, "image_url")
    assert len(pictures) == 3
    assert all(p["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/") for p in pictures)
    sound = samples(question)
    assert len(sound) == 32_000
    assert abs(sound[: int(0.5 * 16_000)]).max() < 0.01 < 0.3 < abs(sound).max()
    listed = {row["id"]: (row["from"], row["to"]) for row in intervals_of(question)}
    assert listed == {
        i.id: (i.start_us / 1e6, i.end_us / 1e6) for i in request_of_two_knocks.intervals
    }
    shape = question["response_format"]["json_schema"]
    assert shape["strict"] is True
    assert "start_us" not in json.dumps(shape)
    assert "video_url" not in json.dumps(question)


def test_key_comes_from_the_environment_and_stays_out_of_parameters(
    server: ChatServer, request_of_two_knocks: CaptionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_CAPTION_KEY", "s3cret")
    asking = captioner(server, api_key_variable="MY_CAPTION_KEY", temperature=0.5)
    asking.describe(request_of_two_knocks)
    assert set(server.authorisations) == {"Bearer s3cret"}
    assert "s3cret" not in str(asking.parameters())
    assert {"base_url", "retries", "timeout"} & set(asking.parameters()) == set()


def test_deaf_model_is_refused_before_any_clip(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    server.deaf = True
    # Three counts drawn from one to four are all two in 1 of 64 cases; twelve are in no case.
    with pytest.raises(
        CaptionerUnavailableError, match=r"the model does not hear the sound: [134] beeps"
    ):
        captioner(server, canary_rounds=12).describe(request_of_two_knocks)
    assert server.clips == []


def test_canary_is_asked_once(server: ChatServer, request_of_two_knocks: CaptionRequest) -> None:
    asking = captioner(server)
    asking.describe(request_of_two_knocks)
    asking.describe(request_of_two_knocks)
    assert (len(server.questions), len(server.clips)) == (5, 2)


@pytest.mark.parametrize("count", range(1, canary.MOST_BEEPS + 1))
def test_beeps_can_be_counted(count: int) -> None:
    part = parts.sound_part(canary.beeps(count), parts.SOUND_RATE)
    assert beeps_heard({"messages": [{"content": [part]}]}) == count


def test_model_without_hearing_is_shown_pictures_only(server: ChatServer) -> None:
    server.deaf = True
    request = make_request()
    draft = captioner(server, hears=False).describe(request)
    (question,) = server.questions
    assert parts_of(question, "input_audio") == []
    assert {row["track"] for row in intervals_of(question)} == {"visual"}
    told = {event.interval: event.text for event in draft.events}
    onset = next(i for i in request.intervals if i.kind == "onset")
    assert told[onset.id] == f"a {onset.hint}"
    assert set(told) == {i.id for i in request.intervals}
    rules, asked = question["messages"]
    assert "you are not given the sound" in rules["content"]
    assert "Its sound is not given to you." in asked["content"][0]["text"]
    assert "follows as a recording" not in asked["content"][0]["text"]


def test_model_without_hearing_is_not_believed_to_miss_sounds(server: ChatServer) -> None:
    def captions(asking: ChatCaptioner, request: CaptionRequest) -> list[str]:
        checked, _ = verify(asking.describe(request), request)
        return [wording.caption.text for wording in compose(checked, request, "chat:m")]

    unknown, silent = make_request(), make_request(knocking(sound=False))
    assert unknown.presence() == {"sound": True, "speech": None, "music": None}
    deaf, hearing = captioner(server, hears=False), captioner(server)
    assert not any("There is no" in text for text in captions(deaf, unknown))
    assert "There is no sound." in captions(deaf, silent)[0]
    assert "There is no speech and no music." in captions(hearing, unknown)[0]
    assert "Its sound follows as a recording" in str(server.clips[-1]["messages"][1])


def test_invented_interval_is_repaired(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    def inventing(question: dict) -> dict:
        event = {
            "interval": "e99",
            "text": "a dog",
            "cause": None,
            "entity": None,
            "onscreen": None,
        }
        return completion(json.dumps(written(question, events=[event])))

    server.replies = [inventing]
    draft = captioner(server).describe(request_of_two_knocks)
    assert "e99" not in {event.interval for event in draft.events}
    second = server.clips[1]["messages"]
    assert [m["role"] for m in second] == ["system", "user", "assistant", "user"]
    assert "'e99' is not one of" in second[-1]["content"]
    assert draft.usage["total_tokens"] == 240


def test_answer_that_moves_times_is_refused(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    def moving(question: dict) -> dict:
        answer = written(question)
        answer["events"][0] |= {"start_us": 0, "end_us": 5}
        return completion(json.dumps(answer))

    server.reply = moving
    with pytest.raises(CaptionerError, match=r"nor did the one before it: .*start_us"):
        captioner(server).describe(request_of_two_knocks)
    assert len(server.clips) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Sure! Here is the caption.", "not JSON"),
        ('{"full": "a wall", "events": [', "not JSON"),
        ('{"full": 3}', "required property"),
        ("[" * 3000, "not JSON"),
        (None, "not JSON"),
    ],
)
def test_wrong_answers_fail_after_one_repair(
    server: ChatServer, request_of_two_knocks: CaptionRequest, text: str | None, problem: str
) -> None:
    server.reply = lambda _: completion(text)
    with pytest.raises(CaptionerError, match=f"does not fit the schema.*{problem}"):
        captioner(server).describe(request_of_two_knocks)
    assert len(server.clips) == 2


def test_two_events_for_one_interval_are_refused(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    def doubling(question: dict) -> dict:
        events = written(question)["events"]
        return completion(json.dumps(written(question, events=[events[0], events[0]])))

    server.reply = doubling
    with pytest.raises(CaptionerError, match="two events for e1"):
        captioner(server).describe(request_of_two_knocks)


def test_endless_text_is_refused(server: ChatServer, request_of_two_knocks: CaptionRequest) -> None:
    server.reply = lambda q: completion(json.dumps(written(q, full="a wall, " * 2000)))
    with pytest.raises(CaptionerError, match="full has 15999 characters, above 8000"):
        captioner(server).describe(request_of_two_knocks)


def test_truncated_answer_gets_more_room_then_fails(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    cut = lambda q: completion('{"full": "a w', finish="length")  # noqa: E731
    server.replies = [cut]
    asking = captioner(server, max_tokens=500)
    assert asking.describe(request_of_two_knocks).full
    assert [q["max_tokens"] for q in server.clips] == [500, 2000]
    server.reply = cut
    with pytest.raises(CaptionerError, match="cut at 2000 tokens; raise max_tokens"):
        asking.describe(request_of_two_knocks)
    assert len(server.clips) == 4


def test_full_queue_is_tried_again(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    busy = lambda _: (429, {"error": {"message": "slow down"}}, {})  # noqa: E731
    server.replies = [busy, busy]
    assert captioner(server).describe(request_of_two_knocks).events
    assert len(server.clips) == 3
    server.reply = busy
    with pytest.raises(CaptionerUnavailableError, match=r"accepts no more requests.*slow down"):
        captioner(server).describe(request_of_two_knocks)


@pytest.mark.parametrize("status", [500, 502, 503])
def test_server_that_always_fails_is_no_fault_of_the_clip(
    server: ChatServer, request_of_two_knocks: CaptionRequest, status: int
) -> None:
    asking = captioner(server)
    asking.describe(request_of_two_knocks)
    server.reply = lambda _: (status, {"error": {"message": "out of memory"}}, {})
    with pytest.raises(
        CaptionerUnavailableError,
        match=rf"failed with status {status}, after 2 further attempts \(.*out of memory.*run again",
    ):
        asking.describe(request_of_two_knocks)
    assert len(server.clips) == 4


def slowly(question: dict) -> object:
    time.sleep(0.6)
    return sensible(question)


@pytest.mark.parametrize(
    ("reply", "tries", "problem"),
    [
        (slowly, 2, "no whole answer within 0.2 s, 2 times"),
        (lambda _: trickle, 1, "no whole answer within 0.2 s"),
    ],
)
def test_slow_answer_is_the_clips_fault_once_the_server_has_answered(
    server: ChatServer,
    request_of_two_knocks: CaptionRequest,
    reply: Callable[[dict], object],
    tries: int,
    problem: str,
) -> None:
    asking = captioner(server, timeout=0.2, retries=1, hears=False)
    server.reply = reply
    start = time.monotonic()
    with pytest.raises(CaptionerUnavailableError) as unknown:
        asking.describe(request_of_two_knocks)
    assert str(unknown.value) == (
        f"m at {server.url}: {problem}, nor any before; see that the server runs, or raise timeout, "
        "then run again: what is done is kept"
    )
    assert time.monotonic() - start < 3
    assert len(server.clips) == tries
    completion_module._ANSWERED.add(asking.server)
    with pytest.raises(CaptionerError) as slow:
        asking.describe(request_of_two_knocks)
    assert str(slow.value) == f"m: {problem}; raise timeout"


def test_any_whole_answer_shows_that_the_server_answers(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    asking = captioner(server, hears=False)
    server.reply = lambda _: completion("{", finish="length")
    with pytest.raises(CaptionerError, match="raise max_tokens"):
        asking.describe(request_of_two_knocks)
    assert asking.server in completion_module._ANSWERED


def test_connection_that_is_never_accepted_is_no_fault_of_the_clip(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    with socket.socket() as busy, contextlib.ExitStack() as waiting:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for _ in range(4):
            queued = waiting.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(busy.getsockname())
        url = f"http://127.0.0.1:{busy.getsockname()[1]}/v1"
        asking = captioner(server, base_url=url, timeout=0.3, retries=0, hears=False)
        completion_module._ANSWERED.add(asking.server)
        with pytest.raises(CaptionerUnavailableError, match=f"{url} cannot be reached"):
            asking.describe(request_of_two_knocks)


def test_answer_that_breaks_off_is_no_fault_of_the_clip(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    server.reply = lambda _: (200, b"{", {"Content-Length": "99", "Connection": "close"})
    with pytest.raises(CaptionerUnavailableError, match=r"the answer broke off .*run again"):
        captioner(server, hears=False).describe(request_of_two_knocks)


def test_nothing_listens(request_of_two_knocks: CaptionRequest) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asking = ChatCaptioner(model="m", base_url=f"http://127.0.0.1:{port}/v1", retries=1)
    with pytest.raises(
        CaptionerUnavailableError, match=rf"{port}/v1 cannot be reached.*start the server"
    ):
        asking.describe(request_of_two_knocks)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, CaptionerUnavailableError, "bad key.*OPENAI_API_KEY"),
        (402, CaptionerUnavailableError, "status 402: .*bad key"),
        (403, CaptionerUnavailableError, "bad key.*check model"),
        (404, CaptionerUnavailableError, "bad key.*check model"),
        (400, CaptionerError, "status 400.*bad key"),
        (413, CaptionerError, "refuses the question with status 413.*bad key"),
        (422, CaptionerError, "refuses the question with status 422.*bad key"),
    ],
)
def test_refusals(
    server: ChatServer,
    request_of_two_knocks: CaptionRequest,
    status: int,
    kind: type[Exception],
    words: str,
) -> None:
    server.reply = lambda _: (status, {"error": {"message": "bad key"}}, {})
    with pytest.raises(kind, match=words):
        captioner(server).describe(request_of_two_knocks)
    assert len(server.clips) == 1


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [3]}', b"null"]
)
def test_other_protocols(
    server: ChatServer, request_of_two_knocks: CaptionRequest, body: bytes
) -> None:
    server.reply = lambda _: (200, body, {})
    with pytest.raises(CaptionerError, match="not a chat completion"):
        captioner(server).describe(request_of_two_knocks)


def test_control_characters_do_not_reach_captions(
    server: ChatServer, request_of_two_knocks: CaptionRequest
) -> None:
    server.reply = lambda q: completion(json.dumps(written(q, short="a\x00 \ud800lamp\n flashes")))
    assert captioner(server).describe(request_of_two_knocks).short == "a lamp flashes"


def test_silent_video_sends_no_sound(server: ChatServer) -> None:
    captioner(server).describe(make_request(knocking(sound=False)))
    assert parts_of(server.clips[0], "input_audio") == []
    assert "It is silent." in server.clips[0]["messages"][1]["content"][0]["text"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": "localhost:8000"}, "base_url is 'localhost:8000'"),
        ({"base_url": "http://me:pw@host/v1"}, "a key in the environment"),
        ({"retries": -1}, "retries is -1"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"canary_rounds": 0}, "canary_rounds is 0"),
    ],
)
def test_wrong_options(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ChatCaptioner(model="m", **options)


@pytest.mark.parametrize("missing", ["openai", "jsonschema"])
def test_without_the_extra(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(CaptionerUnavailableError) as caught:
        captioner(server).describe(make_request())
    assert str(caught.value) == f"{missing} is not installed; pip install 'avgen[captions]'"


def test_server_takes_its_fields_from_the_captioner(server: ChatServer) -> None:
    names = {field.name for field in dataclasses.fields(Server)}
    assert names <= {field.name for field in dataclasses.fields(ChatCaptioner)}
