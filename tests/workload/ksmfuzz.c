// SPDX-License-Identifier: GPL-2.0-only
/*
 * A random program over a tree of processes, the same one for the same seed.
 *
 *     ksmfuzz --seed S --ops N [--pause EVERY] [--without VERB]... [--print]
 *
 * The root draws operations, sends them to a process and waits for the answer, while ksmd
 * runs beside. Operations on memory go in rows. Some go to two processes at once, and some have
 * a thread that does another one meanwhile. What is drawn depends on nothing that the kernel
 * answers, so N is the length of a prefix of the endless program of a seed and an EVERY.
 *
 * Every EVERY operations nothing happens: ksmd is stopped, "quiescent OPERATIONS" is
 * printed, and a line on stdin lets it go on. At the end everything is unmerged,
 * "unmerged OPERATIONS" is printed and answered likewise. tests/fuzz/fuzz.py is the other end.
 *
 * Every process does everything within one arena at the same address, so a range is valid in
 * each of them, mapped or not. Only the first eight bytes of a page are ever written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "memory.h"

#define ARENA 0x200000000000UL
#define ARENA_PAGES 768U
#define FEW_PAGES 8U
#define MANY_PAGES 64U
#define HUGE_PAGES 512U
#define SLOTS 24
#define MAX_DEPTH 4
#define FIRST_PROCESSES 4
#define MORE_STEPS 15
/* Inherited by every process: its own end is OWN_FD + slot; files are FILE_FD. */
#define FILE_FD 90
#define OWN_FD 100
#define ROOT_FD 140
#define MAX_ERRNO 134
/* A child of the root itself. */
#define ROOT (-1)
#define DIED (-1)

/* One operation on `pages` pages from `first`; `other` is a slot, a target's or a new child's. */
struct step {
    int verb;
    unsigned first;
    unsigned pages;
    unsigned argument;
    int other;
    pid_t pid;
};

/*
 * What a process is told: to do `main`, and in a thread meanwhile `beside`, if any; then `more`
 * steps on its memory without asking, for a change of processes takes longer than most steps.
 */
struct order {
    struct step main;
    struct step beside;
    unsigned more;
    struct step next[MORE_STEPS];
};

struct answer {
    int error;
    int value;
    int errors[MORE_STEPS];
};

/* What the root knows of a process. Slots with equal `mm` share an address space. */
struct process {
    bool alive;
    int depth;
    int mm;
    pid_t pid;
    int pidfd;
};

enum kind {
    ON_MEMORY,  /* may also be done by a thread */
    ON_ANOTHER, /* needs another process */
    MAKES_CHILD,
    REPLACES, /* ends in a new program */
    ENDS,
    ON_HOST, /* done by the root */
};

static struct process processes[SLOTS];
static int next_mm;
static uint64_t state;
static unsigned long operation;
/* Where the next pause is. */
static unsigned long pause_at;
/* Drawn already, as it ends a row of steps on one process' memory. */
static struct step drawn;
static bool printing;

static _Thread_local sigjmp_buf fault;

static _Noreturn void obey(int slot);

static char *at(unsigned page)
{
    return (char *)ARENA + page * PAGE;
}

static size_t bytes(struct step *s)
{
    return s->pages * PAGE;
}

static void on_fault(int number)
{
    (void)number;
    siglongjmp(fault, 1);
}

/* Reads or writes, as far as the pages are there and allow it. */
static int touch(struct step *s, uint64_t (*content)(struct step *s, unsigned page))
{
    volatile unsigned page = 0;
    volatile bool faulted = false;

    for (; page < s->pages; page++) {
        volatile uint64_t *word = (uint64_t *)at(s->first + page);

        if (sigsetjmp(fault, 0))
            faulted = true;
        else if (content)
            *word = content(s, page);
        else
            (void)*word;
    }
    errno = EFAULT;
    return faulted ? -1 : 0;
}

/* One of few contents, in runs of equal or of different pages. */
static uint64_t common(struct step *s, unsigned page)
{
    static const unsigned moduli[] = {1, 1, 4, 16};

    return (s->argument >> 8 & 3) * 64 + page % moduli[s->argument & 3];
}

