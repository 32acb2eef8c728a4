"""Text encoders: hashed n-grams, and open_clip's text tower."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import made_titles
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.encoders.text import NgramTextEncoder, load_text_encoder
from matcher.errors import InputError

# ---------------------------------------------------------------- the specification, in slow words


def murmur3(data: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0, as a signed number (Appleby's reference, word by word)."""

    def mixed(k: int) -> int:
        k = k * 0xCC9E2D51 & 0xFFFFFFFF
        k = (k << 15 | k >> 17) & 0xFFFFFFFF
        return k * 0x1B873593 & 0xFFFFFFFF

    h = 0
    whole = len(data) - len(data) % 4
    for i in range(0, whole, 4):
        h ^= mixed(int.from_bytes(data[i : i + 4], "little"))
        h = (h << 13 | h >> 19) & 0xFFFFFFFF
        h = (h * 5 + 0xE6546B64) & 0xFFFFFFFF
    if data[whole:]:
        h ^= mixed(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h ^= h >> shift
        h = h * factor & 0xFFFFFFFF
    h ^= h >> 16
    return h - (1 << 32) if h >= 1 << 31 else h


def grams_of(text: str) -> list[str]:
    """For small Latin letters, digits, spaces and Chinese alone."""
    text = re.sub("(?<=[年余庆]) +(?=[年余庆])", "", text)
    found = []
    stretches: list[str] = []
    for c in text:
        if stretches and stretches[-1] and c != " " and (stretches[-1][-1] > "\u2e80") == (c > "\u2e80"):
            stretches[-1] += c
        else:
            stretches.append("" if c == " " else c)
    for stretch in stretches:
        if not stretch:
            continue
        if stretch > "\u2e80":
            found += [stretch[i : i + n] for n in (1, 2) for i in range(len(stretch) - n + 1)]
        else:
            padded = " " + stretch + " "
            found += [padded[i : i + n] for n in (2, 3) for i in range(len(padded) - n + 1)]
    return found


def slow(text: str, d: int) -> np.ndarray:
    vector = np.zeros(d)
    grams = grams_of(text)
    for gram in set(grams):
        h = murmur3(gram.encode())
        vector[abs(h) % d] += (1 if h >= 0 else -1) * (1 + math.log(grams.count(gram)))
    norm = math.sqrt(sum(x * x for x in vector))
    return vector / norm if norm else vector


def test_the_slow_hash_is_the_published_one() -> None:
    """Values of the reference implementation."""
    assert murmur3(b"") == 0
    assert murmur3(b"foo") == -156908512
    assert murmur3(b"hello") & 0xFFFFFFFF == 0x248BFA47
    assert murmur3(b"hello, world") & 0xFFFFFFFF == 0x149BBB7F


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("abn 2年余庆"), max_size=14), max_size=5),
    st.sampled_from([64, 100, 512]),
)
def test_it_is_feature_hashing_as_written_down(texts: list[str], d: int) -> None:
    got = NgramTextEncoder(d).encode(texts)
    want = np.array([slow(text, d) for text in texts]).reshape(-1, d)
    np.testing.assert_allclose(got, want, atol=1e-6)


# ---------------------------------------------------------------- what it finds


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_a_title_with_a_typo_among_other_words_finds_its_own_of_500(language: str) -> None:
    """Mostly, though the titles share a few hundred words and these stand around them too.

    And always without a typo, where nothing but quotes and capitals stand around it.
    """
    titles = [t for t in made_titles.titles(1000, 1) if (t[0] in made_titles.HAN) == (language == "chinese")]
    assert len(titles) == 500
    encoder = load_text_encoder()
    xb = encoder.encode(titles)
    rng = random.Random(2)
    noisy = [made_titles.around(made_titles.with_typo(title, rng), rng) for title in titles]
    nearest = (-encoder.encode(noisy) @ xb.T).argsort(axis=1)
    assert (nearest[:, 0] == np.arange(500)).mean() > 0.8
    assert (nearest[:, :5] == np.arange(500)[:, None]).any(axis=1).mean() > 0.93
    plain = [made_titles.around(title, rng, words=0) for title in titles]
    assert ((encoder.encode(plain) @ xb.T).argmax(axis=1) == np.arange(500)).mean() > 0.99
    shuffled = xb[rng.sample(range(500), 500)]
    assert ((encoder.encode(noisy) @ shuffled.T).argmax(axis=1) == np.arange(500)).mean() < 0.05


