"""matcher.sound against a slow transcription of its own words, and what a patch does not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher.encoders.sound import shipped_sound_encoder
from matcher.sound import (
    BANDS,
    BINS,
    COLUMN_SECONDS,
    COLUMNS_A_PATCH,
    DEPTH,
    HALF_PATCH_SECONDS,
    LEAST_CHANGE,
    LEAST_LOUD,
    RATE_HZ,
    RAW_DIMENSIONS,
    ColumnStream,
    Patches,
    mel_bank,
    mel_columns,
    patches,
)

Floats = NDArray[np.float64]
Samples = NDArray[np.float32]
COLUMN = 1600


def talk(seed: int, seconds: float, rate_hz: int = RATE_HZ) -> Samples:
    """Voiced bursts with formants that move, at any rate the same sound (below 0.45 of the rate)."""
    rng = np.random.default_rng(seed)
    out = np.zeros(round(seconds * rate_hz))
    at = 0.02
    while at < seconds:
        length, pitch_hz = rng.uniform(0.12, 0.4), rng.uniform(110, 260)
        formants, slide = rng.uniform((300, 900, 2400), (850, 2300, 5000)), rng.uniform(-0.3, 0.3)
        first, last = math.ceil(at * rate_hz), min(out.size, math.floor((at + length) * rate_hz))
        t = np.arange(first, last) / rate_hz - at
        phase = 2 * np.pi * pitch_hz * (t + slide * t**2 / 2 / length)
        wave = np.zeros(t.size)
        for harmonic in range(1, int(5800 / pitch_hz / 1.3)):
            weight = sum(1 / (1 + ((harmonic * pitch_hz - f) / 150) ** 2) for f in formants)
            if harmonic * pitch_hz * 1.3 < 0.45 * rate_hz:
                wave += weight * np.sin(harmonic * phase + harmonic**2)
        out[first:last] += wave * np.sin(np.pi * t / length) ** 0.5
        at += length + rng.uniform(0.03, 0.25)
    return np.asarray(0.12 * out, np.float32)


# ---------------------------------------------------------------- by the words of the module, with loops


def mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def slow_weight(band: int, hz: float) -> float:
    """Of a triangle whose corners are even on the mel scale from 200 to 6,000 Hz."""
    steps = [mel(200) + k * (mel(6000) - mel(200)) / 65 for k in (band, band + 1, band + 2)]
    left, top, right = (700 * (10 ** (step / 2595) - 1) for step in steps)
    return max(0.0, (hz - left) / (top - left) if hz <= top else (right - hz) / (right - top))


def slow_columns(samples: Samples) -> Floats:
    weights = np.array([[slow_weight(b, k * 16000 / 1024) for k in range(513)] for b in range(64)])
    hann = np.array([math.sin(math.pi * n / 1024) ** 2 for n in range(1024)])
    columns = []
    # A column is whole when its last transform, which begins 1,280 samples after its first, is.
    for start in range(0, len(samples) - 1280 - 1024 + 1, 1600):
        logs = []
        for hop in range(5):
            frame = samples[start + 320 * hop :][:1024].astype(np.float64)
            power = np.abs(np.fft.fft(frame * hann)[:513]) ** 2 / (1024 * (hann**2).sum())
            logs.append([math.log(weights[b] @ power + 1e-9) for b in range(64)])
        columns.append(np.mean(logs, axis=0))
    return np.array(columns).reshape(-1, 64)


def slow_patches(columns: NDArray[np.float32], step: int) -> Patches:
    rows, values = [], []
    for row in range(0, len(columns) - 20 + 1, step):
        patch = columns[row : row + 20].T.astype(np.float64)
        loudest = max(sum(math.exp(patch[b, w]) for b in range(64)) for w in range(20))
        changes = []
        for b in range(64):
            band = np.maximum(patch[b], patch[b].max() - 6)
            changes.append(band - band.mean())
        spread = np.mean([math.sqrt(np.mean(change**2)) for change in changes])
        if loudest < 10**-6.5 or spread < 0.4:
            continue
        flat = np.concatenate(changes)
        rows.append(row)
        values.append(flat / math.sqrt((flat**2).sum()))
    return Patches(np.array(rows, np.int64), np.array(values, np.float32).reshape(-1, 1280))


def test_the_filters_are_the_triangles_of_the_formula() -> None:
    bank = np.zeros((513, BANDS))
    bank[BINS] = mel_bank()
    expected = [[slow_weight(b, k * 15.625) for b in range(64)] for k in range(513)]
    np.testing.assert_allclose(bank, expected, atol=1e-6)
    assert (bank.sum(axis=0) > 0).all()  # no band without a frequency


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [2304, 3903, 3904, 20_000, 200_000])
def test_columns_are_those_of_the_slow_transcription(seed: int, n: int) -> None:
    """Over the whole range: loud, a thousandth as loud, and silence."""
    rng = np.random.default_rng(seed)
    samples = talk(seed, 13.0)[:n] + rng.normal(0, 1e-4, n).astype(np.float32)
    samples[n // 2 :] *= np.float32(1e-3)
    samples[3 * n // 4 :] = 0
    found, expected = mel_columns(samples), slow_columns(samples)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == ((n - 2304) // 1600 + 1, 64)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 2303])
def test_less_than_a_column_gives_none(n: int) -> None:
    assert mel_columns(np.ones(n, np.float32)).shape == (0, BANDS)


def test_power_is_that_of_the_samples() -> None:
    """Of a tone of amplitude 0.1 half of the mean square, for half of it lies at negative frequencies."""
    t = np.arange(16000) / RATE_HZ
    columns = mel_columns(np.asarray(0.1 * np.sin(2 * np.pi * 1000 * t), np.float32))
    np.testing.assert_allclose(np.exp(columns).sum(axis=1), 0.1**2 / 2 / 2, rtol=0.01)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9000), max_size=12), st.sampled_from([1, 1600, 2304, 9000, 160_000]))
def test_pieces_give_the_columns_of_all_at_once(lengths: list[int], gathered: int) -> None:
    whole = talk(4, 7.0)[: sum(lengths)]
    stream, at = ColumnStream(), 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("matcher.sound._FEED_SAMPLES", gathered)
        for length in lengths:
            stream.feed(whole[at : at + length])
            at += length
        found = stream.columns()
        np.testing.assert_array_equal(stream.columns(), found)
        stream.feed(talk(5, 1.0))
        more = stream.columns()
    np.testing.assert_allclose(found, mel_columns(whole), atol=1e-5)
    np.testing.assert_allclose(more, mel_columns(np.concatenate([whole, talk(5, 1.0)])), atol=1e-5)


def test_a_stream_that_was_measured_holds_less_than_a_column_and_a_window() -> None:
    stream = ColumnStream()
    stream.feed(talk(1, 11.0))
    (rest,) = stream._held
    assert rest.size < COLUMN + 2304
    assert rest.base is None  # or all of the samples would be kept


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 70), st.integers(1, 30), st.integers(0, 99))
def test_patches_are_those_of_the_loop(n: int, step: int, seed: int) -> None:
    """Over loud and quiet, changing and still stretches."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.choice([-19.5, -19.0, -16.0, -6.0], 8), 10)[:n, None]
    change = np.repeat(rng.choice([0.1, 0.41, 3.0, 8.0], 8), 10)[:n, None]
    columns = np.asarray(loud + change * rng.normal(0, 1, (n, BANDS)), np.float32)
    found, expected = patches(columns, step), slow_patches(columns, step)
    np.testing.assert_array_equal(found.rows, expected.rows)
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


