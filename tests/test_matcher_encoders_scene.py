"""A vector a second of what a sound is like: the fixed statistics, and the files of trained nets."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import made_scenes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from matcher.encoders.scene import MelStatistics, is_silent, load_scene_encoder, whole_seconds
from matcher.encoders.scene_net import SceneNet, levels, save_scene_net
from matcher.errors import InputError
from matcher.sound import LEAST_POWER, RATE_HZ, mel_columns

pytestmark = pytest.mark.usefixtures("one_thread")

SILENCE = math.log(LEAST_POWER)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return made_scenes.columns("speech", 1, 6.3)


@pytest.fixture(scope="module")
def net_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with weights by chance; its batch statistics are no longer those of the start."""
    torch.manual_seed(3)
    net = SceneNet(["music", "speech"])
    with torch.no_grad():
        net(torch.randn(4, 40, 64))
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    save_scene_net(net, path, notes={"made": "by chance"})
    return path


@pytest.fixture(params=["melstats", "scene"])
def spec(request: pytest.FixtureRequest, net_file: Path) -> str:
    return "melstats" if request.param == "melstats" else f"scene@{net_file}"


# ---------------------------------------------------------------- whatever the encoder


def test_a_row_a_begun_second(spec: str, speech: np.ndarray) -> None:
    encoder = load_scene_encoder(spec)
    assert encoder.info.d == 64
    assert encoder.info.spec == spec
    for c, s in ((0, 0), (1, 1), (9, 1), (10, 1), (11, 2), (60, 6)):
        vectors = encoder.describe(speech[:c])
        assert vectors.shape == (s, 64)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
        assert not is_silent(vectors).any()


def test_silence_is_zeros_and_nothing_else_is(spec: str, speech: np.ndarray) -> None:
    """A silent second between others, a silent sound; a hum and white noise are none."""
    encoder = load_scene_encoder(spec)
    mixed = speech[:60].copy()
    mixed[20:30] = SILENCE
    assert is_silent(encoder.describe(mixed)).tolist() == [False, False, True, False, False, False]
    assert not encoder.describe(np.full((25, 64), SILENCE, np.float32)).any()
    assert not is_silent(encoder.describe(np.full((20, 64), -5, np.float32))).any()
    noise = np.random.default_rng(0).standard_normal(2 * RATE_HZ).astype(np.float32)
    for gain, silent in ((0.1, False), (1e-5, True)):
        assert is_silent(encoder.describe(mel_columns(gain * noise))).tolist() == [silent] * 2


def test_how_loud_it_is_does_not_show(spec: str, speech: np.ndarray) -> None:
    encoder = load_scene_encoder(spec)
    np.testing.assert_allclose(encoder.describe(speech - 2), encoder.describe(speech), atol=2e-3)


def test_a_second_is_described_by_what_is_near_it(spec: str, speech: np.ndarray) -> None:
    """So that a long sound may be described piece by piece, as it is."""
    encoder = load_scene_encoder(spec)
    music = made_scenes.columns("music", 1, 6.2)[:60]
    whole = encoder.describe(np.concatenate([speech[:60], music]))
    apart = np.concatenate([encoder.describe(speech[:60]), encoder.describe(music)])
    for row, same in ((0, True), (2, True), (5, False), (6, False), (9, True), (11, True)):
        assert np.allclose(whole[row], apart[row], atol=1e-4) == same, row


