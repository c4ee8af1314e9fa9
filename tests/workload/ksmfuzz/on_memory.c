// SPDX-License-Identifier: GPL-2.0-only
/* Operations of a process on its own memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#include "arena.h"
#include "operations.h"

/* Linux 6.8; for older headers. */
#define UFFD_MOVE (1 << 16)
#define UFFD_MOVE_HOLES 2
struct moving {
    uint64_t target, source, length, mode;
    int64_t moved;
};
#define UFFD_DO_MOVE _IOWR(UFFDIO, 0x05, struct moving)

static _Thread_local sigjmp_buf fault;

static void on_fault(int number)
{
    (void)number;
    siglongjmp(fault, 1);
}

void survive_faults(void)
{
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};

    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* Reads or writes, as far as the pages are there and allow it. */
static int touch(struct step *s, uint64_t (*content)(struct step *s, unsigned page))
{
    volatile unsigned page = 0;
    volatile bool faulted = false;

    for (; page < s->pages; page++) {
        volatile uint64_t *word = (uint64_t *)page_at(s->first + page);

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

int do_fill(struct step *s)
{
    return touch(s, common);
}

int do_write(struct step *s)
{
    return touch(s, unique_content);
}

int do_read(struct step *s)
{
    return touch(s, NULL);
}

static int map(struct step *s, int flags, int fd)
{
    void *base =
        mmap(page_at(s->first), bytes_of(s), PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);

    return base == MAP_FAILED ? -1 : 0;
}

/* Private memory, rarely shared memory or private memory of a file. */
int do_map(struct step *s)
{
    if (s->argument % 16 == 0)
        return map(s, MAP_SHARED | MAP_ANONYMOUS, -1);
    if (s->argument % 16 == 1)
        return map(s, MAP_PRIVATE, FILE_FD);
    return map(s, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* What makes most of what merges. */
int do_fresh(struct step *s)
{
    if (map(s, MAP_PRIVATE | MAP_ANONYMOUS, -1) ||
        madvise(page_at(s->first), bytes_of(s), MADV_MERGEABLE))
        return -1;
    return do_fill(s);
}

/* One huge page, if the kernel has one; parts of it may be fresh or equal later. */
int do_huge(struct step *s)
{
    struct step whole = {.pages = HUGE_PAGES, .argument = s->argument};

    if (map(&whole, MAP_PRIVATE | MAP_ANONYMOUS, -1) ||
        madvise(page_at(0), bytes_of(&whole), MADV_HUGEPAGE))
        return -1;
    whole.pages = s->pages;
    return do_write(&whole) || madvise(page_at(0), HUGE_PAGES * PAGE, MADV_MERGEABLE) ? -1 : 0;
}

int do_munmap(struct step *s)
{
    return munmap(page_at(s->first), bytes_of(s));
}

static const int advices[] = {
    MADV_DONTNEED,      MADV_DONTNEED,     MADV_FREE,         MADV_PAGEOUT,    MADV_PAGEOUT,
    MADV_COLD,          MADV_DONTFORK,     MADV_DOFORK,       MADV_DOFORK,     MADV_WIPEONFORK,
    MADV_HUGEPAGE,      MADV_NOHUGEPAGE,   MADV_KEEPONFORK,   MADV_KEEPONFORK, MADV_POPULATE_WRITE,
    MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_GUARD_REMOVE,
};

static int some_advice(struct step *s)
{
    return advices[s->argument % (sizeof(advices) / sizeof(*advices))];
}

int do_advise(struct step *s)
{
    return madvise(page_at(s->first), bytes_of(s), some_advice(s));
}

int do_mergeable(struct step *s)
{
    return madvise(page_at(s->first), bytes_of(s), MADV_MERGEABLE);
}

int do_unmergeable(struct step *s)
{
    return madvise(page_at(s->first), bytes_of(s), MADV_UNMERGEABLE);
}

int do_pageout(struct step *s)
{
    return madvise(page_at(s->first), bytes_of(s), MADV_PAGEOUT);
}

int do_shrink(struct step *s)
{
    return mremap(page_at(s->first), bytes_of(s), (s->pages / 2 + 1) * PAGE, 0) == MAP_FAILED ? -1
                                                                                              : 0;
}

/* Succeeds only in front of a hole. */
int do_grow(struct step *s)
{
    return mremap(page_at(s->first), bytes_of(s), (s->pages + 4) * PAGE, 0) == MAP_FAILED ? -1 : 0;
}

int do_move(struct step *s)
{
    char *target = page_at(s->argument % (ARENA_PAGES - s->pages));
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (s->argument & 1 << 16 ? MREMAP_DONTUNMAP : 0);

    return mremap(page_at(s->first), bytes_of(s), bytes_of(s), flags, target) == MAP_FAILED ? -1
                                                                                            : 0;
}

/* There and back, many times: between two halves of what somebody may read meanwhile. */
int do_shuttle(struct step *s)
{
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    size_t half = (s->pages + 1) / 2 * PAGE;
    char *here = page_at(s->first), *there = here + half;

    if (s->first + 2 * half / PAGE > ARENA_PAGES)
        return do_read(s);
    for (unsigned i = 0; i < 2 * (4 + s->argument % 29); i++) {
        char *from = i % 2 ? there : here;

        if (mremap(from, half, half, flags, i % 2 ? here : there) == MAP_FAILED)
            return -1;
    }
    return 0;
}

/* Khugepaged's work, at once: KSM pages end in a huge page. */
int do_collapse(struct step *s)
{
    struct step whole = {.pages = HUGE_PAGES};

    (void)s;
    return madvise(page_at(0), bytes_of(&whole), MADV_COLLAPSE);
}

/* What is suspected to break soon moves to another frame. Each costs the machine a frame. */
int do_offline(struct step *s)
{
    return madvise(page_at(s->first), PAGE, MADV_SOFT_OFFLINE);
}

/* Since 6.8. Whoever waits for a missing page meanwhile goes on when the descriptor is closed. */
static int move_by(int uffd, struct step *s, unsigned target)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_MOVE};
    struct uffdio_register area = {
        {(unsigned long)page_at(target), bytes_of(s)}, UFFDIO_REGISTER_MODE_MISSING, 0};
    struct moving moving = {area.range.start, (unsigned long)page_at(s->first), area.range.len,
                            UFFD_MOVE_HOLES, 0};

    if (ioctl(uffd, UFFDIO_API, &api) || madvise(page_at(target), bytes_of(s), MADV_DONTNEED) ||
        ioctl(uffd, UFFDIO_REGISTER, &area))
        return -1;
    return ioctl(uffd, UFFD_DO_MOVE, &moving);
}

int do_uffdmove(struct step *s)
{
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    int result, error;

    if (uffd < 0)
        return -1;
    result = move_by(uffd, s, s->argument % (ARENA_PAGES - s->pages));
    error = errno;
    close(uffd);
    errno = error;
    return result ? -1 : 0;
}

/* A child that is gone again before anybody knows it; other threads may make theirs meanwhile. */
int do_flash(struct step *s)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (s->argument % 2)
            do_write(s);
        _exit(0);
    }
    /* Nobody waits for it: SIGCHLD is ignored, and so this fails when the child is gone. */
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return pid < 0 ? -1 : 0;
}

/* Mostly back to all rights, for what may be written to remain. */
int do_mprotect(struct step *s)
{
    static const int rights[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
                                 PROT_READ | PROT_WRITE};

    return mprotect(page_at(s->first), bytes_of(s), rights[s->argument % 4]);
}

int do_mlock(struct step *s)
{
    return mlock(page_at(s->first), bytes_of(s));
}

int do_munlock(struct step *s)
{
    return munlock(page_at(s->first), bytes_of(s));
}

/* To one of the nodes. */
int do_movepages(struct step *s)
{
    int node = s->argument % count_nodes();
    void *pages[FEW_PAGES];
    int nodes[FEW_PAGES], status[FEW_PAGES];
    unsigned count = s->pages < FEW_PAGES ? s->pages : FEW_PAGES;

    for (unsigned i = 0; i < count; i++) {
        pages[i] = page_at(s->first + i);
        nodes[i] = node;
    }
    return syscall(SYS_move_pages, 0, count, pages, nodes, status, 2) ? -1 : 0;
}

int do_memorymerge(struct step *s)
{
    return prctl(PR_SET_MEMORY_MERGE, s->argument % 4 ? 1 : 0, 0, 0, 0);
}
