#!/bin/sh
# Linux 6.12.117 (Debian): a KSM page has 21 times as many sharers as max_page_sharing allows.
#
# A good engineer would expect this limit to be one of page table entries, because it exists to bound walks of the reverse
# map (Documentation/admin-guide/mm/ksm.rst). But ksmd counts only what it merged itself. Children inherit the entries of
# a merged page, and a walk visits the entry of each.
#
# Seen, with max_page_sharing 2 and four equal pages: two KSM pages with 2 entries each, and after 20 forks with 42 each
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/sharers.c" <<'C'
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KSM "/sys/kernel/mm/ksm/"
#define PAGE 4096
#define PAGES 4
#define FORKS 20

static void put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);
    if (file < 0 || write(file, text, strlen(text)) < 0) {
        perror(path);
        exit(2);
    }
    close(file);
}

static long get(const char *path)
{
    char text[32] = "";
    int file = open(path, O_RDONLY);
    if (read(file, text, sizeof(text) - 1) < 0)
        exit(2);
    close(file);
    return atol(text);
}

static uint64_t entry(const char *path, uint64_t index)
{
    uint64_t value = 0;
    int file = open(path, O_RDONLY);
    if (pread(file, &value, sizeof(value), index * sizeof(value)) != sizeof(value))
        exit(3);
    close(file);
    return value;
}

static void show(const char *when, char *pages)
{
    uint64_t seen[PAGES];
    int frames = 0, known;

    printf("%s:", when);
    for (int page = 0; page < PAGES; page++) {
        uint64_t frame = entry("/proc/self/pagemap", (uintptr_t)(pages + page * PAGE) / PAGE) & ((1ULL << 55) - 1);
        for (known = 0; known < frames && seen[known] != frame; known++)
            ;
        if (known < frames)
            continue;
        seen[frames++] = frame;
        printf(" %llu", (unsigned long long)entry("/proc/kpagecount", frame));
    }
    printf("\n");
    fflush(stdout);
}

int main(void)
{
    char *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    put(KSM "max_page_sharing", "2");
    put(KSM "sleep_millisecs", "0");
    madvise(pages, PAGES * PAGE, MADV_NOHUGEPAGE);
    madvise(pages, PAGES * PAGE, MADV_MERGEABLE);
    memset(pages, 'x', PAGES * PAGE);
    put(KSM "run", "1");
    while (get(KSM "pages_shared") + get(KSM "pages_sharing") < PAGES)
        usleep(10000);
    put(KSM "run", "0");
    show("merged", pages);
    for (int number = 0; number < FORKS; number++)
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
    show("forked", pages);
    return 0;
}
C
gcc -O2 -static -o "$dir/sharers" "$dir/sharers.c"
found=$("$here/tests/vm/run" --kernel 6.12 --memory 512M --cpus 1 --writable "$dir" -- "$dir/sharers")
echo "$found"
[ "$found" = "merged: 2 2
forked: 42 42" ]
