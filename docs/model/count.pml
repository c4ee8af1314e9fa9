/*
 * One page, the processes that map it, the hooks, and the daemon that reads page tables.
 * What is modelled and why that is enough: README.md. `variants.py` says which -D make what.
 *
 * Property: whenever nobody holds the page-table lock of a process, its count equals the number of
 * its PTEs that map a KSM page, or it is in doubt, or it is its own conversion that is under way.
 */
#define M 0 /* ksmd converts its page */
#define S 1 /* shares the page with it by fork */
#define T 2 /* is forked off S */
#define MMS 3

#define PAGE 0   /* the page in conversion; 0: none */
#define SHARED 1 /* a conversion of a shared page is under way */
#define KSM 2    /* the page's mapping has both low bits */
#define MAPCOUNT 3
#define FOLIO 4 /* lock of the page */
#define TREE 5  /* changes of the anon_vma tree, begun and ended, as the hooks count them */
#define ALARMS 6
#define LIVE 7  /* T is born: its parent's fork has returned */
#define BEGUN 8 /* conversions of M */
#define ENDED 9
#define FLAG 10 /* a removal has met the page in conversion */
#define TABLE(mm) (11 + mm) /* its page-table lock */
#define ARRIVED(mm) (14 + mm)
#define DEPARTED(mm) (17 + mm)
#define DOUBTS(mm) (20 + mm)
#define MOVED(mm) (23 + mm) /* calls of move_page_tables() */
#define PLACES 26

#define KSMD 0
#define MUTATOR 1
#define CPUS 2

#include "memory.pml"

/* What is not there in a variant that is broken by that. */
#ifndef SIGN
#define SIGN 2 /* where sharing is seen; 0: at the return only, 1: on entry of the merge, 2: of write_protect_page() */
#endif
#ifndef ZAPS
#define ZAPS 1
#endif
#ifndef READS
#define READS 2
#endif

/* PTEs are guarded by the page-table lock, so no CPU sees an old one. */
mtype = { none, mapped, swapped };
mtype pte[MMS];
bit slot[MMS]; /* in which of its two areas */
bit writing[MMS]; /* its mmap lock is held for writing */
bit merging; /* ksmd holds M's mmap lock for reading */
bit huge; /* the page is part of a huge one: no mapcount of its own */
bit in_tree[MMS];
bit in_proc; /* T has a process id */
bit exiting; /* S has lost its last user: nobody can read it, and it still has its PTE */
bit pinned;  /* a read of S keeps it from that */
bit root; /* the tree's lock: one change at a time */
bit changing;
byte changed;

/* The daemon's side. */
short baseline[MMS];
byte settled[MMS];
bit unverified[MMS];
byte swept;
bit sweeping; /* the daemon answers nobody meanwhile */

#define ACCOUNT(mm) (memory[ARRIVED(mm)] + memory[DEPARTED(mm)] + memory[DOUBTS(mm)] > 0)
#define TRUTH(mm) (pte[mm] == mapped && memory[KSM])
#define COUNT(mm) (baseline[mm] + memory[ARRIVED(mm)] - memory[DEPARTED(mm)])
#define EXACT(mm) (settled[mm] == memory[DOUBTS(mm)] && !unverified[mm] && swept == memory[ALARMS] && !sweeping)
#define UNDER_WAY (memory[BEGUN] != memory[ENDED])
#define WRONG(mm) (!memory[TABLE(mm)] && EXACT(mm) && COUNT(mm) != TRUTH(mm))

/* ---- the hooks ---- */

/* order() of bpf/order.h, which is nothing on x86. */
#if defined(ARM64) && !defined(RELAXED)
#define order(cpu) EMPTY(cpu)
#else
#define order(cpu) skip
#endif

/* A tree that changes under the walk may hide any member from it. */
#define MAY_HIDE (changing || changed != before)

inline visit(cpu, mm)
{
    if
    :: in_tree[mm] -> add(cpu, DOUBTS(mm), 1)
#ifdef OWNER_MUST_LIVE
    /* The leader has exited before the other threads, and has no mm. */
    :: true
#else
    :: !in_tree[mm] || MAY_HIDE
#ifdef USERS_ONLY
    :: mm == S && exiting
#endif
#endif
    fi
}

inline visit_all(cpu)
{
    atomic { before = changed; if :: changing -> before = changed + 9 :: else fi };
    visit(cpu, S);
#ifdef FORK
    visit(cpu, T);
#endif
    before = 0
}

