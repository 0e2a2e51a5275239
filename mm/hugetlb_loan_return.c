// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of hugetlb loans: how their pages come home.
 *
 * &hugetlb_loan.pages_out is the number of pages of a split loan that have not come home.
 * Who brings the last one owns the loan, and nobody has a reference to any of its pages.
 *
 * A piece comes home from any context, but a huge page goes to the pool in process context
 * only: its struct pages are initialized one by one, its vmemmap may be optimized, and the
 * end of a subpool may free surplus pages.
 *
 * A huge page that has a bad page when it comes home is taken out of the pool. Its other
 * pages go to the buddy allocator, and only the bad one is lost.
 */
#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/export.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/hugetlb_loan.h>
#include <linux/lockdep.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/page_owner.h>
#include <linux/pgalloc_tag.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "hugetlb_internal.h"
#include "hugetlb_loan.h"
#include "internal.h"
#include "page_alloc.h"

/* Under the mutex: the huge page has no borrower any more. */
static void loan_forget_locked(struct hugetlb_loan *loan)
{
	lockdep_assert_held(hugetlb_loan_mutex(loan));

	xa_erase(&hugetlb_loans, page_to_pfn(loan->page));
	kfree_rcu(loan, rcu);
}

static void loan_forget(struct hugetlb_loan *loan)
{
	guard(mutex)(hugetlb_loan_mutex(loan));
	loan_forget_locked(loan);
}

/*
 * A page of the pool is lost. Let the subpool have a reservation of another one if
 * the pool has one to spare; otherwise there is one page less to borrow.
 */
static void loan_replace_reservation(struct hstate *h,
				     struct hugepage_subpool *spool)
{
	if (hugetlb_acct_memory(h, 1))
		hugepage_subpool_lose_page(spool);
	else if (hugepage_subpool_put_pages(spool, 1))
		hugetlb_acct_memory(h, -1);
}

/*
 * Takes a huge page in use out of the pool, where free_huge_folio() would keep it. Its
 * bad pages have PG_hwpoison themselves then.
 */
static void loan_leave_pool(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);
	struct hstate *h = loan->split.h;
	unsigned int nr_pages = pages_per_huge_page(h);
	bool surplus;

	guard(spinlock_irq)(&hugetlb_lock);

	/* More of them may be on the folio's list since the merge. */
	hugetlb_loan_mark_bad_pages(loan);
	hugetlb_set_folio_subpool(folio, NULL);
	hugetlb_cgroup_uncharge_folio(hstate_index(h), nr_pages, folio);
	hugetlb_cgroup_uncharge_folio_rsvd(hstate_index(h), nr_pages, folio);
	lruvec_stat_mod_folio(folio, NR_HUGETLB, -nr_pages);
	mem_cgroup_uncharge(folio);

	surplus = h->surplus_huge_pages_node[folio_nid(folio)];
	remove_hugetlb_folio(h, folio, surplus);
	if (!surplus)
		h->max_huge_pages--;
}

/* Makes the pages of a compound page such on their own, for loan_free_pages(). */
static void loan_take_apart(struct page *page, unsigned int order)
{
	unsigned long i, nr_pages = 1UL << order;

	split_page_owner(page, order, 0);
	pgalloc_tag_split((struct folio *)page, order, 0);
	for (i = 0; i < nr_pages; i++)
		hugetlb_loan_reset_page(page + i);
}

/* Gives them to the buddy allocator, which does not take bad pages. */
static void loan_free_pages(struct page *page, unsigned long nr_pages)
{
	while (nr_pages--) {
		free_frozen_pages(page++, 0);
		cond_resched();
	}
}

/* Saves the good pages of a huge page that has bad ones, if it is known which. */
static bool loan_dissolve(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);
	struct hstate *h = loan->split.h;

	if (folio_test_hugetlb_raw_hwp_unreliable(folio) ||
	    hstate_is_gigantic_no_runtime(h))
		return false;

	loan_replace_reservation(h, loan->spool);
	/* memory_failure() waits until its pages are such on their own. */
	scoped_guard(mutex, hugetlb_loan_mutex(loan)) {
		loan_leave_pool(loan);
		loan_take_apart(&folio->page, huge_page_order(h));
		loan_forget_locked(loan);
	}
	/* In a CMA area the range stays taken, so nobody else gets the bad page. */
	loan_free_pages(&folio->page, pages_per_huge_page(h));
	return true;
}

