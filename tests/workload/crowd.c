/*
 * Many processes of a few pages each, for benchmarks.
 *
 *   crowd PROCESSES MERGING PAGES [fork]
 *
 * The first MERGING of PROCESSES have PAGES mergeable pages (an even number), each content twice
 * and the same in all of them, so that all can be merged; the others have none. With `fork` they
 * are children of one process that has them, so that the pages can be merged before there are any
 * children: it waits for a line on standard input.
 *
 * Prints a line when all are there, and does then what lines on standard input say:
 *   touch N    the first N that merge write to the next of their pages
 *   end N      the first N that merge end
 * each of which is answered by a line when it is done. Ends at the end of input, with all.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((unsigned long)sysconf(_SC_PAGESIZE))

static char *memory;
static volatile sig_atomic_t told;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void on_signal(int number)
{
    (void)number;
    told++;
}

static void fill(int pages)
{
    memory = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    for (int i = 0; i < pages; i++)
        *(uint64_t *)(memory + (size_t)i * PAGE) = 0x6b736d0000000000 + i / 2;
    if (madvise(memory, (size_t)pages * PAGE, MADV_MERGEABLE))
        die("madvise");
}

/* Writes to the next of its pages each time that it is told to, and answers by one byte. */
static void live(bool merging, int pages, int answers)
{
    sigset_t none;
    int done = 0;

    sigemptyset(&none);
    if (merging && !memory)
        fill(pages);
    if (write(answers, "", 1) != 1)
        _exit(1);
    for (;;) {
        sigsuspend(&none);
        while (done < told) {
            if (memory)
                *(uint64_t *)(memory + done % pages * PAGE) = (uint64_t)getpid() << 32 | done;
            done++;
            if (write(answers, "", 1) != 1)
                _exit(1);
        }
    }
}

static void await(int answers, int count)
{
    char byte;

    while (count--)
        if (read(answers, &byte, 1) != 1)
            die("read");
}

int main(int argc, char **argv)
{
    int processes = argc > 3 ? atoi(argv[1]) : 0, merging = argc > 3 ? atoi(argv[2]) : 0;
    int pages = argc > 3 ? atoi(argv[3]) : 0, number, answers[2];
    pid_t *children = calloc(processes + 1, sizeof(*children)), self = getpid();
    char line[64], word[64];
    sigset_t usr1;

    if (processes <= 0 || merging > processes || pages <= 0 || !children)
        return 2;
    if (pipe(answers))
        die("pipe");
    /* It comes when a child waits for it, not before. */
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    signal(SIGUSR1, on_signal);
    if (argc > 4) {
        fill(pages);
        puts("filled");
        fflush(stdout);
        if (!fgets(line, sizeof(line), stdin))
            return 0;
    }
    for (int i = 0; i < processes; i++) {
        children[i] = fork();
        if (children[i] < 0)
            die("fork");
        if (!children[i]) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() == self)
                live(i < merging, pages, answers[1]);
            _exit(0);
        }
    }
    await(answers[0], processes);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "%63s %d", word, &number) != 2 || number > merging)
            return 2;
        for (int i = 0; i < number; i++)
            kill(children[i], strcmp(word, "end") ? SIGUSR1 : SIGKILL);
        if (strcmp(word, "end"))
            await(answers[0], number);
        else
            for (int i = 0; i < number; i++)
                waitpid(children[i], NULL, 0);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
