// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process that does to its memory what a test tells it.
 *
 *     ksmload SOCKET NAME
 *
 * It connects to the test's Unix socket, says "NAME PID", and then obeys one command
 * per line, answering each with "ok VALUE" or "error MESSAGE" when it is done. Children
 * (fork, clonevm) and new programs (exec) connect anew, so that every process has a
 * connection of its own. tests/workload.py is the other end.
 *
 * Only the first eight bytes of a page are ever written, so pages with equal first
 * words are equal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory.h"
#include "userfault.h"
#include "vfio.h"

#define MAX_REGIONS 32
#define MAX_WORDS 8

struct region {
    char name[32];
    char *base;
    size_t pages;
};

/* One command: its words, and where an answer that is more than "ok" goes. */
struct command {
    char *words[MAX_WORDS];
    int count;
    unsigned long value;
};

struct advice {
    const char *name;
    int value;
};

static struct region regions[MAX_REGIONS];
static const char *socket_path;
static uint64_t writes;

static const struct advice advices[] = {
    {"mergeable", MADV_MERGEABLE},   {"unmergeable", MADV_UNMERGEABLE},
    {"dontneed", MADV_DONTNEED},     {"free", MADV_FREE},
    {"pageout", MADV_PAGEOUT},       {"cold", MADV_COLD},
    {"dontfork", MADV_DONTFORK},     {"dofork", MADV_DOFORK},
    {"wipeonfork", MADV_WIPEONFORK}, {"keeponfork", MADV_KEEPONFORK},
    {"hugepage", MADV_HUGEPAGE},     {"nohugepage", MADV_NOHUGEPAGE},
};

static void serve(const char *name);

static unsigned long number(struct command *c, int index)
{
    return index < c->count ? strtoul(c->words[index], NULL, 0) : 0;
}

static const char *word(struct command *c, int index)
{
    return index < c->count ? c->words[index] : "";
}

static struct region *region(struct command *c)
{
    for (size_t i = 0; i < MAX_REGIONS; i++)
        if (!strcmp(regions[i].name, word(c, 1)))
            return &regions[i];
    errno = ENOENT;
    return NULL;
}

static char *page_at(struct region *r, unsigned long page)
{
    return r->base + page * PAGE;
}

/* Most commands are VERB REGION FIRST COUNT. */
static char *first_page(struct command *c)
{
    struct region *r = region(c);

    return r ? page_at(r, number(c, 2)) : NULL;
}

static size_t bytes(struct command *c)
{
    return number(c, 3) * PAGE;
}

static uint64_t unique(void)
{
    return (uint64_t)getpid() << 40 | 1UL << 39 | ++writes;
}

static int add_region(struct command *c, void *base)
{
    if (base == MAP_FAILED)
        return -1;
    for (size_t i = 0; i < MAX_REGIONS; i++) {
        if (*regions[i].name && strcmp(regions[i].name, word(c, 1)))
            continue;
        snprintf(regions[i].name, sizeof(regions[i].name), "%s", word(c, 1));
        regions[i].base = base;
        regions[i].pages = number(c, 2);
        return 0;
    }
    errno = ENOSPC;
    return -1;
}

