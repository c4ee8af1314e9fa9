// SPDX-License-Identifier: GPL-2.0-only
/*
 * The records that the programs share with the daemon, and how they change.
 *
 * An account belongs to one mm_struct, from its first KSM event until its last
 * PTE is gone, at the return of exit_mmap(). The number of PTEs that map a KSM
 * page is not stored but is the sum of what came less what went, so one atomic
 * addition per event keeps the count, the reasons for its movement and the
 * event sequence number.
 */
#include "layout.h"

/* Why a mapping came or went. Arrivals first; the order is part of the map format. */
enum movement {
    IN_MERGED,    /* ksmd replaced the page under a PTE by a KSM page */
    IN_CONVERTED, /* ksmd made the mapped page itself a KSM page, in place */
    IN_OTHER,     /* swap-in of a page that is still KSM, end of a migration */
    IN_FORKED,    /* the mm was made by fork and started with its parent's PTEs */
    OUT_COPIED,   /* COW break: a write, or ksmd unsharing, put a copy in its place */
    OUT_UNMAPPED, /* munmap, madvise, reclaim, start of a migration */
    OUT_EXITED,   /* the mm had no user any more: exit or exec */
    MOVEMENTS,
};

struct account {
    /* Tells this account from an earlier one at the same address. */
    u64 id;
    u64 moves[MOVEMENTS];
    /* Grows with every event after which the count may be wrong until it is read. */
    u64 doubts;
    /* Conversions in flight when they differ: an exact read must wait. */
    u64 conversions_begun;
    u64 conversions_ended;
    /* Owner, by mm->owner: process id and start since boot (ns), as /proc/PID/stat has them. */
    u64 start_boottime;
    u32 tgid;
    u32 unused;
    char comm[16];
};

/* What the daemon read exactly for an account, and which doubts that reading settled. */
struct baseline {
    u64 id;
    s64 mappings;
    u64 doubts;
};

/* Host-wide totals. The first MOVEMENTS of them are the movements. */
enum total {
    T_MERGE_CONVERTED = MOVEMENTS, /* try_to_merge_one_page() outcomes */
    T_MERGE_REPLACED,
    T_MERGE_ALREADY,
    T_MERGE_FAILED,
    T_BREAK_COW,          /* calls of break_cow() */
    T_SHARED_CONVERSIONS, /* conversions of a page that more than one PTE mapped */
    T_FAMILIES_TRUNCATED, /* of which: the fork family was too large to mark */
    T_CONVERSIONS_UNSEEN, /* a merge ended whose beginning was not seen */
    T_EVENTS_LOST,        /* no account could be opened: map full or busy */
    T_STALE_ACCOUNTS,     /* an account outlived its mm: its end was not seen */
    T_MISCOUNTED_MMS,     /* an mm went whose count was not 0 */
    T_MISCOUNTED_PAGES,   /* by how many pages, absolute */
    T_BREAK_COW_LEFT,     /* break_cow() unshared one PTE of a page that others mapped too */
    T_SWAPIN_KSM,         /* a page from the swap cache was still KSM when mapped again */
    T_DOUBTS,             /* an account was put in doubt, or given a name while it may be */
    T_UNATTRIBUTED,       /* counted as unmapped, though it may have been copied */
    TOTALS,
};

/* Written by the daemon. */
struct control {
    /* ksmd's process id. */
    u32 ksmd;
    /* Process whose openings of /proc files are to be answered in `opened`. */
    u32 reader;
    /* 1 until every process has been read: what is opened before is in doubt. */
    u64 opening_doubt;
    /* 1 while the hooks are off: conversions are then only counted in the totals. */
    u64 asleep;
    /* For a successor of the daemon: how many signs of loss have been followed by a sweep. */
    u64 sweep_signs;
    /* How many alarms had been raised when every process was last read. */
    u64 alarms_swept;
};

/* The mm that a /proc file is about, and its owner. */
struct opened {
    u64 mm;
    u64 start_boottime;
    u32 tgid;
    u32 unused;
    char comm[16];
};

/* What the daemon says about these maps to its successor. */
struct manifest {
    char text[16384];
};

/* The one call of try_to_merge_one_page() under way. ksmd is its only caller. */
struct conversion {
    u64 page; /* 0: none */
    u64 mm;
    u64 root;    /* root of the anon_vma tree, which leads to the fork family */
    u64 kpage;   /* not 0: merge by replacement */
    u64 already; /* not 0: the page was KSM before */
    u64 begun;   /* not 0: counted in the account's conversions_begun */
    u64 removed; /* PTEs of the page that went since, already counted */
    u64 foreign; /* of which in another mm */
    u64 last;    /* the page that was converted last */
};

/* Where the rmap hook is called from when a page is copied on write, see cow_call_site.py. */
struct call_site {
    u64 hooked;  /* in the hooked function, behind its call of the trampoline */
    u64 copy;    /* in the caller, behind its call of the hooked function; 0: not known */
    u32 learner; /* thread whose next call is to be learnt */
    u32 seen;    /* its calls so far */
};

/* Calls of migrate_pages() that have taken a KSM page away, and those that are over. */
struct migration {
    u64 begun;
    u64 ended;
    u64 underway; /* calls, whether they have taken one or not */
};