def test_blocks_of_a_long_sound_do_not_show(
    spec: str, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_scene_encoder(spec)
    long = np.concatenate([speech[:57], made_scenes.columns("music", 2, 5)])
    want = encoder.describe(long)
    for module in ("scene", "scene_net"):
        monkeypatch.setattr(f"matcher.encoders.{module}._BLOCK_SECONDS", 3)
    np.testing.assert_allclose(encoder.describe(long), want, atol=1e-5)


@pytest.mark.parametrize("columns", [np.zeros((5, 63), np.float32), np.zeros(64, np.float32)])
def test_columns_of_another_shape_are_refused(spec: str, columns: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"columns must be \(c, 64\)"):
        load_scene_encoder(spec).describe(columns)


def test_numbers_that_are_not_finite_are_refused(spec: str, speech: np.ndarray) -> None:
    odd = speech.copy()
    odd[3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        load_scene_encoder(spec).describe(odd)


# ---------------------------------------------------------------- the fixed statistics


def slow_statistics(columns: np.ndarray, second: int) -> list[float]:
    """What the class's table says, number by number, of one second of whole ones."""
    x = columns.astype(float).tolist()

    def at(t: int, b: int) -> float:
        return x[min(max(t, 0), len(x) - 1)][b]

    times = range(10 * second - 10, 10 * second + 20)
    loudest = [max(at(t, b) for t in times) for b in range(64)]
    deep = [[max(at(t, b), loudest[b] - 6) for b in range(64)] for t in times]
    own = deep[10:20]
    level = [np.mean([row[b] for row in own]) for b in range(64)]
    out = [(np.mean(level[4 * g : 4 * g + 4]) - np.mean(level)) / 2 for g in range(16)]
    deviation = [np.std([row[b] for row in own]) for b in range(64)]
    out += [np.mean(deviation[4 * g : 4 * g + 4]) for g in range(16)]
    flux = [np.mean([abs(deep[t][b] - deep[t - 1][b]) for t in range(10, 20)]) for b in range(64)]
    out += [np.mean(flux[8 * g : 8 * g + 8]) for g in range(8)]
    for g in range(4):
        slow = [np.mean(row[16 * g : 16 * g + 16]) for row in deep]
        hann = [math.sin(math.pi * (i + 1) / 31) ** 2 for i in range(30)]
        signal = [(value - np.mean(slow)) * weight for value, weight in zip(slow, hann, strict=True)]
        power = []
        for k in range(1, 16):  # k / 3 Hz
            wave = sum(v * complex(math.cos(2 * math.pi * k * i / 30), -math.sin(2 * math.pi * k * i / 30))
                       for i, v in enumerate(signal))  # fmt: skip
            power.append(abs(wave) ** 2)
        ranges = [sum(power[:4]), sum(power[4:8]), sum(power[8:12]), sum(power[12:])]
        out += [2 * one / (sum(ranges) + 1e-3) for one in ranges]
    peaks = [np.mean([abs(row[b - 1] - 2 * row[b] + row[b + 1]) for b in range(1, 63)]) for row in own]
    centres = []
    for row in own:
        powers = [math.exp(value) for value in row]
        centres.append(sum(p * (-2 + 4 * b / 63) for b, p in enumerate(powers)) / sum(powers))
    loud = [math.log(sum(math.exp(value) for value in row)) for row in deep]
    cosines = [np.corrcoef(own[t], own[t - 1])[0, 1] for t in range(1, 10)]
    return [
        *out, np.mean(peaks), np.std(peaks), np.mean(centres), 4 * np.std(centres),
        2 * np.mean([one < max(loud) - 3 for one in loud]), np.std(loud), np.mean(cosines), 1.0,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", made_scenes.KINDS)
def test_the_statistics_are_what_their_table_says(kind: str) -> None:
    columns = made_scenes.columns(kind, 7, 4.2)[:40]
    got = MelStatistics().describe(columns)
    for second in range(4):
        np.testing.assert_allclose(got[second], slow_statistics(columns, second), atol=1e-4)


def test_most_statistics_are_of_about_one_unit() -> None:
    described = [
        MelStatistics().describe(made_scenes.columns(k, i, 3)) for k in made_scenes.KINDS for i in range(6)
    ]
    deviation = np.concatenate(described).std(axis=0)[:-1]
    assert (deviation > 0.1).all()
    assert (deviation < 1.5).all()


def test_syllables_show_as_modulation_around_4_hz() -> None:
    """Noise whose loudness swings 4 times a second, against once and not at all."""
    rng = np.random.default_rng(1)
    t = np.arange(5 * RATE_HZ) / RATE_HZ
    share = {}
    for hz in (0, 1, 2, 4):
        sound = rng.standard_normal(t.size) * (1.02 + np.sin(2 * np.pi * hz * t)) / 5
        share[hz] = MelStatistics().describe(mel_columns(sound.astype(np.float32)))[2, 40:56].reshape(4, 4)
    assert (share[1].argmax(axis=1) == 0).all()
    assert (share[2].argmax(axis=1) == 1).all()
    assert (share[4].argmax(axis=1) == 2).all()
    assert (share[4][:, 2] > 1.4).all()
    assert share[0].max() < 1.4


def test_harmonics_show_as_peaks() -> None:
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 220 * h * t) / h for h in range(1, 20)).astype(np.float32) / 10
    noise = np.random.default_rng(2).standard_normal(t.size).astype(np.float32) / 10
    voiced, hiss = (MelStatistics().describe(mel_columns(sound))[0, 56] for sound in (tone, noise))
    assert voiced > 2 * hiss


def test_the_statistics_load_no_torch() -> None:
    code = (
        "import sys, numpy; from matcher.encoders.scene import load_scene_encoder as f;"
        "f().describe(numpy.zeros((10, 64), 'f')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_fingerprint_of_the_statistics_is_that_of_stores_out_there() -> None:
    """Whoever changes the numbers must raise REVISION, and these with it."""
    ramp = np.sin(np.arange(20 * 64) / 7).reshape(20, 64).astype(np.float32)
    assert MelStatistics().info.fingerprint == "0ad85a8574752839"
    np.testing.assert_allclose(
        MelStatistics().describe(ramp)[1, :4], [-0.0267, -0.0387, -0.0352, -0.0174], atol=1e-3
    )


# ---------------------------------------------------------------- trained nets


def test_a_net_reads_back_as_it_was_saved(net_file: Path, speech: np.ndarray) -> None:
    encoder = load_scene_encoder(f"scene@{net_file}")
    torch.manual_seed(3)
    net = SceneNet(["music", "speech"])
    with torch.no_grad():
        net(torch.randn(4, 40, 64))
        x = torch.from_numpy(levels(whole_seconds(speech)[0]))
        want = net.eval()(x[None])[0].numpy()
    got = encoder.describe(speech)
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(got.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(got.std(axis=1), 1, atol=1e-2)
    shares = encoder.probabilities(got)  # type: ignore[attr-defined]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert not encoder.probabilities(np.zeros((1, 64), np.float32)).any()  # type: ignore[attr-defined]


def test_the_fingerprint_of_a_net_is_of_its_weights_and_classes(net_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    marks = [load_scene_encoder(f"scene@{net_file}").info.fingerprint]
    for name, classes in (("a", ["music", "speech"]), ("b", ["crowd", "speech"])):
        torch.manual_seed(4)
        save_scene_net(SceneNet(classes), tmp_path / name, notes={})
        marks.append(load_scene_encoder(f"scene@{tmp_path / name}").info.fingerprint)
    assert len(set(marks)) == 3
    assert load_scene_encoder(f"scene@{net_file}").info.fingerprint == marks[0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "unknown scene encoder '': use melstats or scene@FILE"),
        ("scene", "unknown scene encoder"),
        ("scene@", "unknown scene encoder"),
        ("melstats@x", "unknown scene encoder"),
        ("scene@nowhere.safetensors", "no scene net 'nowhere.safetensors'"),
    ],
)
def test_words_that_name_no_scene_encoder_are_refused(spec: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        load_scene_encoder(spec)
    assert said in str(raised.value)


def test_files_that_are_no_scene_nets_are_refused(net_file: Path, tmp_path: Path) -> None:
    tensors = load_file(net_file)
    meta = {"scene_net": '{"revision": "1", "classes": ["music", "speech"]}'}
    (tmp_path / "garbage").write_bytes(b"garbage")
    save_file(tensors, tmp_path / "no_words")
    save_file(tensors, tmp_path / "older", metadata={"scene_net": '{"revision": "0", "classes": []}'})
    save_file({k: v for k, v in tensors.items() if k != "head.bias"}, tmp_path / "short", metadata=meta)
    save_file({**tensors, "head.bias": torch.tensor([0, torch.nan])}, tmp_path / "nan", metadata=meta)
    for name, said in (
        ("garbage", "is no scene net that can be read"),
        ("no_words", "is no scene net that can be read"),
        ("older", "of another version of the program; train it again"),
        ("short", "is no scene net that can be read"),
        ("nan", "not finite; train it again"),
    ):
        with pytest.raises(InputError) as raised:
            load_scene_encoder(f"scene@{tmp_path / name}")
        assert said in str(raised.value)
        assert "\n" not in str(raised.value)