/* A region between two pages that are not accessible: an area of its own whatever is near. */
static char *map_apart(size_t pages)
{
    char *base = mmap(NULL, (pages + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED || mprotect(base + PAGE, pages * PAGE, PROT_READ | PROT_WRITE))
        return MAP_FAILED;
    return base + PAGE;
}

/* map REGION PAGES [shared|hugetlb|apart] */
static int do_map(struct command *c)
{
    int flags = MAP_ANONYMOUS | (!strcmp(word(c, 3), "shared") ? MAP_SHARED : MAP_PRIVATE);

    if (!strcmp(word(c, 3), "apart"))
        return add_region(c, map_apart(number(c, 2)));
    if (!strcmp(word(c, 3), "hugetlb"))
        flags |= MAP_HUGETLB;
    return add_region(c, mmap(NULL, number(c, 2) * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0));
}

/* ring REGION PAGES: pages of a packet socket, mapped privately: a VM_MIXEDMAP area. */
static int do_ring(struct command *c)
{
    struct tpacket_req ring = {.tp_block_size = PAGE,
                               .tp_block_nr = number(c, 2),
                               .tp_frame_size = PAGE,
                               .tp_frame_nr = number(c, 2)};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);

    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)))
        return -1;
    return add_region(c,
                      mmap(NULL, number(c, 2) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
}

/* fill REGION FIRST COUNT SEED MODULO: page i has the content (SEED, i % MODULO). */
static int do_fill(struct command *c)
{
    char *page = first_page(c);
    unsigned long modulo = number(c, 5);

    if (!page)
        return -1;
    for (unsigned long i = 0; i < number(c, 3); i++)
        *(uint64_t *)(page + i * PAGE) = number(c, 4) << 32 | ((modulo ? i % modulo : i) + 1);
    return 0;
}

/* write REGION FIRST COUNT: contents that no other page has. */
static int do_write(struct command *c)
{
    char *page = first_page(c);

    if (!page)
        return -1;
    for (unsigned long i = 0; i < number(c, 3); i++)
        *(uint64_t *)(page + i * PAGE) = unique();
    return 0;
}

static void *write_in_thread(void *argument)
{
    return (void *)(intptr_t)do_write(argument);
}

/* threadwrite REGION FIRST COUNT */
static int do_threadwrite(struct command *c)
{
    pthread_t thread;
    void *result;

    errno = pthread_create(&thread, NULL, write_in_thread, c);
    if (errno)
        return -1;
    errno = pthread_join(thread, &result);
    return errno ? -1 : (int)(intptr_t)result;
}

struct churn {
    char *first;
    unsigned long pages;
};

static void *write_for_ever(void *argument)
{
    struct churn *churn = argument;

    for (;;) {
        for (unsigned long i = 0; i < churn->pages; i++)
            *(uint64_t *)(churn->first + i * PAGE) = unique();
        usleep(1000);
    }
    return NULL;
}

/* churn REGION FIRST COUNT: new contents all the time, until the process ends. */
static int do_churn(struct command *c)
{
    struct churn *churn = malloc(sizeof(*churn));
    pthread_t thread;

    if (!churn || !(churn->first = first_page(c)))
        return -1;
    churn->pages = number(c, 3);
    errno = pthread_create(&thread, NULL, write_for_ever, churn);
    return errno ? -1 : 0;
}

/* read REGION FIRST COUNT */
static int do_read(struct command *c)
{
    char *page = first_page(c);

    if (!page)
        return -1;
    for (unsigned long i = 0; i < number(c, 3); i++)
        c->value += *(volatile char *)(page + i * PAGE);
    return 0;
}

static int advice_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++)
        if (!strcmp(advices[i].name, name))
            return advices[i].value;
    return -1;
}

/* madvise REGION FIRST COUNT ADVICE */
static int do_madvise(struct command *c)
{
    char *page = first_page(c);

    return page ? madvise(page, bytes(c), advice_by_name(word(c, 4))) : -1;
}

/* munmap REGION FIRST COUNT */
static int do_munmap(struct command *c)
{
    char *page = first_page(c);

    return page ? munmap(page, bytes(c)) : -1;
}

/* mremap REGION FIRST COUNT NEWCOUNT: shrinks in place, grows where there is room. */
static int do_mremap(struct command *c)
{
    struct region *r = region(c);
    char *page = first_page(c);
    void *moved;

    if (!page)
        return -1;
    moved = mremap(page, bytes(c), number(c, 4) * PAGE, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED)
        return -1;
    if (number(c, 2) == 0)
        r->base = moved;
    return 0;
}

