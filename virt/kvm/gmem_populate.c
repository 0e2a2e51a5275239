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
 * While a change may still fail, what it has done to the page cache is marked
 * there, so that giving it up restores the page cache as it was.
 */
#include <linux/highmem.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "gmem_internal.h"

/* The folio was added, or was there and has been initialized. */
#define GMEM_MARK_NEW	PAGECACHE_TAG_TOWRITE
/* It was there. */
#define GMEM_MARK_INIT	PAGECACHE_TAG_DIRTY

/* Whether the change in progress gave memory to the page. */
bool gmem_is_new(struct inode *inode, pgoff_t index)
{
	return xa_get_mark(&inode->i_mapping->i_pages, index, GMEM_MARK_NEW);
}

void gmem_clear_folio(struct inode *inode, struct folio *folio)
{
	unsigned long i;

	for (i = 0; i < folio_nr_pages(folio); i++) {
		/* Of a large folio a page can be broken, which nobody may touch. */
		if (!folio_contain_hwpoisoned_page(folio) ||
		    !gmem_page_is_broken(inode, folio, folio->index + i))
			clear_highpage(folio_page(folio, i));
		cond_resched();
	}
}

static void gmem_mark_new(struct inode *inode, pgoff_t index, bool was_there)
{
	struct xarray *pages = &inode->i_mapping->i_pages;

	xa_lock_irq(pages);
	__xa_set_mark(pages, index, GMEM_MARK_NEW);
	if (was_there)
		__xa_set_mark(pages, index, GMEM_MARK_INIT);
	xa_unlock_irq(pages);
}

static void gmem_clear_marks(struct inode *inode, pgoff_t start, pgoff_t last)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, start);
	struct folio *folio;
	unsigned long nr = 0;

	xas_lock_irq(&xas);
	xas_for_each_marked(&xas, folio, last, GMEM_MARK_NEW) {
		xas_clear_mark(&xas, GMEM_MARK_NEW);
		xas_clear_mark(&xas, GMEM_MARK_INIT);
		if (++nr % XA_CHECK_SCHED)
			continue;
		xas_pause(&xas);
		xas_unlock_irq(&xas);
		cond_resched();
		xas_lock_irq(&xas);
	}
	xas_unlock_irq(&xas);
}

/*
 * Initialize a folio that just appeared, and report it to the listeners whom it
 * concerns. The invalidate lock is held in any mode and the folio is locked and
 * not uptodate. On failure it stays so, and the next user tries again.
 */
int gmem_populate_folio(struct inode *inode, struct folio *folio)
{
	struct gmem_run run = {
		.start = folio->index,
		.last = folio_next_index(folio) - 1,
		.shared = kvm_gmem_is_shared_mem(inode, folio->index),
	};
	struct gmem_event event = {
		.inode = inode,
		.reason = GMEM_POPULATE,
		.runs = &run,
		.nr_runs = 1,
	};
	pgoff_t gone;
	bool report;
	int ret;

	if (!folio_test_large(folio) && folio_test_hwpoison(folio))
		return -EHWPOISON;

	gmem_clear_folio(inode, folio);

	report = kvm_gmem_is_convertible(inode) &&
		 (run.shared ||
		  gmem_is_private_listened_to(inode, run.start, run.last)) &&
		 !gmem_next_gone(inode, run.start, run.last, &gone, &gone);
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
	 * still and nobody else initializes a folio: no need for the folio lock.
	 */
	folio = xa_load(&inode->i_mapping->i_pages, index);
	if (folio) {
		/* Of a large folio the other pages are good. */
		if (folio_contain_hwpoisoned_page(folio) &&
		    gmem_page_is_broken(inode, folio, index))
			return -EHWPOISON;
		if (!folio_test_uptodate(folio)) {
			gmem_clear_folio(inode, folio);
			folio_mark_uptodate(folio);
			gmem_mark_new(inode, folio->index, true);
		}
		*foliop = folio;
		return 0;
	}

	folio = kvm_gmem_get_folio(inode, index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	gmem_clear_folio(inode, folio);
	folio_mark_uptodate(folio);
	gmem_mark_new(inode, folio->index, false);
	folio_unlock(folio);
	folio_put(folio);
	*foliop = folio;
	return 0;
}

/*
 * Give memory to all pages of [start, last], under the invalidate lock held
 * exclusively and without telling listeners. Followed by gmem_populate_done(),
 * also when it fails.
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

/* Undo what gmem_populate_run() did. Nobody has seen it. */
static void gmem_populate_undo(struct inode *inode, pgoff_t start, pgoff_t last)
{
	struct xarray *pages = &inode->i_mapping->i_pages;
	unsigned long index = start;
	struct folio *folio;

	for (; (folio = xa_find(pages, &index, last, GMEM_MARK_NEW)); index++) {
		if (xa_get_mark(pages, index, GMEM_MARK_INIT)) {
			folio_clear_uptodate(folio);
			gmem_clear_marks(inode, index, index);
			continue;
		}
		if (gmem_is_huge(inode)) {
			gmem_huge_undo_add(inode, index);
			continue;
		}
		truncate_inode_pages_range(inode->i_mapping, folio_pos(folio),
					   folio_next_pos(folio) - 1);
	}
}

/*
 * After any number of gmem_populate_run() in the range: was it for good? Marks can be
 * outside of the range: a split hands those of a folio to all of its pieces. All there
 * are belong to this change.
 */
void gmem_populate_done(struct inode *inode, pgoff_t start, pgoff_t last,
			bool keep)
{
	if (keep)
		gmem_clear_marks(inode, 0, ULONG_MAX);
	else
		gmem_populate_undo(inode, start, last);
}

/* The marked folios of a shared run as runs: their number, and @runs if it is not NULL. */
static unsigned long gmem_marked_in_run(struct inode *inode,
					const struct gmem_run *shared,
					struct gmem_run *runs)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, shared->start);
	pgoff_t prev_last = 0;
	unsigned long nr = 0;
	struct folio *folio;

	rcu_read_lock();
	xas_for_each_marked(&xas, folio, shared->last, GMEM_MARK_NEW) {
		pgoff_t folio_last = folio_next_index(folio) - 1;

		if (!nr || folio->index != prev_last + 1) {
			if (runs)
				runs[nr] = (struct gmem_run) {
					.start = folio->index,
					.shared = true,
				};
			nr++;
		}
		if (runs)
			runs[nr - 1].last = folio_last;
		prev_last = folio_last;
		gmem_xas_resched(&xas, folio);
	}
	rcu_read_unlock();
	return nr;
}

