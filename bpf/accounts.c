// SPDX-License-Identifier: GPL-2.0-only
/* The maps; opens accounts, moves them and puts them in doubt. */
#include "order.h"
#include "records.h"
#include "probes.h"

BPF_F_TABLE("hash", u64, struct account, accounts, MAX_ACCOUNTS, ACCOUNT_MAP_FLAGS);
BPF_F_TABLE("hash", u64, struct baseline, baselines, MAX_ACCOUNTS, ACCOUNT_MAP_FLAGS);
/*
 * The daemon maps the following records into its memory (BPF_F_MMAPABLE), so that it reads them
 * without a system call. A map system call would stop kprobe programs on its CPU: see access.c.
 */
#define MAPPED (1 << 10)
#define MAPPED_RECORD(type, name, count) BPF_F_TABLE("array", u32, type, name, count, MAPPED)

/* One part for each CPU, or for several, so that CPUs rarely add to the same cache line. */
MAPPED_RECORD(u64, totals, TOTALS_ROOM *TOTALS_PARTS);
MAPPED_RECORD(struct control, controls, 1);
MAPPED_RECORD(struct migration, migrations, 1);
MAPPED_RECORD(struct conversion, conversions, 1);
/* The page that turns into a KSM page in place. Separate, because all CPUs read it for every page.
 */
MAPPED_RECORD(u64, converting, 1);
MAPPED_RECORD(struct reading, readings, 1);
MAPPED_RECORD(struct call_site, call_sites, 1);
#ifdef NODES
MAPPED_RECORD(struct node_place, node_places, 1);
#endif
/* RAISED grows with every event after which any process may be wrong until it is read. */
enum alarm { RAISED, RAISED_AT, ALARMS };
MAPPED_RECORD(u64, alarms, ALARMS);
MAPPED_RECORD(struct opened, openings, 1);
MAPPED_RECORD(struct forgetting, forgettings, 1);
MAPPED_RECORD(struct cgroup_moves, cgroup_moves, 1);
/* Used only before the hooks are attached. */
BPF_ARRAY(manifests, struct manifest, 1);

/*
 * Where accounts are built before they are opened: a program's stack has 512 bytes, which is not
 * enough beside ages and nodes. Who finds no user has it.
 */
#define DRAFTS 64
struct draft {
    u64 users;
    struct account account;
};
BPF_ARRAY(drafts, struct draft, DRAFTS);

