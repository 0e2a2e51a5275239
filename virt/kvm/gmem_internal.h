/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files that implement guest_memfd share: the inode, and the steps of a
 * conversion that only guest_memfd.c can do.
 */
#ifndef __KVM_GMEM_INTERNAL_H
#define __KVM_GMEM_INTERNAL_H

#include <linux/fs.h>
#include <linux/guest_memfd.h>
#include <linux/kvm_host.h>
#include <linux/mempolicy.h>
#include <linux/pagemap.h>
#include <linux/rcupdate_wait.h>
#include <linux/swap.h>

#include "gmem_state.h"

/**
 * struct gmem_inode - Memory of a guest_memfd
 * @policy: NUMA policy
 * @vfs_inode: The inode
 * @gmem_file_list: Files, one for each VM that uses the memory
 * @listeners: struct gmem_listener, oldest first. Changed under the invalidate
 *	lock held exclusively, walked under it in any mode.
 * @state: Shareability, of a GUEST_MEMFD_FLAG_CONVERTIBLE file
 * @memslots: Which pages stopped being guest memory, see gmem_memslot.c
 * @huge: Memory of a GUEST_MEMFD_FLAG_HUGETLB file, or NULL
 * @generation: Changes whenever listeners heard of a change
 * @found_broken: A page broke while it was frozen, see gmem_report_found()
 * @flags: GUEST_MEMFD_FLAG_*
 */
struct gmem_inode {
	struct shared_policy policy;
	struct inode vfs_inode;
	struct list_head gmem_file_list;
	struct list_head listeners;
	struct gmem_state state;
	struct maple_tree memslots;
	struct gmem_huge *huge;
	atomic64_t generation;
	bool found_broken;

	u64 flags;
};

static __always_inline struct gmem_inode *GMEM_I(struct inode *inode)
{
	return container_of(inode, struct gmem_inode, vfs_inode);
}

static inline bool kvm_gmem_is_convertible(struct inode *inode)
{
	return GMEM_I(inode)->flags & GUEST_MEMFD_FLAG_CONVERTIBLE;
}

static inline bool kvm_gmem_is_shared_mem(struct inode *inode, pgoff_t index)
{
	if (kvm_gmem_is_convertible(inode))
		return gmem_state_is_shared(&GMEM_I(inode)->state, index);

	return GMEM_I(inode)->flags & GUEST_MEMFD_FLAG_INIT_SHARED;
}

static inline bool kvm_gmem_is_private_mem(struct inode *inode, pgoff_t index)
{
	return !kvm_gmem_is_shared_mem(inode, index);
}

/*
 * A walk of the page cache under RCU lets others run, and goes on behind @folio. Not with
 * xas_pause(): after a walk has begun in the middle of a large folio, that passes over
 * more than the folio.
 */
static inline void gmem_xas_resched(struct xa_state *xas,
				    const struct folio *folio)
{
	if (!need_resched())
		return;
	xas_set(xas, folio_next_index(folio));
	cond_resched_rcu();
}

/* guest_memfd.c */
bool kvm_gmem_is_file(const struct file *file);
struct module *kvm_gmem_owner(void);
struct folio *kvm_gmem_get_folio(struct inode *inode, pgoff_t index);
void kvm_gmem_split_mappings(const struct gmem_event *event);
void kvm_gmem_invalidate_start(const struct gmem_event *event);
void kvm_gmem_invalidate_end(const struct gmem_event *event);

/* gmem_listener.c */
bool gmem_is_listened_to(struct inode *inode, pgoff_t start, pgoff_t last);
bool gmem_is_private_listened_to(struct inode *inode, pgoff_t start, pgoff_t last);
struct gmem_run *gmem_alloc_runs(unsigned long nr);
int gmem_event_prepare(struct gmem_event *event);
void gmem_event_abort(const struct gmem_event *event);
void gmem_event_invalidate(const struct gmem_event *event);
void gmem_event_populate(const struct gmem_event *event);
void gmem_event_report(struct gmem_event *event);
void gmem_release_listeners(struct gmem_event *event);

/* gmem_memslot.c */
void gmem_memslots_init_once(struct gmem_inode *gi);
void gmem_memslots_destroy(struct gmem_inode *gi);
int gmem_memslot_created(struct inode *inode, pgoff_t start, pgoff_t last);
void gmem_memslot_deleted(struct inode *inode, pgoff_t start, pgoff_t last);
bool gmem_next_gone(struct inode *inode, pgoff_t start, pgoff_t last,
		    pgoff_t *gone_start, pgoff_t *gone_last);

