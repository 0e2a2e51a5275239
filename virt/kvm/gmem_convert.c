// SPDX-License-Identifier: GPL-2.0-only
/*
 * Conversion of guest_memfd pages between shared and private.
 *
 * A request is done whole or not at all. All of it happens under the inode's
 * invalidate lock, exclusive:
 *
 *   may fail    1. compute the runs that differ from their target; none: done
 *               2. reserve: state entries; memory for pages that become shared
 *                  and that a listener covers
 *               3. listeners prepare
 *               4. to private: zap host mappings, freeze every folio at its
 *                  expected reference count; to shared: freeze large folios, and
 *                  prepare to split them
 *   -- point of no return: nothing below fails or allocates --
 *               5. zap the guest mappings of the old state
 *               6. listeners invalidate: IOTLBs are clean when this is done
 *               7. store the state to private; split; store the state to shared
 *               8. listeners populate
 *               9. guests may fault again
 *   -- done --
 *              10. merge folios of pages that have all become private
 *
 * Nobody can gain a reference to a folio of a run between 4 and 7: its reference
 * count is zero, its host mappings are gone, and every path that looks a folio up to
 * get one takes the invalidate lock.
 */
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/uaccess.h>

#include "gmem_internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/guest_memfd.h>

/**
 * struct gmem_conversion - A request on its way
 * @inode: The guest_memfd
 * @ranges: The request, merged
 * @nr_ranges: Number of @ranges
 * @event: What listeners see; its runs are those that differ
 * @runs: The runs of @event
 * @one_run: Most requests have one
 * @end: End of @runs
 * @freeze: The folios that become private
 * @split: The large folios that have pages which become shared
 * @populated: Whether pages of the runs may have been given memory
 * @error_index: The page that refused, when @has_error_index
 * @has_error_index: Whether a page is to blame
 */
struct gmem_conversion {
	struct inode *inode;
	struct gmem_run *ranges;
	unsigned long nr_ranges;
	struct gmem_event event;
	struct gmem_run *runs;
	struct gmem_run one_run;
	struct gmem_run *end;
	struct gmem_freezer freeze;
	struct gmem_freezer split;
	bool populated;
	pgoff_t error_index;
	bool has_error_index;
};

/* A page refused, unless it is a signal that did. */
static int gmem_refuse(struct gmem_conversion *conv, pgoff_t index, int ret)
{
	if (!ret || ret == -EINTR)
		return ret;
	conv->error_index = index;
	conv->has_error_index = true;
	return ret;
}

static void gmem_free_runs(struct gmem_conversion *conv)
{
	if (conv->runs != &conv->one_run)
		kvfree(conv->runs);
}

/* Step 1: what differs. */
static int gmem_compute_runs(struct gmem_conversion *conv)
{
	struct gmem_state *state = &GMEM_I(conv->inode)->state;
	unsigned long nr = conv->nr_ranges;
	unsigned long room;

	/* Mostly a range is one run, or none. If not, there is a second time. */
	conv->runs = &conv->one_run;
	do {
		room = nr;
		gmem_free_runs(conv);
		conv->runs = room > 1 ? gmem_alloc_runs(room) : &conv->one_run;
		if (!conv->runs)
			return -ENOMEM;
		nr = gmem_state_diff(state, conv->ranges, conv->nr_ranges,
				     conv->runs, room);
	} while (nr > room);

	conv->event.runs = conv->runs;
	conv->event.nr_runs = nr;
	conv->end = conv->runs + nr;
	return 0;
}

/* Step 2, the entries of the state. */
static int gmem_reserve_state(struct gmem_conversion *conv)
{
	struct gmem_run *run;
	int ret;

	for (run = conv->runs; run < conv->end; run++) {
		if (signal_pending(current))
			return -EINTR;
		ret = gmem_state_reserve(&GMEM_I(conv->inode)->state, run);
		if (ret)
			return gmem_refuse(conv, run->start, ret);
		cond_resched();
	}
	return 0;
}

