// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file descriptor of a binding: runs, counters, poll; closing it unbinds.
 */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "gmem_iommu.h"

/**
 * gmem_binding_set_dead - Tell user space that the range is mirrored no more
 * @b: Binding
 *
 * Context: Any.
 */
void gmem_binding_set_dead(struct gmem_binding *b)
{
	WRITE_ONCE(b->dead, true);
	wake_up_all(&b->wait);
}

/*
 * The largest IOMMU leaf in contiguous memory: the mirror uses the largest that
 * fit, and merges those that come to fit later.
 */
static unsigned long gmem_binding_leaf_size(struct gmem_binding *b, pgoff_t index,
					    unsigned long pfn,
					    unsigned long nr_pages)
{
	static const unsigned long sizes[] = { SZ_1G, SZ_2M };
	unsigned long iova = b->iova +
			     ((index - b->listener.start) << PAGE_SHIFT);
	unsigned long end = iova + (nr_pages << PAGE_SHIFT);
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		if (sizes[i] <= gmem_binding_max_leaf(b) &&
		    IS_ALIGNED(iova ^ PFN_PHYS(pfn), sizes[i]) &&
		    ALIGN(iova, sizes[i]) + sizes[i] <= end)
			return sizes[i];
	return PAGE_SIZE;
}

/**
 * gmem_binding_fill_run - Describe a run for user space
 * @b: Binding
 * @run: Run of gmem_next_run(); clipped at the end of the memory that starts it, or
 *	of the hole, or where the budget is spent
 * @budget: How many runs of PFNs to look at, at least 1; counted down
 * @urun: Out: the clipped run
 *
 * Context: gmem_lock_shared() is held.
 */
void gmem_binding_fill_run(struct gmem_binding *b, struct gmem_run *run,
			   unsigned long *budget, struct gmem_iommu_run *urun)
{
	unsigned long pfn, nr_pages, leaf_size = 0;
	pgoff_t index, next = run->start;

	/* Runs of state are maximal; runs of PFNs are an accident. */
	while ((run->shared || gmem_binding_maps_all(b)) && next <= run->last &&
	       *budget &&
	       gmem_next_pfn_run(b->inode, next, run->last, GMEM_MEMORY_READY,
				 &index, &pfn, &nr_pages)) {
		--*budget;
		if (index != next) {
			run->last = (next == run->start ? index : next) - 1;
			break;
		}
		leaf_size = max(leaf_size,
				gmem_binding_leaf_size(b, index, pfn, nr_pages));
		next += nr_pages;
	}
	if (leaf_size)
		run->last = next - 1;

	*urun = (struct gmem_iommu_run) {
		.offset = (u64)run->start << PAGE_SHIFT,
		.length = (u64)(run->last - run->start + 1) << PAGE_SHIFT,
		.flags = (run->shared ? GMEM_IOMMU_RUN_SHARED : 0) |
			 (leaf_size ? GMEM_IOMMU_RUN_MAPPED : 0),
		.leaf_size = leaf_size,
	};
}

static u32 gmem_binding_read_runs(struct gmem_binding *b,
				  struct gmem_iommu_query_runs *query,
				  struct gmem_iommu_run *uruns, u32 max_runs)
{
	unsigned long budget = GMEM_BINDING_MAX_PFN_RUNS;
	pgoff_t index = query->cursor >> PAGE_SHIFT;
	struct gmem_run run;
	u32 nr = 0;

	/* The second lock keeps out faults that give memory to pages. */
	gmem_lock_shared(b->inode);
	iommufd_ext_lock(b->ext, gmem_lock_dep_map(b->inode));
	query->generation = gmem_generation(b->inode);
	while (nr < max_runs && budget && !fatal_signal_pending(current) &&
	       gmem_next_run(b->inode, index, b->listener.last, &run)) {
		gmem_binding_fill_run(b, &run, &budget, &uruns[nr++]);
		index = run.last + 1;
		cond_resched();
	}
	iommufd_ext_unlock(b->ext);
	gmem_unlock_shared(b->inode);

	query->cursor = index > b->listener.last ? ~0ULL :
						   (u64)index << PAGE_SHIFT;
	return nr;
}

