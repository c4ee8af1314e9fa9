// SPDX-License-Identifier: GPL-2.0-only
/*
 * How old a mapping is when it ends.
 *
 * The hook of a departure knows the page and the mm, not the address. So births are kept by page
 * and mm, in `holds`. An age is published only if it is certain which birth belongs to it:
 *
 * - All PTEs of the mm that map the page must have been seen. So a page is in `frames` only from
 *   its conversion on, at which one PTE mapped it. What fork copies is not seen: therefore births
 *   in an mm count only on pages that were converted later than its last unseen PTE came. A PTE
 *   that comes unnoted afterwards (swap-in, a full map) makes the page unclear.
 * - If the mm maps the page more than once, all its births must give the same class of ages.
 *
 * Everything else is counted as unknown, with the reason.
 *
 * Only some pages are looked at, chosen by their address: see sampled(). Only ksmd adds to these
 * maps. A departure that has found its mm's births is one of them, so they are not deleted before
 * it has subtracted itself. The addition with a result says which departure is the last.
 */
#ifdef AGES
struct frame {
    u64 held;         /* births in `holds` on this page */
    u64 converted_at; /* when it became a KSM page */
    u64 unclear;      /* not 0: a PTE that maps it was not noted */
};

struct holder {
    u64 page;
    struct mm_struct *mm;
};

struct hold {
    u64 mappings; /* how many PTEs */
    u64 first;    /* no birth was earlier */
    u64 last;     /* and none later */
};

BPF_F_TABLE("hash", u64, struct frame, frames, MAX_AGES, ACCOUNT_MAP_FLAGS);
BPF_F_TABLE("hash", struct holder, struct hold, holds, MAX_AGES, ACCOUNT_MAP_FLAGS);
/* By part of the CPUs and reason: the number of each class, and the sum of the ages. Then HELD. */
MAPPED_RECORD(u64, ages, AGES_ROOM *AGES_PARTS);

/* How many entries `holds` has, except for those that the daemon dropped. */
#define HELD ((OUT_EXITED - OUT_COPIED + 1) * (AGE_CLASSES + 1))

/* The bits of a page's address that do not tell pages apart are few, and go by the shift. */
#define GOLDEN_RATIO 0x9E3779B97F4A7C15ULL

static __always_inline bool sampled(u64 page, struct control *c)
{
    return !(((page >> 6) * GOLDEN_RATIO >> 48) & c->age_mask);
}

/*
 * An address as a number. The verifier allows no shift of an argument, a pointer. What an atomic
 * addition leaves on the stack is a number for it.
 */
static __always_inline u64 number_of(const void *pointer)
{
    u64 number = 0;

    lock_xadd(&number, (u64)pointer);
    return *(volatile u64 *)&number;
}

static __always_inline void count_up(u32 *number)
{
    if (*number != (u32)-1)
        lock_xadd(number, 1);
}

static __always_inline bool is_clear(struct frame *frame, struct control *c)
{
    return !frame->unclear && frame->converted_at >= c->ages_since;
}

static __always_inline void add_to_ages(u32 which, u64 amount)
{
    u32 part = bpf_get_smp_processor_id() % AGES_PARTS;
    u32 place = part * AGES_ROOM + which;
    u64 *sum = ages.lookup(&place);

    if (sum)
        lock_xadd(sum, amount);
}

static __always_inline bool add_hold(struct holder *key, struct hold *hold)
{
    if (holds.insert(key, hold))
        return false;
    add_to_ages(HELD, 1);
    return true;
}

static __always_inline void drop_hold(struct holder *key)
{
    if (!holds.delete(key))
        add_to_ages(HELD, -1);
}

/* The last departure takes the page out. */
static __always_inline void let_go(struct frame *frame, u64 page)
{
    if (fetch_add(&frame->held, -1) == 1)
        frames.delete(&page);
}

static __always_inline void noted(struct account *account, struct control *c)
{
    /* Which merges are wasted is known only if the length of a scan is. */
    if (!c->scan_ns)
        return;
    count_up(&account->noted);
    total(T_AGES_NOTED, 1);
}

static __always_inline void note_conversion(struct conversion *conversion, struct account *account)
{
    u64 page = (u64)conversion->page;
    struct holder key = {.page = page, .mm = conversion->mm};
    struct hold hold = {.mappings = 1};
    struct frame frame = {.held = 1};
    struct control *c = control();

    if (!c || !sampled(page, c))
        return;
    /* PTEs of other mms have turned, unseen. */
    if (conversion->shared) {
        frames.delete(&page);
        return;
    }
    frame.converted_at = bpf_ktime_get_ns();
    hold.first = hold.last = frame.converted_at;
    if (frames.update(&page, &frame)) {
        total(T_AGES_LOST, 1);
        return;
    }
    if (!add_hold(&key, &hold)) {
        drop_hold(&key);
        frames.delete(&page);
        total(T_AGES_LOST, 1);
        return;
    }
    /* Its departure sets `gone`, and then looks for the birth. One of the two sees the other. */
    order();
    if (*(volatile u64 *)&conversion->gone) {
        drop_hold(&key);
        frames.delete(&page);
        return;
    }
    noted(account, c);
}

