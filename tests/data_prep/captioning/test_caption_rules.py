"""Intervals, the second pass, coverage and wordings."""

import json
from dataclasses import replace

import numpy as np
import pytest
from avgen_data_prep.captioning import measured, wording
from avgen_data_prep.captioning.captioner import CaptionDraft, CaptionRequest, DraftEvent
from avgen_data_prep.captioning.compose import compose
from avgen_data_prep.captioning.coverage import Coverage, coverage
from avgen_data_prep.captioning.intervals import MOST_INTERVALS, Interval, Marks, Span, propose
from avgen_data_prep.captioning.template import TemplateCaptioner
from avgen_data_prep.captioning.verify import verify
from avgen_data_prep.worlds import WORLDS
from caption_clips import DURATION_US, KNOCKS_US, knocking, make_request
from hypothesis import given, settings
from hypothesis import strategies as st

from avgen.caption import Event, TimedCaption

SPOKEN = Marks(
    words=(
        Span(100_000, 300_000, "Watch"),
        Span(320_000, 400_000, "out!"),
        Span(1_500_000, 1_800_000, "No."),
    )
)


def full_draft(request: CaptionRequest, **changes: object) -> CaptionDraft:
    return replace(TemplateCaptioner().describe(request), **changes)  # type: ignore[arg-type]


def test_intervals_are_where_things_happen() -> None:
    request = make_request()
    onsets = [i for i in request.intervals if i.kind == "onset"]
    motions = [i for i in request.intervals if i.kind == "motion"]
    assert [i.start_us for i in onsets] == pytest.approx(KNOCKS_US, abs=20_000)
    for knock in KNOCKS_US:
        assert min(abs(i.start_us - knock) for i in motions) <= 80_000
    (shot,) = [i for i in request.intervals if i.kind == "shot"]
    assert (shot.start_us, shot.end_us) == (0, DURATION_US)
    assert shot.hint.startswith("a fairly lit picture, mostly red")
    assert "on the left" in motions[0].hint
    assert [i.id for i in request.intervals] == [f"e{n + 1}" for n in range(len(request.intervals))]


def test_shots_split_at_boundaries_inside_the_clip_only() -> None:
    marks = Marks(shots=(-500_000, 20_000, 900_000, 1_990_000, 5_000_000))
    shots = [i for i in make_request(marks=marks).intervals if i.kind == "shot"]
    assert [(i.start_us, i.end_us) for i in shots] == [(0, 900_000), (900_000, DURATION_US)]


def test_words_join_to_utterances_and_take_their_onsets() -> None:
    request = make_request(marks=SPOKEN)
    spoken = [i for i in request.intervals if i.kind == "words"]
    assert [(i.hint, i.start_us, i.end_us) for i in spoken] == [
        ("Watch out!", 100_000, 400_000),
        ("No.", 1_500_000, 1_800_000),
    ]
    around = Marks(words=(Span(400_000, 1_400_000, "hello"),))
    assert [i for i in make_request(marks=around).intervals if i.kind == "onset"] == []


def test_lasting_sound_is_an_interval_and_silence_is_none() -> None:
    clip = knocking(times_us=())
    assert {i.kind for i in make_request(clip).intervals} == {"shot"}
    hum = 0.1 * np.sin(np.arange(96_000) * 2 * np.pi * 100 / 48_000).astype(np.float32)
    (sound,) = [
        i for i in make_request(clip.replace(waveform=hum[None])).intervals if i.kind == "sound"
    ]
    assert (sound.track, sound.start_us, sound.end_us) == ("ambience", 0, DURATION_US)
    assert sound.hint == "lasting low sound"


