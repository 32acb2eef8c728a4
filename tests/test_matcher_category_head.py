"""A head's file and its answers in numpy, against the torch module and against the formula."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.category_head import HeadForm, TierHead, calibrate, logistic
from matcher.errors import InputError
from matcher.fusion.experts import LogisticHead, MixtureOfExperts


def module_of(form: HeadForm, d: int, c: int, h: int) -> torch.nn.Module:
    return LogisticHead(d, c) if form == "logistic" else MixtureOfExperts(d, c, n_experts=h)


def head_of(module: torch.nn.Module, form: HeadForm, c: int, d: int) -> TierHead:
    rng = np.random.default_rng(c)
    return TierHead(
        tier=1,
        class_paths=tuple(f"c{n}" for n in range(c)),
        form=form,
        weights={name: one.detach().numpy() for name, one in module.state_dict().items()},
        center=rng.standard_normal(d).astype(np.float32),
        scale=0.5,
        offsets=rng.standard_normal(c).astype(np.float32),
        temperature=1.0,
        taxonomy="site@1",
        model="m",
        figures={"accuracy": 0.5},
    )


@settings(deadline=None, max_examples=30)
@given(
    form=st.sampled_from(["experts", "logistic"]),
    n=st.integers(0, 4),
    d=st.integers(1, 5),
    c=st.integers(1, 4),
    h=st.integers(1, 3),
    size=st.sampled_from([0.1, 3.0, 300.0]),
    seed=st.integers(0, 99),
)
def test_numpy_answers_as_the_torch_module_does(
    form: HeadForm, n: int, d: int, c: int, h: int, size: float, seed: int
) -> None:
    torch.manual_seed(seed)
    module = module_of(form, d, c, h)
    head = head_of(module, form, c, d)
    x = (np.random.default_rng(seed).standard_normal((n, d)) * size).astype(np.float32)
    with torch.no_grad():
        wanted = module(torch.from_numpy((x - head.center) / np.float32(0.5))).double().numpy() - head.offsets
    np.testing.assert_allclose(head.log_odds(x), wanted, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(head.probabilities(x), 1 / (1 + np.exp(-wanted.clip(-500, 500))), atol=1e-4)


def slowly_calibrated(z: list[float], temperature: float, rivalry: float) -> list[float]:
    """As the docstring has it, one class after the other."""
    out = []
    for c, own in enumerate(z):
        others = [other / temperature for n, other in enumerate(z) if n != c and other > -math.inf]
        top = max(others, default=0.0)
        rival = top + math.log(sum(math.exp(other - top) for other in others)) if others else -math.inf
        out.append(own / temperature - (rivalry * rival if rivalry else 0.0))
    return out


odds = st.one_of(st.floats(-300, 300, width=32), st.just(-math.inf))


@settings(deadline=None)
@given(
    st.lists(odds, min_size=2, max_size=5).filter(lambda z: sum(one > -math.inf for one in z) > 1),
    st.floats(0.1, 10),
    st.one_of(st.floats(0, 1), st.just(1.0)),
)
def test_calibration_is_its_formula_at_any_log_odds(
    z: list[float], temperature: float, rivalry: float
) -> None:
    got = calibrate(np.array([z]), temperature=temperature, rivalry=rivalry)[0]
    for found, wanted in zip(got, slowly_calibrated(z, temperature, rivalry), strict=True):
        assert found == wanted or math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-5)


@settings(deadline=None)
@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=6))
def test_full_rivalry_is_a_softmax(z: list[float]) -> None:
    got = logistic(calibrate(np.array([z]), temperature=1.0, rivalry=1.0))[0]
    powers = np.exp(np.array(z) - max(z))
    np.testing.assert_allclose(got, powers / powers.sum(), atol=1e-9)


def test_a_saved_head_answers_the_same_and_keeps_what_it_is(tmp_path: Path) -> None:
    for form in ("experts", "logistic"):
        head = replace(head_of(module_of(form, 4, 3, 2), form, 3, 4), temperature=1.5, rivalry=0.25)
        path = tmp_path / "tier1.safetensors"
        head.save(path)
        again = TierHead.load(path)
        x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
        np.testing.assert_array_equal(again.probabilities(x), head.probabilities(x))
        assert again.fingerprint == head.fingerprint
        assert (again.class_paths, again.figures, again.taxonomy, again.model) == (
            head.class_paths, {"accuracy": 0.5}, "site@1", "m",
        )  # fmt: skip
        assert [one.name for one in tmp_path.iterdir()] == ["tier1.safetensors"]


def test_a_fingerprint_changes_with_what_an_answer_depends_on() -> None:
    head = head_of(module_of("logistic", 4, 3, 2), "logistic", 3, 4)
    others = [
        replace(head, temperature=2.0),
        replace(head, rivalry=0.5),
        replace(head, class_paths=("a", "b", "c")),
        replace(head, offsets=head.offsets + 1),
        replace(head, model="n"),
        replace(head, weights={**head.weights, "linear.bias": head.weights["linear.bias"] + 1}),
    ]
    assert len({one.fingerprint for one in (head, *others)}) == 7
    assert replace(head, trained_at="later").fingerprint == head.fingerprint


def test_heads_that_do_not_fit_themselves_are_refused() -> None:
    head = head_of(module_of("experts", 4, 3, 2), "experts", 3, 4)
    for changes in (
        {"tier": 4},
        {"form": "logistic"},
        {"class_paths": ("a", "b")},
        {"class_paths": ("a", "a", "b")},
        {"class_paths": ("a/b", "a", "b")},
        {"center": np.zeros(5, np.float32)},
        {"offsets": np.zeros(2, np.float32)},
        {"temperature": 0.0},
        {"temperature": math.nan},
        {"rivalry": 1.5},
        {"center": np.full(4, np.nan, np.float32)},
    ):
        with pytest.raises(ValueError, match=r"."):
            replace(head, **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"embeddings must be \(N, 4\), got \(2, 3\)"):
        head.probabilities(np.zeros((2, 3), np.float32))


def test_what_is_no_head_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tier1.safetensors"
    with pytest.raises(InputError, match=r"cannot read the category head .*tier1\.safetensors \(No such"):
        TierHead.load(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(InputError, match=r"tier1\.safetensors cannot be read"):
        TierHead.load(path)
    content = head_of(module_of("logistic", 4, 3, 2), "logistic", 3, 4).to_bytes()
    path.write_bytes(content.replace(b'\\"revision\\": \\"1\\"', b'\\"revision\\": \\"0\\"'))
    with pytest.raises(InputError, match="another version of the program"):
        TierHead.load(path)
    path.write_bytes(content.replace(b"logistic", b"logistix"))
    with pytest.raises(InputError, match="cannot be read"):
        TierHead.load(path)
