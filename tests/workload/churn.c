/*
 * Forks children that end at once, so many a second, for benchmarks.
 *
 *   churn FORKS_A_SECOND SECONDS PAGES
 *
 * With PAGES it has as many mergeable pages, and waits for a line on standard input before it
 * begins, so that they can be merged. Prints how many it has forked.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((unsigned long)sysconf(_SC_PAGESIZE))

int main(int argc, char **argv)
{
    long rate = argc > 3 ? atol(argv[1]) : 0, forks = argc > 3 ? rate * atol(argv[2]) : 0;
    long pages = argc > 3 ? atol(argv[3]) : 0;
    struct timespec next;
    char line[16];

    if (rate <= 0)
        return 2;
    if (pages) {
        char *memory =
            mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED)
            return 1;
        for (long i = 0; i < pages; i++)
            *(uint64_t *)(memory + i * PAGE) = 0x636875726e000000;
        if (madvise(memory, pages * PAGE, MADV_MERGEABLE))
            return 1;
    }
    puts("filled");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (long i = 0; i < forks; i++) {
        pid_t child = fork();

        if (!child)
            _exit(0);
        if (child < 0 || waitpid(child, NULL, 0) != child)
            return 1;
        next.tv_nsec += 1000000000 / rate;
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    printf("%ld\n", forks);
    return 0;
}