/* Step 2, memory for the pages that devices are about to reach. */
static int gmem_populate_runs(struct gmem_conversion *conv)
{
	struct gmem_listener *listener;
	struct gmem_run *run;
	pgoff_t index;
	int ret;

	for (run = conv->runs; run < conv->end; run++) {
		if (!run->shared)
			continue;
		list_for_each_entry(listener, &GMEM_I(conv->inode)->listeners,
				    node) {
			pgoff_t start = run->start, last = run->last;

			if (READ_ONCE(listener->idle) ||
			    !gmem_listener_clip(listener, &start, &last))
				continue;
			conv->populated = true;
			ret = gmem_populate_run(conv->inode, start, last,
						&index);
			if (ret)
				return gmem_refuse(conv, index, ret);
		}
	}
	return 0;
}

static void gmem_populate_runs_done(struct gmem_conversion *conv, bool keep)
{
	struct gmem_run *run;

	if (!conv->populated)
		return;
	for (run = conv->runs; run < conv->end; run++)
		if (run->shared)
			gmem_populate_done(conv->inode, run->start, run->last,
					   keep);
}

/* The architecture takes its protection off pages that become shared. */
static void gmem_arch_make_shared(struct inode *inode, const struct gmem_run *run)
{
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_RECLAIM
	struct folio *folio;
	unsigned long index;

	xa_for_each_range(&inode->i_mapping->i_pages, index, folio, run->start,
			  run->last)
		kvm_arch_gmem_reclaim(folio_pfn(folio), folio_nr_pages(folio));
#endif
}

/* Step 7. */
static void gmem_store_state(struct gmem_conversion *conv)
{
	struct gmem_state *state = &GMEM_I(conv->inode)->state;
	struct gmem_run *run;

	for (run = conv->runs; run < conv->end; run++)
		if (!run->shared)
			gmem_state_store(state, run);
	gmem_unfreeze(&conv->freeze);

	if (gmem_is_huge(conv->inode))
		gmem_huge_split(&conv->split);
	for (run = conv->runs; run < conv->end; run++) {
		if (!run->shared)
			continue;
		gmem_arch_make_shared(conv->inode, run);
		gmem_state_store(state, run);
	}
}

/* Step 4 for the runs to private. On failure nothing is frozen. */
static int gmem_freeze_runs(struct gmem_conversion *conv)
{
	int ret;

	conv->freeze = (struct gmem_freezer) {
		.inode = conv->inode,
		.runs = conv->runs,
		.end = conv->end,
		.drained = LRU_CACHE_NOT_DRAINED,
	};
	ret = gmem_freeze(&conv->freeze);
	return gmem_refuse(conv, conv->freeze.error_index, ret);
}

/* Step 4 for the runs to shared: their pages have to be folios by themselves. */
static int gmem_prepare_split_runs(struct gmem_conversion *conv)
{
	int ret;

	if (!gmem_is_huge(conv->inode))
		return 0;

	conv->split = (struct gmem_freezer) {
		.inode = conv->inode,
		.runs = conv->runs,
		.end = conv->end,
		.shared = true,
		.broken = true,
		.drained = conv->freeze.drained,
	};
	kvm_gmem_split_mappings(&conv->event);
	ret = gmem_huge_prepare_split(&conv->split);
	return gmem_refuse(conv, conv->split.error_index, ret);
}

