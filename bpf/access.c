// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the daemon reads and writes accounts and baselines where the hooks are kprobe programs.
 *
 * While a map system call is under way on a CPU, the kernel skips kprobe programs there
 * (bpf_disable_instrumentation()), also those of a task that has preempted the caller. It does not
 * skip them while a program is run by BPF_PROG_TEST_RUN or an iterator is read. So these programs
 * do what the system calls did.
 */

/* What the daemon asks for: the operation and the key, and behind these the value. */
enum operation {
    GET,
    ADD, /* unless it is there */
    PUT,
    FORGET,
};

#define REQUEST_WORDS 2
#define WORDS(record) (sizeof(record) / sizeof(u64))
/* -ENOENT: a result is 0, or an errno. */
#define NOT_THERE (-2)

/* The verifier takes no copy of unknown length, nor one to the stack by a helper. */
#define COPY(to, from, record)                                                                     \
    _Pragma("unroll") for (int i = 0; i < WORDS(record); i++)(to)[i] = (from)[i]

/* Written out for each map: bcc takes no call of a map inside a macro. */
int access_accounts(u64 *request)
{
    u64 operation = request[0], key = request[1];
    u64 value[WORDS(struct account)];
    volatile u64 *found;

    if (operation == GET) {
        found = (volatile u64 *)accounts.lookup(&key);
        if (!found)
            return NOT_THERE;
        COPY(request + REQUEST_WORDS, found, struct account);
        return 0;
    }
    if (operation == FORGET)
        return accounts.delete(&key);
    COPY(value, request + REQUEST_WORDS, struct account);
    if (operation == ADD)
        return accounts.insert(&key, (struct account *)value);
    return accounts.update(&key, (struct account *)value);
}

int access_baselines(u64 *request)
{
    u64 operation = request[0], key = request[1];
    u64 value[WORDS(struct baseline)];
    volatile u64 *found;

    if (operation == GET) {
        found = (volatile u64 *)baselines.lookup(&key);
        if (!found)
            return NOT_THERE;
        COPY(request + REQUEST_WORDS, found, struct baseline);
        return 0;
    }
    if (operation == FORGET)
        return baselines.delete(&key);
    COPY(value, request + REQUEST_WORDS, struct baseline);
    if (operation == ADD)
        return baselines.insert(&key, (struct baseline *)value);
    return baselines.update(&key, (struct baseline *)value);
}

#define SEQ_WRITE ((long (*)(u64, u64, u32))127)

/* Iterators over a map are given {meta, map, key, value}, and at the end neither of the last. */
#define LIST(name, record)                                                                         \
    int list_##name(u64 *ctx)                                                                      \
    {                                                                                              \
        u64 meta = ctx[0], key = ctx[2], value = ctx[3];                                           \
                                                                                                   \
        if (!key || !value)                                                                        \
            return 0;                                                                              \
        if (!SEQ_WRITE(*(u64 *)meta, key, sizeof(u64)))                                            \
            SEQ_WRITE(*(u64 *)meta, value, sizeof(record));                                        \
        return 0;                                                                                  \
    }

LIST(accounts, struct account)
LIST(baselines, struct baseline)