inline doubt_family(cpu)
{
    load(cpu, TREE, sequence);
    visit_all(cpu);
#ifndef NO_TREE_SEQUENCE
    load(cpu, TREE, again);
    if
    :: again != sequence || (sequence & 1) -> add(cpu, ALARMS, 1)
    :: else
    fi;
    again = 0;
#endif
    sequence = 0
}

inline share(cpu)
{
#ifdef DOUBT_BEFORE_SHARED
    add(cpu, DOUBTS(M), 1);
    doubt_family(cpu);
#endif
    add(cpu, SHARED, 1);
    order(cpu);
#ifndef DOUBT_BEFORE_SHARED
    add(cpu, DOUBTS(M), 1);
    doubt_family(cpu);
#endif
}

/* folio_remove_rmap_ptes(), under the page-table lock: hook, then mapcount. */
inline remove(cpu, mm)
{
#ifdef NO_COMPARISON
    load(cpu, KSM, ksm);
#else
#ifdef MAPPING_FIRST
    load(cpu, KSM, ksm);
    load(cpu, PAGE, page);
#else
#if defined(ARM64) && defined(UNORDERED_LOADS)
    if
    :: load(cpu, KSM, ksm); load(cpu, PAGE, page)
    :: load(cpu, PAGE, page); load(cpu, KSM, ksm)
    fi;
#else
    load(cpu, PAGE, page);
    load(cpu, KSM, ksm);
#endif
#endif
    if
    :: page ->
        add(cpu, DOUBTS(mm), 1);
        load(cpu, KSM, ksm)
    :: else
    fi;
    page = 0;
#endif
    if
    :: ksm ->
#ifndef DEPARTURE_TRUSTED
        /* Nobody has counted what goes now, so its first account begins in doubt. */
        if
        :: !ACCOUNT(mm) -> add(cpu, DOUBTS(mm), 1)
        :: else
        fi;
#endif
        add(cpu, DEPARTED(mm), 1)
    :: else
    fi;
    ksm = 0;
    add_ordered(cpu, MAPCOUNT, 255)
}

/* ---- ksmd ---- */

proctype ksmd()
{
    byte at, mapcount, sequence, again, before;
    bit shared, ok;

    atomic { !writing[M] -> merging = 1 };
#ifndef LATE_PAGE
    store(KSMD, PAGE, 1);
#endif
#if SIGN == 1
    load(KSMD, MAPCOUNT, mapcount);
    if
    :: mapcount > 1 && !huge -> shared = 1; share(KSMD)
    :: else
    fi;
    mapcount = 0;
#endif
    add(KSMD, BEGUN, 1);

    acquire(KSMD, FOLIO);
    huge = 0;
    order(KSMD);
#if SIGN == 2
    load(KSMD, MAPCOUNT, mapcount);
    if
    :: mapcount > 1 ->
        shared = 1;
        share(KSMD);
        order(KSMD)
    :: else
    fi;
    mapcount = 0;
#endif
    /* write_protect_page() */
    acquire(KSMD, TABLE(M));
    ok = (pte[M] == mapped);
    release(KSMD, TABLE(M));
    if
    :: ok -> store(KSMD, KSM, 1)
    :: else
    fi;
#ifdef ARM64
    release(KSMD, FOLIO);
#else
    atomic { EMPTY(KSMD) -> memory[FOLIO] = 0 };
#endif
#ifdef LATE_PAGE
    store(KSMD, PAGE, 1);
#endif
    merging = 0;

    order(KSMD);
    if
    :: ok ->
        add(KSMD, ARRIVED(M), 1);
#ifndef ENTRY_ONLY
        load(KSMD, MAPCOUNT, mapcount);
        if
#ifdef ENTRY_FORGOTTEN
        :: mapcount > 1 ->
#else
        :: mapcount > 1 || shared ->
#endif
            add(KSMD, DOUBTS(M), 1);
            doubt_family(KSMD)
        :: else
        fi;
        mapcount = 0
#endif
    :: else
    fi;
    order(KSMD);
    add(KSMD, ENDED, 1);
    if
    :: shared -> add(KSMD, SHARED, 255)
    :: else
    fi;
    store(KSMD, PAGE, 0)
#ifdef REPLACEMENT
    ;
    /* Another page of S has the same content: its PTE is pointed at the KSM page. */
    if
    :: ok && pte[S] == none ->
        acquire(KSMD, TABLE(S));
        add(KSMD, ARRIVED(S), 1);
        add_ordered(KSMD, MAPCOUNT, 1);
        pte[S] = mapped;
        release(KSMD, TABLE(S))
    :: else
    fi
#endif
}

