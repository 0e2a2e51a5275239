// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/gmem_iommu: a file for each binding, with its range, its
 * counters and its runs, for whoever looks into somebody else's process.
 *
 * A file can have a run for every second page. It is read in pieces, and the
 * guest_memfd is not locked between them: the pieces can be of different times.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/seq_file.h>

#include "gmem_iommu.h"

static struct dentry *gmem_debugfs_dir;

static void gmem_debugfs_show_binding(struct seq_file *m, struct gmem_binding *b)
{
	seq_printf(m, "ino %llu\n", (u64)b->inode->i_ino);
	seq_printf(m, "offset 0x%llx\n", (u64)b->listener.start << PAGE_SHIFT);
	seq_printf(m, "length 0x%llx\n",
		   (u64)gmem_binding_nr_pages(b) << PAGE_SHIFT);
	seq_printf(m, "iova 0x%lx\n", b->iova);
	seq_printf(m, "policy %s\n",
		   gmem_binding_maps_all(b) ? "all" : "shared-only");
	seq_printf(m, "protection %s%s\n", b->prot & IOMMU_READ ? "r" : "",
		   b->prot & IOMMU_WRITE ? "w" : "");
	seq_printf(m, "max_leaf_size 0x%lx\n", gmem_binding_max_leaf(b));
	seq_printf(m, "dead %d\n", READ_ONCE(b->dead));
}

static void gmem_debugfs_show_stats(struct seq_file *m, struct gmem_binding *b)
{
	struct gmem_iommu_stats stats = {};

	gmem_binding_read_stats(b, &stats);
	seq_printf(m, "conversions %llu\n", stats.conversions);
	seq_printf(m, "aborts %llu\n", stats.aborts);
	seq_printf(m, "refusals %llu\n", stats.refusals);
	seq_printf(m, "mapped_pages %llu\n", stats.mapped_pages);
	seq_printf(m, "unmapped_pages %llu\n", stats.unmapped_pages);
	seq_printf(m, "syncs %llu\n", stats.syncs);
	seq_printf(m, "cuts %llu\n", stats.cuts);
	seq_printf(m, "merges %llu\n", stats.merges);
	seq_printf(m, "failures %llu\n", stats.failures);
	seq_printf(m, "total_ns %llu\n", stats.total_ns);
	seq_printf(m, "max_ns %llu\n", stats.max_ns);
}

static void gmem_debugfs_show_run(struct seq_file *m, struct gmem_binding *b,
				  pgoff_t index)
{
	unsigned long budget = GMEM_BINDING_MAX_PFN_RUNS;
	struct gmem_iommu_run urun;
	struct gmem_run run;

	gmem_next_run(b->inode, index, b->listener.last, &run);
	gmem_binding_fill_run(b, &run, &budget, &urun);
	seq_printf(m, "run 0x%llx 0x%llx %s %s 0x%x\n", urun.offset, urun.length,
		   urun.flags & GMEM_IOMMU_RUN_SHARED ? "shared" : "private",
		   urun.flags & GMEM_IOMMU_RUN_MAPPED ? "mapped" : "unmapped",
		   urun.leaf_size);
}

/*
 * Position 0 is what comes before the runs, position n the run at the page n - 1
 * of the binding. The position is what the iterator returns, plus one.
 */
static void *gmem_debugfs_at(struct gmem_binding *b, loff_t pos)
{
	if (pos > gmem_binding_nr_pages(b) || (pos && READ_ONCE(b->dead)))
		return NULL;
	return (void *)(unsigned long)(pos + 1);
}

static void *gmem_debugfs_start(struct seq_file *m, loff_t *pos)
{
	struct gmem_binding *b = m->private;

	gmem_lock_shared(b->inode);
	return gmem_debugfs_at(b, *pos);
}

static void *gmem_debugfs_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct gmem_binding *b = m->private;
	unsigned long budget = GMEM_BINDING_MAX_PFN_RUNS;
	struct gmem_iommu_run urun;
	struct gmem_run run;

	if (*pos) {
		gmem_next_run(b->inode, b->listener.start + *pos - 1,
			      b->listener.last, &run);
		gmem_binding_fill_run(b, &run, &budget, &urun);
		*pos += urun.length >> PAGE_SHIFT;
	} else {
		*pos = 1;
	}
	return gmem_debugfs_at(b, *pos);
}

static void gmem_debugfs_stop(struct seq_file *m, void *v)
{
	struct gmem_binding *b = m->private;

	gmem_unlock_shared(b->inode);
}

static int gmem_debugfs_show(struct seq_file *m, void *v)
{
	struct gmem_binding *b = m->private;
	unsigned long pos = (unsigned long)v - 1;

	if (pos) {
		gmem_debugfs_show_run(m, b, b->listener.start + pos - 1);
	} else {
		gmem_debugfs_show_binding(m, b);
		gmem_debugfs_show_stats(m, b);
	}
	return 0;
}

static const struct seq_operations gmem_debugfs_sops = {
	.start = gmem_debugfs_start,
	.next = gmem_debugfs_next,
	.stop = gmem_debugfs_stop,
	.show = gmem_debugfs_show,
};
DEFINE_SEQ_ATTRIBUTE(gmem_debugfs);

/**
 * gmem_debugfs_add - Show a binding
 * @b: Binding
 */
void gmem_debugfs_add(struct gmem_binding *b)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", b->id);
	b->debugfs = debugfs_create_file(name, 0400, gmem_debugfs_dir, b,
					 &gmem_debugfs_fops);
}

/**
 * gmem_debugfs_remove - Show a binding no more
 * @b: Binding
 *
 * On return nobody is reading.
 */
void gmem_debugfs_remove(struct gmem_binding *b)
{
	debugfs_remove(b->debugfs);
}

void gmem_debugfs_init(void)
{
	gmem_debugfs_dir = debugfs_create_dir("gmem_iommu", NULL);
}

void gmem_debugfs_exit(void)
{
	debugfs_remove(gmem_debugfs_dir);
}