static uint64_t unique(struct step *s, unsigned page)
{
    return (uint64_t)s->argument << 32 | 1UL << 31 | page;
}

static int do_fill(struct step *s)
{
    return touch(s, common);
}

static int do_write(struct step *s)
{
    return touch(s, unique);
}

static int do_read(struct step *s)
{
    return touch(s, NULL);
}

static int map(struct step *s, int flags, int fd)
{
    void *base = mmap(at(s->first), bytes(s), PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);

    return base == MAP_FAILED ? -1 : 0;
}

/* Private memory, rarely shared memory or private memory of a file. */
static int do_map(struct step *s)
{
    if (s->argument % 16 == 0)
        return map(s, MAP_SHARED | MAP_ANONYMOUS, -1);
    if (s->argument % 16 == 1)
        return map(s, MAP_PRIVATE, FILE_FD);
    return map(s, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* What makes most of what merges. */
static int do_fresh(struct step *s)
{
    if (map(s, MAP_PRIVATE | MAP_ANONYMOUS, -1) || madvise(at(s->first), bytes(s), MADV_MERGEABLE))
        return -1;
    return do_fill(s);
}

/* One huge page, if the kernel has one; parts of it may be fresh or equal later. */
static int do_huge(struct step *s)
{
    struct step whole = {.pages = HUGE_PAGES, .argument = s->argument};

    if (map(&whole, MAP_PRIVATE | MAP_ANONYMOUS, -1) ||
        madvise(at(0), bytes(&whole), MADV_HUGEPAGE))
        return -1;
    whole.pages = s->pages;
    return do_write(&whole) || madvise(at(0), HUGE_PAGES * PAGE, MADV_MERGEABLE) ? -1 : 0;
}

static int do_munmap(struct step *s)
{
    return munmap(at(s->first), bytes(s));
}

static const int advices[] = {
    MADV_DONTNEED, MADV_DONTNEED,   MADV_FREE,       MADV_PAGEOUT,    MADV_PAGEOUT,
    MADV_COLD,     MADV_DONTFORK,   MADV_DOFORK,     MADV_DOFORK,     MADV_WIPEONFORK,
    MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_KEEPONFORK, MADV_KEEPONFORK,
};

static int some_advice(struct step *s)
{
    return advices[s->argument % (sizeof(advices) / sizeof(*advices))];
}

static int do_advise(struct step *s)
{
    return madvise(at(s->first), bytes(s), some_advice(s));
}

static int do_mergeable(struct step *s)
{
    return madvise(at(s->first), bytes(s), MADV_MERGEABLE);
}

static int do_unmergeable(struct step *s)
{
    return madvise(at(s->first), bytes(s), MADV_UNMERGEABLE);
}

static int do_pageout(struct step *s)
{
    return madvise(at(s->first), bytes(s), MADV_PAGEOUT);
}

static int do_shrink(struct step *s)
{
    return mremap(at(s->first), bytes(s), (s->pages / 2 + 1) * PAGE, 0) == MAP_FAILED ? -1 : 0;
}

/* Succeeds only in front of a hole. */
static int do_grow(struct step *s)
{
    return mremap(at(s->first), bytes(s), (s->pages + 4) * PAGE, 0) == MAP_FAILED ? -1 : 0;
}

static int do_move(struct step *s)
{
    char *target = at(s->argument % (ARENA_PAGES - s->pages));
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (s->argument & 1 << 16 ? MREMAP_DONTUNMAP : 0);

    return mremap(at(s->first), bytes(s), bytes(s), flags, target) == MAP_FAILED ? -1 : 0;
}

/* Mostly back to all rights, for what may be written to remain. */
static int do_mprotect(struct step *s)
{
    static const int rights[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
                                 PROT_READ | PROT_WRITE};

    return mprotect(at(s->first), bytes(s), rights[s->argument % 4]);
}

static int do_mlock(struct step *s)
{
    return mlock(at(s->first), bytes(s));
}

static int do_munlock(struct step *s)
{
    return munlock(at(s->first), bytes(s));
}

/* To the other node, if there are two. */
static int do_movepages(struct step *s)
{
    int node = access("/sys/devices/system/node/node1", F_OK) ? 0 : s->argument & 1;
    void *pages[FEW_PAGES];
    int nodes[FEW_PAGES], status[FEW_PAGES];
    unsigned count = s->pages < FEW_PAGES ? s->pages : FEW_PAGES;

    for (unsigned i = 0; i < count; i++) {
        pages[i] = at(s->first + i);
        nodes[i] = node;
    }
    return syscall(SYS_move_pages, 0, count, pages, nodes, status, 2) ? -1 : 0;
}

static int do_memorymerge(struct step *s)
{
    return prctl(PR_SET_MEMORY_MERGE, s->argument % 4 ? 1 : 0, 0, 0, 0);
}

static int do_vmwrite(struct step *s)
{
    for (unsigned i = 0; i < s->pages; i++)
        if (write_into(s->pid, (unsigned long)at(s->first + i), unique(s, i)))
            return -1;
    return 0;
}

static int do_poke(struct step *s)
{
    int error = 0;

    if (seize(s->pid))
        return -1;
    for (unsigned i = 0; i < s->pages && i < FEW_PAGES; i++)
        if (ptrace(PTRACE_POKEDATA, s->pid, at(s->first + i), unique(s, i)))
            error = errno;
    ptrace(PTRACE_DETACH, s->pid, NULL, NULL);
    errno = error;
    return error ? -1 : 0;
}

static int do_procmadvise(struct step *s)
{
    return advise_process(s->pid, (unsigned long)at(s->first), bytes(s),
                          s->argument % 2 ? MADV_PAGEOUT : MADV_COLD);
}

static int do_fork(struct step *s)
{
    pid_t pid = fork();

    if (pid == 0)
        obey(s->other);
    s->pid = pid;
    return pid < 0 ? -1 : 0;
}

static int in_shared_mm(void *slot)
{
    obey((int)(intptr_t)slot);
}

/* Another process with this address space. */
static int do_clonevm(struct step *s)
{
    char *stack = new_stack();

    s->pid =
        stack ? clone(in_shared_mm, stack, CLONE_VM | SIGCHLD, (void *)(intptr_t)s->other) : -1;
    return s->pid < 0 ? -1 : 0;
}

/* This program again, with nothing in memory. */
static void exec_as(int slot)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", slot);
    execl("/proc/self/exe", "ksmfuzz", "--serve", text, NULL);
}

static int do_vforkexec(struct step *s)
{
    pid_t pid = vfork();

    if (pid == 0) {
        exec_as(s->other);
        _exit(127);
    }
    s->pid = pid;
    return pid < 0 ? -1 : 0;
}

static int do_exec(struct step *s)
{
    exec_as(s->other);
    return -1;
}

static int do_exit(struct step *s)
{
    (void)s;
    _exit(0);
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    ssize_t length = fd < 0 ? -1 : write(fd, text, strlen(text));
    int error = errno;

    if (fd >= 0)
        close(fd);
    errno = error;
    return length < 0 ? -1 : 0;
}

static int ksmd(const char *run)
{
    return write_file("/sys/kernel/mm/ksm/run", run);
}

static int do_compact(struct step *s)
{
    (void)s;
    return write_file("/proc/sys/vm/compact_memory", "1");
}

static int do_dropcaches(struct step *s)
{
    return write_file("/proc/sys/vm/drop_caches", s->argument % 2 ? "1" : "3");
}

/* Swaps out some of what is not used, if fuzz.py has made a control group. */
static int do_reclaim(struct step *s)
{
    (void)s;
    return write_file("/sys/fs/cgroup/ksmfuzz/memory.reclaim", "512K");
}

/* Rarely unmerges everything on the way. */
static int do_ksmd(struct step *s)
{
    if (ksmd("0") || (s->argument % 8 == 0 && ksmd("2")))
        return -1;
    return ksmd("1");
}

static int do_kill(struct step *s)
{
    return kill(s->pid, SIGKILL);
}

/* Lets the OOM killer take the process, and whoever shares its memory. */
static int do_oomkill(struct step *s)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", s->pid);
    return write_file(path, "1000") || write_file("/proc/sysrq-trigger", "f");
}