def test_writing_does_not_matter() -> None:
    pairs = [
        ("庆余年 第2季", "《庆·余·年》第２季"),
        ("Joy of Life", "ＪＯＹ  of-life!"),
        ("Straße", "STRASSE"),
    ]
    for one, other in pairs:
        a, b = load_text_encoder().encode([one, other])
        np.testing.assert_array_equal(a, b)


def test_words_in_another_order_stay_close_and_other_words_do_not() -> None:
    a, b, c = load_text_encoder().encode(["joy of life", "life of joy", "the grand budapest hotel"])
    assert a @ b > 0.99
    assert a @ c < 0.2


def test_a_repeated_word_does_not_drown_the_others() -> None:
    once, often, alone = load_text_encoder().encode(["joy life", "joy " * 20 + "life", "joy"])
    counted = (20 * 6 + 8) / math.sqrt((400 * 6 + 8) * 14)  # were n-grams counted: 6 of joy, 8 of life
    assert once @ often > counted + 0.05
    assert once @ often > once @ alone


# ---------------------------------------------------------------- edges


@pytest.mark.parametrize("text", ["", " ", "\n\t", "!!! …", "《》", "\u200b\ufeff"])
def test_text_with_nothing_in_it_is_a_row_of_zeros(text: str) -> None:
    rows = load_text_encoder().encode(["庆余年", text, "joy"])
    assert not rows[1].any()
    np.testing.assert_allclose(np.linalg.norm(rows[[0, 2]], axis=1), 1, atol=1e-6)


def test_no_texts_are_no_rows() -> None:
    assert load_text_encoder("ngrams:100").encode([]).shape == (0, 100)
    assert load_text_encoder().encode([]).dtype == np.float32


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_a_row_depends_on_its_text_alone(texts: list[str]) -> None:
    encoder = load_text_encoder()
    together = encoder.encode(texts)
    assert together.dtype == np.float32
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], row)
    norms = np.linalg.norm(together, axis=1)
    assert (np.isclose(norms, 1, atol=1e-5) | (norms == 0)).all()


def test_the_fingerprint_is_of_what_changes_the_numbers() -> None:
    one, same, other = (load_text_encoder(spec).info for spec in ("ngrams", "ngrams:512", "ngrams:256"))
    assert (one.spec, one.d, other.spec, other.d) == ("ngrams", 512, "ngrams:256", 256)
    assert one == same
    assert one.fingerprint != other.fingerprint


def test_the_fingerprint_is_that_of_stores_out_there() -> None:
    """Whoever changes the numbers must raise REVISION, and these two values with it."""
    encoder = load_text_encoder()
    assert encoder.info.fingerprint == "859e68e3e94730e8"
    row = encoder.encode(["庆余年 Joy of Life 第2季 😂"])[0]
    assert [int(i) for i in np.flatnonzero(row)[:4]] == [14, 46, 90, 100]


