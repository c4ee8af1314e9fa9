// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which accounts have changed since the daemon last looked.
 *
 * The daemon runs this before a snapshot (BPF_PROG_TEST_RUN), so the hooks do nothing for it. All
 * that the daemon reads of an account is compared. What a program adds later is found by the next
 * run, in whatever order the CPUs see it.
 */

/* By place: accounts that the daemon knows, and what the last run saw of each. */
MAPPED_RECORD(struct look, looks, LOOKS);

/* How far a run is, and how many accounts it has found changed. */
struct looking {
    u64 at;
    u64 found;
};

#define WEAR_WORDS ((2 + AGE_CLASSES) / 2)

/* None of these numbers ever falls, so the sum is the same only if each of them is. */
static __always_inline u64 grown(const volatile struct account *account)
{
    const volatile u64 *wear = (const volatile u64 *)&account->noted;
    u64 sum = account->doubts;

#pragma unroll
    for (int i = 0; i < MOVEMENTS; i++)
        sum += account->moves[i];
#pragma unroll
    for (int i = 0; i < WEAR_WORDS; i++)
        sum += wear[i];
    return sum;
}

/* Whether the account is as it was; from now on it is compared with what it is now. */
static __always_inline bool stands(const volatile struct account *account, struct look *look)
{
    u64 id = account->id, sum = grown(account), start_boottime = account->owner.start_boottime;
    u32 tgid = account->owner.tgid;
    bool same = look->id == id && look->sum == sum && look->start_boottime == start_boottime &&
                look->tgid == tgid;

    look->id = id;
    look->sum = sum;
    look->start_boottime = start_boottime;
    look->tgid = tgid;
#ifdef NODES
#pragma unroll
    for (int i = 0; i < NODES; i++) {
        s32 pages = account->nodes[i];

        same = same && look->nodes[i] == pages;
        look->nodes[i] = pages;
    }
#endif
    return same;
}

/* Called by bpf_loop(), see walk_edge(). */
int look_at(struct looking *looking)
{
    u32 at = looking->at, found = looking->found;
    struct look *look = looks.lookup(&at), *list;
    struct account *account;
    u64 key;

    if (!look)
        return 1;
    looking->at = at + 1;
    key = look->mm;
    if (!key)
        return 0;
    account = accounts.lookup(&key);
    if (account && stands(account, look))
        return 0;
    list = looks.lookup(&found);
    if (list)
        list->changed = at;
    looking->found = found + 1;
    return 0;
}

/* The request has the number of places to look at. Returns how many accounts have changed or gone.
 */
int find_changed(u64 *request)
{
    struct looking looking = {};

    BPF_LOOP(request[0], (void *)CALLBACK_MARK, &looking, 0);
    return looking.found;
}