static const struct verb {
    const char *name;
    unsigned weight;
    enum kind kind;
    int (*run)(struct step *s);
} verbs[] = {
    {"none", 0, ON_MEMORY, NULL},
    {"fresh", 160, ON_MEMORY, do_fresh},
    {"fill", 120, ON_MEMORY, do_fill},
    {"write", 60, ON_MEMORY, do_write},
    {"read", 60, ON_MEMORY, do_read},
    {"map", 30, ON_MEMORY, do_map},
    {"huge", 3, ON_MEMORY, do_huge},
    {"munmap", 25, ON_MEMORY, do_munmap},
    {"mergeable", 60, ON_MEMORY, do_mergeable},
    {"unmergeable", 15, ON_MEMORY, do_unmergeable},
    {"advise", 60, ON_MEMORY, do_advise},
    {"pageout", 20, ON_MEMORY, do_pageout},
    {"shrink", 8, ON_MEMORY, do_shrink},
    {"grow", 8, ON_MEMORY, do_grow},
    {"move", 30, ON_MEMORY, do_move},
    {"mprotect", 40, ON_MEMORY, do_mprotect},
    {"mlock", 10, ON_MEMORY, do_mlock},
    {"munlock", 15, ON_MEMORY, do_munlock},
    {"movepages", 3, ON_MEMORY, do_movepages},
    {"memorymerge", 4, ON_MEMORY, do_memorymerge},
    {"vmwrite", 15, ON_ANOTHER, do_vmwrite},
    {"poke", 10, ON_ANOTHER, do_poke},
    {"procmadvise", 10, ON_ANOTHER, do_procmadvise},
    {"fork", 30, MAKES_CHILD, do_fork},
    {"clonevm", 5, MAKES_CHILD, do_clonevm},
    {"vforkexec", 4, MAKES_CHILD, do_vforkexec},
    {"exec", 4, REPLACES, do_exec},
    {"exit", 12, ENDS, do_exit},
    {"kill", 12, ENDS, do_kill},
    {"oomkill", 1, ENDS, do_oomkill},
    {"compact", 2, ON_HOST, do_compact},
    {"dropcaches", 1, ON_HOST, do_dropcaches},
    {"reclaim", 4, ON_HOST, do_reclaim},
    {"ksmd", 2, ON_HOST, do_ksmd},
};