def test_hashing_imports_no_torch() -> None:
    code = (
        "import sys; from matcher.encoders.text import load_text_encoder as f; f().encode(['a']);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "unknown text encoder '': use ngrams, ngrams:D or open_clip:NAME/PRETRAINED"),
        ("ngram", "unknown text encoder"),
        ("ngrams:", "unknown text encoder"),
        ("open_clip:ViT-B-32", "unknown text encoder"),
        ("ngrams:0", "must be from 64 to 65536"),
        ("ngrams:-512", "must be from 64 to 65536"),
        ("ngrams:many", "must be from 64 to 65536"),
        ("ngrams:99999999", "must be from 64 to 65536"),
        ("open_clip:no-such/tag", "open_clip has no model 'no-such'"),
    ],
)
def test_words_that_name_no_text_encoder_are_refused_with_what_would(spec: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        load_text_encoder(spec, device="cpu")
    assert said in str(raised.value)


# ---------------------------------------------------------------- open_clip

_TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Registers a tiny architecture, and keeps weights by chance for it."""
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "tiny-text.json").write_text(json.dumps(_TINY))
    open_clip.add_model_config(folder / "tiny-text.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-text", pretrained=None)
    torch.save(model.state_dict(), folder / "weights.pt")
    with torch.no_grad():
        model.visual.proj += 1
    torch.save(model.state_dict(), folder / "other_pictures.pt")
    with torch.no_grad():
        model.text_projection += 1
    torch.save(model.state_dict(), folder / "other_texts.pt")
    return folder / "weights.pt"


def test_an_open_clip_model_gives_its_text_tower(weights: Path) -> None:
    import open_clip
    import torch

    encoder = load_text_encoder(f"open_clip:tiny-text/{weights}", device="cpu")
    assert (encoder.info.spec, encoder.info.d) == (f"open_clip:tiny-text/{weights}", 16)
    texts = [f"clip {i} 庆余年" for i in range(70)]  # more than a batch
    texts[3] = " …"
    model = open_clip.create_model("tiny-text", pretrained=str(weights)).eval()
    with torch.inference_mode():
        want = model.encode_text(open_clip.get_tokenizer("tiny-text")(texts), normalize=True).numpy()
    want[3] = 0
    np.testing.assert_allclose(encoder.encode(texts), want, atol=1e-5)
    assert encoder.encode([]).shape == (0, 16)


def test_open_clip_cuts_a_text_to_its_context(weights: Path) -> None:
    """Twelve tokens, two of which say where it begins and ends."""
    encoder = load_text_encoder(f"open_clip:tiny-text/{weights}", device="cpu")
    ten = "one two three four five six seven eight nine ten"
    whole, longer, shorter = encoder.encode([ten, ten + " eleven" * 50, ten.removesuffix(" ten")])
    np.testing.assert_allclose(whole, longer, atol=1e-6)
    assert not np.allclose(whole, shorter, atol=1e-3)


def test_the_fingerprint_of_a_text_tower_is_of_its_own_weights(weights: Path) -> None:
    one, pictures, texts = (
        load_text_encoder(f"open_clip:tiny-text/{weights.with_name(name)}", device="cpu").info
        for name in ("weights.pt", "other_pictures.pt", "other_texts.pt")
    )
    assert one.fingerprint == pictures.fingerprint != texts.fingerprint


@pytest.mark.parametrize("pretrained", ["no-such-tag", "/nowhere/weights.pt"])
def test_text_weights_that_cannot_be_had_are_the_inputs_fault(weights: Path, pretrained: str) -> None:
    with pytest.raises(InputError, match=r"cannot load open_clip:tiny-text/.*pass open_clip:tiny-text/FILE"):
        load_text_encoder(f"open_clip:tiny-text/{pretrained}", device="cpu")


def test_a_tokenizer_that_cannot_be_had_is_the_inputs_fault(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str) -> None:
        raise ImportError("install transformers")

    monkeypatch.setattr("open_clip.get_tokenizer", fails)
    with pytest.raises(InputError, match=r"cannot load the tokenizer of open_clip:tiny-text .*transformers"):
        load_text_encoder(f"open_clip:tiny-text/{weights}", device="cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Workers that wait for each other cost most on a machine that others use too."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    yield
    if torch:
        torch.set_num_threads(before)