/* ---- who changes page tables ---- */

inline zap(cpu, mm)
{
    acquire(cpu, TABLE(mm));
    if
    :: pte[mm] == mapped ->
        pte[mm] = none;
        remove(cpu, mm)
    :: else
    fi;
    release(cpu, TABLE(mm))
}

/* Also the end of a migration: a PTE is set while the page is locked. */
inline swap_in(cpu, mm)
{
    acquire(cpu, FOLIO);
    acquire(cpu, TABLE(mm));
    load(cpu, KSM, ksm);
    if
    :: ksm -> add(cpu, ARRIVED(mm), 1)
    :: else
    fi;
    ksm = 0;
    add_ordered(cpu, MAPCOUNT, 1);
    pte[mm] = mapped;
    release(cpu, TABLE(mm));
    release(cpu, FOLIO)
}

inline move(cpu, mm)
{
    atomic { !writing[mm] && !(mm == M && merging) -> writing[mm] = 1 };
#ifndef NO_MOVE_HOOK
    add(cpu, MOVED(mm), 1);
#endif
    acquire(cpu, TABLE(mm));
    slot[mm] = 1 - slot[mm];
    release(cpu, TABLE(mm));
    /* The release of the mmap lock waits for that of the page-table lock. */
    atomic { EMPTY(cpu) -> writing[mm] = 0 }
}

/* Somebody else of the family forks or exits. */
inline rotate(cpu)
{
    atomic { !root -> root = 1 };
    order(cpu);
    add(cpu, TREE, 1);
    order(cpu);
    changing = 1;
    atomic { changing = 0; changed++ };
    order(cpu);
    add(cpu, TREE, 1);
    order(cpu);
    root = 0
}

proctype mutator()
{
    byte at, page, ksm, zaps, moves, rotations;

    do
    :: zaps < ZAPS -> zaps++;
#ifdef FORK
        zap(MUTATOR, S)
#else
        if
        :: zap(MUTATOR, M)
        :: zap(MUTATOR, S)
        fi
#endif
    :: pte[S] == swapped && !exiting -> swap_in(MUTATOR, S)
#ifdef EXITS
    :: atomic { !exiting && !pinned -> exiting = 1 }
#endif
#ifdef MOVES
    :: moves < MOVES -> moves++; move(MUTATOR, S)
#endif
#ifdef ROTATIONS
    :: rotations < ROTATIONS -> rotations++; rotate(MUTATOR)
#endif
    :: break
    od
}

#ifdef FORK
#ifdef FORK_UNALARMED
#define SAME_ALARMS true
#elif defined(FORK_ALARMED_NOW)
/* Not swept yet. */
#define SAME_ALARMS (swept == memory[ALARMS] && !sweeping)
#else
/* A sweep that an alarm asked for may have ended before the child had a process id. */
#define SAME_ALARMS (alarms == memory[ALARMS])
#endif

inline inherit()
{
    d_step {
        if
#ifdef EARLY_RETURN
        :: COUNT(S) == 0 && settled[S] == memory[DOUBTS(S)]
#elif defined(EVER_LEFT)
        :: COUNT(S) == 0 && settled[S] == memory[DOUBTS(S)] && !memory[DEPARTED(S)] && (ACCOUNT(S) || SAME_ALARMS)
#else
        :: !ACCOUNT(S) && SAME_ALARMS
#endif
        :: else ->
            memory[DOUBTS(T)] = memory[DOUBTS(T)] + 1;
            if
            :: COUNT(S) > 0 -> memory[ARRIVED(T)] = memory[ARRIVED(T)] + COUNT(S)
            :: else
            fi
        fi
    }
}

/* It only stores under locks and by ordered atomics, so it needs no buffer. */
proctype forker()
{
    byte alarms;

    atomic { !writing[S] -> writing[S] = 1; alarms = memory[ALARMS] };
    atomic { !root -> root = 1; memory[TREE]++; changing = 1 };
    atomic { in_tree[T] = 1; changing = 0; changed++ };
    atomic { memory[TREE]++; root = 0 };
    /* Mapcount and PTE, both under the page-table lock. */
    atomic {
        !memory[TABLE(S)];
        pte[T] = pte[S];
        if
        :: pte[S] == mapped -> memory[MAPCOUNT]++
        :: else
        fi;
        writing[S] = 0
    };
    in_proc = 1;
    atomic {
        if
        :: memory[DOUBTS(T)] + memory[ARRIVED(T)] > 0 -> memory[DOUBTS(T)]++
        :: else -> inherit()
        fi;
        memory[LIVE] = 1
    }
}
#endif