/*
 * The marked folios of shared pages as runs: their number, and the runs themselves if
 * @runs.
 */
static unsigned long gmem_marked_runs(struct inode *inode, pgoff_t start,
				      pgoff_t last, struct gmem_run *runs)
{
	unsigned long nr = 0;
	struct gmem_run run;

	for (; gmem_next_run(inode, start, last, &run); start = run.last + 1)
		if (run.shared)
			nr += gmem_marked_in_run(inode, &run, runs ? runs + nr : NULL);
	return nr;
}

/* Tell listeners of the marked folios. On failure none of them has changed. */
static int gmem_report_marked(struct inode *inode, pgoff_t start, pgoff_t last)
{
	struct gmem_event event = {
		.inode = inode,
		.reason = GMEM_POPULATE,
	};
	struct gmem_run *runs;
	int ret;

	event.nr_runs = gmem_marked_runs(inode, start, last, NULL);
	if (!event.nr_runs)
		return 0;
	runs = gmem_alloc_runs(event.nr_runs);
	if (!runs)
		return -ENOMEM;
	gmem_marked_runs(inode, start, last, runs);
	event.runs = runs;

	ret = gmem_event_prepare(&event);
	if (!ret)
		gmem_event_populate(&event);
	kvfree(runs);
	return ret;
}

/*
 * Give memory to the shared pages of [start, last] that have none and tell
 * listeners, or change nothing.
 */
int gmem_populate_shared(struct inode *inode, pgoff_t start, pgoff_t last)
{
	pgoff_t index = start, error_index;
	struct gmem_run run;
	int ret = 0;

	while (!ret && gmem_next_run(inode, index, last, &run)) {
		index = run.last + 1;
		if (run.shared)
			ret = gmem_populate_run(inode, run.start, run.last,
						&error_index);
	}
	if (!ret)
		ret = gmem_report_marked(inode, start, last);
	gmem_populate_done(inode, start, last, !ret);
	return ret;
}

/*
 * Give memory to the shared pages of [start, last] that are not broken, without
 * telling listeners. Followed by gmem_populate_done(), also when it fails.
 */
int gmem_populate_unbroken(struct inode *inode, pgoff_t start, pgoff_t last)
{
	pgoff_t index = start, error_index;
	struct gmem_run run;
	int ret;

	while (gmem_next_run(inode, index, last, &run)) {
		index = run.last + 1;
		if (!run.shared)
			continue;
		ret = gmem_populate_run(inode, run.start, run.last,
					&error_index);
		/* A broken page is no reason to refuse the others. */
		if (ret == -EHWPOISON)
			index = error_index + 1;
		else if (ret)
			return ret;
	}
	return 0;
}
