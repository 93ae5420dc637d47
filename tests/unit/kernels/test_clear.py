"""The header that the kernels are compiled with: what it clears is zeros, and takes no memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corral.kernels import build

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
static long resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (fscanf(file, "%*d %ld", &pages) != 1) return -1;
    fclose(file);
    return pages * 4096 >> 20;
}
int main(int count, char **words) {
    const size_t size = 64 << 20, offset = atoi(words[1]), length = atoi(words[2]);
    unsigned char *memory = (unsigned char *) malloc(size);
    for (size_t i = 0; i < size; i++) memory[i] = 7;
    void *returned = memset(memory + offset, atoi(words[3]), length);
    long held = resident();
    size_t wrong = 0;
    for (size_t i = 0; i < size; i++) {
        wrong += memory[i] != (i >= offset && i < offset + length ? atoi(words[3]) : 7);
    }
    printf("%zu %d %ld", wrong, returned == memory + offset, held);
}
"""
MIB = 2**20
COMPILER = shutil.which("c++") or shutil.which("g++")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clear")
    (folder / "clear.cpp").write_text(PROGRAM)
    assert COMPILER
    words = [COMPILER, "-O3", "-include", str(build.CLEAR), "-o", str(folder / "clear"), str(folder / "clear.cpp")]
    subprocess.run(words, check=True, timeout=120)
    return folder / "clear"


@pytest.mark.skipif(not COMPILER or sys.platform != "linux", reason="no C++ compiler is here")
@pytest.mark.parametrize(
    ("offset", "length", "value", "given_back"),
    [
        (0, 64 * MIB, 0, True),
        (3, 50 * MIB + 5, 0, True),
        (4095, MIB, 0, False),  # little is cleared, so little is given back
        (100, 1000, 0, False),
        (0, 64 * MIB, 9, False),
    ],
)
def test_much_memory_is_cleared_by_giving_it_back(
    program: Path, offset: int, length: int, value: int, given_back: bool
) -> None:
    words = [str(program), str(offset), str(length), str(value)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    wrong, is_start, held_mib = map(int, done.stdout.split())
    assert (wrong, is_start) == (0, 1)
    assert (held_mib < 32) is given_back
