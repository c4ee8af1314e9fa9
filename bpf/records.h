/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The records that the programs share with the daemon.
 *
 * An account belongs to one mm_struct, from its first KSM event until its last
 * PTE is gone, at the return of exit_mmap(). The number of PTEs that map a KSM
 * page is not stored. It is the sum of arrivals minus departures, so one atomic
 * addition per event keeps the count, the reasons for its movement and the
 * event sequence number.
 */
#pragma once

#include "layout.h"

/* Why a mapping came or went. Arrivals first; the order is part of the map format. */
enum movement {
    IN_MERGED,    /* ksmd replaced the page under a PTE by a KSM page */
    IN_CONVERTED, /* ksmd made the mapped page itself a KSM page, in place */
    IN_OTHER,     /* swap-in of a page that is still KSM, end of a migration */
    IN_FORKED,    /* fork created the mm, which started with its parent's PTEs */
    OUT_COPIED,   /* COW break: a write, or ksmd unsharing, put a copy in its place */
    OUT_UNMAPPED, /* munmap, madvise, reclaim, start of a migration */
    OUT_EXITED,   /* the mm lost its last user: exit or exec */
    MOVEMENTS,
};

/* A process: its id, and its start since boot (ns), as in /proc/PID/stat. */
struct owner {
    u64 start_boottime;
    u32 tgid;
    u32 unused;
    char comm[16];
};

/*
 * Ages of mappings are counted in classes: less than a second, less than 2, 4, 8 ..., and all that
 * are older. See ages.c.
 */
#define AGE_CLASSES 18

struct account {
    /* Distinguishes this account from an earlier one at the same address. */
    u64 id;
    u64 moves[MOVEMENTS];
    /* Grows with every event after which the count may be wrong until it is read. */
    u64 doubts;
    /* By mm->owner. */
    struct owner owner;
    /* PTEs without an event, such as those that fork copies, can only have come before. */
    u64 unseen_until;
    /*
     * Of sampled pages: merges whose time is known, those undone within one full scan, and copies
     * on write by the age of the mapping. They are small, and stop at their largest value.
     */
    u32 noted;
    u32 wasted;
    u32 ages[AGE_CLASSES];
#ifdef NODES
    /* Arrivals minus departures, by node of the page; without what IN_FORKED counts. */
    s32 nodes[NODES];
#endif
};

/* What the daemon read exactly for an account, and which doubts that read settled. */
struct baseline {
    u64 id;
    s64 mappings;
    u64 doubts;
#ifdef NODES
    /* The same by node, which only a longer read finds. */
    u64 node_doubts;
    s32 nodes[NODES];
#endif
};

/* Totals of the host. The first MOVEMENTS of them are the movements. */
enum total {
    T_MERGE_CONVERTED = MOVEMENTS, /* try_to_merge_one_page() outcomes */
    T_MERGE_REPLACED,
    T_MERGE_ALREADY,
    T_MERGE_FAILED,
    T_BREAK_COW,          /* calls of break_cow() */
    T_SHARED_CONVERSIONS, /* conversions of a page that more than one PTE mapped */
    T_FAMILIES_TRUNCATED, /* those whose fork family was too large to mark */
    T_CONVERSIONS_UNSEEN, /* a merge ended whose beginning was missed */
    T_EVENTS_LOST,        /* no account could be opened: map full or busy */
    T_STALE_ACCOUNTS,     /* an account outlived its mm, whose end was missed */
    T_MISCOUNTED_MMS,     /* an mm went whose count was not 0 */
    T_MISCOUNTED_PAGES,   /* by how many pages, absolute */
    T_BREAK_COW_LEFT,     /* break_cow() unshared one PTE of a page that others mapped too */
    T_SWAPIN_KSM,         /* a page from the swap cache was still KSM when mapped again */
    T_DOUBTS,             /* an account was put in doubt, or given a name while it may be */
    T_UNATTRIBUTED,       /* counted as unmapped, though it may have been copied */
    T_FAMILIES_CHANGED,   /* shared conversions whose fork family changed in each of the walks */
    T_AGES_NOTED,         /* merges of sampled pages whose time is known */
    T_AGES_WASTED,        /* those undone by a write within one full scan */
    T_AGES_UNSEEN,        /* departures from sampled pages whose arrival was not seen */
    T_AGES_AMBIGUOUS,     /* it is not known which of several arrivals belongs to it */
    T_AGES_MOVED,         /* the page was migrated */
    T_AGES_LOST,          /* arrivals that were not noted: map full or busy */
    TOTALS,
};