@pytest.mark.parametrize("step", [0, -1])
def test_a_step_of_none_is_misuse(step: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        patches(np.zeros((30, BANDS), np.float32), step)


def test_the_gate_of_loudness_is_in_the_loudest_column_of_all_bands() -> None:
    rng = np.random.default_rng(0)
    quiet = np.full((20, BANDS), -20.0, np.float32)
    quiet[:10] += rng.normal(0, 3, (10, BANDS)).astype(np.float32)
    quiet[:10] = np.minimum(quiet[:10], -19.5)
    for over, told in ((1.01, 1), (0.99, 0)):
        columns = quiet.copy()
        columns[4] = math.log(LEAST_LOUD * over / BANDS)
        assert len(patches(columns, 1).rows) == told


def test_the_gate_of_change_is_in_the_mean_over_bands() -> None:
    for over, told in ((1.01, 1), (0.99, 0)):
        columns = np.full((20, BANDS), -5.0, np.float32)
        columns[::2, :32] += 2 * np.float32(2 * LEAST_CHANGE * over)  # half of the bands by twice as much
        assert len(patches(columns, 1).rows) == told


def test_a_band_falls_no_deeper_than_its_depth() -> None:
    """What a codec makes of the silence between two sounds does not count."""
    columns = mel_columns(talk(3, 4.0))
    deeper = columns.copy()
    low = columns < columns.max(axis=0) - DEPTH - 3
    assert low.mean() > 0.1
    deeper[low] -= 4.0
    at = [0, 5]
    for row in at:  # the loudest of a band within the patch decides
        one, other = columns[row : row + 20], deeper[row : row + 20].copy()
        keep = one >= one.max(axis=0) - DEPTH
        other[keep] = one[keep]
        other = np.where(keep, one, np.minimum(other, one))
        np.testing.assert_allclose(patches(one, 1).values, patches(other, 1).values, atol=1e-6)


def test_half_a_patch_is_the_middle_of_its_samples() -> None:
    first_sample, last_transform = 0, (20 * 5 - 1) * 320
    assert (first_sample + last_transform + 1024) / 2 / 16000 == HALF_PATCH_SECONDS
    assert COLUMN_SECONDS == 0.1


# ---------------------------------------------------------------- what a patch does not depend on


def descriptors(samples: Samples, step: int = 1) -> NDArray[np.float32]:
    return shipped_sound_encoder().describe(mel_columns(samples), step=step)[1]


def raw(samples: Samples) -> NDArray[np.float32]:
    return patches(mel_columns(samples), 1).values


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40), st.integers(0, 5))
def test_a_shift_by_whole_columns_shifts_the_patches(columns: int, seed: int) -> None:
    samples = talk(seed, 6.0)
    late = np.concatenate([talk(seed + 50, columns * 0.1), samples])
    one, other = patches(mel_columns(samples), 1), patches(mel_columns(late), 1)
    assert one.rows.tolist() == list(range(len(mel_columns(samples)) - COLUMNS_A_PATCH + 1))
    at = np.searchsorted(other.rows, one.rows + columns)
    np.testing.assert_array_equal(other.rows[at], one.rows + columns)
    np.testing.assert_allclose(other.values[at], one.values, atol=1e-4)