/* Reading needs nothing. */
#define INSTEAD 4
#define VERBS (int)(sizeof(verbs) / sizeof(*verbs))

static unsigned long done[VERBS][MAX_ERRNO];
/* A row of steps counts as its first. */
static double seconds[VERBS];
static bool unwanted[VERBS];

static void *do_beside(void *step)
{
    struct step *s = step;

    verbs[s->verb].run(s);
    return NULL;
}

/* The process's side, until the root has gone. */
static void obey(int slot)
{
    int own = OWN_FD + slot;
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    struct order order;

    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    close_range(ROOT_FD, ROOT_FD + SLOTS - 1, 0);
    while (recv(own, &order, sizeof(order), 0) == sizeof(order)) {
        struct answer answer = {0};
        pthread_t thread;
        bool threaded =
            order.beside.verb && !pthread_create(&thread, NULL, do_beside, &order.beside);

        if (verbs[order.main.verb].run(&order.main))
            answer.error = errno;
        answer.value = order.main.pid;
        if (threaded)
            pthread_join(thread, NULL);
        for (unsigned i = 0; i < order.more; i++)
            if (verbs[order.next[i].verb].run(&order.next[i]))
                answer.errors[i] = errno;
        if (send(own, &answer, sizeof(answer), 0) < 0)
            break;
    }
    _exit(0);
}

/* A process that inherits nothing: all of the arena is there, for few operations to fail. */
static void begin_life(int slot)
{
    struct step all = {.pages = ARENA_PAGES, .argument = ROOT_FD};

    do_map(&all);
    if (slot % 2)
        do_mergeable(&all);
    obey(slot);
}

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static unsigned below(unsigned limit)
{
    return (draw() >> 16) % limit;
}

static bool one_in(unsigned number)
{
    return below(number) == 0;
}