/* gmem_populate.c */
void gmem_clear_folio(struct inode *inode, struct folio *folio);
bool gmem_is_new(struct inode *inode, pgoff_t index);
int gmem_populate_folio(struct inode *inode, struct folio *folio);
int gmem_populate_shared(struct inode *inode, pgoff_t start, pgoff_t last);
int gmem_populate_run(struct inode *inode, pgoff_t start, pgoff_t last,
		      pgoff_t *error_index);
int gmem_populate_unbroken(struct inode *inode, pgoff_t start, pgoff_t last);
void gmem_populate_done(struct inode *inode, pgoff_t start, pgoff_t last,
			bool keep);

/**
 * struct gmem_freezer - Folios that are to be frozen
 * @inode: The guest_memfd
 * @runs: Runs of a change
 * @end: End of @runs
 * @shared: Which of them: those that become shared, of which only large folios are
 *	frozen, or the others
 * @broken: Freeze folios too that the hardware reported as broken
 * @host_maps: Private: whether page tables of the host map one of the folios
 * @drained: Which per-CPU LRU batches were drained for this change
 * @prepared: Private to gmem_huge.c
 * @error_index: Out: the page that refused
 */
struct gmem_freezer {
	struct inode *inode;
	const struct gmem_run *runs;
	const struct gmem_run *end;
	bool shared;
	bool broken;
	bool host_maps;
	enum lru_cache_drained drained;
	const struct folio *prepared;
	pgoff_t error_index;
};

/* gmem_freeze.c */
bool gmem_is_frozen(const struct folio *folio);
int gmem_freeze(struct gmem_freezer *f);
void gmem_unfreeze(struct gmem_freezer *f);
void gmem_unfreeze_folio(struct inode *inode, struct folio *folio);
void gmem_report_broken(struct inode *inode, pgoff_t start, pgoff_t last);
void gmem_report_found(struct inode *inode);
const struct gmem_run *gmem_find_run(const struct gmem_run *first,
				     const struct gmem_run *end, pgoff_t index);

/* gmem_huge.c */
#ifdef CONFIG_KVM_GUEST_MEMFD_HUGETLB
static inline bool gmem_is_huge(struct inode *inode)
{
	return GMEM_I(inode)->huge;
}

int gmem_huge_create(struct inode *inode, unsigned int page_shift);
void gmem_huge_evict(struct inode *inode);
void gmem_huge_destroy(struct inode *inode);
bool gmem_huge_is_aligned(struct inode *inode, loff_t offset, loff_t len);
void gmem_huge_round_out(struct inode *inode, pgoff_t *start, pgoff_t *last);
bool gmem_page_is_broken(struct inode *inode, struct folio *folio,
			 pgoff_t index);
int gmem_huge_add(struct inode *inode, pgoff_t index);
void gmem_huge_undo_add(struct inode *inode, pgoff_t index);
void gmem_huge_remove(struct inode *inode, pgoff_t start, pgoff_t last);
int gmem_huge_prepare_split(struct gmem_freezer *f);
void gmem_huge_cancel_split(struct gmem_freezer *f);
void gmem_huge_split(struct gmem_freezer *f);
void gmem_huge_merge(struct gmem_freezer *f);
#else
static inline bool gmem_is_huge(struct inode *inode)
{
	return false;
}

static inline int gmem_huge_create(struct inode *inode, unsigned int page_shift)
{
	return -EINVAL;
}

static inline bool gmem_huge_is_aligned(struct inode *inode, loff_t offset,
					loff_t len)
{
	return true;
}

static inline void gmem_huge_round_out(struct inode *inode, pgoff_t *start,
				       pgoff_t *last) { }

static inline bool gmem_page_is_broken(struct inode *inode, struct folio *folio,
				       pgoff_t index)
{
	return folio_test_hwpoison(folio);
}

static inline int gmem_huge_add(struct inode *inode, pgoff_t index)
{
	return -EINVAL;
}

static inline int gmem_huge_prepare_split(struct gmem_freezer *f)
{
	return 0;
}

static inline void gmem_huge_evict(struct inode *inode) { }
static inline void gmem_huge_destroy(struct inode *inode) { }
static inline void gmem_huge_undo_add(struct inode *inode, pgoff_t index) { }
static inline void gmem_huge_remove(struct inode *inode, pgoff_t start,
				    pgoff_t last) { }
static inline void gmem_huge_cancel_split(struct gmem_freezer *f) { }
static inline void gmem_huge_split(struct gmem_freezer *f) { }
static inline void gmem_huge_merge(struct gmem_freezer *f) { }
#endif

/* gmem_convert.c */
long kvm_gmem_ioctl(struct file *file, unsigned int ioctl, unsigned long arg);

#endif /* __KVM_GMEM_INTERNAL_H */
