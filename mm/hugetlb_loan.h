/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of hugetlb loans share: the loan, and what they call of each other.
 * hugetlb_loan.c lends, splits and merges; hugetlb_loan_return.c takes the pages back;
 * hugetlb_loan_vmemmap.c has the struct pages for either.
 *
 * What borrowers call is in include/linux/hugetlb_loan.h, what the rest of mm calls in
 * internal.h.
 */
#ifndef _MM_HUGETLB_LOAN_H
#define _MM_HUGETLB_LOAN_H

#include <linux/atomic.h>
#include <linux/hugetlb_loan.h>
#include <linux/rcupdate.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "hugetlb_internal.h"
#include "hugetlb_vmemmap.h"

struct mutex;

/**
 * struct hugetlb_loan - A huge page with its borrower
 * @split: What the pool has to find while the loan is split
 * @page: First page
 * @spool: Reservation that the loan counts in
 * @whole: It is a hugetlb folio. Changes under the mutex and hugetlb_lock.
 * @optimized: The vmemmap was optimized when the page was borrowed
 * @vmemmap_parts: In which the vmemmap is restored, or will be by the split, if it is
 * @merged_bad: Some page went bad in the very moment of the last merge. Then it is
 *	not on the folio's list of bad pages, but has PG_hwpoison itself
 * @first_bad: And that is the first page, where PG_hwpoison means all of the folio
 * @split_bad: While split: it had a bad page then, or got one. Written under the mutex.
 * @hpage_flags: While split: flags of the hugetlb folio
 * @memcg_data: While split: of the hugetlb folio
 * @pages_out: While split: pages that have not come home
 * @work: Brings the huge page back if the last page came home in any context
 * @rcu: To free it
 */
struct hugetlb_loan {
	struct hugetlb_split_page split;
	struct page *page;
	struct hugepage_subpool *spool;
	bool whole;
	bool optimized;
	struct hugetlb_vmemmap_parts vmemmap_parts;
	bool merged_bad;
	bool first_bad;
	bool split_bad;
	void *hpage_flags;
#ifdef CONFIG_MEMCG
	unsigned long memcg_data;
#endif
	atomic_long_t pages_out;
	struct work_struct work;
	struct rcu_head rcu;
};

/* All loans by the PFN of their first page. */
extern struct xarray hugetlb_loans;

/* hugetlb_loan.c */
void hugetlb_loan_clear_mlocked(struct folio *folio, long nr_pages);
void hugetlb_loan_reset_page(struct page *page);
void hugetlb_loan_mark_bad_pages(struct hugetlb_loan *loan);
void hugetlb_loan_join(struct hugetlb_loan *loan, unsigned int from);

/* hugetlb_loan_return.c */
void hugetlb_loan_end_work(struct work_struct *work);

/* hugetlb_loan_vmemmap.c */
struct mutex *hugetlb_loan_mutex(const struct hugetlb_loan *loan);
int hugetlb_loan_prepare_vmemmap(struct hugetlb_loan *loan,
				 const struct hugetlb_loan_parts *parts);
void hugetlb_loan_restore_vmemmap(struct hugetlb_loan *loan,
				  const struct hugetlb_loan_parts *parts);
void hugetlb_loan_optimize_vmemmap(struct hugetlb_loan *loan);
void hugetlb_loan_share_part(struct hugetlb_loan *loan, struct page *page);
void hugetlb_loan_lose_track(struct hugetlb_loan *loan);
struct page *hugetlb_loan_shared_bad_page(struct hugetlb_loan *loan);
void hugetlb_loan_use_spare(struct hugetlb_loan *loan, struct page *page);

#endif /* _MM_HUGETLB_LOAN_H */
