"""From options to a load: windows, batches, slots, what counts as automatic. Vectors: spec native-api 11.3, 3.2-3.5."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.library import add_kit_model
from tests.fakes.stores import add_model

from corral.config import Settings
from corral.core import Capability
from corral.runner.reading import Reading
from corral.runner.spec import NGRAM, least_batch
from corral.sched.memory import DeviceFigures, HostFigures, ModelFacts
from corral.sched.plan import LaunchPlan, Purpose, model_facts, plan
from corral.store import ModelStore
from corral.store.model import Model
from corral.translate import RULES_VERSION

GIB = 2**30
CPU = HostFigures(64 * GIB, 64 * GIB)
GPU = HostFigures(256 * GIB, 256 * GIB, (DeviceFigures(24 * GIB, 24 * GIB),))
BIG_GPU = HostFigures(256 * GIB, 256 * GIB, (DeviceFigures(80 * GIB, 80 * GIB),))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return build(tmp_path)


def build(tmp_path: Path, architecture: str = "llama", trained: int = 131072, **values: Any) -> Model:
    fields = {
        f"{architecture}.block_count": 32,
        f"{architecture}.attention.head_count": 32,
        f"{architecture}.attention.head_count_kv": 8,
        f"{architecture}.embedding_length": 4096,
        f"{architecture}.context_length": trained,
    }
    path = make_gguf(tmp_path / "m.gguf", architecture, fields | values)
    store = ModelStore(tmp_path / "store")
    return store.load(add_model(store, "m", path))


def planned(model: Model, options: dict[str, Any] | None = None, host: HostFigures = CPU, **wish: Any) -> LaunchPlan:
    settings = wish.pop("settings", Settings())
    return plan(model, options or {}, settings, host, **wish)


# ---- context_window


@pytest.mark.parametrize(
    ("options", "host", "env", "window", "automatic"),
    [
        ({}, CPU, 0, 4096, True),
        ({}, GPU, 0, 32768, True),
        ({}, BIG_GPU, 0, 131072, True),  # 262144, capped by what it was trained on
        ({}, GPU, 8192, 8192, False),
        ({"num_ctx": 16384}, GPU, 8192, 16384, False),
        ({"num_ctx": 0}, CPU, 0, 4, False),
        ({"num_ctx": -5}, CPU, 0, 4, False),
        ({"num_ctx": 10**6}, CPU, 0, 131072, False),
    ],
)
def test_the_window(
    model: Model, options: dict[str, Any], host: HostFigures, env: int, window: int, automatic: bool
) -> None:
    result = planned(model, options, host, settings=Settings(context_length=env))
    assert result.spec.context_window == window
    assert ("context_window" in result.automatic) is automatic


@pytest.mark.parametrize(("asked", "window"), [(8192, 8192), (8000, 8000), (10_668, 12_288), (10_682, 12_288)])
def test_a_window_that_a_client_counts_out_is_rounded_up(model: Model, asked: int, window: int) -> None:
    assert planned(model, {"num_ctx": asked}).spec.context_window == window


def test_an_operators_default_is_a_window_that_somebody_named(model: Model) -> None:
    result = planned(model, {"num_ctx": 2048}, settings=Settings(defaults="guide"), explicit=frozenset())
    assert "context_window" not in result.automatic


def test_a_prompt_may_need_more_than_the_automatic_window(model: Model) -> None:
    assert planned(model, least_window=16384).spec.context_window == 16384
    assert planned(model, least_window=10**6).spec.context_window == 131072


def test_a_vision_model_has_at_least_2048(model: Model) -> None:
    seeing = replace(model, projectors=(Path("/p"),))
    assert planned(seeing, {"num_ctx": 128}).spec.context_window == 2048


def test_defaults_among_the_options_stay_automatic(model: Model) -> None:
    options = {"num_ctx": 4096, "num_gpu": -1, "num_thread": 0}
    result = planned(model, options, explicit=frozenset())
    assert {"context_window", "n_batch", "use_mmap", "n_threads", "num_parallel"} == result.automatic


# ---- num_batch


@pytest.mark.parametrize(
    ("millions", "cores", "batch", "flash"),
    [(135, 2, 64, None), (135, 8, 256, None), (1_200, 2, 64, None), (8_000, 16, 64, None), (1, 64, 512, None)],
)
def test_a_step_on_cpu_is_half_a_second_and_flash_attention_needs_tiles(
    model: Model, monkeypatch: pytest.MonkeyPatch, millions: int, cores: int, batch: int, flash: bool | None
) -> None:
    facts = ModelFacts(parameters=millions * 10**6, vocabulary=49152, embedding_length=576)
    facts = replace(facts, vocabulary=0) if millions == 1 else facts
    monkeypatch.setattr("corral.sched.plan.model_facts", lambda _: facts)
    spec = planned(model, {}, replace(CPU, cores=cores)).spec
    assert (spec.n_batch, spec.flash_attention, spec.paced) == (batch, flash, True)


@pytest.mark.parametrize(
    ("reading", "batch"),
    [
        (Reading(210.0, 1e9), 96),
        (Reading(0.0, 7.2e11), 128),
        (Reading(), 64),
        (Reading(5.0), 64),
        (Reading(1e5), 512),
        (Reading(1e5, step=256), 256),
        (Reading(210.0, step=256), 96),
    ],
)
def test_the_step_goes_by_what_was_measured_first_of_this_model_then_of_others(
    model: Model, monkeypatch: pytest.MonkeyPatch, reading: Reading, batch: int
) -> None:
    monkeypatch.setattr("corral.sched.plan.model_facts", lambda _: ModelFacts(parameters=1_200_000_000))
    assert planned(model, {}, replace(CPU, cores=2), reading=reading).spec.n_batch == batch


def test_prefill_batches_grow_with_the_tokens_on_a_gpu(model: Model) -> None:
    one = Settings(num_parallel=1)
    assert planned(model, {"num_ctx": 4096}, GPU, settings=one).spec.n_batch == 512
    assert planned(model, {"num_ctx": 8192}, GPU, settings=one).spec.n_batch == 1024
    assert planned(model, {"num_ctx": 65536}, GPU, settings=one).spec.n_batch == 2048
    on_cpu = planned(model, {"num_ctx": 65536, "num_gpu": 0}, GPU, settings=one).spec
    assert (on_cpu.n_batch, on_cpu.paced) == (512, True)
    assert not planned(model, {}, GPU).spec.paced


def test_an_automatic_batch_has_room_for_prompts_beside_any_number_of_slots(model: Model) -> None:
    result = planned(model, settings=Settings(num_parallel=600))
    assert result.spec.n_batch == 612
    assert result.notices == ()


@pytest.mark.parametrize(("window", "batch"), [(40960, 2048), (1024, 1024)])
def test_an_embedding_batch_holds_a_whole_input(model: Model, window: int, batch: int) -> None:
    spec = planned(model, {"num_ctx": window}, purpose=Purpose.EMBEDDING).spec
    assert (spec.n_batch, spec.n_ubatch, spec.embedding, spec.context_shift) == (batch, batch, True, False)


@pytest.mark.parametrize("purpose", [Purpose.EMBEDDING, Purpose.RERANK])
@pytest.mark.parametrize("slots", [1, 3, 4, 7])
@pytest.mark.parametrize("options", [{"num_ctx": window} for window in (1, 3, 5, 17, 130, 250)] + [{"num_batch": 33}])
def test_a_step_of_vectors_can_be_parted_among_the_slots(
    model: Model, options: dict[str, int], slots: int, purpose: Purpose
) -> None:
    result = planned(model, options, settings=Settings(num_parallel=slots), purpose=purpose)
    assert result.spec.n_batch % slots == 0
    assert result.spec.n_batch >= min(options.get("num_ctx", 33), options.get("num_batch", 250))
    assert result.notices == ()


def test_an_explicit_batch_wins_and_one_too_small_is_raised_with_a_notice(model: Model) -> None:
    assert planned(model, {"num_batch": 512}).spec.n_batch == 512
    result = planned(model, {"num_batch": 1})
    assert result.spec.n_batch == 5  # a token for each of four slots and one of a prompt
    (notice,) = result.notices
    assert notice.code == "num_batch_raised"
    assert notice.facts == {"num_batch": 1, "raised_to": 5}


# ---- slots


def test_four_slots_where_memory_allows_else_two_else_one(model: Model) -> None:
    def slots(gib: float) -> int:
        host = HostFigures(int(gib * GIB), int(gib * GIB))
        return planned(model, {"num_ctx": 8192}, host).spec.num_parallel  # 1 GiB of KV cache a slot

    assert [slots(64), slots(4), slots(2), slots(0.1)] == [4, 2, 1, 1]


def test_the_operators_number_of_slots_is_explicit(model: Model) -> None:
    result = planned(model, settings=Settings(num_parallel=7))
    assert result.spec.num_parallel == 7
    assert result.memory.slots == 7
    assert "num_parallel" not in result.automatic


def test_families_with_indivisible_caches_have_one_slot(tmp_path: Path) -> None:
    result = planned(build(tmp_path, "lfm2"), settings=Settings(num_parallel=8))
    assert result.spec.num_parallel == 1


# ---- the rest


def test_mmap_is_off_on_cpu_and_the_engines_choice_on_a_gpu_with_spare_memory(model: Model) -> None:
    assert planned(model).spec.use_mmap is False
    assert planned(model, host=GPU).spec.use_mmap is None
    tight = replace(GPU, available_bytes=4 * GIB)
    assert planned(model, host=tight).spec.use_mmap is False
    assert planned(model, {"use_mmap": True}).spec.use_mmap is True


def test_a_quantized_cache_turns_flash_attention_on_or_is_dropped_with_a_notice(model: Model) -> None:
    spec = planned(model, settings=Settings(kv_cache_type="q8_0")).spec
    assert (spec.kv_cache_type, spec.flash_attention) == ("q8_0", True)
    result = planned(model, settings=Settings(kv_cache_type="q8_0", flash_attention=False))
    assert (result.spec.kv_cache_type, result.spec.flash_attention) == ("", False)
    assert [notice.code for notice in result.notices] == ["kv_cache_type_ignored"]


def test_threads_come_from_the_option_then_the_setting(model: Model) -> None:
    settings = Settings(threads=3)
    assert planned(model, {"num_thread": 2}, settings=settings).spec.n_threads == 2
    assert planned(model, {"num_thread": 0}, settings=settings).spec.n_threads == 3
    assert planned(model).spec.n_threads == 0


def test_layers_on_the_gpu_decide_the_device_share(model: Model) -> None:
    assert planned(model, host=GPU).memory.gpu_share == 1.0
    assert planned(model, {"num_gpu": 11}, GPU).memory.gpu_share == pytest.approx(1 / 3)
    assert planned(model, {"num_gpu": 11}).memory.gpu_share == 0.0
    assert planned(model, {"num_gpu": 11}).spec.n_gpu_layers == 11


def test_a_model_larger_than_the_gpu_is_planned_partly_on_it(model: Model) -> None:
    small = HostFigures(256 * GIB, 256 * GIB, (DeviceFigures(GIB, GIB),))
    memory = planned(model, {"num_ctx": 16384}, small).memory
    assert 0.0 < memory.gpu_share < 1.0
    assert memory.at(slots=1).device_bytes <= GIB
    assert memory.gpu_share == pytest.approx(memory.device_layers / 33)
    assert "n_gpu_layers" in planned(model, {"num_ctx": 16384}, small).automatic
    asked = planned(model, {"num_ctx": 16384, "num_gpu": 33}, small)
    assert asked.memory.gpu_share == 1.0
    assert "n_gpu_layers" not in asked.automatic
    assert "n_gpu_layers" not in planned(model).automatic


def test_a_draft_model_drafts_four_tokens_unless_told(model: Model, tmp_path: Path) -> None:
    drafted = replace(model, draft=make_gguf(tmp_path / "d.gguf"))
    spec = planned(drafted).spec
    assert (spec.draft_num_predict, spec.draft_path, spec.speculation) == (4, drafted.draft, "draft-simple")
    assert planned(drafted, {"draft_num_predict": 9}).spec.draft_num_predict == 9
    assert planned(model, settings=Settings(speculation="off")).spec.draft_num_predict == 0


def test_draft_num_predict_0_drafts_nothing(model: Model, tmp_path: Path) -> None:
    spec = planned(replace(model, draft=make_gguf(tmp_path / "d.gguf")), {"draft_num_predict": 0}).spec
    assert (spec.draft_num_predict, spec.draft_path, spec.speculation) == (0, None, "")


@pytest.mark.parametrize(
    ("architecture", "keys", "tensors", "kind"),
    [
        ("llama", {}, {}, "draft-simple"),
        ("dflash", {}, {}, "draft-dflash"),
        ("dflash", {}, {"markov_w1.weight": (2, 2)}, "draft-dspark"),
        ("eagle3", {}, {}, "draft-eagle3"),
        ("qwen35", {"qwen35.nextn_predict_layers": 1}, {}, "draft-mtp"),
    ],
)
def test_a_draft_layer_starts_as_what_it_is(
    model: Model, tmp_path: Path, architecture: str, keys: dict[str, Any], tensors: dict[str, Any], kind: str
) -> None:
    draft = make_gguf(tmp_path / "d.gguf", architecture, keys, tensors)
    assert planned(replace(model, draft=draft)).spec.speculation == kind


def test_layers_that_draft_inside_the_weights_start_only_when_asked_for(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"llama.nextn_predict_layers": 1}
    model = build(tmp_path, **keys)
    assert planned(model).spec.speculation == NGRAM
    spec = planned(model, {"draft_num_predict": 2}).spec
    assert (spec.draft_num_predict, spec.draft_path, spec.speculation) == (2, None, "draft-mtp")
    assert planned(build(tmp_path), {"draft_num_predict": 2}).spec.speculation == NGRAM
    assert planned(model, {"draft_num_predict": 2}, purpose=Purpose.EMBEDDING).spec.speculation == ""


def test_any_other_model_on_cpu_drafts_what_its_text_repeats(model: Model) -> None:
    spec = planned(model).spec
    assert (spec.speculation, spec.draft_num_predict, spec.draft_path) == (NGRAM, 8, None)
    assert spec.n_batch >= least_batch(spec.num_parallel, 8)


@pytest.mark.parametrize(
    ("options", "wish"),
    [
        ({"draft_num_predict": 0}, {}),
        ({"num_batch": 16}, {}),  # a step would not hold every slot's draft, and what was asked for is not raised
        ({}, {"host": GPU}),
        ({}, {"settings": Settings(speculation="off")}),
        ({}, {"settings": Settings(llama_server="/bin/llama-server")}),  # one that may not know the words
        ({}, {"purpose": Purpose.EMBEDDING}),
    ],
)
def test_texts_are_not_drafted_from_where(model: Model, options: dict[str, Any], wish: dict[str, Any]) -> None:
    spec = planned(model, options, **wish).spec
    assert (spec.speculation, spec.draft_num_predict) == ("", 0)
    assert spec.n_batch == planned(model, {"draft_num_predict": 0, **options}, **wish).spec.n_batch


def test_a_state_that_cannot_be_cut_is_not_drafted_for(tmp_path: Path) -> None:
    model = build(tmp_path, "mamba", **{"mamba.ssm.inner_size": 64, "mamba.ssm.state_size": 16})
    assert planned(model).spec.speculation == ""


def test_a_step_holds_what_was_drafted_for_every_slot(model: Model, tmp_path: Path) -> None:
    drafted = replace(model, draft=make_gguf(tmp_path / "d.gguf"))
    plan = planned(drafted, {"num_batch": 8, "draft_num_predict": 3}, settings=Settings(num_parallel=4))
    assert plan.spec.n_batch == 4 * (1 + 3) + 1
    assert [notice.code for notice in plan.notices] == ["num_batch_raised"]
    assert planned(drafted).notices == ()
    assert planned(drafted).spec.n_batch >= 4 * (1 + 4) + 1


# ---- checkpoints


def test_a_cache_that_cannot_be_cut_is_told_from_one_that_can(tmp_path: Path) -> None:
    window = {"cohere2.attention.sliding_window": 512, "cohere2.attention.sliding_window_pattern": 4}
    assert planned(build(tmp_path, "cohere2", **window)).spec.rolls_back
    assert planned(build(tmp_path, "lfm2", **{"lfm2.shortconv.l_cache": 3})).spec.rolls_back
    assert not planned(build(tmp_path)).spec.rolls_back
    assert not planned(build(tmp_path, "cohere2", **window), purpose=Purpose.EMBEDDING).spec.rolls_back


# ---- Ollama's own layouts


def kit(tmp_path: Path, name: str) -> Model:
    store = ModelStore(tmp_path / "kit")
    return store.load(add_kit_model(store, name))


def test_eyes_inside_the_weights_count_as_a_projector(tmp_path: Path) -> None:
    model = kit(tmp_path, "gemma3-vision-q4")
    assert model.weights is not None
    plan = planned(model, {"num_ctx": 256})
    assert plan.spec.projector_paths == (model.weights,)  # the blob: what is made of it is found at the load
    assert plan.spec.model_path == model.weights
    assert plan.spec.translation == str(RULES_VERSION)
    assert model.projector_plan is not None
    assert plan.memory.projector_bytes == model.projector_plan.size_bytes * 3 // 2
    assert plan.spec.context_window == min(2048, model.context_length)


def test_the_facts_are_those_of_the_file_that_the_engine_opens(tmp_path: Path) -> None:
    model = kit(tmp_path, "gpt-oss-q8")
    facts = model_facts(model)
    assert (model.header.architecture, facts.architecture) == ("gptoss", "gpt-oss")  # type: ignore[union-attr]
    assert facts.block_count > 0
    assert facts.sliding_layers == facts.block_count // 2
    assert facts.projector_bytes == 0


def test_an_embedding_model_in_an_old_layout_is_one(tmp_path: Path) -> None:
    model = kit(tmp_path, "embeddinggemma")
    assert model.engine_header is not None
    assert model.engine_header.architecture == "gemma-embedding"
    assert model.capabilities == (Capability.EMBEDDING,)


def test_a_model_in_the_engines_layout_needs_no_translation(model: Model) -> None:
    spec = planned(model).spec
    assert (spec.translation, spec.projector_paths) == ("", ())


def test_two_plans_of_the_same_request_are_equal(model: Model) -> None:
    assert planned(model) == planned(model)