def test_a_shift_by_a_part_of_a_column_changes_little() -> None:
    """By half of one, which is the most that a clip's patches of any step are off."""
    samples = talk(1, 8.0)
    for shift, least in ((160, 0.98), (800, 0.8)):
        one, other = descriptors(samples[:-shift]), descriptors(samples[shift:])
        assert np.median((one * other).sum(axis=1)) > least


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decibels", [-20, -10, 10])
def test_a_gain_changes_nothing_in_a_loud_sound(seed: int, decibels: int) -> None:
    swell = np.interp(
        np.arange(128_000), np.arange(0, 131_200, 3200), np.random.default_rng(seed).random(41) ** 3
    )
    samples = talk(seed, 8.0) + np.asarray(swell * noise(0, seed, 8.0) * 3, np.float32)
    other = samples * np.float32(10 ** (decibels / 20))
    for make in (raw, descriptors):
        assert (make(samples) * make(other)).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decibels", [6, 12])
def test_an_equalizer_changes_next_to_nothing(seed: int, decibels: int) -> None:
    """Gains that swing by so much over the bands, smooth in the logarithm of the frequency."""
    samples = talk(seed, 8.0) + np.random.default_rng(seed).normal(0, 1e-4, 128_000).astype(np.float32)
    hz = np.fft.rfftfreq(samples.size, 1 / RATE_HZ)
    swing = np.sin(2 * np.pi * (np.log2(np.maximum(hz, 50) / 200) / 3 + seed / 3))
    gains = 10 ** (decibels / 20 * swing)
    other = np.asarray(np.fft.irfft(np.fft.rfft(samples) * gains, samples.size), np.float32)
    assert (raw(samples) * raw(other)).sum(axis=1).min() > 0.95
    assert (descriptors(samples) * descriptors(other)).sum(axis=1).min() > 0.9


