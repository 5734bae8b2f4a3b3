from itertools import pairwise

import numpy as np
import pytest
from avgen_data_prep.worlds import listen, look, raster, synthesis
from avgen_data_prep.worlds.motion import FLOOR, GRAVITY, LEFT_WALL, RIGHT_WALL, Flight, trace
from avgen_data_prep.worlds.palette import BACKGROUNDS, FLOORS, PALETTE
from avgen_data_prep.worlds.wording import listing, percent, place


def thrown(vx=0.5, vy=-0.6):
    start = Flight(0.0, 0.3, 0.4, vx, vy, False)
    return trace(start, 0.1, 0.1, 0.7, 6.0)


def test_free_fall_hits_the_floor_when_the_formula_says():
    path = trace(Flight(0.0, 0.5, 0.2, 0.0, 0.0, False), 0.1, 0.1, 0.5, 2.0)
    height = FLOOR - 0.1 - 0.2
    assert path.hits[0].time == pytest.approx(np.sqrt(2 * height / GRAVITY))
    assert path.hits[0].speed == pytest.approx(np.sqrt(2 * height * GRAVITY))


@pytest.mark.parametrize(("vx", "vy"), [(0.0, 0.0), (0.6, -1.2), (-0.4, 0.3)])
def test_paths_are_continuous_and_stay_inside(vx, vy):
    path = thrown(vx, vy)
    times = np.arange(0.0, 6.0, 0.001)
    x, y = path.positions(times)
    assert np.abs(np.diff(x)).max() < 0.002
    assert np.abs(np.diff(y)).max() < 0.004
    assert y.max() <= FLOOR - 0.1 + 1e-9
    assert x.min() >= LEFT_WALL + 0.1 - 1e-9
    assert x.max() <= RIGHT_WALL - 0.1 + 1e-9


def test_bodies_come_to_rest_after_few_hits():
    path = thrown()
    assert path.flights[-1].resting
    floor_hits = [hit for hit in path.hits if hit.surface == "floor"]
    assert len(floor_hits) < 8
    assert all(a.speed > b.speed for a, b in pairwise(floor_hits))
    x, y = path.positions(np.array([5.0, 5.9]))
    assert x[0] == x[1]
    assert y[0] == y[1] == pytest.approx(FLOOR - 0.1)


@pytest.mark.parametrize("centre", [(20.0, 20.0), (20.31, 19.87)])
def test_shapes_cover_their_area_wherever_they_are(centre):
    window = raster.follow(np.array([centre[0]]), np.array([centre[1]]), 9.0)
    forms = {
        np.pi * 64: raster.disc(window.x, window.y, 8.0),
        8 * 12.0: raster.box(window.x, window.y, 4.0, 6.0),
        8 * 12.0 - 0.01: raster.triangle(window.x, window.y, 8.0, 6.0),
        np.pi * 32: raster.ellipse(window.x, window.y, 8.0, 4.0),
    }
    for area, distance in forms.items():
        assert raster.coverage(distance).sum() == pytest.approx(area, rel=0.03)


def test_painting_at_the_edge_is_cut_not_wrapped():
    frames = raster.blank(2, 16, (0, 0, 0))
    window = raster.follow(np.array([0.0, 100.0]), np.array([0.0, 100.0]), 4.0)
    alpha = raster.coverage(raster.disc(window.x, window.y, 4.0))
    raster.paint(frames, window, alpha, np.array([255.0, 255.0, 255.0]))
    assert frames[0, 0, 0, 0] == 255
    assert not frames[0, 8:, 8:].any()
    assert not frames[1].any()


def test_voices_start_between_samples():
    def ramp(times):
        return times

    waveform = np.zeros(100)
    synthesis.mix_into(waveform, 1_000, 0.0105, 0.02, ramp)
    assert waveform[10] == 0.0
    assert waveform[11] == pytest.approx(0.0005, abs=1e-6)
    assert waveform[12] - waveform[11] == pytest.approx(0.001, abs=1e-6)
    assert not waveform[31:].any()


