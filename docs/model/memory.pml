/*
 * Memory as CPUs see it. Each CPU that stores has a buffer; a process empties it at any time.
 *
 * x86 (TSO): first in, first out; an instruction with a lock prefix waits until it is empty.
 * ARM64: what is in it may become visible in any order, but for the same place, and but for a
 * release, before which everything older must be visible. An atomic addition whose result nobody
 * uses is not ordered either; one with a result, and a full barrier, wait until it is empty.
 * Loads that ARM64 may exchange are exchanged where they stand, by a choice.
 */
#define SIZE 5

typedef Buffer {
    byte n;
    byte place[SIZE];
    byte value[SIZE];
    bit adds[SIZE];
    bit releases[SIZE];
}

byte memory[PLACES];
Buffer buffer[CPUS];

inline put(cpu, where, what, is_add, is_release)
{
    atomic {
        buffer[cpu].n < SIZE;
        d_step {
            buffer[cpu].place[buffer[cpu].n] = where;
            buffer[cpu].value[buffer[cpu].n] = what;
            buffer[cpu].adds[buffer[cpu].n] = is_add;
            buffer[cpu].releases[buffer[cpu].n] = is_release;
            buffer[cpu].n = buffer[cpu].n + 1
        }
    }
}

/* What `cpu` sees at a place: its own stores are in front of the memory. */
inline load(cpu, where, result)
{
    d_step {
        result = memory[where];
        at = 0;
        do
        :: at < buffer[cpu].n ->
            if
            :: buffer[cpu].place[at] == where && buffer[cpu].adds[at] ->
                result = result + buffer[cpu].value[at]
            :: buffer[cpu].place[at] == where && !buffer[cpu].adds[at] ->
                result = buffer[cpu].value[at]
            :: else
            fi;
            at++
        :: else -> break
        od;
        at = 0
    }
}

#define EMPTY(cpu) (buffer[cpu].n == 0)

inline store(cpu, where, what) { put(cpu, where, what, 0, 0) }

/* Fully ordered on every machine: BPF_FETCH, and the kernel's atomics that return a value. */
inline add_ordered(cpu, where, what)
{
    atomic { EMPTY(cpu) -> memory[where] = memory[where] + what }
}

/* Takes a lock that is 0 while it is free. */
#ifdef ARM64
#define ACQUIRED(cpu, where) (memory[where] == 0)
#else
#define ACQUIRED(cpu, where) (EMPTY(cpu) && memory[where] == 0)
#endif
inline acquire(cpu, where) { atomic { ACQUIRED(cpu, where) -> memory[where] = 1 } }

#ifdef ARM64
inline release(cpu, where) { put(cpu, where, 0, 0, 1) }
/* lock_xadd() without a use of its result. */
inline add(cpu, where, what) { put(cpu, where, what, 1, 0) }
#else
inline release(cpu, where) { put(cpu, where, 0, 0, 0) }
inline add(cpu, where, what) { add_ordered(cpu, where, what) }
#endif

inline drain(cpu, which)
{
    d_step {
        at = which;
        if
        :: buffer[cpu].adds[at] ->
            memory[buffer[cpu].place[at]] =
                memory[buffer[cpu].place[at]] + buffer[cpu].value[at]
        :: else -> memory[buffer[cpu].place[at]] = buffer[cpu].value[at]
        fi;
        do
        :: at + 1 < buffer[cpu].n ->
            buffer[cpu].place[at] = buffer[cpu].place[at + 1];
            buffer[cpu].value[at] = buffer[cpu].value[at + 1];
            buffer[cpu].adds[at] = buffer[cpu].adds[at + 1];
            buffer[cpu].releases[at] = buffer[cpu].releases[at + 1];
            at++
        :: else -> break
        od;
        /* No trace of what is gone, so that equal states are equal. */
        buffer[cpu].place[at] = 0;
        buffer[cpu].value[at] = 0;
        buffer[cpu].adds[at] = 0;
        buffer[cpu].releases[at] = 0;
        buffer[cpu].n = at;
        at = 0
    }
}

#ifdef ARM64
#define OTHER(cpu, a, b) (buffer[cpu].place[a] != buffer[cpu].place[b])
#define FREE(cpu, a) (buffer[cpu].n > a && !buffer[cpu].releases[a])
#endif

proctype visible(byte cpu)
{
    byte at;
end:
    do
    :: buffer[cpu].n > 0 -> drain(cpu, 0)
#ifdef ARM64
    :: FREE(cpu, 1) && OTHER(cpu, 1, 0) -> drain(cpu, 1)
    :: FREE(cpu, 2) && OTHER(cpu, 2, 0) && OTHER(cpu, 2, 1) -> drain(cpu, 2)
    :: FREE(cpu, 3) && OTHER(cpu, 3, 0) && OTHER(cpu, 3, 1) && OTHER(cpu, 3, 2) -> drain(cpu, 3)
    :: FREE(cpu, 4) && OTHER(cpu, 4, 0) && OTHER(cpu, 4, 1) && OTHER(cpu, 4, 2) &&
           OTHER(cpu, 4, 3) -> drain(cpu, 4)
#endif
    od
}