def test_lasting_sound_is_what_the_tags_say() -> None:
    hum = 0.1 * np.sin(np.arange(96_000) * 2 * np.pi * 100 / 48_000).astype(np.float32)
    clip = knocking().replace(waveform=knocking().waveform + hum)  # type: ignore[operator]
    heard = {}
    for marks in (Marks(), Marks(music=True), Marks(speech=True), Marks(speech=True, words=())):
        request = make_request(clip, marks)
        texts = {e.interval: e.text for e in full_draft(request).events}
        heard[marks] = {(i.track, texts[i.id]) for i in request.intervals if i.track != "visual"}
    plain, music, speech, listened = heard.values()
    assert plain == listened
    lasting = [text for track, text in plain if track == "ambience"]
    assert len(lasting) == 1
    assert "loud" not in lasting[0]  # the hum is not, though the knocks over it are
    assert {track for track, _ in plain} == {"ambience", "sfx"}
    assert (music, speech) == ({("music", "music plays")}, {("speech", "someone speaks")})


def test_too_many_intervals_keep_the_strongest() -> None:
    cuts = tuple(n * 20_000 for n in range(4, 96))
    kept, weaker = propose(knocking(), DURATION_US, Marks(shots=cuts))
    assert len(kept) == MOST_INTERVALS
    assert weaker == 93 + len(make_request().intervals) - 1 - MOST_INTERVALS
    assert min(i.strength for i in kept) == 1.0


def test_presence_is_measured_or_unknown() -> None:
    assert make_request().presence() == {"sound": True, "speech": None, "music": None}
    assert make_request(marks=SPOKEN).presence()["speech"] is True
    assert make_request(marks=Marks(words=(), speech=True, music=False)).absent() == (
        "speech",
        "music",
    )
    assert make_request(knocking(sound=False)).absent() == ("sound",)


@pytest.mark.parametrize("amplitude", [1.0, 0.1, 0.001])
def test_level_is_that_of_a_tone(amplitude: float) -> None:
    tone = amplitude * np.sin(np.arange(96_000) * 2 * np.pi * 500 / 48_000).astype(np.float32)
    clip = knocking().replace(waveform=tone[None])
    expected = 20 * np.log10(amplitude / np.sqrt(2))
    assert measured.level_db(clip, 300_000, 800_000) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_template_accounts_for_whole_worlds(name: str) -> None:
    clip = WORLDS[name].render(3, duration=2.0).clip
    duration = round(clip.duration * 1e6)
    intervals, _ = propose(clip, duration, Marks())
    request = CaptionRequest(id="ab", clip=clip, duration_us=duration, intervals=intervals)
    draft, notes = verify(TemplateCaptioner().describe(request), request)
    caption = compose(draft, request, "template")[0].caption
    assert notes == []
    assert coverage(caption, request) == Coverage(1.0, ())
    assert {e.start_us for e in caption.events} == {i.start_us for i in intervals}
    truth = [e.start_us for e in clip.caption.events if e.track == "sfx"]  # type: ignore[union-attr]
    heard = [i.start_us for i in intervals if i.kind == "onset"]
    missed = [us for us in truth if min(abs(us - h) for h in heard) > 40_000]
    assert len(missed) <= 0.1 * len(truth)


def test_template_wordings_are_drawn_by_id() -> None:
    one = TemplateCaptioner(paraphrases=8).describe(make_request())
    same = TemplateCaptioner(paraphrases=8).describe(make_request())
    request = make_request()
    others = {TemplateCaptioner().describe(replace(request, id=f"{n:x}")).full for n in range(20)}
    assert one == same
    assert len({one.full, *one.paraphrases}) == 1 + len(one.paraphrases) > 3
    assert len(others) > 3
    assert len(one.short) < len(one.medium) < len(one.full)


def test_sound_in_silence_and_movement_in_a_still_are_dropped() -> None:
    request = make_request()
    lies = (
        Interval(id="x1", kind="onset", track="sfx", start_us=900_000, end_us=950_000, strength=1, hint="a sound"),
        Interval(id="x2", kind="motion", track="visual", start_us=900_000, end_us=950_000, strength=1, hint="a move"),
    )  # fmt: skip
    request = replace(request, intervals=(*request.intervals, *lies))
    checked, notes = verify(full_draft(request), request)
    assert {"x1", "x2"} & {e.interval for e in checked.events} == set()
    assert len(checked.events) == len(request.intervals) - 2
    assert notes[0].startswith("dropped x1")
    assert "silent there (-120 dB)" in notes[0]
    assert "the picture stands still there" in notes[1]


