// SPDX-License-Identifier: GPL-2.0-only
/*
 * The struct pages (vmemmap) of hugetlb loans: which of them a loan has.
 *
 * A whole loan has those of any hugetlb folio: all, or the few that the hugetlb vmemmap
 * optimization leaves. The struct pages of a split loan are complete, but for those of
 * parts of &hugetlb_loan.shared_order: as long as such a part is one piece, most of its
 * struct pages may be one and the same, see hugetlb_vmemmap_restore_parts().
 *
 * Bad pages: where struct pages are shared PG_hwpoison of one is that of others, too. So
 * memory_failure() has the part made complete before, and only if there is no memory for
 * that more pages are lost than one.
 */
#include <kunit/static_stub.h>
#include <linux/bits.h>
#include <linux/cleanup.h>
#include <linux/export.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_loan.h>
#include <linux/init.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/xarray.h>

#include "hugetlb_internal.h"
#include "hugetlb_loan.h"
#include "hugetlb_vmemmap.h"
#include "internal.h"

/*
 * Which struct pages a part of a split loan shares, and whatever is written to those
 * that may be shared. memory_failure() comes at any time. Nobody allocates under it, so
 * that pieces can be made where nothing is allowed to fail. Inside of the borrower's
 * locks and of mf_mutex, outside of hugetlb_lock.
 */
static struct mutex loan_vmemmap_mutexes[16];

static int __init loan_vmemmap_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(loan_vmemmap_mutexes); i++)
		mutex_init(&loan_vmemmap_mutexes[i]);
	return 0;
}
core_initcall(loan_vmemmap_init);

/* Of the loan of @h whose first page has this PFN. */
static struct mutex *loan_vmemmap_mutex(struct hstate *h, unsigned long pfn)
{
	return &loan_vmemmap_mutexes[(pfn >> huge_page_order(h)) %
				     ARRAY_SIZE(loan_vmemmap_mutexes)];
}

/* Of a loan, for who writes to struct pages that may be shared. */
struct mutex *hugetlb_loan_mutex(const struct hugetlb_loan *loan)
{
	return loan_vmemmap_mutex(loan->split.h, page_to_pfn(loan->page));
}

/* The vmemmap of a whole, frozen loan gets as complete as its parts need it. */
int hugetlb_loan_restore_vmemmap(struct hugetlb_loan *loan,
				 const struct hugetlb_loan_parts *parts)
{
	struct folio *folio = hugetlb_loan_folio(loan);
	struct hstate *h = loan->split.h;
	int ret;

	KUNIT_STATIC_STUB_REDIRECT(hugetlb_loan_restore_vmemmap, loan, parts);

	if (!parts || folio_test_hwpoison(folio) ||
	    !folio_test_hugetlb_vmemmap_optimized(folio))
		return hugetlb_vmemmap_restore_folio(h, folio);

	ret = hugetlb_vmemmap_restore_parts(h, folio, parts->order,
					    parts->stays_one, parts->data);
	if (ret)
		return ret;
	loan->shared_order = parts->order;
	loan->keep_complete = false;
	return 0;
}

/* A part gets complete. */
static int loan_restore_part(struct hugetlb_loan *loan, struct page *page)
{
	const unsigned int order = loan->shared_order;
	LIST_HEAD(pages);

	if (hugetlb_vmemmap_part_pages(page, order) == BIT(order))
		return 0;
	if (hugetlb_vmemmap_alloc_part(page, order, &pages))
		return -ENOMEM;
	scoped_guard(mutex, hugetlb_loan_mutex(loan))
		hugetlb_vmemmap_restore_part(page, order, &pages);
	hugetlb_vmemmap_free_pages(&pages);
	return 0;
}