/* ---- the daemon ---- */

inline walk(mm, area)
{
    atomic {
        !writing[mm] && !memory[TABLE(mm)];
        if
        :: TRUTH(mm) && slot[mm] == area -> found++
        :: else
        fi
    }
}

#define SAME_EVENTS(mm) (events == memory[ARRIVED(mm)] + memory[DEPARTED(mm)] && doubts == memory[DOUBTS(mm)])
#define STOOD_STILL(mm) (SAME_EVENTS(mm) && moved == memory[MOVED(mm)])
#ifdef NO_UNDER_WAY
#define CONVERSION_SEEN(mm) false
#else
#define CONVERSION_SEEN(mm) (mm == M && UNDER_WAY)
#endif
#ifdef SHARED_UNSEEN
#define SHARED_SEEN false
#else
#define SHARED_SEEN (memory[SHARED] != 0)
#endif

/* One exact read between two looks at the account, and the judgement on it: exact_read.py. */
inline read(mm)
{
    d_step {
        events = memory[ARRIVED(mm)] + memory[DEPARTED(mm)];
        doubts = memory[DOUBTS(mm)];
        moved = memory[MOVED(mm)]
    };
    walk(mm, 0);
#ifdef MOVES
    walk(mm, 1);
#endif
    disturbed = (SHARED_SEEN || CONVERSION_SEEN(mm));
    atomic {
        if
        :: STOOD_STILL(mm) && !disturbed && (!found || ACCOUNT(mm)) ->
            baseline[mm] = found - memory[ARRIVED(mm)] + memory[DEPARTED(mm)];
            settled[mm] = doubts;
            unverified[mm] = 0
        :: else ->
            /* Without an account nothing would say that it has not been read: one in doubt. */
            if
#ifdef DISTURBED_FORGOTTEN
            :: !ACCOUNT(mm) && found -> memory[DOUBTS(mm)]++
#else
            :: !ACCOUNT(mm) -> memory[DOUBTS(mm)]++
#endif
            :: else
            fi
        fi;
        events = 0; doubts = 0; moved = 0; found = 0; disturbed = 0
    }
}

proctype daemon()
{
    byte mm, events, doubts, moved, found, reads, sweeps;
    bit disturbed;

    do
    :: reads < READS ->
        reads++;
        if
#ifndef FORK
        :: mm = M
#endif
        :: atomic { !exiting -> mm = S; pinned = 1 }
#ifdef FORK
        :: in_proc -> mm = T
#endif
        fi;
        read(mm);
        mm = 0;
        pinned = 0
#ifdef SWEEPS
    :: sweeps < SWEEPS && swept != memory[ALARMS] ->
        sweeps++;
        atomic {
            sweeping = 1;
            swept = memory[ALARMS];
            unverified[M] = 1;
            unverified[S] = ACCOUNT(S);
            unverified[T] = ACCOUNT(T)
        };
        read(S);
#ifdef FORK
        if
        :: in_proc -> read(T)
        :: !in_proc
        fi;
#endif
        sweeping = 0
#endif
    :: break
    od
}

/* Never runs unless the property is broken, so it costs no state. */
proctype judge()
{
end:
    do
    :: WRONG(M) && !UNDER_WAY -> assert(false)
    :: WRONG(S) -> assert(false)
#ifdef FORK
    :: memory[LIVE] && WRONG(T) -> assert(false)
#endif
    od
}

init {
    byte cpu;

    atomic {
        pte[M] = mapped;
        pte[S] = none;
        pte[T] = none;
        in_tree[M] = 1;
        in_tree[S] = 1;
        memory[MAPCOUNT] = 1;
#ifdef FORK
        pte[S] = mapped;
        memory[MAPCOUNT] = 2;
#else
        if
        :: skip
        :: pte[S] = mapped; memory[MAPCOUNT] = 2; if :: huge = 1 :: skip fi
        :: pte[S] = swapped
        fi;
#endif
#ifdef MOVES
        if
        :: slot[M] = 1; slot[S] = 1
        :: skip
        fi;
#endif
        for (cpu : 0 .. CPUS - 1) { run visible(cpu) }
        run ksmd();
        run mutator();
#ifdef FORK
        run forker();
#endif
        run daemon();
        run judge()
    }
}