def test_modes_above_half_the_sample_rate_are_left_out():
    times = np.arange(2_000, dtype=np.float32) / 8_000
    body = synthesis.Modes((500.0, 6_000.0), (0.1, 0.1), (1.0, 1.0), 0.0)
    spectrum = np.abs(np.fft.rfft(synthesis.ring(times, body, 4_000.0)))
    assert np.argmax(spectrum) == pytest.approx(500 / 4, abs=1)
    assert spectrum[500:].max() < 0.05 * spectrum.max()


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_onsets_of_struck_bodies_are_found_within_5_ms(rate):
    noise = np.random.default_rng(0)
    waveform = np.zeros(2 * rate, dtype=np.float32)
    times = [0.2037, 0.5511, 0.9004, 1.3333, 1.71]
    for index, time in enumerate(times):
        body = synthesis.Modes((300.0 * (index + 1),), (0.1,), (1.0,), 0.2)
        voice = synthesis.impact(body, 0.2 + 0.1 * index, noise, rate)
        synthesis.mix_into(waveform, rate, time, body.length, voice)
    assert listen.onsets(waveform, rate) == pytest.approx(times, abs=0.005)


def test_steady_sounds_and_silence_have_no_onsets():
    times = np.arange(32_000) / 16_000
    noise = np.random.default_rng(1).standard_normal(32_000)
    assert listen.onsets(np.zeros(32_000), 16_000) == []
    assert listen.onsets(0.3 * np.sin(2 * np.pi * 440 * times), 16_000) == []
    assert listen.onsets(0.1 * noise, 16_000) == []


@pytest.mark.parametrize("pitch", [70.0, 133.3, 391.0])
def test_pitch_of_a_rich_tone(pitch):
    times = np.arange(16_000) / 16_000
    tone = sum(np.sin(2 * np.pi * pitch * k * times) / k for k in range(1, 8))
    found = listen.pitch(0.1 * np.asarray(tone), 16_000, np.array([0.3, 0.6]), 60.0, 450.0)
    assert found == pytest.approx([pitch, pitch], rel=0.01)
    assert np.isnan(listen.pitch(np.zeros(16_000), 16_000, np.array([0.5]), 60.0, 450.0)).all()


def test_palette_is_named_in_light_and_shade_and_greys_are_not():
    for index, colour in enumerate(PALETTE.values()):
        for shade in (1.0, 0.75, 0.5):
            frame = np.full((1, 8, 8, 3), np.asarray(colour) * shade)
            assert (look.name_colours(frame) == index).all()
        frame = np.full((1, 8, 8, 3), np.asarray(colour) * 0.7 + 0.3 * 255)
        assert (look.name_colours(frame) == index).all()
    for tone in (*BACKGROUNDS.values(), *FLOORS.values()):
        assert (look.name_colours(np.full((1, 8, 8, 3), np.asarray(tone))) == -1).all()


def test_blobs_have_a_centre_and_know_how_whole_they_are():
    mask = np.zeros((3, 20, 20), dtype=bool)
    mask[0, 4:8, 10:14] = True
    mask[1, 4:8, 10:14] = mask[1, 15:17, 0:8] = True
    blob = look.find_blob(mask)
    assert blob.area.tolist() == [16, 32, 0]
    assert blob.solid.tolist() == [1.0, 0.5, 0.0]
    assert (blob.x[0], blob.y[0]) == (12.0, 6.0)
    assert np.isnan(blob.x[2])
    assert np.isnan(blob.y[2])


def test_only_short_gaps_are_filled():
    gappy = np.array([np.nan, 0.0, np.nan, 2.0, np.nan, np.nan, np.nan, 6.0])
    assert look.fill_gaps(gappy, 2)[2] == 1.0
    assert np.isnan(look.fill_gaps(gappy, 2)[[0, 4, 5, 6]]).all()
    assert look.fill_gaps(gappy, 3)[5] == pytest.approx(4.0)
    assert np.isnan(look.fill_gaps(np.full(4, np.nan), 3)).all()


def test_a_kink_is_found_between_frames():
    times, kink = np.arange(30) / 25.0, 0.613
    path = 0.3 * times - 0.9 * np.maximum(0.0, times - kink)
    bends = look.find_bends(path, 25.0, reach=0.16, pull_before=0.0, pull_after=0.0)
    best = int(np.nanargmax(bends.gain))
    assert bends.times[best] == pytest.approx(kink, abs=0.006)
    assert bends.jump[best] == pytest.approx(-0.9, abs=0.05)
    assert bends.before[best] == pytest.approx(0.3, abs=0.05)


def test_free_fall_has_no_kink():
    times = np.arange(30) / 25.0
    path = 0.5 * GRAVITY * times**2 + 0.1 * times
    bends = look.find_bends(path, 25.0, reach=0.16, pull_before=GRAVITY, pull_after=GRAVITY)
    assert np.nanmax(np.abs(bends.jump)) < 1e-6


def test_places_in_words_and_numbers():
    assert place(0.1, 0.1) == "upper left"
    assert place(0.5, 0.4) == "middle centre"
    assert percent(0.312, 0.18) == "30,20"
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c"]) == "a, b and c"