static __always_inline void total(u32 which, u64 amount)
{
    u32 part = bpf_get_smp_processor_id() % TOTALS_PARTS;
    u32 place = part * TOTALS_ROOM + which;
    u64 *sum = totals.lookup(&place);

    if (sum)
        lock_xadd(sum, amount);
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

#ifdef NODES
static __always_inline struct node_place *node_place(void)
{
    u32 zero = 0;

    return node_places.lookup(&zero);
}
#endif

static __always_inline struct conversion *conversion(void)
{
    u32 zero = 0;

    return conversions.lookup(&zero);
}

static __always_inline u64 *page_in_conversion(void)
{
    u32 zero = 0;

    return converting.lookup(&zero);
}

static __always_inline struct reading *reading(void)
{
    u32 zero = 0;

    return readings.lookup(&zero);
}

static __always_inline struct opened *opening(void)
{
    u32 zero = 0;

    return openings.lookup(&zero);
}

static __always_inline struct forgetting *forgetting(void)
{
    u32 zero = 0;

    return forgettings.lookup(&zero);
}

static __always_inline u64 *alarm(u32 which)
{
    return alarms.lookup(&which);
}

static __always_inline bool current_is_ksmd(void)
{
    struct control *c = control();

    return c && c->ksmd == bpf_get_current_pid_tgid() >> 32;
}

static __always_inline bool asleep(void)
{
    struct control *c = control();

    return c && c->asleep;
}

/* Something concerned unknown processes. */
static __always_inline void raise_alarm(u32 which)
{
    u64 *raised = alarm(RAISED), *at = alarm(RAISED_AT);

    if (at)
        *at = bpf_ktime_get_ns();
    order();
    if (raised)
        lock_xadd(raised, 1);
    total(which, 1);
}

/* Whether an alarm has been raised since every process was last read. */
static __always_inline bool alarmed(void)
{
    struct control *c = control();
    u64 *raised = alarm(RAISED);

    return c && raised && *raised != c->alarms_swept;
}

/*
 * Whether an alarm may have been raised during the fork that ends now. All other processes may have
 * been read for that alarm, but the child could not be read: it had no process id. No fork takes as
 * long as this once it has copied its PTEs.
 */
#define LONGEST_FORK_NS (60ULL * 1000 * 1000 * 1000)

static __always_inline bool alarmed_of_late(void)
{
    u64 *at = alarm(RAISED_AT);

    return alarmed() || (at && *at && bpf_ktime_get_ns() - *at < LONGEST_FORK_NS);
}

static __always_inline void name_owner(struct owner *name, struct task_struct *task)
{
    struct task_struct *leader = task_struct_group_leader(task);

    name->tgid = task_struct_tgid(task);
    name->start_boottime = task_struct_start_boottime(leader);
    bpf_probe_read_kernel(name->comm, sizeof(name->comm), PLACE(leader, task_struct_comm));
}

/*
 * Whether the owner of an mm has its process id. In fork it comes last: until then the child is
 * known by its parent's mm at first, and then by its parent's leader, who has another mm. The
 * leader of a process may also have ended before its threads, and then has none.
 */
static __always_inline bool born(struct task_struct *owner, struct mm_struct *mm)
{
    struct mm_struct *of_leader;

    if (!owner || task_struct_mm(owner) != mm)
        return false;
    of_leader = task_struct_mm(task_struct_group_leader(owner));
    return !of_leader || of_leader == mm;
}

static __always_inline struct account *find_account(struct mm_struct *mm)
{
    u64 key = (u64)mm;

    return accounts.lookup(&key);
}

static __always_inline void forget_account(struct mm_struct *mm)
{
    struct forgetting *f = forgetting();
    u64 key = (u64)mm;

    if (!f)
        return;
    lock_xadd(&f->begun, 1);
    order();
    accounts.delete(&key);
    baselines.delete(&key);
    order();
    lock_xadd(&f->ended, 1);
}

static __always_inline void doubt_account(struct account *account)
{
    lock_xadd(&account->doubts, 1);
    total(T_DOUBTS, 1);
}

/* A draft that nobody else has, which takes one attempt unless an opener was interrupted. */
static __always_inline struct draft *take_draft(void)
{
    u32 place = bpf_get_smp_processor_id() % DRAFTS;
    struct draft *draft;

#pragma unroll
    for (int i = 0; i < 4; i++) {
        draft = drafts.lookup(&place);
        if (!draft)
            return NULL;
        if (!fetch_add(&draft->users, 1))
            return draft;
        fetch_add(&draft->users, -1);
        place = (place + DRAFTS / 4) % DRAFTS;
    }
    return NULL;
}

/*
 * Another CPU may have opened one since the caller looked. That CPU does not know what was
 * inherited, so the account is in doubt then.
 */
static __always_inline struct account *open_account(struct mm_struct *mm, struct task_struct *owner,
                                                    u64 forked, u64 doubts)
{
    struct draft *draft = take_draft();
    struct forgetting *f = forgetting();
    struct account *account, *fresh;
    u64 key = (u64)mm;
    bool ours;

    if (!draft) {
        raise_alarm(T_EVENTS_LOST);
        return NULL;
    }
    fresh = &draft->account;
    __builtin_memset(fresh, 0, sizeof(*fresh));
    fresh->id = bpf_ktime_get_ns();
    fresh->moves[IN_FORKED] = forked;
    fresh->doubts = doubts;
    if (forked || doubts)
        fresh->unseen_until = fresh->id;
    /* on_fork() names the account of a child that is not complete yet. */
    if (born(owner, mm))
        name_owner(&fresh->owner, owner);
    ours = !accounts.insert(&key, fresh);
    fetch_add(&draft->users, -1);
    /* Who reads all accounts after this count finds it: see probes/looks.py. */
    order();
    if (ours && f)
        lock_xadd(&f->opened, 1);
    account = accounts.lookup(&key);
    if (!account) {
        raise_alarm(T_EVENTS_LOST);
        return NULL;
    }
    if (!ours) {
        if (forked || doubts) {
            account->unseen_until = bpf_ktime_get_ns();
            doubt_account(account);
        }
        return account;
    }
    if (forked)
        total(IN_FORKED, forked);
    if (doubts)
        total(T_DOUBTS, 1);
    return account;
}

/* `doubtful`: an mm without an account should have had one. */
static __always_inline struct account *account_of(struct mm_struct *mm, bool doubtful)
{
    struct account *account = find_account(mm);
    struct task_struct *owner;
    struct control *c;

    if (account)
        return account;
    c = control();
    owner = mm_struct_owner(mm);
    /* Fork may still be copying PTEs, which nothing has reported yet. */
    if (!c || doubtful || !born(owner, mm))
        return open_account(mm, owner, 0, 1);
    return open_account(mm, owner, 0, c->opening_doubt);
}

#ifdef NODES
static __always_inline void move_on_node(struct account *account, const struct page *page,
                                         s32 amount)
{
    struct node_place *place = node_place();
    u64 node;

    if (!place || !place->shift)
        return;
    order();
    node = page_flags(page) >> (place->shift & 63);
    if (node < NODES)
        lock_xadd(&account->nodes[node], amount);
}
#else
#define move_on_node(account, page, amount) ((void)0)
#endif

/*
 * The movement first, then the node. So if the daemon looks at the movements after the nodes, no
 * movement is missing of which it has seen the node.
 */
static __always_inline void move(struct account *account, const struct page *page,
                                 enum movement why)
{
    lock_xadd(&account->moves[why], 1);
    move_on_node(account, page, why < OUT_COPIED ? 1 : -1);
    total(why, 1);
}

static __always_inline s64 baseline_of(struct mm_struct *mm, struct account *account, u64 *settled)
{
    u64 key = (u64)mm;
    struct baseline *baseline = baselines.lookup(&key);

    *settled = 0;
    if (!baseline || baseline->id != account->id)
        return 0;
    *settled = baseline->doubts;
    return baseline->mappings;
}

static __always_inline s64 mappings(struct mm_struct *mm, struct account *account, u64 *settled)
{
    u64 *m = account->moves;

    return baseline_of(mm, account, settled) + m[IN_MERGED] + m[IN_CONVERTED] + m[IN_OTHER] +
           m[IN_FORKED] - m[OUT_COPIED] - m[OUT_UNMAPPED] - m[OUT_EXITED];
}

/* Avoids account_of(), because the walk of a fork family has this in its loop. */
static __always_inline void doubt(struct mm_struct *mm)
{
    struct account *account = find_account(mm);

    if (!account)
        account = open_account(mm, mm_struct_owner(mm), 0, 0);
    if (account)
        doubt_account(account);
}
