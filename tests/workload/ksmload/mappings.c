// SPDX-License-Identifier: GPL-2.0-only
/* Operations on mappings: which memory there is, and what the kernel may do to it. */
#define _GNU_SOURCE
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>

#include "../memory.h"
#include "operations.h"

/* A region between two pages that are not accessible: an area of its own whatever is near. */
static char *map_apart(size_t pages)
{
    char *base = mmap(NULL, (pages + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED || mprotect(base + PAGE, pages * PAGE, PROT_READ | PROT_WRITE))
        return MAP_FAILED;
    return base + PAGE;
}

/* map REGION PAGES [shared|hugetlb|apart] */
int do_map(struct command *c)
{
    int flags = MAP_ANONYMOUS | (!strcmp(word_at(c, 3), "shared") ? MAP_SHARED : MAP_PRIVATE);

    if (!strcmp(word_at(c, 3), "apart"))
        return add_region(c, map_apart(number_at(c, 2)));
    if (!strcmp(word_at(c, 3), "hugetlb"))
        flags |= MAP_HUGETLB;
    return add_region(c, mmap(NULL, number_at(c, 2) * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0));
}

/* ring REGION PAGES: pages of a packet socket, mapped privately: a VM_MIXEDMAP area. */
int do_ring(struct command *c)
{
    struct tpacket_req ring = {.tp_block_size = PAGE,
                               .tp_block_nr = number_at(c, 2),
                               .tp_frame_size = PAGE,
                               .tp_frame_nr = number_at(c, 2)};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);

    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)))
        return -1;
    return add_region(
        c, mmap(NULL, number_at(c, 2) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
}

/* madvise REGION FIRST COUNT ADVICE */
int do_madvise(struct command *c)
{
    char *page = first_page(c);

    return page ? madvise(page, bytes_of(c), advice_by_name(word_at(c, 4))) : -1;
}

/* munmap REGION FIRST COUNT */
int do_munmap(struct command *c)
{
    char *page = first_page(c);

    return page ? munmap(page, bytes_of(c)) : -1;
}

/* mremap REGION FIRST COUNT NEWCOUNT: shrinks in place, grows where there is room. */
int do_mremap(struct command *c)
{
    struct region *r = named_region(c);
    char *page = first_page(c);
    void *moved;

    if (!page)
        return -1;
    moved = mremap(page, bytes_of(c), number_at(c, 4) * PAGE, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED)
        return -1;
    if (number_at(c, 2) == 0)
        r->base = moved;
    return 0;
}

/* move REGION FIRST COUNT [keep]: to a new address; the region follows its first page. */
int do_move(struct command *c)
{
    struct region *r = named_region(c);
    char *page = first_page(c);
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    void *target, *moved;

    if (!page)
        return -1;
    target = mmap(NULL, bytes_of(c), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (target == MAP_FAILED)
        return -1;
    if (!strcmp(word_at(c, 4), "keep"))
        flags |= MREMAP_DONTUNMAP;
    moved = mremap(page, bytes_of(c), bytes_of(c), flags, target);
    if (moved == MAP_FAILED)
        return -1;
    if (number_at(c, 2) == 0)
        r->base = moved;
    return 0;
}

/* mprotect REGION FIRST COUNT PROT */
int do_mprotect(struct command *c)
{
    char *page = first_page(c);

    return page ? mprotect(page, bytes_of(c), (int)number_at(c, 4)) : -1;
}

int do_mlock(struct command *c)
{
    char *page = first_page(c);

    return page ? mlock(page, bytes_of(c)) : -1;
}

int do_munlock(struct command *c)
{
    char *page = first_page(c);

    return page ? munlock(page, bytes_of(c)) : -1;
}

/* addr REGION */
int do_addr(struct command *c)
{
    struct region *r = named_region(c);

    if (r)
        c->value = (unsigned long)r->base;
    return r ? 0 : -1;
}