/* Steps 2 to 4. On failure nothing has changed. */
static int gmem_prepare(struct gmem_conversion *conv)
{
	int ret;

	ret = gmem_reserve_state(conv);
	if (ret)
		return ret;

	ret = gmem_populate_runs(conv);
	if (ret)
		goto err_undo_populate;

	ret = gmem_event_prepare(&conv->event);
	if (ret) {
		gmem_refuse(conv, conv->event.error_index, ret);
		goto err_undo_populate;
	}

	ret = gmem_freeze_runs(conv);
	if (ret)
		goto err_abort;

	ret = gmem_prepare_split_runs(conv);
	if (ret)
		goto err_unfreeze;
	return 0;

err_unfreeze:
	gmem_unfreeze(&conv->freeze);
err_abort:
	gmem_event_abort(&conv->event);
err_undo_populate:
	gmem_populate_runs_done(conv, false);
	return ret;
}

/*
 * Steps 5 to 9. Nothing here fails or allocates; to lockdep this is a reclaim, in
 * which it reports whoever allocates.
 */
static void gmem_commit(struct gmem_conversion *conv)
{
	trace_gmem_convert_decided(conv->inode, &conv->event);
	fs_reclaim_acquire(GFP_KERNEL);

	kvm_gmem_invalidate_start(&conv->event);
	gmem_event_invalidate(&conv->event);
	gmem_store_state(conv);
	gmem_event_populate(&conv->event);
	kvm_gmem_invalidate_end(&conv->event);

	fs_reclaim_release(GFP_KERNEL);
	trace_gmem_convert_commit(conv->inode, &conv->event);
}

static int gmem_convert_locked(struct gmem_conversion *conv)
{
	int ret;

	ret = gmem_compute_runs(conv);
	if (ret || !conv->event.nr_runs)
		return ret;

	trace_gmem_convert_begin(conv->inode, &conv->event);
	ret = gmem_prepare(conv);
	if (ret) {
		trace_gmem_convert_abort(conv->inode, conv->error_index, ret);
		return ret;
	}

	gmem_commit(conv);

	if (gmem_is_huge(conv->inode))
		gmem_huge_merge(&conv->freeze);
	gmem_populate_runs_done(conv, true);
	gmem_state_free_unused(&GMEM_I(conv->inode)->state);
	return 0;
}

/*
 * Convert ranges in one atomic step. @ranges is rewritten. @error_offset is the
 * first byte that refused, or 0.
 */
static int gmem_convert(struct inode *inode, struct gmem_run *ranges,
			unsigned long nr_ranges, u64 *error_offset)
{
	struct gmem_conversion conv = {
		.inode = inode,
		.ranges = ranges,
		.nr_ranges = nr_ranges,
		.event = {
			.inode = inode,
			.reason = GMEM_CONVERT,
		},
	};
	int ret;

	*error_offset = 0;
	ret = gmem_merge_ranges(ranges, &conv.nr_ranges);
	if (ret)
		return ret;

	ret = down_write_killable(&inode->i_mapping->invalidate_lock);
	if (ret)
		return ret;
	ret = gmem_convert_locked(&conv);
	gmem_report_found(inode);
	filemap_invalidate_unlock(inode->i_mapping);

	gmem_free_runs(&conv);
	if (ret && conv.has_error_index)
		*error_offset = (u64)conv.error_index << PAGE_SHIFT;
	return ret;
}

/* Check a range of bytes and express it in pages. */
static int gmem_range_to_run(struct inode *inode, u64 offset, u64 size,
			     bool shared, struct gmem_run *run)
{
	u64 end;

	if (!size || !PAGE_ALIGNED(offset) || !PAGE_ALIGNED(size) ||
	    check_add_overflow(offset, size, &end) || end > i_size_read(inode))
		return -EINVAL;

	run->start = offset >> PAGE_SHIFT;
	run->last = (end >> PAGE_SHIFT) - 1;
	run->shared = shared;
	return 0;
}

static int gmem_read_ranges(struct inode *inode,
			    const struct kvm_gmem_convert *args,
			    struct gmem_run *runs)
{
	struct kvm_gmem_range __user *uranges = u64_to_user_ptr(args->ranges);
	struct kvm_gmem_range range;
	unsigned int i;
	int ret;