def test_speech_keeps_the_words_that_were_heard() -> None:
    request = make_request(marks=SPOKEN)
    first, second = (i.id for i in request.intervals if i.kind == "words")
    waveform = np.full((1, 96_000), 0.05, np.float32)
    request = replace(request, clip=request.clip.replace(waveform=waveform))
    events = (
        DraftEvent(interval=first, text='a man shouts: "watch out"'),
        DraftEvent(interval=second, text='a man says: "Yes."'),
    )
    checked, notes = verify(full_draft(request, events=events), request)
    assert [e.text for e in checked.events] == ['a man shouts: "watch out"', "No."]
    assert notes == [f"changed {second} 'a man says: \"Yes.\"': the words heard are 'No.'"]


def test_events_quote_no_words_that_were_not_heard() -> None:
    marks = Marks(words=(Span(100_000, 300_000, "come in"),))
    request = make_request(marks=marks)
    waveform = np.full((1, 96_000), 0.05, np.float32)
    request = replace(request, clip=request.clip.replace(waveform=waveform))
    ids = {kind: next(i.id for i in request.intervals if i.kind == kind) for kind in
           ("words", "onset", "shot")}  # fmt: skip

    def verified(request: CaptionRequest, **texts: str) -> tuple[dict[str, str], list[str]]:
        events = tuple(DraftEvent(interval=ids[kind], text=text) for kind, text in texts.items())
        checked, notes = verify(full_draft(request, events=events, full="x"), request)
        return {e.interval: e.text for e in checked.events}, notes

    told, notes = verified(
        request,
        words='a man says: "Come in. I have a gun."',
        onset='a woman shouts "Fire!"',
        shot='a man at a door says "Come in"',
    )
    onset = request.interval(ids["onset"])
    assert onset is not None
    assert told == {
        ids["words"]: "come in",
        ids["onset"]: f"a {onset.hint}",
        ids["shot"]: 'a man at a door says "Come in"',
    }
    assert notes == [
        f"changed {ids['words']} 'a man says: \"Come in. I have a gun.\"': the words heard are 'come in'",
        f"changed {ids['onset']} 'a woman shouts \"Fire!\"': nobody says 'Fire!'",
    ]
    unheard = replace(request, marks=Marks())
    shouted = 'a woman shouts "Fire!"'
    assert verified(unheard, onset=shouted) == ({ids["onset"]: shouted}, [])


def test_invented_quotes_and_absences_are_dropped() -> None:
    request = make_request(marks=SPOKEN)
    draft = full_draft(
        request,
        full='A man says "Watch out!" and "Run!".',
        medium='"Watch out!", a man says.',
        paraphrases=("“Never!” he cries.",),
        absent=("speech", "music"),
    )
    checked, notes = verify(draft, request)
    assert (checked.full, checked.medium, checked.paraphrases) == ("", draft.medium, ())
    assert checked.absent == ("music",)
    assert "dropped the absence of speech: it was heard" in notes
    assert "dropped the full text: nobody says 'Run!'" in notes
    assert compose(checked, request, "x")[0].kind == "medium"


def test_links_lead_back_in_time_and_never_in_a_circle() -> None:
    request = make_request()
    a, b = (i for i in request.intervals if i.kind == "onset")
    motion = next(i for i in request.intervals if i.kind == "motion")
    near = replace(motion, start_us=a.start_us + 40_000, end_us=a.end_us)
    request = replace(request, intervals=(a, near, b))

    def links(*causes: str | None) -> dict[str, str | None]:
        ids = (a.id, near.id, b.id)
        events = tuple(
            DraftEvent(interval=i, text="thing", cause=c) for i, c in zip(ids, causes, strict=True)
        )
        return {
            e.interval: e.cause
            for e in verify(full_draft(request, events=events), request)[0].events
        }

    assert links(near.id, None, a.id) == {a.id: near.id, near.id: None, b.id: a.id}
    assert links(b.id, None, None) == {a.id: None, near.id: None, b.id: None}
    assert links(a.id, "e77", None) == {a.id: None, near.id: None, b.id: None}
    circle = links(near.id, a.id, None)
    assert sorted(map(bool, circle.values())) == [False, False, True]