static int gmem_binding_query_runs(struct gmem_binding *b, void __user *uarg)
{
	struct gmem_iommu_query_runs query;
	struct gmem_iommu_run *uruns;
	u32 max_runs, nr;
	int ret;

	ret = gmem_iommu_copy_args(&query, sizeof(query), sizeof(query), uarg);
	if (ret)
		return ret;
	if (READ_ONCE(b->dead))
		return -ENODEV;
	if (!query.cursor)
		query.cursor = (u64)b->listener.start << PAGE_SHIFT;
	if (!query.nr_runs || !PAGE_ALIGNED(query.cursor) ||
	    query.cursor >> PAGE_SHIFT < b->listener.start ||
	    query.cursor >> PAGE_SHIFT > b->listener.last)
		return -EINVAL;

	max_runs = min(query.nr_runs, GMEM_IOMMU_MAX_QUERY_RUNS);
	uruns = kvmalloc_array(max_runs, sizeof(*uruns), GFP_KERNEL_ACCOUNT);
	if (!uruns)
		return -ENOMEM;

	nr = gmem_binding_read_runs(b, &query, uruns, max_runs);
	query.nr_runs = nr;
	/* It may have died after the question above, and then nothing is mapped. */
	if (READ_ONCE(b->dead))
		ret = -ENODEV;
	else if (copy_to_user(u64_to_user_ptr(query.runs), uruns,
			      nr * sizeof(*uruns)))
		ret = -EFAULT;
	else
		ret = gmem_iommu_return_args(&query, sizeof(query), uarg);
	kvfree(uruns);
	return ret;
}

/**
 * gmem_binding_read_stats - Read all counters at one time
 * @b: Binding
 * @stats: Where to store them; its size is kept
 *
 * Context: Process context; takes the ext mutex.
 */
void gmem_binding_read_stats(struct gmem_binding *b,
			     struct gmem_iommu_stats *stats)
{
	struct iommufd_ext_stats ext_stats;

	iommufd_ext_lock(b->ext, NULL);
	iommufd_ext_get_stats(b->ext, &ext_stats);
	*stats = (struct gmem_iommu_stats) {
		.size = stats->size,
		.conversions = b->conversions,
		.aborts = b->aborts,
		.mapped_pages = ext_stats.mapped,
		.unmapped_pages = ext_stats.unmapped,
		.syncs = ext_stats.syncs,
		.failures = ext_stats.failures,
		.cuts = ext_stats.cuts,
		.merges = ext_stats.merges,
		.refusals = b->refusals,
		.total_ns = b->total_ns,
		.max_ns = b->max_ns,
	};
	iommufd_ext_unlock(b->ext);
}

static int gmem_binding_get_stats(struct gmem_binding *b, void __user *uarg)
{
	struct gmem_iommu_stats stats;
	int ret;

	ret = gmem_iommu_copy_args(&stats, sizeof(stats), sizeof(stats), uarg);
	if (ret)
		return ret;
	if (stats.flags)
		return -EOPNOTSUPP;

	gmem_binding_read_stats(b, &stats);
	return gmem_iommu_return_args(&stats, sizeof(stats), uarg);
}

static long gmem_binding_ioctl(struct file *file, unsigned int cmd,
			       unsigned long arg)
{
	struct gmem_binding *b = file->private_data;
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case GMEM_IOMMU_QUERY_RUNS:
		return gmem_binding_query_runs(b, uarg);
	case GMEM_IOMMU_GET_STATS:
		return gmem_binding_get_stats(b, uarg);
	default:
		return -ENOTTY;
	}
}

static __poll_t gmem_binding_poll(struct file *file, poll_table *wait)
{
	struct gmem_binding *b = file->private_data;

	poll_wait(file, &b->wait, wait);
	return READ_ONCE(b->dead) ? EPOLLHUP | EPOLLERR : 0;
}

static void gmem_binding_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct gmem_binding *b = file->private_data;

	seq_printf(m, "gmem-iommu-id:\t%d\n", b->id);
}

static int gmem_binding_release(struct inode *inode, struct file *file)
{
	gmem_mirror_unbind(file->private_data);
	return 0;
}

const struct file_operations gmem_binding_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = gmem_binding_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = gmem_binding_poll,
	.release = gmem_binding_release,
	.show_fdinfo = gmem_binding_show_fdinfo,
};
