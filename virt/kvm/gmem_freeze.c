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
 *
 * A page that breaks meanwhile is out of reach of memory_failure(). It is reported after
 * the change.
 */
#include <linux/delay.h>
#include <linux/mm.h>
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

/* How often mappings are zapped that somebody else puts back, see gmem_freeze(). */
#define GMEM_ZAP_TRIES		4

bool gmem_is_frozen(const struct folio *folio)
{
	return !folio_ref_count(folio);
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
 * that nobody gets one. One that the host maps is only looked at, and stays as it is:
 * it has to be zapped first, which a refusal should not cost.
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

/*
 * Let others get references to a folio again. memory_failure() gives up on a page that
 * it gets none to, so see whether it came meanwhile, and leave the rest of its work to
 * gmem_report_found().
 */
void gmem_unfreeze_folio(struct inode *inode, struct folio *folio)
{
	folio_ref_unfreeze(folio, folio_nr_pages(folio));
	/*
	 * It marks the page, and then tries to get a reference. Of a hugetlb folio it
	 * marks a page of a loan before the last try.
	 */
	smp_mb();
	if (unlikely(folio_contain_hwpoisoned_page(folio)))
		WRITE_ONCE(GMEM_I(inode)->found_broken, true);
}

static void gmem_unfreeze_run(struct inode *inode, const struct gmem_run *run)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, run->start);
	struct folio *folio;

	guard(rcu)();

	xas_for_each(&xas, folio, run->last) {
		if (gmem_is_frozen(folio))
			gmem_unfreeze_folio(inode, folio);
		gmem_xas_resched(&xas, folio);
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
		gmem_xas_resched(&xas, folio);
		if (gmem_is_kept(f, folio))
			continue;
		if (!gmem_try_freeze(f, folio)) {
			xas_set(&xas, folio_next_index(folio));
			rcu_read_unlock();
			ret = gmem_wait_to_freeze(f, folio);
			rcu_read_lock();
			if (ret) {
				f->error_index = max(folio->index, run->start);
				return ret;
			}
		}
		if (!gmem_is_frozen(folio) && !f->host_maps) {
			f->host_maps = true;
			f->error_index = max(folio->index, run->start);
		}
	}
	return 0;
}

/* Freeze what the host does not map, look at the rest. @error_index is the first of it. */
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

/*
 * Whether something is left to zap. Not folio_mapped(): a folio that somebody tries to
 * migrate has entries in page tables that do not count, and that become mappings again.
 */
static bool gmem_is_unfrozen(const struct gmem_freezer *f, pgoff_t start, pgoff_t last)
{
	XA_STATE(xas, &f->inode->i_mapping->i_pages, start);
	struct folio *folio;

	guard(rcu)();

	xas_for_each(&xas, folio, last) {
		if (!gmem_is_kept(f, folio) && !gmem_is_frozen(folio))
			return true;
		gmem_xas_resched(&xas, folio);
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
		if (!gmem_is_wanted(f, run) || !gmem_is_unfrozen(f, first, end))
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
 *
 * Faults are held off, so a folio that has no mapping does not get one. But migration,
 * which gives up on guest_memfd after it has taken a folio's mappings, puts them back
 * without the invalidate lock. So it is only over when all are frozen: who migrates a
 * folio holds a reference to it.
 */
int gmem_freeze(struct gmem_freezer *f)
{
	int tries, ret;

	for (tries = 0; ; tries++) {
		ret = gmem_freeze_unmapped(f);
		if (ret || !f->host_maps)
			break;
		if (tries == GMEM_ZAP_TRIES) {
			ret = -EAGAIN;
			break;
		}
		unmap_mapping_ranges(f->inode->i_mapping, gmem_next_to_zap, f);
	}
	if (ret)
		gmem_unfreeze(f);
	return ret;
}

/* -- pages that break ------------------------------------------------------ */

static void gmem_report_page(struct inode *inode, pgoff_t index)
{
	struct gmem_run run = {
		.start = index,
		.last = index,
	};
	struct gmem_event event = {
		.inode = inode,
		.reason = GMEM_MEMORY_FAILURE,
		.runs = &run,
		.nr_runs = 1,
	};

	kvm_gmem_invalidate_start(&event);
	gmem_event_report(&event);
	kvm_gmem_invalidate_end(&event);
}

/*
 * Take those pages of a range that are broken away from the guest and from listeners.
 * The caller holds the invalidate lock at least shared.
 */
void gmem_report_broken(struct inode *inode, pgoff_t start, pgoff_t last)
{
	struct folio *folio;
	pgoff_t index;

	for (index = start; index <= last; index++) {
		folio = xa_load(&inode->i_mapping->i_pages, index);
		if (folio && !xa_is_value(folio) &&
		    gmem_page_is_broken(inode, folio, index))
			gmem_report_page(inode, index);
		cond_resched();
	}
}

/*
 * The same for what broke while it was frozen, and was known before as well. To be called
 * after everything is unfrozen, under the invalidate lock.
 */
void gmem_report_found(struct inode *inode)
{
	struct folio *folio;
	unsigned long index;

	if (likely(!READ_ONCE(GMEM_I(inode)->found_broken)))
		return;
	WRITE_ONCE(GMEM_I(inode)->found_broken, false);

	xa_for_each(&inode->i_mapping->i_pages, index, folio) {
		if (!xa_is_value(folio) && folio_contain_hwpoisoned_page(folio))
			gmem_report_broken(inode, folio->index,
					   folio_next_index(folio) - 1);
		cond_resched();
	}
}