@settings(max_examples=60)
@given(data=st.data())
def test_second_pass_and_times(data: st.DataObject) -> None:
    """Whatever a draft says, its events take place in measured intervals, and make a valid caption."""
    request = _REQUEST
    names = st.sampled_from([*(i.id for i in request.intervals), "e99", ""])
    event = st.builds(
        DraftEvent,
        interval=names,
        text=st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=12).map(str.strip),
        cause=st.none() | names,
        entity=st.none() | st.just("") | st.just("lamp"),
        onscreen=st.none() | st.booleans(),
    )
    draft = CaptionDraft(full="a wall", events=tuple(data.draw(st.lists(event, max_size=8))))
    checked, notes = verify(draft, request)
    (first, *_) = compose(checked, request, "x")
    spans = {i.id: (i.start_us, i.end_us) for i in request.intervals}
    assert all(spans[e.id or ""] == (e.start_us, e.end_us) for e in first.caption.events)
    assert len(draft.events) - len(checked.events) == sum(
        n.startswith(("dropped e", "dropped  ")) for n in notes
    )
    assert TimedCaption.from_json(first.caption.to_json()) == first.caption


_REQUEST = make_request()


def test_compose_joins_times_to_words() -> None:
    request = make_request()
    draft = full_draft(request, absent=("music",), short="Flashes.", medium="Flashes. No music.")
    wordings = compose(draft, request, "chat:m")
    assert [w.kind for w in wordings][:3] == ["full", "medium", "short"]
    assert wordings[0].caption.text.endswith("There is no music.")
    assert wordings[1].caption.text == "Flashes. No music."
    assert wordings[2].caption.text == "Flashes."
    assert {w.caption.events for w in wordings} == {wordings[0].caption.events}
    assert {e.provenance for e in wordings[0].caption.events} == {"chat:m"}
    assert CaptionDraft.from_dict(json.loads(json.dumps(draft.to_dict()))) == draft


def test_off_screen_sounds_say_so_once() -> None:
    request = make_request()
    a, b = (i.id for i in request.intervals if i.kind == "onset")
    shot = next(i.id for i in request.intervals if i.kind == "shot")
    events = (
        DraftEvent(interval=a, text="a knock", onscreen=False),
        DraftEvent(interval=b, text="a knock out of sight", onscreen=False),
        DraftEvent(interval=shot, text="a wall", onscreen=False),
    )
    caption = compose(full_draft(request, events=events), request, "x")[0].caption
    texts = {e.id: e.text for e in caption.events}
    assert texts == {a: "a knock, off screen", b: "a knock out of sight", shot: "a wall"}


def test_coverage_falls_with_each_thing_left_out() -> None:
    marks = replace(SPOKEN, music=False)
    request = make_request(marks=marks)
    complete = compose(verify(full_draft(request), request)[0], request, "x")[0].caption
    # The words of the marks lie where the clip is silent, so the second pass takes them out.
    spoken = tuple(
        Event(start_us=i.start_us, end_us=i.end_us, track="speech", text=f'a man: "{i.hint}"')
        for i in request.intervals
        if i.kind == "words"
    )
    whole = complete.replace(events=(*complete.events, *spoken))
    assert coverage(whole, request).score == 1.0

    def without(*tracks: str) -> TimedCaption:
        return whole.replace(events=tuple(e for e in whole.events if e.track not in tracks))

    unheard = coverage(without("sfx"), request)
    assert unheard.score == pytest.approx(1 - 1 / 5)
    assert [m.split(" e")[0] for m in unheard.missing] == ["onset", "onset"]
    unseen = coverage(without("visual"), request)
    assert unseen.missing[0].endswith("no event tells what is seen")
    unsaid = coverage(without("speech"), request)
    assert unsaid.missing[0].endswith("no speech event quotes 'Watch out!'")
    mute = coverage(whole.replace(text="A red wall."), request)
    assert mute.missing == ("the text does not say: no music",)
    timed = whole.replace(text=f"{whole.text} At 0:03 a bell rings.")
    assert coverage(timed, request).missing == (
        "the text of the whole tells a time ('0:03'); times belong to events",
    )
    assert coverage(without("sfx", "visual", "speech").replace(text=""), request).score < 0.2


