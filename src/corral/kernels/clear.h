/* Before the engine's own file for buffers of the CPU: clearing much memory gives it back to the kernel, which hands out
   zeros when it is touched again. The engine clears the caches of all slots three times while it loads; written, that
   is longer than all else of a load, and memory for slots that nobody may use. What is cleared there came from malloc. */
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>

enum { CORRAL_LEAST_BYTES = 1 << 20 };

static inline void *corral_memset(void *start, int value, size_t size) {
    if (value == 0 && size >= CORRAL_LEAST_BYTES) {
        const uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
        const uintptr_t from = (uintptr_t) start, to = from + size;
        const uintptr_t first = (from + page - 1) / page * page, last = to / page * page;
        if (madvise((void *) first, last - first, MADV_DONTNEED) == 0) {
            memset(start, 0, first - from);
            memset((void *) last, 0, to - last);
            return start;
        }
    }
    return memset(start, value, size);
}

#define memset(start, value, size) corral_memset(start, value, size)
#endif