/* move REGION FIRST COUNT [keep]: to a new address; the region follows its first page. */
static int do_move(struct command *c)
{
    struct region *r = region(c);
    char *page = first_page(c);
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    void *target, *moved;

    if (!page)
        return -1;
    target = mmap(NULL, bytes(c), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (target == MAP_FAILED)
        return -1;
    if (!strcmp(word(c, 4), "keep"))
        flags |= MREMAP_DONTUNMAP;
    moved = mremap(page, bytes(c), bytes(c), flags, target);
    if (moved == MAP_FAILED)
        return -1;
    if (number(c, 2) == 0)
        r->base = moved;
    return 0;
}

/* mprotect REGION FIRST COUNT PROT */
static int do_mprotect(struct command *c)
{
    char *page = first_page(c);

    return page ? mprotect(page, bytes(c), (int)number(c, 4)) : -1;
}

static int do_mlock(struct command *c)
{
    char *page = first_page(c);

    return page ? mlock(page, bytes(c)) : -1;
}

static int do_munlock(struct command *c)
{
    char *page = first_page(c);

    return page ? munlock(page, bytes(c)) : -1;
}

/* addr REGION */
static int do_addr(struct command *c)
{
    struct region *r = region(c);

    if (r)
        c->value = (unsigned long)r->base;
    return r ? 0 : -1;
}

/* fork NAME */
static int do_fork(struct command *c)
{
    pid_t pid = fork();

    if (pid == 0) {
        serve(word(c, 1));
        _exit(0);
    }
    c->value = pid;
    return pid < 0 ? -1 : 0;
}

static int in_shared_mm(void *name)
{
    serve(name);
    _exit(0);
}

/* clonevm NAME: another process with this address space. */
static int do_clonevm(struct command *c)
{
    char *stack = new_stack();
    pid_t pid;

    if (!stack)
        return -1;
    pid = clone(in_shared_mm, stack, CLONE_VM | SIGCHLD, strdup(word(c, 1)));
    c->value = pid;
    return pid < 0 ? -1 : 0;
}

/* exec NAME: this program again, with nothing in memory. */
static int do_exec(struct command *c)
{
    return execl("/proc/self/exe", "ksmload", socket_path, word(c, 1), NULL);
}

/* vforkexec NAME */
static int do_vforkexec(struct command *c)
{
    pid_t pid = vfork();

    if (pid == 0) {
        do_exec(c);
        _exit(127);
    }
    c->value = pid;
    return pid < 0 ? -1 : 0;
}

/* exit */
static int do_exit(struct command *c)
{
    (void)c;
    _exit(0);
}

/* comm NAME */
static int do_comm(struct command *c)
{
    return prctl(PR_SET_NAME, word(c, 1));
}

/* memorymerge 0|1 */
static int do_memorymerge(struct command *c)
{
    return prctl(PR_SET_MEMORY_MERGE, number(c, 1), 0, 0, 0);
}

/* vmsplice REGION FIRST COUNT: an extra reference to each, by a pipe that nobody reads. */
static int do_vmsplice(struct command *c)
{
    struct iovec pages = {first_page(c), bytes(c)};
    int ends[2];

    if (!pages.iov_base || pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, bytes(c)) < 0)
        return -1;
    return vmsplice(ends[1], &pages, 1, 0) == (ssize_t)bytes(c) ? 0 : -1;
}

/* pin REGION FIRST COUNT: as a buffer of io_uring, which stays where it is. */
static int do_pin(struct command *c)
{
    struct iovec buffer = {first_page(c), bytes(c)};
    struct io_uring_params parameters = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);

    if (ring < 0)
        return -1;
    return (int)syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1);
}

/* passthrough REGION FIRST COUNT GROUP: pinned for a device in this IOMMU group. */
static int do_passthrough(struct command *c)
{
    char *page = first_page(c);

    return page ? vfio_map(word(c, 4), page, bytes(c)) : -1;
}

/* userfault REGION SEED MODULO: from now on a thread fills its pages, as `fill` would. */
static int do_userfault(struct command *c)
{
    struct region *r = region(c);

    return r ? userfault_begin(r->base, r->pages * PAGE, number(c, 2), number(c, 3)) : -1;
}

/* faults missing|protected: how many that thread has answered. */
static int do_faults(struct command *c)
{
    c->value = strcmp(word(c, 1), "missing") ? userfault.protected : userfault.missing;
    return 0;
}

/* copyin REGION FIRST COUNT: filled before anybody wants them. */
static int do_copyin(struct command *c)
{
    char *page = first_page(c);

    if (!page)
        return -1;
    for (unsigned long i = 0; i < number(c, 3); i++)
        if (userfault_copy(page + i * PAGE))
            return -1;
    return 0;
}

/* zeroin REGION FIRST COUNT */
static int do_zeroin(struct command *c)
{
    char *page = first_page(c);

    return page ? userfault_zero(page, bytes(c)) : -1;
}

/* protect REGION FIRST COUNT 0|1 */
static int do_protect(struct command *c)
{
    char *page = first_page(c);

    return page ? userfault_protect(page, bytes(c), (int)number(c, 4)) : -1;
}