def test_an_event_over_the_whole_clip_explains_no_onset() -> None:
    request = make_request()
    for track, missed in (("sfx", 2), ("ambience", 2), ("music", 0)):
        events = (Event(start_us=0, end_us=DURATION_US, track=track, text="noise"),)  # type: ignore[arg-type]
        caption = TimedCaption(duration_us=DURATION_US, text="x", events=events)
        found = coverage(caption, request).missing
        assert sum(m.startswith("onset") for m in found) == missed


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("a bang at 0:03", "0:03"),
        ("a bang after 1.5 s", "1.5 s"),
        ("waits for two seconds", "for two seconds"),
        ("frame 12 shows", "frame 12"),
        ("a bang 200 ms later", "200 ms"),
        ("two men and 3 dogs", None),
        ("a second man, the first minute hand", None),
        ('a sign; he says "at 10:30 in 5 seconds"', None),
        ("1 swing", None),
        ("a bang 2s in", "2s"),
        ("a bang 10s in", "10s"),
        ("a bang at 1.5s", "1.5s"),
        ("a 1960s kitchen", None),
        ("music of the 1990s, 3s of it", "3s"),
        ("a woman in her 30s", None),
        ("it lasts 30 s", "30 s"),
    ],
)
def test_times_in_texts(text: str, time: str | None) -> None:
    assert wording.times_in(text) == time


@pytest.mark.parametrize(
    ("text", "what", "stated"),
    [
        ("There is no speech and no music.", "music", True),
        ("There is no speech and no music.", "speech", True),
        ("It plays without speech, effects or music.", "music", True),
        ("No voices are heard.", "speech", True),
        ("Nobody speaks.", "speech", True),
        ("Without any music.", "music", True),
        ("The video is silent.", "sound", True),
        ("No people; loud music plays.", "music", False),
        ("No people, loud music plays.", "music", False),
        ("Music plays.", "music", False),
        ("a casino music hall", "music", False),
        ("There is no speech.", "music", False),
    ],
)
def test_stated_absences(text: str, what: str, stated: bool) -> None:
    assert wording.states_absence(text, what) is stated


@given(st.text(max_size=40), st.sampled_from([("sound",), ("speech", "music"), ("music",)]))
def test_added_absences_are_stated(text: str, absent: tuple[str, ...]) -> None:
    told = wording.with_absences(text, absent)
    assert all(wording.states_absence(told, what) for what in absent)
    assert wording.with_absences(told, absent) == told


def test_quotes_are_compared_by_their_words() -> None:
    assert wording.holds('she says "Watch out!"', "watch  out")
    assert not wording.holds("watches out", "watch out")
    assert not wording.holds("watch him out", "watch out")
    assert wording.quotes('he says “Run”, then "…"') == ["Run"]


@pytest.mark.parametrize(
    ("text", "quote", "held"),
    [
        ("你 好 世界", "你好世界", True),
        ("你好世界", "你 好", True),
        ("她说“你好”。", "你好", True),
        ("你好世界", "你界", False),
        ("你 世界 好", "你好", False),
        ("こんにちは 世界", "こんにちは世界", True),
        ("สวัสดี ครับ", "สวัสดีครับ", True),
        ("我用 Python 写", "我用Python写", True),
        ("안녕 하세요", "안녕하세요", False),
        ("watch out", "watchout", False),
    ],
)
def test_scripts_without_spaces_are_compared_without_them(
    text: str, quote: str, held: bool
) -> None:
    assert wording.holds(text, quote) is held