/* Room for the totals of one part of the CPUs, whole cache lines. */
#define TOTALS_ROOM 32
#define TOTALS_PARTS 64

/* The same for ages. Only sampled pages have any, so fewer parts will do. */
#define AGES_ROOM 64
#define AGES_PARTS 16

/* Written by the daemon. */
struct control {
    /* ksmd's process id. */
    u32 ksmd;
    /* The process whose openings of /proc files are answered in `opened`. */
    u32 reader;
    /* 1 until every process has been read: accounts opened before are in doubt. */
    u64 opening_doubt;
    /* 1 while the hooks are off: conversions are then counted only in the totals. */
    u64 asleep;
    /* For the daemon's successor: how many signs of loss a sweep has followed. */
    u64 sweep_signs;
    /* How many alarms had been raised when every process was last read. */
    u64 alarms_swept;
    /* Ages are kept of one page of this number and one, which is a power of two. */
    u64 age_mask;
    /* When the hooks came on, by the clock of the programs. What is older is not known. */
    u64 ages_since;
    /* How long ksmd takes for one full scan; 0: not known. */
    u64 scan_ns;
    /* For the daemon: since when every call of migrate_pages() has been seen, by the same clock. */
    u64 calls_since;
};

/*
 * The mm that a /proc file belongs to (NULL for a kernel thread), and its owner. The daemon writes
 * which of its threads will open a file; a program adds the rest.
 */
struct opened {
    u64 thread;
    u64 seen;
    struct mm_struct *mm;
    struct owner owner;
};

/*
 * How many deletions of accounts have begun, and ended. An iterator lists a hash map without a
 * lock. If an element is deleted and reused, the iterator follows it into another bucket. So a list
 * is complete only if no account was deleted meanwhile. And how many accounts programs have opened,
 * because the daemon may not know them: it looks only at those it knows.
 */
struct forgetting {
    u64 begun;
    u64 ended;
    u64 opened;
};

/* An account that the daemon knows, and what was seen of it; see looks.c. */
#define LOOKS 1024
struct look {
    u64 mm; /* 0: the place is free */
    u64 id;
    u64 sum; /* of the numbers that only grow */
    u64 start_boottime;
    u32 tgid;
    u32 changed; /* from place 0 on: the places of accounts that have changed */
#ifdef NODES
    s32 nodes[NODES];
#endif
};

/* What the daemon tells its successor about these maps. */
struct manifest {
    char text[16384];
};

/*
 * The one call of try_to_merge_one_page() under way. Only ksmd calls it. Until the call is over, no
 * exact read of its mm counts, and if the page is shared, no read of any process.
 */
struct conversion {
    u64 serial;        /* grows with every call */
    struct page *page; /* NULL: none is under way */
    struct mm_struct *mm;
    struct anon_vma *root; /* root of the anon_vma tree, which leads to the fork family */
    struct page *kpage;    /* not NULL: merge by replacement */
    u64 already;           /* not 0: the page was KSM before */
    u64 seen;              /* not 0: the hooks were on when it began */
    u64 shared;            /* not 0: other PTEs map the page too */
    u64 gone;              /* not 0: a PTE that mapped the page has gone meanwhile */
    struct page *last;     /* the page that was converted last */
};

/*
 * The last processes that were moved to another cgroup: the number of the move in the upper half
 * of a word, whose place is that number by modulo, and the process id in the lower.
 */
#define CGROUP_MOVES 256
struct cgroup_moves {
    u64 last; /* the number of the last move; the first one is 1 */
    u64 processes[CGROUP_MOVES];
};

/* The mm that the daemon is reading exactly, and how often PTEs were moved in it since. */
struct reading {
    struct mm_struct *mm;
    u64 moved;
};

/* Where the kernel calls the rmap hook when it copies a page on write, see cow_call_site.py. */
struct call_site {
    u64 hooked;   /* in the hooked function, behind its call of the trampoline */
    u64 copy;     /* in the caller, behind its call of the hooked function; 0: not known */
    u64 function; /* where that call leads */
    u32 learner;  /* thread whose next call to learn */
    u32 seen;     /* its calls so far */
};

/* Where page->flags has the number of the node that a page lies on, see node_shift.py. */
struct node_place {
    u64 shift; /* above all other flags; 0: not known */
    u64 flags; /* those of the page of the learner's last call */
};

/* Calls of migrate_pages() that have taken a KSM page away, and those that are over. */
struct migration {
    u64 begun;
    u64 ended;
    u64 underway; /* calls, whether they have taken one or not */
};