def test_other_sounds_are_far() -> None:
    """Without this, what is above would hold of any constant."""
    one, other = descriptors(talk(1, 20.0)), descriptors(talk(2, 20.0))
    assert np.abs((one @ other.T).mean()) < 0.15
    assert np.percentile(one @ other.T, 99) < 0.6


# ---------------------------------------------------------------- what says nothing, and what does


def noise(exponent: float, seed: int, seconds: float = 12.0) -> Samples:
    """Power falls with the frequency to ``exponent``: 0 is white, 1 pink."""
    n = round(seconds * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 1, n))
    spectrum /= np.maximum(np.fft.rfftfreq(n, 1 / RATE_HZ), 20) ** (exponent / 2)
    samples = np.fft.irfft(spectrum, n)
    return np.asarray(0.1 * samples / samples.std(), np.float32)


T = np.arange(12 * RATE_HZ) / RATE_HZ
HUM = sum(np.sin(2 * np.pi * 50 * k * T + k) / k for k in range(1, 60))
STILL: dict[str, Floats | Samples] = {
    "silence": np.zeros(T.size),
    "a constant": np.full(T.size, 0.3),
    "near-silence": 2e-4 * talk(1, 12.0),
    "a bit of dither": np.random.default_rng(1).choice([-1, 0, 1], T.size) / 32768,
    "a tone": 0.3 * np.sin(2 * np.pi * 1000 * T),
    "a tone between bins": 0.3 * np.sin(2 * np.pi * 443.7 * T),
    "a hum": 0.1 * HUM,
    "a hum over noise": 0.1 * HUM + noise(0, 5) / 10,
    **{f"white noise {seed}": noise(0, seed) for seed in range(3)},
    **{f"pink noise {seed}": noise(1, seed) for seed in range(3)},
    "brown noise": noise(2, 0),
}


@pytest.mark.parametrize("name", STILL)
def test_what_is_still_gives_no_patch(name: str) -> None:
    columns = mel_columns(np.asarray(STILL[name], np.float32))
    assert len(columns) == 119
    assert patches(columns, 1).rows.size == 0


def clicks() -> Samples:
    """At uneven times, a hundredth of a second each."""
    out, rng = np.zeros(T.size, np.float32), np.random.default_rng(2)
    for at in np.cumsum(rng.uniform(0.15, 0.7, 16)):
        first = int(at * RATE_HZ)
        out[first : first + 160] = rng.normal(0, 0.3, 160)
    return out


@pytest.mark.parametrize(
    "samples", [clicks(), talk(9, 12.0), talk(8, 12.0) / 50], ids=["clicks", "talk", "low talk"]
)
def test_what_changes_gives_patches_of_length_one(samples: Samples) -> None:
    found = patches(mel_columns(samples), 1)
    assert len(found.rows) >= 60
    assert found.values.shape == (len(found.rows), RAW_DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, atol=1e-5)
    bands = found.values.reshape(-1, BANDS, COLUMNS_A_PATCH)
    np.testing.assert_allclose(bands.mean(axis=2), 0, atol=1e-5)


def test_only_the_part_that_says_something_gives_patches() -> None:
    samples = np.concatenate([np.zeros(5 * RATE_HZ), talk(3, 5.0), 0.2 * HUM[: 5 * RATE_HZ]])
    rows = patches(mel_columns(np.asarray(samples, np.float32)), 1).rows
    seconds = rows * COLUMN_SECONDS
    assert 2.8 <= seconds.min() <= 3.3  # the patch of two seconds that reaches into the talk
    assert 9.5 <= seconds.max() <= 10.2
    assert {int(s) for s in seconds} >= {4, 5, 6, 7, 8}
