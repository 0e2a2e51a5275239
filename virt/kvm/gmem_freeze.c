// SPDX-License-Identifier: GPL-2.0-only
/*
 * Freezing the folios of a guest_memfd: taking every reference to them.
 *
 * A folio that nobody but the page cache refers to can be frozen: its reference
 * count becomes zero, and nobody can gain a reference until it is unfrozen. All
 * folios of a change are frozen, or none: the first one that has another reference
 * refuses the change.
 *
 * The caller holds the inode's invalidate lock exclusively, so that the page cache
 * stands still and no fault maps a page.
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/rcupdate_wait.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>

#include "gmem_internal.h"

/*
 * How long a transient reference may refuse a page: of a page table walker, of
 * compaction, of a task that is preempted between taking and dropping one. Pins
 * do not go away by waiting and are refused at once.
 */
#define GMEM_REF_TRIES		20
#define GMEM_REF_SLEEP_US	100

bool gmem_is_frozen(const struct folio *folio)
{
	return !folio_ref_count(folio);
}

/* A walk of the page cache under RCU lets others run. */
static void gmem_xas_resched(struct xa_state *xas)
{
	if (!need_resched())
		return;
	xas_pause(xas);
	cond_resched_rcu();
}

static bool gmem_is_wanted(const struct gmem_freezer *f,
			   const struct gmem_run *run)
{
	return run->shared == f->shared;
}

/* Of runs that become shared only what has to be split is frozen. */
static bool gmem_is_kept(const struct gmem_freezer *f, const struct folio *folio)
{
	return f->shared && !folio_test_large(folio);
}

/*
 * Freeze a folio that has no other references than those of the page cache, so
 * that nobody gets one. One that the host maps is only looked at: it has to be
 * zapped first, which a refusal should not cost.
 */
static bool gmem_try_freeze(struct gmem_freezer *f, struct folio *folio)
{
	if (folio_test_hwpoison(folio) && !f->broken)
		return false;
	if (folio_mapped(folio))
		return folio_ref_count(folio) == folio_expected_ref_count(folio);
	return gmem_is_frozen(folio) ||
	       folio_ref_freeze(folio, folio_nr_pages(folio));
}

/*
 * Try for a bounded time. The folio stays: it is in the page cache, which the
 * invalidate lock keeps as it is.
 */
static int gmem_wait_to_freeze(struct gmem_freezer *f, struct folio *folio)
{
	int tries;

	for (tries = 0; ; tries++) {
		if (folio_test_hwpoison(folio) && !f->broken)
			return -EHWPOISON;
		if (gmem_try_freeze(f, folio))
			return 0;
		if (folio_maybe_dma_pinned(folio) || tries == GMEM_REF_TRIES)
			return -EAGAIN;
		if (signal_pending(current))
			return -EINTR;

		lru_cache_drain_for_folio(folio, 0, &f->drained);
		if (tries)
			usleep_range(GMEM_REF_SLEEP_US, 2 * GMEM_REF_SLEEP_US);
	}
}

static void gmem_unfreeze_run(struct inode *inode, const struct gmem_run *run)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, run->start);
	struct folio *folio;

	guard(rcu)();

	xas_for_each(&xas, folio, run->last) {
		if (gmem_is_frozen(folio))
			folio_ref_unfreeze(folio, folio_nr_pages(folio));
		gmem_xas_resched(&xas);
	}
}

/* Unfreeze whatever is frozen. */
void gmem_unfreeze(struct gmem_freezer *f)
{
	const struct gmem_run *run;

	for (run = f->runs; run < f->end; run++)
		if (gmem_is_wanted(f, run))
			gmem_unfreeze_run(f->inode, run);
}

static int gmem_freeze_run(struct gmem_freezer *f, const struct gmem_run *run)
{
	XA_STATE(xas, &f->inode->i_mapping->i_pages, run->start);
	struct folio *folio;
	int ret;

	guard(rcu)();

	xas_for_each(&xas, folio, run->last) {
		if (signal_pending(current))
			return -EINTR;
		if (gmem_is_kept(f, folio))
			continue;
		if (!gmem_try_freeze(f, folio)) {
			xas_pause(&xas);
			rcu_read_unlock();
			ret = gmem_wait_to_freeze(f, folio);
			rcu_read_lock();
			if (ret) {
				f->error_index = max(folio->index, run->start);
				return ret;
			}
		}
		f->host_maps |= folio_mapped(folio);
		gmem_xas_resched(&xas);
	}
	return 0;
}

/* Freeze what the host does not map, look at the rest. */
static int gmem_freeze_unmapped(struct gmem_freezer *f)
{
	const struct gmem_run *run;
	int ret;

	f->host_maps = false;
	for (run = f->runs; run < f->end; run++) {
		if (!gmem_is_wanted(f, run))
			continue;
		ret = gmem_freeze_run(f, run);
		if (ret)
			return ret;
	}
	return 0;
}

/* Faults are held off, so a folio that has no mapping does not get one. */
static bool gmem_host_maps(struct inode *inode, pgoff_t start, pgoff_t last)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, start);
	struct folio *folio;

	guard(rcu)();

	xas_for_each(&xas, folio, last) {
		if (folio_mapped(folio))
			return true;
		gmem_xas_resched(&xas);
	}
	return false;
}

/* The run that has page @index, or else the next one, or else @end. */
const struct gmem_run *gmem_find_run(const struct gmem_run *first,
				     const struct gmem_run *end, pgoff_t index)
{
	while (first < end) {
		const struct gmem_run *middle = first + (end - first) / 2;

		if (middle->last < index)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

static bool gmem_next_to_zap(void *data, pgoff_t *start, pgoff_t *last)
{
	const struct gmem_freezer *f = data;
	const struct gmem_run *run;
	pgoff_t first, end;

	for (run = gmem_find_run(f->runs, f->end, *start);
	     run < f->end && run->start <= *last; run++) {
		first = max(*start, run->start);
		end = min(*last, run->last);
		if (!gmem_is_wanted(f, run) ||
		    !gmem_host_maps(f->inode, first, end))
			continue;
		*start = first;
		*last = end;
		return true;
	}
	return false;
}

/*
 * Freeze the folios of all runs that have the direction of the freezer. On failure
 * nothing is frozen, and @error_index is the page that refused, unless it was a
 * signal that did.
 */
int gmem_freeze(struct gmem_freezer *f)
{
	int ret;

	ret = gmem_freeze_unmapped(f);
	if (!ret && f->host_maps) {
		unmap_mapping_ranges(f->inode->i_mapping, gmem_next_to_zap, f);
		ret = gmem_freeze_unmapped(f);
	}
	if (ret)
		gmem_unfreeze(f);
	return ret;
}
