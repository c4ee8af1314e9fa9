// SPDX-License-Identifier: GPL-2.0-only
/* The random generator, and the steps that it draws. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "verbs.h"

static uint64_t state;
/* Drawn already, as it ends a row of steps on one process' memory. */
static struct step drawn;
static bool unwanted[VERBS];

void seed_draws(unsigned long seed)
{
    state = seed * 0x9e3779b97f4a7c15UL | 1;
}

bool seeded(void)
{
    return state;
}

void leave_out(const char *name)
{
    for (int i = 0; i < VERBS; i++)
        if (!strcmp(verbs[i].name, name))
            unwanted[i] = true;
}

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

unsigned below(unsigned limit)
{
    return (draw() >> 16) % limit;
}

bool one_in(unsigned number)
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

struct step draw_step(void)
{
    struct step s = drawn;

    if (!s.verb)
        return draw_new_step();
    drawn.verb = 0;
    return s;
}

void draw_more(struct order *order, unsigned long room)
{
    unsigned wanted = below(MORE_STEPS + 1);

    while (order->more < wanted && order->more + 1 < room) {
        struct step s = draw_new_step();

        if (verbs[s.verb].kind != ON_MEMORY) {
            drawn = s;
            return;
        }
        order->next[order->more++] = s;
    }
}
