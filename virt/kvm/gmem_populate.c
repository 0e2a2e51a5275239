// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for shared pages of a guest_memfd that listeners cover.
 *
 * Devices do not fault, so a page that a listener covers and that becomes shared
 * gets memory, zeroed, before it becomes shared; and memory that appears in a
 * shared page later is reported to the listeners before anyone else can use it.
 *
 * A folio is uptodate once its contents are initialized. Listeners look at
 * uptodate folios only, so memory becomes visible to them exactly when they are
 * told of it.
 *
 * While a conversion may still fail, the folios that it has made are marked in
 * the page cache, so that giving it up removes them again.
 */
#include <linux/highmem.h>
#include <linux/sched/signal.h>

#include "gmem_internal.h"

#define GMEM_MARK_NEW PAGECACHE_TAG_TOWRITE

/* The first new folio at or after *@index. */
static struct folio *gmem_next_new(struct inode *inode, unsigned long *index,
				   pgoff_t last)
{
	return xa_find(&inode->i_mapping->i_pages, index, last, GMEM_MARK_NEW);
}

static void gmem_clear_folio(struct folio *folio)
{
	unsigned long i;

	for (i = 0; i < folio_nr_pages(folio); i++)
		clear_highpage(folio_page(folio, i));
}

static void gmem_set_mark(struct inode *inode, pgoff_t index, bool set)
{
	struct xarray *pages = &inode->i_mapping->i_pages;

	xa_lock_irq(pages);
	if (set)
		__xa_set_mark(pages, index, GMEM_MARK_NEW);
	else
		__xa_clear_mark(pages, index, GMEM_MARK_NEW);
	xa_unlock_irq(pages);
}

/*
 * Initialize a folio that just appeared, and report it to the listeners when it
 * is shared. The invalidate lock is held in any mode and the folio is locked and
 * not uptodate. On failure it stays so, and the next user tries again.
 */
int gmem_populate_folio(struct inode *inode, struct folio *folio)
{
	struct gmem_run run = {
		.start = folio->index,
		.last = folio_next_index(folio) - 1,
		.shared = true,
	};
	struct gmem_event event = {
		.inode = inode,
		.reason = GMEM_POPULATE,
		.runs = &run,
		.nr_runs = 1,
	};
	bool report;
	int ret;

	if (folio_test_hwpoison(folio))
		return -EHWPOISON;

	gmem_clear_folio(folio);

	report = kvm_gmem_is_convertible(inode) &&
		 kvm_gmem_is_shared_mem(inode, folio->index);
	if (report) {
		ret = gmem_event_prepare(&event);
		if (ret)
			return ret;
	}
	folio_mark_uptodate(folio);
	if (report)
		gmem_event_populate(&event);
	return 0;
}

static int gmem_populate_index(struct inode *inode, pgoff_t index,
			       struct folio **foliop)
{
	struct folio *folio;

	/*
	 * The invalidate lock is held exclusively, so the page cache stands
	 * still and nobody else initializes a folio: no need for the folio lock,
	 * which memory failure holds when it waits for the invalidate lock.
	 */
	folio = xa_load(&inode->i_mapping->i_pages, index);
	if (folio) {
		if (folio_test_hwpoison(folio))
			return -EHWPOISON;
		if (!folio_test_uptodate(folio)) {
			gmem_clear_folio(folio);
			folio_mark_uptodate(folio);
		}
		*foliop = folio;
		return 0;
	}

	folio = kvm_gmem_get_folio(inode, index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	gmem_clear_folio(folio);
	folio_mark_uptodate(folio);
	gmem_set_mark(inode, folio->index, true);
	folio_unlock(folio);
	folio_put(folio);
	*foliop = folio;
	return 0;
}

/*
 * Give memory to all pages of [start, last], under the invalidate lock held
 * exclusively and without telling listeners. Followed by gmem_populate_keep() or
 * gmem_populate_undo(), also when it fails.
 */
int gmem_populate_run(struct inode *inode, pgoff_t start, pgoff_t last,
		      pgoff_t *error_index)
{
	struct folio *folio;
	pgoff_t index;
	int ret;

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);

	for (index = start; index <= last; index = folio_next_index(folio)) {
		*error_index = index;
		if (signal_pending(current))
			return -EINTR;
		ret = gmem_populate_index(inode, index, &folio);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/* What gmem_populate_run() made stays. */
void gmem_populate_keep(struct inode *inode, pgoff_t start, pgoff_t last)
{
	unsigned long index;

	for (index = start; gmem_next_new(inode, &index, last); index++)
		gmem_set_mark(inode, index, false);
}

/* Remove what gmem_populate_run() made. Nobody has seen it. */
void gmem_populate_undo(struct inode *inode, pgoff_t start, pgoff_t last)
{
	struct folio *folio;
	unsigned long index;

	for (index = start; (folio = gmem_next_new(inode, &index, last));
	     index++)
		truncate_inode_pages_range(inode->i_mapping,
					   folio_pos(folio),
					   folio_next_pos(folio) - 1);
}

/* Give memory to the shared pages of [start, last], or change nothing. */
int gmem_populate_shared(struct inode *inode, pgoff_t start, pgoff_t last,
			 pgoff_t *error_index)
{
	struct gmem_run run;
	pgoff_t index = start;
	int ret;

	while (gmem_next_run(inode, index, last, &run)) {
		index = run.last + 1;
		if (!run.shared)
			continue;
		ret = gmem_populate_run(inode, run.start, run.last, error_index);
		if (ret) {
			gmem_populate_undo(inode, start, last);
			return ret;
		}
	}
	gmem_populate_keep(inode, start, last);
	return 0;
}