	for (i = 0; i < args->nr_ranges; i++) {
		if (copy_from_user(&range, &uranges[i], sizeof(range)))
			return -EFAULT;
		if (range.reserved ||
		    (range.target != KVM_GMEM_TARGET_SHARED &&
		     range.target != KVM_GMEM_TARGET_PRIVATE))
			return -EINVAL;
		ret = gmem_range_to_run(inode, range.offset, range.size,
					range.target == KVM_GMEM_TARGET_SHARED,
					&runs[i]);
		if (ret)
			return ret;
	}
	return 0;
}

static int gmem_convert_vector(struct inode *inode,
			       const struct kvm_gmem_convert *args,
			       u64 *error_offset)
{
	struct gmem_run *runs, one_run;
	int ret;

	if (args->flags || args->reserved || !args->nr_ranges ||
	    args->nr_ranges > KVM_GMEM_CONVERT_MAX_RANGES)
		return -EINVAL;

	runs = args->nr_ranges == 1 ? &one_run : gmem_alloc_runs(args->nr_ranges);
	if (!runs)
		return -ENOMEM;

	ret = gmem_read_ranges(inode, args, runs);
	if (!ret)
		ret = gmem_convert(inode, runs, args->nr_ranges, error_offset);
	if (runs != &one_run)
		kvfree(runs);
	return ret;
}

#define KVM_GMEM_CONVERT_SIZE_VER0	32

static int gmem_ioctl_convert(struct inode *inode,
			      struct kvm_gmem_convert __user *uarg)
{
	struct kvm_gmem_convert args;
	u64 error_offset = 0;
	u32 size;
	int ret;

	BUILD_BUG_ON(sizeof(args) != KVM_GMEM_CONVERT_SIZE_VER0);

	if (get_user(size, &uarg->size))
		return -EFAULT;
	if (size < KVM_GMEM_CONVERT_SIZE_VER0)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	/* Defined on every return; and a conversion is never done unreported. */
	if (put_user(0, &uarg->error_offset))
		return -EFAULT;
	ret = copy_struct_from_user(&args, sizeof(args), uarg, size);
	if (ret)
		return ret;

	ret = gmem_convert_vector(inode, &args, &error_offset);
	if (error_offset && put_user(error_offset, &uarg->error_offset))
		return -EFAULT;
	return ret;
}

static int gmem_ioctl_set_attributes(struct inode *inode,
				     struct kvm_memory_attributes2 __user *uarg)
{
	struct kvm_memory_attributes2 args;
	u64 error_offset = 0;
	struct gmem_run run;
	int ret;

	BUILD_BUG_ON(sizeof(args) != 128);

	if (copy_from_user(&args, uarg, sizeof(args)) ||
	    put_user(0, &uarg->error_offset))
		return -EFAULT;
	if (args.flags || memchr_inv(args.reserved, 0, sizeof(args.reserved)) ||
	    args.attributes & ~KVM_MEMORY_ATTRIBUTE_PRIVATE)
		return -EINVAL;

	ret = gmem_range_to_run(inode, args.offset, args.size,
				!(args.attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE),
				&run);
	if (!ret)
		ret = gmem_convert(inode, &run, 1, &error_offset);
	/* As queued upstream: without memory it names the start of the request. */
	if (ret == -ENOMEM)
		error_offset = args.offset;
	if (error_offset && put_user(error_offset, &uarg->error_offset))
		return -EFAULT;
	return ret;
}

/* ioctls of a guest_memfd file; both conversion ioctls are one engine. */
long kvm_gmem_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	struct inode *inode = file_inode(file);

	if (!kvm_gmem_is_convertible(inode))
		return -ENOTTY;

	switch (ioctl) {
	case KVM_GMEM_CONVERT:
		return gmem_ioctl_convert(inode, (void __user *)arg);
	case KVM_SET_MEMORY_ATTRIBUTES2:
		return gmem_ioctl_set_attributes(inode, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}
