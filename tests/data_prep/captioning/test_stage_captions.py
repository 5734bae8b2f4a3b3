import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from avgen_data_prep.captioning import chat
from avgen_data_prep.pipeline.spec import PipelineError, parse
from avgen_data_prep.pipeline.stage import Row, Split, StageError
from avgen_data_prep.pipeline.work import Work
from avgen_data_prep.scan import scan
from avgen_data_prep.stages.captions import Captions
from caption_clips import DURATION_US, KNOCKS_US, knocking
from caption_server import ChatServer, completion, written

from avgen import media
from avgen.caption import Event, TimedCaption

SOURCE_US = 5_000_000
START_US = 2_000_000


@pytest.fixture(autouse=True)
def fresh() -> None:
    chat._passed.cache_clear()


class Corpus:
    """One source, and the clip cut from it from two seconds on."""

    def __init__(self, folder: Path, embedded: TimedCaption | None = None):
        (folder / "media").mkdir()
        self.work = Work(folder / "media", folder / "run")
        self.clip_id = "ab" * 12
        media.write(folder / "media" / "talk.mp4", knocking().replace(caption=embedded))
        path = self.work.clip_file(self.clip_id)
        path.parent.mkdir(parents=True)
        media.write(path, knocking())

    def beside(self, name: str, text: str) -> "Corpus":
        (self.work.sources / name).write_text(text)
        return self

    def row(self, **columns: Any) -> Row:
        (file,), _ = scan(self.work.sources, self.work.folder)
        times = {"start_us": START_US, "duration_us": DURATION_US, "sound_shift_us": 0}
        shots = {"shot_us": [0, 1_000_000, SOURCE_US]}
        return {**file.row(), "id": self.clip_id, **times, **shots, **columns}

    def measure(self, stage: Captions, **columns: Any) -> tuple[list[TimedCaption], Row]:
        found = stage.measure(self.row(**columns), self.work)
        assert set(found) == set(stage.writes.names)
        return [TimedCaption.from_json(item) for item in json.loads(found["captions"])], found


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def source_caption(**fields: Any) -> TimedCaption:
    events = (
        Event(start_us=500_000, end_us=900_000, track="sfx", text="before the clip"),
        Event(start_us=2_520_000, end_us=2_600_000, track="sfx", text="a  Knock — 1!", id="k"),
        Event(start_us=3_900_000, end_us=4_500_000, track="visual", text="over the end", cause="k"),
    )
    return TimedCaption(
        **{"duration_us": SOURCE_US, "text": "Two\nknocks.", "events": events, **fields}
    )


def test_template_by_default(corpus: Corpus) -> None:
    captions, row = corpus.measure(Captions())
    assert row["caption_source"] == "template"
    assert (row["caption_coverage"], row["caption_notes"]) == (1.0, [])
    assert len({c.text for c in captions}) == len(captions) >= 3
    assert len({c.events for c in captions}) == 1
    assert {c.duration_us for c in captions} == {DURATION_US}
    knocks = [e.start_us for e in captions[0].events if e.track == "sfx"]
    assert knocks == pytest.approx(KNOCKS_US, abs=20_000)
    provenance = json.loads(row["caption_provenance"])
    assert provenance["wordings"][:3] == ["full", "medium", "short"]
    assert provenance["version"] == 1
    assert corpus.measure(Captions())[1] == row


def test_sidecar_wins_and_is_verbatim(corpus: Corpus) -> None:
    paraphrase = source_caption(text="It knocks twice.")
    both = json.dumps([source_caption().to_dict(), paraphrase.to_dict()])
    captions, row = corpus.beside("talk.json", both).measure(Captions())
    assert row["caption_source"] == "sidecar"
    assert [c.text for c in captions] == ["Two\nknocks.", "It knocks twice."]
    times = [(e.start_us, e.end_us, e.text, e.cause) for e in captions[0].events]
    assert times == [
        (520_000, 600_000, "a  Knock — 1!", None),
        (1_900_000, 2_000_000, "over the end", "k"),
    ]
    assert any(note.startswith("onset e") for note in row["caption_notes"])
    assert row["caption_coverage"] < 1


