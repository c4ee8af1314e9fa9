/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the programs access kernel structures.
 *
 * Without kernel headers every offset comes from the running kernel's BTF, as
 * -DOFF_<struct>_<member>=<bytes> (struct_layout.py has the list). With
 * -DLAYOUT_FROM_HEADERS they come from the headers of the running kernel.
 */
#pragma once

#ifdef LAYOUT_FROM_HEADERS
#include <linux/mm_types.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <uapi/linux/ptrace.h>
#ifdef HAVE_STRUCT_FOLIO_HOOKS
#define OFF_page_mapping offsetof(struct folio, mapping)
#define OFF_page__mapcount offsetof(struct folio, _mapcount)
#else
#define OFF_page_mapping offsetof(struct page, mapping)
#define OFF_page__mapcount offsetof(struct page, _mapcount)
#endif
#define OFF_page_flags offsetof(struct page, flags)
#define OFF_page_compound_head offsetof(struct page, compound_head)
#define OFF_vm_area_struct_vm_mm offsetof(struct vm_area_struct, vm_mm)
#define OFF_vm_area_struct_anon_vma offsetof(struct vm_area_struct, anon_vma)
#define OFF_anon_vma_root offsetof(struct anon_vma, root)
#define OFF_anon_vma_rb_root offsetof(struct anon_vma, rb_root)
#define OFF_anon_vma_rwsem offsetof(struct anon_vma, rwsem)
#ifdef CONFIG_PREEMPT_RT
#define OFF_rw_semaphore_rwbase offsetof(struct rw_semaphore, rwbase)
#else
#define OFF_rw_semaphore_count offsetof(struct rw_semaphore, count)
#endif
#define OFF_anon_vma_chain_vma offsetof(struct anon_vma_chain, vma)
#define OFF_anon_vma_chain_rb offsetof(struct anon_vma_chain, rb)
#define OFF_rb_node_rb_right offsetof(struct rb_node, rb_right)
#define OFF_rb_node_rb_left offsetof(struct rb_node, rb_left)
#define OFF_mm_struct_owner offsetof(struct mm_struct, owner)
#define OFF_mm_struct_mm_users offsetof(struct mm_struct, mm_users)
#define OFF_mm_struct_total_vm offsetof(struct mm_struct, total_vm)
#define OFF_task_struct_mm offsetof(struct task_struct, mm)
#define OFF_task_struct_tgid offsetof(struct task_struct, tgid)
#define OFF_task_struct_group_leader offsetof(struct task_struct, group_leader)
#define OFF_task_struct_comm offsetof(struct task_struct, comm)
#define OFF_task_struct_start_boottime offsetof(struct task_struct, start_boottime)
#else
#include <asm/ptrace.h>
#include <linux/types.h>
#endif

/* The types of the kernel's pointers. A folio's address is that of its first page. */
struct page;
struct vm_area_struct;
struct anon_vma;
struct anon_vma_chain;
struct rb_node;
struct rw_semaphore;
struct mm_struct;
struct task_struct;

/* The address of a member. */
#define PLACE(pointer, member) ((void *)(pointer) + OFF_##member)

/* <struct>_<member>(pointer) is its current value. The helper fills unreadable memory with zeros.
 */
#define MEMBER(container, member, type)                                                            \
    static __always_inline type container##_##member(const struct container *of)                   \
    {                                                                                              \
        type value;                                                                                \
                                                                                                   \
        bpf_probe_read_kernel(&value, sizeof(value), PLACE(of, container##_##member));             \
        return value;                                                                              \
    }

MEMBER(page, _mapcount, s32)
#ifdef NODES
MEMBER(page, flags, u64)
#endif
MEMBER(vm_area_struct, vm_mm, struct mm_struct *)
MEMBER(vm_area_struct, anon_vma, struct anon_vma *)
MEMBER(anon_vma, root, struct anon_vma *)
MEMBER(anon_vma, rb_root, struct rb_node *)
MEMBER(anon_vma_chain, vma, struct vm_area_struct *)
MEMBER(rb_node, rb_left, struct rb_node *)
MEMBER(rb_node, rb_right, struct rb_node *)
MEMBER(mm_struct, owner, struct task_struct *)
MEMBER(mm_struct, mm_users, u32)
MEMBER(mm_struct, total_vm, u64)
MEMBER(task_struct, mm, struct mm_struct *)
MEMBER(task_struct, group_leader, struct task_struct *)
MEMBER(task_struct, tgid, u32)
MEMBER(task_struct, start_boottime, u64)

#ifdef OFF_rw_semaphore_count
MEMBER(rw_semaphore, count, u64)

/* RWSEM_WRITER_LOCKED, the lowest bit since 5.3. */
static __always_inline bool is_locked_for_writing(const struct rw_semaphore *lock)
{
    return rw_semaphore_count(lock) & 1;
}
#elif defined(OFF_rw_semaphore_rwbase)
/* With PREEMPT_RT. The number of readers is its first member. */
MEMBER(rw_semaphore, rwbase, u32)

/* READER_BIAS, which a writer subtracts before it waits for the readers. */
static __always_inline bool is_locked_for_writing(const struct rw_semaphore *lock)
{
    return !(rw_semaphore_rwbase(lock) & 1U << 31);
}
#else
static __always_inline bool is_locked_for_writing(const struct rw_semaphore *lock)
{
    return true;
}
#endif

/* The parent is the first member. The lowest bits of its address are the colour. */
static __always_inline struct rb_node *rb_node_parent(const struct rb_node *node)
{
    u64 parent_color;

    bpf_probe_read_kernel(&parent_color, sizeof(parent_color), node);
    return (struct rb_node *)(parent_color & ~3ULL);
}

/* The entry of an anon_vma's tree to which a node belongs. */
static __always_inline struct anon_vma_chain *anon_vma_chain_of(struct rb_node *node)
{
    return (void *)node - OFF_anon_vma_chain_rb;
}

/*
 * PAGE_MAPPING_KSM (FOLIO_MAPPING_KSM since 6.17): both low bits of the mapping.
 * One bit alone means anonymous or movable. The pointer above the bits may still be NULL.
 */
#define MAPPING_KSM 3

#ifdef OFF_page_compound_head
MEMBER(page, compound_head, u64)

/*
 * Before 6.8 the rmap functions take a page, which may be a tail of a huge page,
 * where the mapping's place holds other things. No KSM page is a tail.
 */
static __always_inline bool is_tail(const struct page *page)
{
    return page_compound_head(page) & 1;
}
#else
static __always_inline bool is_tail(const struct page *page)
{
    return false;
}
#endif

/* Or it is a tail. The lowest byte is enough, and the fastest to read. */
static __always_inline bool may_be_ksm(const struct page *page)
{
    u8 lowest;

    bpf_probe_read_kernel(&lowest, sizeof(lowest), PLACE(page, page_mapping));
    return (lowest & MAPPING_KSM) == MAPPING_KSM;
}

static __always_inline bool is_ksm(const struct page *page)
{
    return may_be_ksm(page) && !is_tail(page);
}

/* Number of PTEs that map a small page. It can change while it is read. */
static __always_inline int mapcount(const struct page *page)
{
    return page__mapcount(page) + 1;
}