static unsigned weight(int verb)
{
    return unwanted[verb] ? 0 : verbs[verb].weight;
}

/* A verb by its weight. */
static int draw_verb(void)
{
    unsigned sum = 0;
    unsigned drawn;
    int verb = 0;

    for (int i = 0; i < VERBS; i++)
        sum += weight(i);
    drawn = below(sum);
    while (drawn >= weight(verb))
        drawn -= weight(verb++);
    return verb;
}

static struct step draw_new_step(void)
{
    struct step s = {.verb = draw_verb(), .other = ROOT};

    s.first = below(ARENA_PAGES - 1);
    s.pages = 1 + below(one_in(16) ? MANY_PAGES : FEW_PAGES);
    if (s.pages > ARENA_PAGES - s.first)
        s.pages = ARENA_PAGES - s.first;
    s.argument = (unsigned)draw();
    return s;
}

static struct step draw_step(void)
{
    struct step s = drawn;

    if (!s.verb)
        return draw_new_step();
    drawn.verb = 0;
    return s;
}

/* Further steps for the process, up to one that is not on memory or to the next pause. */
static void draw_more(struct order *order)
{
    unsigned wanted = below(MORE_STEPS + 1);

    while (order->more < wanted && operation + order->more + 1 < pause_at) {
        struct step s = draw_new_step();

        if (verbs[s.verb].kind != ON_MEMORY) {
            drawn = s;
            return;
        }
        order->next[order->more++] = s;
    }
}

/* A process that lives, other than `except` and, if `except` does, with another mm. */
static int draw_process(int except)
{
    int found[SLOTS], count = 0;

    for (int i = 0; i < SLOTS; i++)
        if (processes[i].alive && (except < 0 || processes[i].mm != processes[except].mm))
            found[count++] = i;
    return count ? found[below(count)] : ROOT;
}

static int free_slot(void)
{
    for (int i = 0; i < SLOTS; i++)
        if (!processes[i].alive)
            return i;
    return ROOT;
}

static int living(void)
{
    int count = 0;

    for (int i = 0; i < SLOTS; i++)
        count += processes[i].alive;
    return count;
}

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void born(int slot, int parent, struct step *s, pid_t pid)
{
    struct process *p = &processes[slot];
    bool shares = verbs[s->verb].run == do_clonevm;

    p->alive = true;
    p->depth = parent == ROOT ? 0 : processes[parent].depth + 1;
    p->mm = shares ? processes[parent].mm : next_mm++;
    p->pid = pid;
    if (printing)
        fprintf(stderr, "%lu: %d is process %d with mm %d\n", operation, slot, pid, p->mm);
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (p->pidfd < 0)
        fail("pidfd_open");
}

/* Returns when the address space has gone, unless another process has it too. */
static void buried(int slot)
{
    struct process *p = &processes[slot];
    struct pollfd end = {p->pidfd, POLLIN, 0};
    struct answer late;

    if (poll(&end, 1, -1) < 0)
        fail("poll");
    while (recv(ROOT_FD + slot, &late, sizeof(late), MSG_DONTWAIT) > 0)
        ;
    while (recv(OWN_FD + slot, &late, sizeof(late), MSG_DONTWAIT) > 0)
        ;
    close(p->pidfd);
    p->alive = false;
}

static void tell(int slot, struct order *order)
{
    if (send(ROOT_FD + slot, order, sizeof(*order), 0) != sizeof(*order))
        fail("send");
}

/* The answer; its error is DIED if the process has ended without one. */
static struct answer hear(int slot)
{
    struct pollfd either[] = {{ROOT_FD + slot, POLLIN, 0}, {processes[slot].pidfd, POLLIN, 0}};
    struct answer answer;

    if (poll(either, 2, -1) < 0)
        fail("poll");
    if (recv(ROOT_FD + slot, &answer, sizeof(answer), MSG_DONTWAIT) == sizeof(answer))
        return answer;
    buried(slot);
    return (struct answer){.error = DIED};
}

static void note(struct step *s, int error)
{
    done[s->verb][error >= 0 && error < MAX_ERRNO ? error : MAX_ERRNO - 1]++;
}

