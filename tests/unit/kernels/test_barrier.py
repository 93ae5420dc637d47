"""The header with which the kernels' threads wait for each other: nobody goes on before all have come, nobody stays."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corral.kernels import build

PROGRAM = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static atomic_int arrived, passed, done, early;
static int count, rounds;
static void *work(void *number) {
    for (int round = 1; round <= rounds; round++) {
        if (round % 100 == 0 && *(int *) number == 0) usleep(2000);  // the others wait long, and in vain
        atomic_fetch_add(&done, 1);
        CORRAL_BARRIER(&arrived, &passed, count);
        if (atomic_load(&done) != round * count) atomic_fetch_add(&early, 1);
        CORRAL_BARRIER(&arrived, &passed, count);
    }
    return NULL;
}
int main(int words, char **word) {
    count = atoi(word[1]), rounds = atoi(word[2]);
    pthread_t threads[16];
    int numbers[16];
    for (int n = 0; n < count; n++) {
        numbers[n] = n;
        pthread_create(&threads[n], NULL, work, &numbers[n]);
    }
    for (int n = 0; n < count; n++) pthread_join(threads[n], NULL);
    printf("%d %d %d", atomic_load(&early), atomic_load(&arrived), atomic_load(&passed));
}
"""
COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.skipif(not COMPILER or sys.platform != "linux", reason="no C compiler is here")
@pytest.mark.parametrize(("threads", "rounds"), [(2, 5000), (3, 2000), (8, 300)])
def test_nobody_goes_on_before_all_have_come(tmp_path: Path, threads: int, rounds: int) -> None:
    source = tmp_path / "barrier.c"
    source.write_text(PROGRAM)
    assert COMPILER
    header = ("-O2", "-pthread", "-DGGML_USE_OPENMP", "-D_GNU_SOURCE", "-include", str(build.BARRIER))
    subprocess.run([COMPILER, *header, "-o", str(tmp_path / "barrier"), str(source)], check=True, timeout=120)
    words = [str(tmp_path / "barrier"), str(threads), str(rounds)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=100)
    early, waiting, passed = map(int, done.stdout.split())
    assert (early, waiting, passed) == (0, 0, 2 * rounds)
