"""Room for runners: what fits, what is evicted or made smaller first, and what is loaded anew for other options."""

from __future__ import annotations

from tests.unit.sched.world import ALL_AUTOMATIC, World

from corral.errors import NotEnoughMemory, RunnerFailedToStart
from corral.sched.events import Grant, Loaded

# ---- memory


def test_a_model_that_fits_beside_the_others_evicts_nobody() -> None:
    world = World(free_gib=8.0)
    world.serve("a", gib=2.0)
    world.ask("r", key="b", gib=3.0)
    assert world.stops == []
    assert world.loads[-1].key == "b"


def test_as_few_runners_as_needed_are_evicted_for_memory() -> None:
    world = World(free_gib=100.0, max_loaded=9)
    for key in ("a", "b", "c"):
        world.serve(key, gib=2.0)
        world.now += 10.0
    world.free_gib = 1.0
    world.ask("r", key="d", gib=4.0)
    assert world.stops == [("a", "evict"), ("b", "evict")]


def test_memory_is_read_again_after_an_eviction_before_the_load() -> None:
    world = World(free_gib=100.0, max_loaded=9)
    world.serve("a", gib=2.0)
    world.now += 10.0
    world.free_gib = 1.0
    world.ask("r", key="b", gib=2.5)
    assert [load.key for load in world.loads] == ["a"]
    world.free_gib = 3.0
    world.gone("a")
    assert world.loads[-1].key == "b"


def test_two_loads_at_once_do_not_count_on_the_same_free_memory() -> None:
    world = World(free_gib=5.0, max_loaded=9)
    world.ask("r1", key="a", gib=3.0)
    world.ask("r2", key="b", gib=3.0)
    assert [load.key for load in world.loads] == ["a"]


def test_fewer_slots_are_tried_before_anything_is_evicted() -> None:
    world = World(free_gib=100.0)
    world.serve("idle", gib=1.0)
    world.now += 10.0
    world.free_gib = 3.0
    world.ask("r", key="b", gib=1.0, parallel=4, context_window=4096, per_token=2**18)  # 1 GiB a slot
    assert world.loads[-1].spec.num_parallel == 2
    assert world.stops == []


def test_an_explicit_number_of_slots_is_not_lowered() -> None:
    world = World(free_gib=3.0)
    chosen = ALL_AUTOMATIC - {"num_parallel"}
    world.ask("r", key="b", gib=1.0, parallel=4, per_token=2**18, automatic=chosen)
    assert isinstance(world.failed["r"], NotEnoughMemory)


def test_an_automatic_window_shrinks_when_nothing_is_left_to_evict_and_the_holder_is_told() -> None:
    world = World(free_gib=3.0)
    world.ask("r", key="b", gib=1.0, context_window=32768, per_token=2**18)
    assert world.loads[-1].spec.context_window == 4096
    world.ready("b")
    grant = next(action for action in world.log if getattr(action, "notices", ()))
    assert grant.notices[0].facts == {"planned": 32768, "num_ctx": 4096}  # type: ignore[union-attr]
    world.ask("again", key="b", gib=1.0, context_window=32768, per_token=2**18)
    world.end("r")
    assert "again" in world.granted  # what we lowered ourselves is no reason to reload


def test_a_model_that_cannot_fit_fails_at_once_with_both_numbers_and_advice() -> None:
    world = World(free_gib=2.0)
    world.ask("r1", "r2", key="big", gib=30.0)
    error = world.failed["r1"]
    assert isinstance(error, NotEnoughMemory)
    assert error.need_bytes > error.free_bytes == 2 * 2**30
    assert "quantization" in str(error)
    assert "r2" in world.failed
    assert world.loads == []


def test_a_model_that_cannot_fit_does_not_evict_others_first() -> None:
    world = World(free_gib=100.0)
    world.serve("a", gib=1.0)
    world.now += 10.0
    world.free_gib = 2.0
    world.ask("r", key="big", gib=30.0)
    assert isinstance(world.failed["r"], NotEnoughMemory)
    assert world.stops == []


def test_only_pinned_models_loaded_is_an_error_and_no_endless_wait() -> None:
    world = World(max_loaded=1, pinned=frozenset({"a:latest"}))
    world.serve("a")
    world.ask("r", key="b")
    assert "pinned" in str(world.failed["r"])


def test_a_load_out_of_memory_is_tried_once_more_with_less_and_alone() -> None:
    world = World(max_loaded=9)
    world.serve("idle")
    world.ask("r", key="b", parallel=4, context_window=32768)
    world.load_fails("b", out_of_memory=True)
    assert world.stops == [("idle", "memory")]
    assert len(world.loads) == 2
    world.gone("idle")
    assert world.loads[-1].spec.context_window == 4096
    assert world.loads[-1].spec.num_parallel == 1
    world.load_fails("b", out_of_memory=True)
    assert isinstance(world.failed["r"], RunnerFailedToStart)
    assert len(world.loads) == 3


def test_out_of_memory_with_everything_explicit_and_nothing_to_evict_fails_at_once() -> None:
    world = World()
    world.ask("r", key="b", automatic=frozenset())
    world.load_fails("b", out_of_memory=True)
    assert "r" in world.failed