def test_heard_events_of_a_sidecar_move_with_the_sound(corpus: Corpus) -> None:
    corpus.beside("talk.json", source_caption().to_json())
    captions, _ = corpus.measure(Captions(), sound_shift_us=-120_000)
    assert [e.start_us for e in captions[0].events] == [400_000, 1_900_000]


def test_subtitles_get_text_from_the_captioner(corpus: Corpus) -> None:
    corpus.beside("talk.srt", "1\n00:00:02,500 --> 00:00:03,000\nHello there\n")
    captions, row = corpus.measure(Captions())
    assert row["caption_source"] == "sidecar+template"
    assert [(e.track, e.text, e.start_us) for e in captions[0].events] == [
        ("speech", "Hello there", 500_000)
    ]
    assert captions[0].text.startswith("A video with sound.")


def test_text_file_gets_events_from_the_captioner(corpus: Corpus) -> None:
    captions, row = corpus.beside("talk.txt", "A red wall.\n").measure(Captions())
    assert row["caption_source"] == "sidecar+template"
    assert [c.text for c in captions] == ["A red wall."]
    assert {e.track for e in captions[0].events} == {"visual", "sfx"}


def test_sidecar_with_nothing_to_say_about_the_clip(corpus: Corpus) -> None:
    corpus.beside("talk.srt", "1\n00:00:00,500 --> 00:00:01,000\nHello there\n")
    assert corpus.measure(Captions())[1]["caption_source"] == "template"


def test_broken_sidecar_is_noted(corpus: Corpus) -> None:
    _, row = corpus.beside("talk.json", "{broken").measure(Captions())
    assert row["caption_source"] == "template"
    assert row["caption_notes"][0].startswith("talk.json: ")


def test_embedded_caption(tmp_path: Path) -> None:
    short = source_caption(duration_us=DURATION_US, events=source_caption().events[:1])
    corpus = Corpus(tmp_path, embedded=short)
    captions, row = corpus.measure(Captions(), start_us=0)
    assert (row["caption_source"], captions[0]) == ("embedded", short)


def test_chat(corpus: Corpus, server: ChatServer) -> None:
    stage = Captions(captioner="chat", options={"model": "m", "base_url": server.url})
    captions, row = corpus.measure(stage)
    assert row["caption_source"] == "chat:m"
    assert row["caption_coverage"] == 1.0
    provenance = json.loads(row["caption_provenance"])
    assert provenance["wordings"] == ["full", "medium", "short", "paraphrase"]
    assert provenance["parameters"]["model"] == "m"
    assert "127.0.0.1" not in row["caption_provenance"]
    assert len(provenance["prompt_sha256"]) == 64
    assert provenance["original"]["usage"]["total_tokens"] == 120
    knock = next(e for e in captions[0].events if e.track == "sfx")
    assert (knock.text, knock.provenance) == ("a dry knock, off screen", "chat:m")
    assert "There is no speech and no music." in captions[0].text


def test_words_and_scores_of_earlier_stages(corpus: Corpus) -> None:
    words = [{"start_us": 540_000, "end_us": 600_000, "text": "Ha!"}]
    stage = Captions(words="words", music="music_score")
    captions, row = corpus.measure(stage, words=words, music_score=0.1)
    (speech,) = [e for e in captions[0].events if e.track == "speech"]
    assert (speech.text, speech.start_us, speech.end_us) == ("Ha!", 540_000, 600_000)
    assert 'the words "Ha!"' in captions[0].text
    assert "no music" in captions[0].text
    assert "no speech" not in captions[0].text
    assert row["caption_coverage"] == 1.0
    unknown, _ = corpus.measure(stage, words=None, music_score=0.4)
    assert "no music" not in unknown[0].text
    assert "no speech" not in unknown[0].text