static __always_inline void note_gone_in_conversion(void)
{
    struct conversion *c = conversion();

    if (c)
        c->gone = 1;
}

/* ksmd lets a PTE map a KSM page. */
static __always_inline void note_merge(struct page *merged, struct mm_struct *mm,
                                       struct account *account)
{
    u64 page = number_of(merged);
    struct holder key = {.page = page, .mm = mm};
    struct hold fresh = {.mappings = 1};
    struct control *c = control();
    struct frame *frame;
    struct hold *hold;

    if (!c || !sampled(page, c))
        return;
    frame = frames.lookup(&page);
    if (!frame || !is_clear(frame, c) || frame->converted_at <= account->unseen_until)
        return;
    /* The page is about to be taken out. */
    if (!fetch_add(&frame->held, 1))
        return;
    fresh.first = fresh.last = bpf_ktime_get_ns();
    hold = holds.lookup(&key);
    if (hold ? fetch_add(&hold->mappings, 1) != 0 : add_hold(&key, &fresh)) {
        if (hold)
            hold->last = fresh.last;
        noted(account, c);
        return;
    }
    frame->unclear = 1;
    total(T_AGES_LOST, 1);
    let_go(frame, page);
}

/* Another PTE has come to map the page, by swap-in or at the end of a migration. */
static __always_inline void note_other(struct page *mapped)
{
    u64 page = number_of(mapped);
    struct control *c = control();
    struct frame *frame = c && sampled(page, c) ? frames.lookup(&page) : NULL;

    if (frame)
        frame->unclear = 1;
}

/*
 * 0: less than a second; N: less than 2 to the N, and no less than 2 to the N - 1. That is the
 * number of bits of the seconds. No branches, because the verifier would follow each of their ways.
 */
static __always_inline u64 class_of(u64 age)
{
    u32 bits = age / (1000 * 1000 * 1000);

    /* All bits below the highest one, too; then how many there are. */
    bits |= bits >> 1;
    bits |= bits >> 2;
    bits |= bits >> 4;
    bits |= bits >> 8;
    bits |= bits >> 16;
    bits -= (bits >> 1) & 0x55555555;
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333);
    bits = ((bits + (bits >> 4)) & 0x0f0f0f0f) * 0x01010101;
    bits >>= 24;
    return bits < AGE_CLASSES ? bits : AGE_CLASSES - 1;
}

static __always_inline void publish_age(struct account *account, struct control *c,
                                        enum movement why, u64 oldest, u64 youngest)
{
    u64 class = class_of(oldest);
    u32 of_reason;

    if (class != class_of(youngest)) {
        total(T_AGES_AMBIGUOUS, 1);
        return;
    }
    of_reason = (why - OUT_COPIED) * (AGE_CLASSES + 1);
    add_to_ages(of_reason + class, 1);
    add_to_ages(of_reason + AGE_CLASSES, oldest / 2 + youngest / 2);
    if (why != OUT_COPIED)
        return;
    /* The verifier must see the bound of the very register by which the account is indexed. */
    asm volatile("" : "+r"(class));
    if (class >= AGE_CLASSES)
        return;
    count_up(&account->ages[class]);
    if (oldest < c->scan_ns) {
        count_up(&account->wasted);
        total(T_AGES_WASTED, 1);
    }
}

/* `moves`: the page is being migrated, and the mm will map its copy. */
static __always_inline void note_departure(struct page *gone, struct mm_struct *mm,
                                           struct account *account, enum movement why, bool moves)
{
    u64 page = number_of(gone), first, last, now;
    struct holder key = {.page = page, .mm = mm};
    struct control *c = control();
    struct frame *frame;
    struct hold *hold;
    bool clear;
    s64 held;

    if (!c || !sampled(page, c))
        return;
    hold = holds.lookup(&key);
    if (!hold)
        goto unseen;
    first = hold->first;
    last = hold->last;
    held = fetch_add(&hold->mappings, -1);
    /* A PTE whose birth was not seen, and the last one that was, go at the same time. */
    if (held <= 0)
        goto unseen;
    if (held == 1)
        drop_hold(&key);
    frame = frames.lookup(&page);
    clear = frame && is_clear(frame, c);
    if (frame)
        let_go(frame, page);
    if (moves) {
        total(T_AGES_MOVED, 1);
        return;
    }
    if (!clear)
        goto unseen;
    now = bpf_ktime_get_ns();
    publish_age(account, c, why, now - first, now - last);
    return;
unseen:
    total(T_AGES_UNSEEN, 1);
}
#else
#define note_conversion(conversion, account) ((void)0)
#define note_gone_in_conversion() ((void)0)
#define note_merge(page, mm, account) ((void)0)
#define note_other(page) ((void)0)
#define note_departure(page, mm, account, why, moves) ((void)(moves))
#endif
