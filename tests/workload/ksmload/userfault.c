// SPDX-License-Identifier: GPL-2.0-only
/*
 * userfaultfd, as a guest in post-copy migration has it: a thread fills each page at the first
 * fault, and gives up the write protection of a page at the first write.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../memory.h"
#include "operations.h"

/* Since 6.8; newer than the headers. */
struct userfault_move {
    uint64_t to, from, bytes, mode;
    int64_t moved;
};
#define USERFAULT_MOVE _IOWR(UFFDIO, 0x05, struct userfault_move)

/* Page i of the area gets the content (seed, i % modulo), as by the verb `fill`. */
static struct {
    int fd;
    char *base;
    uint64_t seed, modulo;
    unsigned long missing, protected;
} userfault = {.fd = -1};

static int userfault_copy(char *page)
{
    static char content[65536];
    uint64_t number = (uint64_t)(page - userfault.base) / PAGE;
    struct uffdio_copy copy = {.dst = (uintptr_t)page, .src = (uintptr_t)content, .len = PAGE};

    *(uint64_t *)content = userfault.seed << 32 | (number % userfault.modulo + 1);
    return ioctl(userfault.fd, UFFDIO_COPY, &copy);
}

static int userfault_protect(char *first, size_t bytes, int protect)
{
    struct uffdio_writeprotect range = {
        .range = {(uintptr_t)first, bytes},
        .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };

    return ioctl(userfault.fd, UFFDIO_WRITEPROTECT, &range);
}

static int userfault_zero(char *first, size_t bytes)
{
    struct uffdio_zeropage zero = {.range = {(uintptr_t)first, bytes}};

    return ioctl(userfault.fd, UFFDIO_ZEROPAGE, &zero);
}

static int userfault_move(char *to, char *from, size_t bytes)
{
    struct userfault_move move = {(uintptr_t)to, (uintptr_t)from, bytes, 0, 0};

    return ioctl(userfault.fd, USERFAULT_MOVE, &move);
}

static void *userfault_serve(void *unused)
{
    struct uffd_msg message;

    while (read(userfault.fd, &message, sizeof(message)) == sizeof(message)) {
        char *page = (char *)(message.arg.pagefault.address & ~(PAGE - 1));

        if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
            userfault.protected++;
            userfault_protect(page, PAGE, 0);
        } else {
            userfault.missing++;
            userfault_copy(page);
        }
    }
    return unused;
}

static int userfault_begin(char *base, size_t bytes, uint64_t seed, uint64_t modulo)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
    struct uffdio_register area = {
        .range = {(uintptr_t)base, bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
    };
    pthread_t thread;

    userfault.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (userfault.fd < 0 || ioctl(userfault.fd, UFFDIO_API, &api) ||
        ioctl(userfault.fd, UFFDIO_REGISTER, &area))
        return -1;
    userfault.base = base;
    userfault.seed = seed;
    userfault.modulo = modulo;
    errno = pthread_create(&thread, NULL, userfault_serve, NULL);
    return errno ? -1 : 0;
}

/* userfault REGION SEED MODULO: from now on a thread fills its pages, as `fill` would. */
int do_userfault(struct command *c)
{
    struct region *r = named_region(c);

    return r ? userfault_begin(r->base, r->pages * PAGE, number_at(c, 2), number_at(c, 3)) : -1;
}

/* faults missing|protected: how many that thread has answered. */
int do_faults(struct command *c)
{
    c->value = strcmp(word_at(c, 1), "missing") ? userfault.protected : userfault.missing;
    return 0;
}

/* copyin REGION FIRST COUNT: filled before anybody wants them. */
int do_copyin(struct command *c)
{
    char *page = first_page(c);

    if (!page)
        return -1;
    for (unsigned long i = 0; i < number_at(c, 3); i++)
        if (userfault_copy(page + i * PAGE))
            return -1;
    return 0;
}

/* zeroin REGION FIRST COUNT */
int do_zeroin(struct command *c)
{
    char *page = first_page(c);

    return page ? userfault_zero(page, bytes_of(c)) : -1;
}

/* protect REGION FIRST COUNT 0|1 */
int do_protect(struct command *c)
{
    char *page = first_page(c);

    return page ? userfault_protect(page, bytes_of(c), (int)number_at(c, 4)) : -1;
}

/* movein REGION FIRST COUNT TO: moves pages to a page of the region that is missing. */
int do_movein(struct command *c)
{
    struct region *r = named_region(c);

    return r ? userfault_move(page_at(r, number_at(c, 4)), first_page(c), bytes_of(c)) : -1;
}