# ---- reload


def test_a_changed_option_reloads_once_the_runner_is_idle() -> None:
    world = World()
    world.ask("r1")
    world.ready()
    world.ask("r2", context_window=8192, automatic=ALL_AUTOMATIC - {"context_window"})
    assert world.stops == []
    world.end("r1")
    assert world.stops == [("a", "reload")]
    world.gone("a")
    assert world.loads[-1].spec.context_window == 8192
    world.ready()
    assert "r2" in world.granted


def test_a_runner_asked_to_reload_is_not_kept_by_compatible_requests_for_ever() -> None:
    world = World(turn_s=10.0)
    world.ask("a0")
    world.ready()
    world.ask("other", context_window=8192, automatic=ALL_AUTOMATIC - {"context_window"})
    for turn in range(1, 30):
        world.ask(f"a{turn}")
        world.wait(1.0)
        world.end(list(world.granted)[-1])
        if world.stops:
            break
    assert world.stops == [("a", "reload")]


def test_automatic_fields_do_not_reload() -> None:
    world = World()
    world.serve(context_window=32768)
    world.ask("r", context_window=4096, n_batch=32)
    assert "r" in world.granted


# ---- GPUs

FREE_LAYERS = ALL_AUTOMATIC | {"n_gpu_layers"}


def test_a_model_that_fits_on_the_gpu_is_left_to_the_engine() -> None:
    world = World(gpu_gib=8.0)
    world.ask("r", gib=4.0, gpu=1.0, automatic=FREE_LAYERS)
    assert world.loads[-1].spec.n_gpu_layers == -1


def test_as_many_layers_as_fit_go_to_the_gpu() -> None:
    world = World(gpu_gib=2.0)
    world.ask("r", gib=4.0, gpu=1.0, automatic=FREE_LAYERS)
    assert world.loads[-1].spec.n_gpu_layers == 4  # of ten, with a tenth of the GPU's memory to spare
    assert world.runner().need.gpu_share == 0.4
    world.ready()
    assert "r" in world.granted


def test_slots_that_a_user_asked_for_cost_layers_before_the_load_is_refused() -> None:
    automatic = FREE_LAYERS - {"num_parallel"}
    world = World(gpu_gib=4.0)
    world.ask("r", gib=1.0, gpu=1.0, parallel=8, per_token=2**18, automatic=automatic)  # 1 GiB a slot: 9 in all
    assert world.failed == {}
    assert (world.loads[-1].spec.num_parallel, world.loads[-1].spec.n_gpu_layers) == (8, 4)


def test_a_full_gpu_leaves_the_model_to_the_cpu() -> None:
    world = World(gpu_gib=0.0)
    world.ask("r", gib=4.0, gpu=1.0, automatic=FREE_LAYERS)
    assert world.loads[-1].spec.n_gpu_layers == 0


def test_idle_models_leave_the_gpu_before_layers_do() -> None:
    world = World(gpu_gib=8.0)
    world.serve("a", gib=6.0, gpu=1.0, automatic=FREE_LAYERS)
    world.now += 60.0
    world.gpu_gib = 2.0
    world.ask("r", key="b", gib=5.0, gpu=1.0, automatic=FREE_LAYERS)
    assert world.stops == [("a", "evict")]
    world.gpu_gib = 8.0
    world.gone("a")
    assert world.loads[-1].spec.n_gpu_layers == -1


def test_layers_that_a_user_asked_for_are_not_taken_back() -> None:
    world = World(gpu_gib=2.0)
    world.ask("r", gib=4.0, gpu=1.0, n_gpu_layers=10)
    error = world.failed["r"]
    assert isinstance(error, NotEnoughMemory)
    assert error.free_bytes == 2 * 2**30  # the GPU's, for that is what is short
    assert world.loads == []


def test_a_host_that_is_too_small_is_no_matter_of_layers() -> None:
    world = World(free_gib=1.0, gpu_gib=4.0)
    world.ask("r", gib=40.0, gpu=1.0, parallel=4, automatic=FREE_LAYERS)
    error = world.failed["r"]
    assert isinstance(error, NotEnoughMemory)
    assert error.free_bytes == 2**30


def test_whoever_is_served_by_the_cpu_instead_of_a_gpu_is_told() -> None:
    world = World(gpu_gib=8.0)
    world.ask("r", gib=4.0, gpu=1.0, automatic=FREE_LAYERS)
    world.send(Loaded(world.runner().id, 1, 4096, 0, "failed to initialize CUDA: no driver"))
    world.end("r")
    world.ask("s", gib=4.0, gpu=1.0, automatic=FREE_LAYERS)
    grants = [action for action in world.log if isinstance(action, Grant)]
    assert [[notice.code for notice in grant.notices] for grant in grants] == [["computes_on_cpu"]] * 2
    assert "no driver" in grants[0].notices[0].message
    assert world.runner().need.gpu_share == 0.0


def test_a_host_without_gpus_has_nothing_to_tell() -> None:
    world = World()
    world.ask("r")
    world.send(Loaded(world.runner().id, 1, 4096, 0, "failed to initialize CUDA: no driver"))
    assert [action.notices for action in world.log if isinstance(action, Grant)] == [()]