static void show(int slot, struct order *order)
{
    struct step *s = &order->main, *b = &order->beside;

    if (!printing)
        return;
    fprintf(stderr, "%lu: %d (%d) %s %u+%u %u other %d", operation, slot,
            slot == ROOT ? 0 : processes[slot].pid, verbs[s->verb].name, s->first, s->pages,
            s->argument, s->other);
    if (b->verb)
        fprintf(stderr, " beside %s %u+%u %u", verbs[b->verb].name, b->first, b->pages,
                b->argument);
    fputc('\n', stderr);
}

/* Gives the step what its kind needs; one that cannot be had becomes a read. */
static void complete(int slot, struct step *s)
{
    enum kind kind = verbs[s->verb].kind;

    if (kind == REPLACES)
        s->other = slot;
    if (kind == MAKES_CHILD && processes[slot].depth < MAX_DEPTH)
        s->other = free_slot();
    if (kind == ON_ANOTHER)
        s->other = draw_process(slot);
    if (kind == ON_ANOTHER && s->other != ROOT)
        s->pid = processes[s->other].pid;
    if ((kind == MAKES_CHILD || kind == ON_ANOTHER) && s->other == ROOT)
        s->verb = INSTEAD;
}

static struct order draw_order(int slot, struct step *s)
{
    struct order order = {.main = *s};

    complete(slot, &order.main);
    if (one_in(10) && verbs[order.main.verb].kind <= MAKES_CHILD) {
        struct step beside = draw_step();

        if (verbs[beside.verb].kind == ON_MEMORY)
            order.beside = beside;
    }
    return order;
}

/* The OOM killer spares nobody who has the same address space. */
static void bury_sharers(int slot)
{
    for (int i = 0; i < SLOTS; i++)
        if (i != slot && processes[i].alive && processes[i].mm == processes[slot].mm)
            buried(i);
}

static void finish(int slot, struct order *order)
{
    struct step *s = &order->main;
    struct answer answer;

    if (verbs[s->verb].run == do_oomkill)
        bury_sharers(slot);
    if (verbs[s->verb].kind == ENDS) {
        buried(slot);
        note(s, 0);
        return;
    }
    answer = hear(slot);
    note(s, answer.error);
    for (unsigned i = 0; i < order->more; i++)
        note(&order->next[i], answer.error == DIED ? DIED : answer.errors[i]);
    if (answer.error)
        return;
    if (verbs[s->verb].kind == MAKES_CHILD)
        born(s->other, slot, s, answer.value);
    /* A new program says that it is there. */
    if (verbs[s->verb].run == do_vforkexec)
        hear(s->other);
    if (verbs[s->verb].kind == REPLACES)
        processes[slot].mm = next_mm++;
}

static void begin(int slot, struct order *order)
{
    const struct verb *verb = &verbs[order->main.verb];

    show(slot, order);
    if (verb->run != do_kill && verb->run != do_oomkill) {
        tell(slot, order);
        return;
    }
    order->main.pid = processes[slot].pid;
    if (verb->run(&order->main))
        fail(verb->name);
}

/* To two processes at once, which must not both make a child, end or debug each other. */
static void race(int slot, struct order *order)
{
    int second = draw_process(slot);
    struct step s = draw_step();
    struct order other;

    if (second == ROOT || verbs[s.verb].kind > ON_ANOTHER ||
        (verbs[s.verb].run == do_poke && verbs[order->main.verb].run == do_poke)) {
        begin(slot, order);
        finish(slot, order);
        return;
    }
    other = draw_order(second, &s);
    begin(slot, order);
    begin(second, &other);
    finish(slot, order);
    finish(second, &other);
}