def test_low_coverage_falls_back_or_fails(corpus: Corpus, server: ChatServer) -> None:
    server.reply = lambda q: completion(json.dumps(written(q, events=[])))
    options = {"model": "m", "base_url": server.url}
    captions, row = corpus.measure(Captions(captioner="chat", options=options))
    assert row["caption_source"] == "template"
    assert captions[0].events
    assert row["caption_notes"][0].startswith(
        "captions of chat:m account for 0.33 of what was measured"
    )
    assert json.loads(row["caption_provenance"])["rejected"]["captioner"] == "chat:m"
    with pytest.raises(StageError, match=r"below min_coverage 0.9: shot e1 at 0.00 s: .*; onset e"):
        corpus.measure(Captions(captioner="chat", options=options, below="fail"))


def test_one_bad_answer_fails_its_clip_and_a_deaf_model_the_run(
    corpus: Corpus, server: ChatServer
) -> None:
    stage = Captions(
        captioner="chat", options={"model": "m", "base_url": server.url, "canary_rounds": 12}
    )
    server.reply = lambda _: completion("no")
    with pytest.raises(StageError, match="does not fit the schema"):
        corpus.measure(stage)
    chat._passed.cache_clear()
    server.deaf = True
    with pytest.raises(PipelineError, match="captions: the model does not hear the sound"):
        corpus.measure(stage)


def test_failing_server_stops_the_run_and_names_the_clip(
    corpus: Corpus, server: ChatServer
) -> None:
    options = {"model": "m", "base_url": server.url, "retries": 0}
    stage = Captions(captioner="chat", options=options)
    server.reply = lambda _: (500, {"error": {"message": "boom"}}, {})
    with pytest.raises(PipelineError, match=rf"status 500.*\(clip {corpus.clip_id} of talk.mp4\)$"):
        corpus.measure(stage)
    server.reply = lambda _: (413, {"error": {"message": "too large"}}, {})
    with pytest.raises(StageError, match="refuses the question with status 413"):
        corpus.measure(stage)


def test_key_changes_with_what_decides_the_words() -> None:
    def key(**options: Any) -> str:
        return Captions(captioner="chat", options={"model": "m", **options}).key()

    base = key()
    assert key(base_url="http://elsewhere/v1", timeout=3, retries=0) == base
    assert (
        len({base, key(model="n"), key(temperature=0.0), key(paraphrases=1), Captions().key()}) == 5
    )
    assert Captions(min_coverage=0.5).key() != Captions().key()


@dataclass(frozen=True, kw_only=True)
class Cutting(Split):
    """Writes the columns that captions read."""

    name: ClassVar[str] = "cutting"
    writes: ClassVar[pa.Schema] = pa.schema(
        [("shot_us", pa.list_(pa.int64()))]
        + [(name, pa.int64()) for name in ("start_us", "duration_us", "sound_shift_us")]
    )

    def split(self, row: Row, work: Work) -> list[Row]:
        raise NotImplementedError


def test_in_a_pipeline_file() -> None:
    captions = "captions: {captioner: chat, options: {model: m, retries: 1}}"
    pipeline = parse(f"stages: [class_path: test_stage_captions.Cutting, {captions}]")
    again = parse(pipeline.to_yaml())
    assert again.keys == pipeline.keys
    assert again.stages[-1] == pipeline.stages[-1]
    with pytest.raises(
        PipelineError, match=r"captions reads \['words'\], which no stage before it"
    ):
        parse("stages: [class_path: test_stage_captions.Cutting, captions: {words: words}]")


def test_stage_travels_between_processes() -> None:
    stage = Captions(words="words", options={"paraphrases": 3})
    copy = pickle.loads(pickle.dumps(stage))
    assert (copy, copy.reads, copy.key()) == (stage, stage.reads, stage.key())
    assert copy.reads[-1] == "words"
    assert Captions().reads == Captions.reads


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"captioner": "magic"}, "captioner is 'magic'; use template, chat, local"),
        ({"captioner": "chat"}, "options of captioner 'chat': .*model"),
        ({"options": {"colour": 1}}, "options of captioner 'template': .*colour"),
        ({"min_coverage": 2.0}, "min_coverage is 2.0; give 0 to 1"),
        ({"below": "ignore"}, "below is 'ignore'"),
    ],
)
def test_wrong_parameters(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Captions(**fields)
