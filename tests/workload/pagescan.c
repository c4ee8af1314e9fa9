/*
 * What page-types does with processes: pagemap, and kpageflags of each page of it.
 *
 *   pagescan PID...
 *
 * Prints the PTEs of each process that map a page which kpageflags calls KSM, and the sum. Then it
 * waits for the end of its standard input, so that its memory can be read.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PAGE ((unsigned long)sysconf(_SC_PAGESIZE))
#define BATCH 4096
#define PRESENT (1ULL << 63)
#define FRAME ((1ULL << 55) - 1)
#define KPF_KSM (1ULL << 21)

static int flags;

static long area(int pagemap, uint64_t start, uint64_t end)
{
    static uint64_t entries[BATCH];
    long found = 0;

    for (uint64_t page = start / PAGE; page < end / PAGE; page += BATCH) {
        uint64_t left = end / PAGE - page, count = left < BATCH ? left : BATCH, flag;
        ssize_t got = pread(pagemap, entries, count * 8, page * 8);

        for (ssize_t i = 0; i < got / 8; i++)
            if (entries[i] & PRESENT && pread(flags, &flag, 8, (entries[i] & FRAME) * 8) == 8 &&
                flag & KPF_KSM)
                found++;
        if (got < (ssize_t)count * 8)
            break;
    }
    return found;
}

static long process(const char *pid)
{
    char path[64], line[512];
    uint64_t start, end;
    long found = 0;
    FILE *maps;
    int pagemap;

    snprintf(path, sizeof(path), "/proc/%s/pagemap", pid);
    pagemap = open(path, O_RDONLY);
    snprintf(path, sizeof(path), "/proc/%s/maps", pid);
    maps = fopen(path, "r");
    if (maps && pagemap >= 0)
        while (fgets(line, sizeof(line), maps))
            if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2)
                found += area(pagemap, start, end);
    if (maps)
        fclose(maps);
    if (pagemap >= 0)
        close(pagemap);
    return found;
}

int main(int argc, char **argv)
{
    long sum = 0;

    flags = open("/proc/kpageflags", O_RDONLY);
    if (flags < 0) {
        perror("/proc/kpageflags");
        return 1;
    }
    for (int i = 1; i < argc; i++) {
        long found = process(argv[i]);

        printf("%s %ld\n", argv[i], found);
        sum += found;
    }
    printf("sum %ld\n", sum);
    fclose(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}