static void spawn(void)
{
    struct step nothing = {0};
    int slot = free_slot();
    pid_t pid = fork();

    if (pid == 0)
        begin_life(slot);
    if (pid < 0)
        fail("fork");
    born(slot, ROOT, &nothing, pid);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void do_operation(struct step s)
{
    struct order order;
    int slot;

    if (living() < FIRST_PROCESSES)
        spawn();
    slot = draw_process(ROOT);
    if (verbs[s.verb].kind == ON_HOST) {
        order = (struct order){.main = s};
        show(ROOT, &order);
        note(&s, verbs[s.verb].run(&s) ? errno : 0);
        return;
    }
    order = draw_order(slot, &s);
    if (one_in(8)) {
        race(slot, &order);
        return;
    }
    if (verbs[order.main.verb].kind == ON_MEMORY)
        draw_more(&order);
    begin(slot, &order);
    finish(slot, &order);
    operation += order.more;
}

static void operate(void)
{
    struct step s = draw_step();
    double began = now();

    do_operation(s);
    operation++;
    seconds[s.verb] += now() - began;
}

/* Says where it stands and waits for a line. */
static void report(const char *what)
{
    char line[64];

    printf("%s %lu\n", what, operation);
    for (int i = 0; i < SLOTS; i++)
        if (processes[i].alive)
            printf("process %d %d\n", processes[i].pid, processes[i].mm);
    puts(".");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        exit(3);
}

static void pause_ksmd(void)
{
    if (ksmd("0"))
        fail("ksm/run");
    report("quiescent");
}

static void report_counters(void)
{
    for (int verb = 1; verb < VERBS; verb++) {
        unsigned long all = 0;

        for (int error = 0; error < MAX_ERRNO; error++)
            all += done[verb][error];
        printf("operation %s %lu in %.1f s", verbs[verb].name, all, seconds[verb]);
        for (int error = 1; error < MAX_ERRNO; error++)
            if (done[verb][error])
                printf(" %s:%lu", error == MAX_ERRNO - 1 ? "died" : strerrorname_np(error),
                       done[verb][error]);
        putchar('\n');
    }
}

/* All pairs of sockets are there before the first fork, for every process to inherit. */
static void open_descriptors(void)
{
    int file = memfd_create("ksmfuzz", 0);

    if (ftruncate(file, ARENA_PAGES * PAGE) || dup2(file, FILE_FD) < 0)
        fail("memfd");
    close(file);
    for (int i = 0; i < SLOTS; i++) {
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) || dup2(ends[0], OWN_FD + i) < 0 ||
            dup3(ends[1], ROOT_FD + i, O_CLOEXEC) < 0)
            fail("socketpair");
        close(ends[0]);
        close(ends[1]);
    }
}

static void run(unsigned long operations, unsigned long every)
{
    open_descriptors();
    if (ksmd("1"))
        fail("ksm/run");
    while (operation < operations) {
        pause_at = operation + every < operations ? operation + every : operations;
        while (operation < pause_at)
            operate();
        if (operation < operations) {
            pause_ksmd();
            ksmd("1");
        }
    }
    pause_ksmd();
    if (ksmd("2"))
        fail("ksm/run");
    report("unmerged");
    for (int i = 0; i < SLOTS; i++)
        if (processes[i].alive) {
            kill(processes[i].pid, SIGKILL);
            buried(i);
        }
    report_counters();
    puts("ended");
}

static void leave_out(const char *name)
{
    for (int i = 0; i < VERBS; i++)
        if (!strcmp(verbs[i].name, name))
            unwanted[i] = true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"ops", required_argument, NULL, 'o'},
        {"pause", required_argument, NULL, 'p'},
        {"print", no_argument, NULL, 't'},
        {"serve", required_argument, NULL, 'S'},
        {"without", required_argument, NULL, 'w'},
        {0},
    };
    unsigned long operations = 20000, every = 2000;
    struct answer ready = {.value = getpid()};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            state = strtoul(optarg, NULL, 0) * 0x9e3779b97f4a7c15UL | 1;
        else if (option == 'o')
            operations = strtoul(optarg, NULL, 0);
        else if (option == 'p')
            every = strtoul(optarg, NULL, 0);
        else if (option == 'w')
            leave_out(optarg);
        else if (option == 't')
            printing = true;
        else if (option == 'S') {
            send(OWN_FD + atoi(optarg), &ready, sizeof(ready), 0);
            begin_life(atoi(optarg));
        } else
            return 2;
    }
    if (!state || !every)
        return 2;
    /* Children that end are nobody's business but the root's, who has a pidfd. */
    signal(SIGCHLD, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    run(operations, every);
    return 0;
}
