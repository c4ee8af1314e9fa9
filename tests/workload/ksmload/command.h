/* SPDX-License-Identifier: GPL-2.0-only */
/* What the test tells a process: words, most of them VERB REGION FIRST COUNT. */
#pragma once
#include <stddef.h>

#define MAX_WORDS 8

/* Pages are counted from the beginning of a region. */
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

/* The word or number at this place; "" or 0 if there are fewer. */
const char *word_at(struct command *c, int index);
unsigned long number_at(struct command *c, int index);

/* The region that the command is about, NULL if there is none. */
struct region *named_region(struct command *c);
/* Gives what was mapped at `base` the name that the command says; -1 for MAP_FAILED. */
int add_region(struct command *c, void *base);

char *page_at(struct region *r, unsigned long page);
/* Of the pages that the command is about. */
char *first_page(struct command *c);
size_t bytes_of(struct command *c);

/* -1 for an unknown name. */
int advice_by_name(const char *name);