static int loan_restore_parts(struct hugetlb_loan *loan)
{
	unsigned long i, nr_pages = pages_per_huge_page(loan->split.h);
	int ret;

	for (i = 0; i < nr_pages; i += BIT(loan->shared_order)) {
		ret = loan_restore_part(loan, loan->page + i);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * The vmemmap of a whole, frozen loan is optimized if it was so before, and it is not
 * restored in parts any more, in any case. No loss if there is no memory for it.
 */
void hugetlb_loan_optimize_vmemmap(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);
	struct hstate *h = loan->split.h;

	if (!loan->shared_order) {
		/* It would take PG_hwpoison off the pages that have it themselves. */
		if (loan->optimized && !loan->merged_bad)
			hugetlb_vmemmap_optimize_folio(h, folio);
		return;
	}
	if (!loan->merged_bad) {
		hugetlb_vmemmap_optimize_parts(h, folio);
	} else if (loan_restore_parts(loan)) {
		hugetlb_vmemmap_optimize_parts(h, folio);
		/* Nothing says any more which pages are bad. */
		folio_set_hwpoison(folio);
		folio_set_hugetlb_raw_hwp_unreliable(folio);
	}
	loan->shared_order = 0;
}

/**
 * hugetlb_loan_prepare_part() - Get what it needs to make a part into smaller pieces
 * @loan: A split loan
 * @page: First page of a piece, frozen, of the order that the loan was split in parts of
 *
 * Must be followed by hugetlb_loan_make_piece() of smaller ones, or by
 * hugetlb_loan_cancel_part(), before the folio is unfrozen.
 *
 * Context: Process context, may sleep.
 * Return: 0, or nothing has changed: -ENOMEM if there is no memory for struct pages.
 */
int hugetlb_loan_prepare_part(struct hugetlb_loan *loan, struct page *page)
{
	VM_WARN_ON_ONCE_PAGE(loan->whole, page);
	VM_WARN_ON_ONCE_PAGE(page_ref_count(page), page);

	return loan->shared_order ? loan_restore_part(loan, page) : 0;
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_prepare_part, "kvm");

/* Under the mutex: a part that is one frozen piece does with less struct pages. */
void hugetlb_loan_share_part(struct hugetlb_loan *loan, struct page *page)
{
	lockdep_assert_held(hugetlb_loan_mutex(loan));

	/* They would share PG_hwpoison. */
	if (!loan->keep_complete && !loan->split_bad)
		hugetlb_vmemmap_share_part(page, loan->shared_order);
}

/**
 * hugetlb_loan_cancel_part() - Do without the smaller pieces after all
 * @loan: A split loan
 * @page: First page of a piece, still frozen, of which hugetlb_loan_prepare_part()
 *	succeeded
 *
 * Context: Process context, may sleep. Allocates nothing.
 */
void hugetlb_loan_cancel_part(struct hugetlb_loan *loan, struct page *page)
{
	VM_WARN_ON_ONCE_PAGE(loan->whole, page);
	VM_WARN_ON_ONCE_PAGE(page_ref_count(page), page);

	if (!loan->shared_order)
		return;
	guard(mutex)(hugetlb_loan_mutex(loan));
	hugetlb_loan_share_part(loan, page);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_cancel_part, "kvm");

/* Under the mutex: a split loan that may have parts which share struct pages. */
static struct hugetlb_loan *loan_find_shared(struct hstate *h, unsigned long pfn)
{
	struct hugetlb_loan *loan = xa_load(&hugetlb_loans, pfn);

	lockdep_assert_held(loan_vmemmap_mutex(h, pfn));

	if (!loan || loan->split.h != h || loan->whole || !loan->shared_order)
		return NULL;
	return loan;
}

static void loan_prepare_failure(struct hstate *h, unsigned long pfn)
{
	unsigned long first = round_down(pfn, pages_per_huge_page(h));
	struct mutex *mutex = loan_vmemmap_mutex(h, first);
	struct hugetlb_loan *loan;
	unsigned int order = 0;
	struct page *page;
	LIST_HEAD(pages);

	scoped_guard(mutex, mutex) {
		loan = loan_find_shared(h, first);
		if (!loan)
			return;
		loan->keep_complete = true;
		order = loan->shared_order;
	}
	page = pfn_to_page(round_down(pfn, BIT(order)));
	if (hugetlb_vmemmap_alloc_part(page, order, &pages))
		return;
	scoped_guard(mutex, mutex) {
		/* It may have gone meanwhile. */
		loan = loan_find_shared(h, first);
		if (loan && loan->shared_order == order) {
			loan->keep_complete = true;
			hugetlb_vmemmap_restore_part(page, order, &pages);
		}
	}
	hugetlb_vmemmap_free_pages(&pages);
}

/*
 * memory_failure() is about to set PG_hwpoison of a page. If that is part of a split
 * loan then it gets a struct page of its own. On failure others have the mark, too.
 */
void hugetlb_loan_prepare_failure(unsigned long pfn)
{
	struct hstate *h;

	for_each_hstate(h)
		loan_prepare_failure(h, pfn);
}
