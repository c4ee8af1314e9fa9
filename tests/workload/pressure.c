// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process that maps, touches and unmaps memory without end, which runs the hooks on the reverse
 * map as often as a process can; KSM pages are among it.
 *
 *     pressure PAGES SHARED
 *
 * Each round maps PAGES pages, touches each, and unmaps them. Besides, it keeps SHARED mergeable
 * pages, of which every content is there twice, and writes to one of them in every round and makes
 * it equal again: so ksmd always has pages to merge, and the process always copies KSM pages.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((unsigned long)sysconf(_SC_PAGESIZE))

static char *map(unsigned long pages)
{
    char *memory =
        mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

static volatile uint64_t *word(char *memory, unsigned long page)
{
    return (volatile uint64_t *)(memory + page * PAGE);
}

int main(int argc, char **argv)
{
    unsigned long pages = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
    unsigned long shared = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
    char *kept;

    if (!pages || !shared) {
        fprintf(stderr, "usage: pressure PAGES SHARED\n");
        return 2;
    }
    kept = map(shared);
    for (unsigned long i = 0; i < shared; i++)
        *word(kept, i) = 0x6b736d0000000000 + i / 2;
    if (madvise(kept, shared * PAGE, MADV_MERGEABLE)) {
        perror("madvise");
        return 1;
    }
    for (unsigned long round = 0;; round++) {
        char *memory = map(pages);

        for (unsigned long i = 0; i < pages; i++)
            *word(memory, i) = round + i;
        munmap(memory, pages * PAGE);
        *word(kept, round % shared) = 0x6b736d0000000000 + round % shared / 2;
    }
}