/* A whole loan goes to the pool. If it is bad, the pool never hands it out again. */
static void loan_end_whole(struct hugetlb_loan *loan)
{
	/* The pages that have PG_hwpoison themselves are on no list. */
	if (loan->merged_bad)
		hugetlb_loan_lose_track(loan);
	/* Before the pool has the page again, and may lend it to the next one. */
	loan_forget(loan);
}

/* All pages of a split loan are home. */
static void loan_end(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);

	hugetlb_loan_join(loan, 0);
	hugetlb_loan_optimize_vmemmap(loan);

	if (loan->merged_bad && loan_dissolve(loan))
		return;
	loan_end_whole(loan);
	free_huge_folio(folio);
}

void hugetlb_loan_end_work(struct work_struct *work)
{
	loan_end(container_of(work, struct hugetlb_loan, work));
}

/* A returned piece has no references any more. Returns the loan if it was the last. */
static struct hugetlb_loan *loan_piece_comes_home(struct folio *folio)
{
	struct hugetlb_loan *loan = folio->private;
	long nr_pages = folio_nr_pages(folio);

	hugetlb_loan_clear_mlocked(folio, nr_pages);
	folio->private = NULL;
	__folio_clear_hugetlb_piece(folio);

	return atomic_long_sub_and_test(nr_pages, &loan->pages_out) ? loan : NULL;
}

/* Last reference of a piece that was returned, in any context. */
void free_hugetlb_piece(struct folio *folio)
{
	struct hugetlb_loan *loan = loan_piece_comes_home(folio);

	if (loan)
		queue_work(system_dfl_wq, &loan->work);
}

/* Splits a loan that has bad pages just to save the good ones, if possible. */
static bool loan_return_bad_folio(struct hugetlb_loan *loan, struct folio *folio)
{
	if (!folio_ref_freeze(folio, 1))
		return false;
	if (hugetlb_loan_prepare_split(loan, NULL)) {
		folio_ref_unfreeze(folio, 1);
		return false;
	}
	hugetlb_loan_split(loan, NULL);
	loan_end(loan);
	return true;
}

/**
 * hugetlb_loan_return() - Return a huge page, or a piece of it
 * @loan: The loan
 * @folio: The hugetlb folio of a whole loan, or one piece of a split one
 *
 * The folio must not be in the page cache, mapped or locked. The caller's reference,
 * which has to be the only one of its own, is consumed. If other references exist, of
 * pins for example, the folio comes home when the last one is dropped, in whatever
 * context that happens.
 *
 * The return of a whole loan, or of all pieces of a split one, ends the loan: @loan
 * must not be used any more. A split loan of which a piece was returned can neither
 * be merged nor be made into other pieces.
 *
 * When all pages are home, the huge page goes to the pool, or to the buddy allocator
 * without the bad pages if it has some. A whole loan with bad pages that somebody else
 * holds goes to the pool nevertheless, which does not hand it out again.
 *
 * Context: Process context, may sleep. Needs no memory to succeed.
 */
void hugetlb_loan_return(struct hugetlb_loan *loan, struct folio *folio)
{
	might_sleep();
	VM_WARN_ON_ONCE_FOLIO(folio->mapping || folio_mapped(folio), folio);
	VM_WARN_ON_ONCE_FOLIO(folio_test_lru(folio), folio);

	if (loan->whole) {
		VM_WARN_ON_ONCE_FOLIO(folio != hugetlb_loan_folio(loan), folio);
		VM_WARN_ON_ONCE_FOLIO(loan->vmemmap_parts.order, folio);
		if (folio_test_hwpoison(folio) &&
		    loan_return_bad_folio(loan, folio))
			return;
		loan_end_whole(loan);
		folio_put(folio);
		return;
	}

	folio->private = loan;
	__folio_set_hugetlb_piece(folio);
	/* The folio, and with it the loan, may be gone unless it is the last put. */
	if (!folio_put_testzero(folio))
		return;
	loan = loan_piece_comes_home(folio);
	if (loan)
		loan_end(loan);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_return, "kvm");