BPF_F_TABLE("hash", u64, struct account, accounts, MAX_ACCOUNTS, ACCOUNT_MAP_FLAGS);
BPF_F_TABLE("hash", u64, struct baseline, baselines, MAX_ACCOUNTS, ACCOUNT_MAP_FLAGS);
BPF_PERCPU_ARRAY(totals, u64, TOTALS);
BPF_ARRAY(controls, struct control, 1);
BPF_ARRAY(manifests, struct manifest, 1);
BPF_ARRAY(migrations, struct migration, 1);
BPF_ARRAY(conversions, struct conversion, 1);
BPF_ARRAY(call_sites, struct call_site, 1);
/* Grows with every event after which any process may be wrong until it is read. */
BPF_ARRAY(alarms, u64, 1);
/* By thread of the reader. */
BPF_HASH(opened, u32, struct opened, 64);

static __always_inline void total(u32 which, u64 amount)
{
    u64 *sum = totals.lookup(&which);

    if (sum)
        *sum += amount;
}

static __always_inline struct control *control(void)
{
    u32 zero = 0;

    return controls.lookup(&zero);
}

static __always_inline struct migration *migration(void)
{
    u32 zero = 0;

    return migrations.lookup(&zero);
}

static __always_inline struct call_site *call_site(void)
{
    u32 zero = 0;

    return call_sites.lookup(&zero);
}

static __always_inline struct conversion *conversion(void)
{
    u32 zero = 0;

    return conversions.lookup(&zero);
}

static __always_inline u64 *alarm(void)
{
    u32 zero = 0;

    return alarms.lookup(&zero);
}

/* Something concerned processes of which it is not known which. */
static __always_inline void raise_alarm(u32 which)
{
    u64 *raised = alarm();

    if (raised)
        lock_xadd(raised, 1);
    total(which, 1);
}

/* Whether an alarm has been raised since every process was last read. */
static __always_inline bool alarmed(void)
{
    struct control *c = control();
    u64 *raised = alarm();

    return c && raised && *raised != c->alarms_swept;
}

/* Writes process id, start and name of a task to an account, or to an opened file. */
#define NAME_OWNER(record, task)                                                                   \
    do {                                                                                           \
        u64 leader = FIELD(task, task_struct_group_leader);                                        \
                                                                                                   \
        (record)->tgid = read_u32((task) + OFF_task_struct_tgid);                                  \
        (record)->start_boottime = FIELD(leader, task_struct_start_boottime);                      \
        bpf_probe_read_kernel((record)->comm, sizeof((record)->comm),                              \
                              (void *)(leader + OFF_task_struct_comm));                            \
    } while (0)

/*
 * Whether the owner of an mm has its process id. In fork it comes last: until then the child is
 * known by its parent's mm at first, and then by its parent's leader, who has another mm. The
 * leader of a process may also have ended before its threads, and has none.
 */
static __always_inline bool born(u64 owner, u64 mm)
{
    u64 of_leader;

    if (!owner || FIELD(owner, task_struct_mm) != mm)
        return false;
    of_leader = FIELD(FIELD(owner, task_struct_group_leader), task_struct_mm);
    return !of_leader || of_leader == mm;
}

static __always_inline struct account *open_account(u64 mm, u64 owner, u64 forked, u64 doubts)
{
    struct account fresh = {};
    struct account *account;

    fresh.id = bpf_ktime_get_ns();
    fresh.moves[IN_FORKED] = forked;
    fresh.doubts = doubts;
    /* on_fork() gives the account of one that is not born its name. */
    if (born(owner, mm))
        NAME_OWNER(&fresh, owner);
    accounts.insert(&mm, &fresh);
    account = accounts.lookup(&mm);
    if (!account)
        raise_alarm(T_EVENTS_LOST);
    if (doubts)
        total(T_DOUBTS, 1);
    return account;
}

static __always_inline struct account *account_of(u64 mm)
{
    struct account *account = accounts.lookup(&mm);
    struct control *c;
    u64 owner;

    if (account)
        return account;
    c = control();
    owner = FIELD(mm, mm_struct_owner);
    /* Fork may still be copying PTEs, of which nobody has told yet. */
    if (!c || !born(owner, mm))
        return open_account(mm, owner, 0, 1);
    return open_account(mm, owner, 0, c->opening_doubt);
}

static __always_inline void move(struct account *account, enum movement why)
{
    lock_xadd(&account->moves[why], 1);
    total(why, 1);
}

static __always_inline s64 baseline_of(u64 mm, struct account *account, u64 *settled)
{
    struct baseline *baseline = baselines.lookup(&mm);

    *settled = 0;
    if (!baseline || baseline->id != account->id)
        return 0;
    *settled = baseline->doubts;
    return baseline->mappings;
}

static __always_inline s64 mappings(u64 mm, struct account *account, u64 *settled)
{
    u64 *m = account->moves;

    return baseline_of(mm, account, settled) + m[IN_MERGED] + m[IN_CONVERTED] + m[IN_OTHER] +
           m[IN_FORKED] - m[OUT_COPIED] - m[OUT_UNMAPPED] - m[OUT_EXITED];
}

/* Does without account_of(): the walk of a fork family has this in its loop. */
static __always_inline void doubt(u64 mm)
{
    struct account *account = accounts.lookup(&mm);

    if (!account)
        account = open_account(mm, FIELD(mm, mm_struct_owner), 0, 0);
    if (!account)
        return;
    lock_xadd(&account->doubts, 1);
    total(T_DOUBTS, 1);
}
