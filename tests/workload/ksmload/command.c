// SPDX-License-Identifier: GPL-2.0-only
/* The words of a command, and the regions that they name. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../memory.h"
#include "command.h"

#define MAX_REGIONS 32

struct advice {
    const char *name;
    int value;
};

static struct region regions[MAX_REGIONS];

static const struct advice advices[] = {
    {"hwpoison", MADV_HWPOISON},     {"soft_offline", MADV_SOFT_OFFLINE},
    {"mergeable", MADV_MERGEABLE},   {"unmergeable", MADV_UNMERGEABLE},
    {"dontneed", MADV_DONTNEED},     {"free", MADV_FREE},
    {"pageout", MADV_PAGEOUT},       {"cold", MADV_COLD},
    {"dontfork", MADV_DONTFORK},     {"dofork", MADV_DOFORK},
    {"wipeonfork", MADV_WIPEONFORK}, {"keeponfork", MADV_KEEPONFORK},
    {"collapse", MADV_COLLAPSE},     {"populate", MADV_POPULATE_WRITE},
    {"hugepage", MADV_HUGEPAGE},     {"nohugepage", MADV_NOHUGEPAGE},
};

unsigned long number_at(struct command *c, int index)
{
    return index < c->count ? strtoul(c->words[index], NULL, 0) : 0;
}

const char *word_at(struct command *c, int index)
{
    return index < c->count ? c->words[index] : "";
}

struct region *named_region(struct command *c)
{
    for (size_t i = 0; i < MAX_REGIONS; i++)
        if (!strcmp(regions[i].name, word_at(c, 1)))
            return &regions[i];
    errno = ENOENT;
    return NULL;
}

char *page_at(struct region *r, unsigned long page)
{
    return r->base + page * PAGE;
}

char *first_page(struct command *c)
{
    struct region *r = named_region(c);

    return r ? page_at(r, number_at(c, 2)) : NULL;
}

size_t bytes_of(struct command *c)
{
    return number_at(c, 3) * PAGE;
}

int add_region(struct command *c, void *base)
{
    if (base == MAP_FAILED)
        return -1;
    for (size_t i = 0; i < MAX_REGIONS; i++) {
        if (*regions[i].name && strcmp(regions[i].name, word_at(c, 1)))
            continue;
        snprintf(regions[i].name, sizeof(regions[i].name), "%s", word_at(c, 1));
        regions[i].base = base;
        regions[i].pages = number_at(c, 2);
        return 0;
    }
    errno = ENOSPC;
    return -1;
}

int advice_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++)
        if (!strcmp(advices[i].name, name))
            return advices[i].value;
    return -1;
}
