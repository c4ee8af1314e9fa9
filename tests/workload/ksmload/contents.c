// SPDX-License-Identifier: GPL-2.0-only
/* Operations that read and write pages. Only the first eight bytes of one are ever written. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "../memory.h"
#include "operations.h"

static uint64_t writes;

uint64_t unique_content(void)
{
    return (uint64_t)getpid() << 40 | 1UL << 39 | ++writes;
}

/* fill REGION FIRST COUNT SEED MODULO: page i has the content (SEED, i % MODULO). */
int do_fill(struct command *c)
{
    char *page = first_page(c);
    unsigned long modulo = number_at(c, 5);

    if (!page)
        return -1;
    for (unsigned long i = 0; i < number_at(c, 3); i++)
        *(uint64_t *)(page + i * PAGE) = number_at(c, 4) << 32 | ((modulo ? i % modulo : i) + 1);
    return 0;
}

/* write REGION FIRST COUNT: contents that no other page has. */
int do_write(struct command *c)
{
    char *page = first_page(c);

    if (!page)
        return -1;
    for (unsigned long i = 0; i < number_at(c, 3); i++)
        *(uint64_t *)(page + i * PAGE) = unique_content();
    return 0;
}

static void *write_in_thread(void *argument)
{
    return (void *)(intptr_t)do_write(argument);
}

/* threadwrite REGION FIRST COUNT */
int do_threadwrite(struct command *c)
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
            *(uint64_t *)(churn->first + i * PAGE) = unique_content();
        usleep(1000);
    }
    return NULL;
}

/* churn REGION FIRST COUNT: new contents all the time, until the process ends. */
int do_churn(struct command *c)
{
    struct churn *churn = malloc(sizeof(*churn));
    pthread_t thread;

    if (!churn || !(churn->first = first_page(c)))
        return -1;
    churn->pages = number_at(c, 3);
    errno = pthread_create(&thread, NULL, write_for_ever, churn);
    return errno ? -1 : 0;
}

/* read REGION FIRST COUNT */
int do_read(struct command *c)
{
    char *page = first_page(c);

    if (!page)
        return -1;
    for (unsigned long i = 0; i < number_at(c, 3); i++)
        c->value += *(volatile char *)(page + i * PAGE);
    return 0;
}
