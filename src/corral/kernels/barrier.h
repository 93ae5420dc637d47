/* Before the engine's own file of threads: where they wait for each other, hundreds of times a token.

   OpenMP's barrier waits a fixed number of turns and then sleeps: many turns harm on a busy host, where the thread that
   is waited for does not run; few harm on an idle one, where waking takes longer than what was left to wait. Here a
   thread waits long as long as that pays: after a long wait in vain it sleeps early for the next 64, twice as many
   after each further one. */
#pragma once

#if defined(__linux__) && defined(GGML_USE_OPENMP)
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CORRAL_SHORT = 1000, CORRAL_LONG = 20000, CORRAL_LEAST_REST = 64, CORRAL_MOST_REST = 4096 };

static atomic_int corral_asleep;                   /* threads, in all barriers */
static _Thread_local int corral_rest;              /* long waits that are still left out */
static _Thread_local int corral_next_rest = CORRAL_LEAST_REST;

static inline bool corral_spin(atomic_int *passed, int seen, int turns) {
    for (; turns > 0; turns--) {
        if (atomic_load_explicit(passed, memory_order_acquire) != seen) {
            return true;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
    return false;
}

static inline bool corral_spin_long(atomic_int *passed, int seen) {
    if (corral_rest > 0) {
        corral_rest--;
        return false;
    }
    if (corral_spin(passed, seen, CORRAL_LONG)) {
        corral_next_rest = CORRAL_LEAST_REST;
        return true;
    }
    corral_rest = corral_next_rest;
    corral_next_rest = corral_next_rest < CORRAL_MOST_REST ? 2 * corral_next_rest : CORRAL_MOST_REST;
    return false;
}

/* Return when `count` threads have come. arrived, passed: 0 at first, of this group of threads alone. */
static void corral_barrier(atomic_int *arrived, atomic_int *passed, int count) {
    const int seen = atomic_load_explicit(passed, memory_order_relaxed);
    if (atomic_fetch_add(arrived, 1) == count - 1) {
        atomic_store_explicit(arrived, 0, memory_order_relaxed);
        atomic_fetch_add(passed, 1);
        if (atomic_load(&corral_asleep) > 0) {
            syscall(SYS_futex, passed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
        }
        return;
    }
    if (corral_spin(passed, seen, CORRAL_SHORT) || corral_spin_long(passed, seen)) {
        return;
    }
    atomic_fetch_add(&corral_asleep, 1);
    while (atomic_load(passed) == seen) {
        syscall(SYS_futex, passed, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    atomic_fetch_sub(&corral_asleep, 1);
}
#define CORRAL_BARRIER(arrived, passed, count) corral_barrier(arrived, passed, count)
#else
#define CORRAL_BARRIER(arrived, passed, count) _Pragma("omp barrier")
#endif