/* movein REGION FIRST COUNT TO: moves pages to a page of the region that is missing. */
static int do_movein(struct command *c)
{
    struct region *r = region(c);

    return r ? userfault_move(page_at(r, number(c, 4)), first_page(c), bytes(c)) : -1;
}

/* vmwrite PID ADDRESS COUNT: into the pages of another process. */
static int do_vmwrite(struct command *c)
{
    for (unsigned long i = 0; i < number(c, 3); i++)
        if (write_into((pid_t)number(c, 1), number(c, 2) + i * PAGE, unique()))
            return -1;
    return 0;
}

/* poke PID ADDRESS COUNT: as a debugger does, read-only areas included. */
static int do_poke(struct command *c)
{
    pid_t pid = (pid_t)number(c, 1);
    int result = 0;

    if (seize(pid))
        return -1;
    for (unsigned long i = 0; i < number(c, 3) && !result; i++)
        result = (int)ptrace(PTRACE_POKEDATA, pid, number(c, 2) + i * PAGE, unique());
    if (ptrace(PTRACE_DETACH, pid, NULL, NULL))
        return -1;
    return result;
}

/* procmadvise PID ADDRESS COUNT ADVICE */
static int do_procmadvise(struct command *c)
{
    return advise_process((pid_t)number(c, 1), number(c, 2), bytes(c), advice_by_name(word(c, 4)));
}

static const struct verb {
    const char *name;
    int (*run)(struct command *c);
} verbs[] = {
    {"map", do_map},
    {"ring", do_ring},
    {"churn", do_churn},
    {"pin", do_pin},
    {"fill", do_fill},
    {"write", do_write},
    {"threadwrite", do_threadwrite},
    {"read", do_read},
    {"madvise", do_madvise},
    {"munmap", do_munmap},
    {"mremap", do_mremap},
    {"move", do_move},
    {"mprotect", do_mprotect},
    {"mlock", do_mlock},
    {"munlock", do_munlock},
    {"addr", do_addr},
    {"fork", do_fork},
    {"clonevm", do_clonevm},
    {"exec", do_exec},
    {"vforkexec", do_vforkexec},
    {"exit", do_exit},
    {"comm", do_comm},
    {"memorymerge", do_memorymerge},
    {"vmsplice", do_vmsplice},
    {"passthrough", do_passthrough},
    {"userfault", do_userfault},
    {"faults", do_faults},
    {"copyin", do_copyin},
    {"zeroin", do_zeroin},
    {"protect", do_protect},
    {"movein", do_movein},
    {"vmwrite", do_vmwrite},
    {"poke", do_poke},
    {"procmadvise", do_procmadvise},
};

static int obey(struct command *c)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
        if (!strcmp(verbs[i].name, word(c, 0)))
            return verbs[i].run(c);
    errno = EINVAL;
    return -1;
}

static void answer(int connection, struct command *c, int result)
{
    char text[128];
    int length = result ? snprintf(text, sizeof(text), "error %s\n", strerror(errno))
                        : snprintf(text, sizeof(text), "ok %lu\n", c->value);

    if (write(connection, text, length) != length)
        _exit(1);
}

static int connect_as(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    char hello[64];
    int length;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof(address)))
        _exit(2);
    prctl(PR_SET_NAME, name);
    length = snprintf(hello, sizeof(hello), "%s %d\n", name, getpid());
    if (write(connection, hello, length) != length)
        _exit(2);
    return connection;
}

/* One packet is one command. Ends with the connection, so that nothing outlives its test. */
static void serve(const char *name)
{
    int connection = connect_as(name);
    char line[256];
    ssize_t length;

    while ((length = read(connection, line, sizeof(line) - 1)) > 0) {
        struct command c = {.count = 0};
        char *rest = line;

        line[length] = '\0';
        while (c.count < MAX_WORDS && (c.words[c.count] = strsep(&rest, " \n")))
            if (*c.words[c.count])
                c.count++;
        answer(connection, &c, obey(&c));
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    socket_path = argv[1];
    /* Children that end are nobody's business but the test's. */
    signal(SIGCHLD, SIG_IGN);
    serve(argv[2]);
    return 0;
}
