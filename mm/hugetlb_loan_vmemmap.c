// SPDX-License-Identifier: GPL-2.0-only
/*
 * The struct pages (vmemmap) of hugetlb loans: which of them a loan has.
 *
 * A whole loan has those of any hugetlb folio: all, or the few that the hugetlb vmemmap
 * optimization leaves. The struct pages of a split loan are complete, but for those of
 * the parts of &hugetlb_loan.vmemmap_parts: as long as such a part is one piece, it may
 * share most of its struct pages with other such parts, see
 * hugetlb_vmemmap_restore_parts().
 *
 * Bad pages: where struct pages are shared PG_hwpoison of one is that of others, too. So
 * the part is made complete before, by memory_failure() or by the split of a huge page
 * that already has a bad one. If there is no memory for that, there are spare pages for
 * one part of each loan. Only if these are used up, too, more pages are lost than one.
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
 * Of what folios the pages of a loan are a part, and which of its struct pages are
 * shared. Changes of that write to all of the page flags, while memory_failure() comes
 * at any time and sets one of them. Nobody allocates under it, so that pieces can be
 * made where nothing is allowed to fail. Inside of the borrower's locks and of mf_mutex,
 * outside of hugetlb_lock.
 */
static struct mutex loan_mutexes[16];

static int __init loan_mutexes_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(loan_mutexes); i++)
		mutex_init(&loan_mutexes[i]);
	return 0;
}
core_initcall(loan_mutexes_init);

/* Of the loan of @h whose first page has this PFN. */
static struct mutex *loan_mutex(struct hstate *h, unsigned long pfn)
{
	return &loan_mutexes[(pfn >> huge_page_order(h)) % ARRAY_SIZE(loan_mutexes)];
}

/* Of a loan, for who turns its pages into other folios. */
struct mutex *hugetlb_loan_mutex(const struct hugetlb_loan *loan)
{
	return loan_mutex(loan->split.h, page_to_pfn(loan->page));
}

/*
 * A whole, frozen loan gets what it takes to have the struct pages that its parts need,
 * or all of them at once.
 */
int hugetlb_loan_prepare_vmemmap(struct hugetlb_loan *loan,
				 const struct hugetlb_loan_parts *parts)
{
	struct folio *folio = hugetlb_loan_folio(loan);
	struct hstate *h = loan->split.h;

	KUNIT_STATIC_STUB_REDIRECT(hugetlb_loan_prepare_vmemmap, loan, parts);

	if (!parts || folio_test_hwpoison(folio) ||
	    !folio_test_hugetlb_vmemmap_optimized(folio))
		return hugetlb_vmemmap_restore_folio(h, folio);

	return hugetlb_vmemmap_prepare_parts(h, folio, &loan->vmemmap_parts, parts->order,
					     parts->next_divided, parts->data);
}

/* Under the mutex: they are there, as tails of folios of the order of the parts. */
void hugetlb_loan_restore_vmemmap(struct hugetlb_loan *loan,
				  const struct hugetlb_loan_parts *parts)
{
	lockdep_assert_held(hugetlb_loan_mutex(loan));

	if (loan->vmemmap_parts.order)
		hugetlb_vmemmap_restore_parts(loan->split.h, hugetlb_loan_folio(loan),
					      &loan->vmemmap_parts,
					      parts->next_divided, parts->data);
}

static bool loan_part_is_complete(struct hugetlb_loan *loan, struct page *page)
{
	struct hugetlb_vmemmap_parts *parts = &loan->vmemmap_parts;

	/* Who makes it complete under the mutex does so page by page. */
	guard(mutex)(hugetlb_loan_mutex(loan));
	return hugetlb_vmemmap_part_pages(parts, page) == BIT(parts->order);
}

/* A part gets complete. */
static int loan_restore_part(struct hugetlb_loan *loan, struct page *page)
{
	LIST_HEAD(pages);

	if (loan_part_is_complete(loan, page))
		return 0;
	if (hugetlb_vmemmap_alloc_part(page, loan->vmemmap_parts.order, &pages))
		return -ENOMEM;
	scoped_guard(mutex, hugetlb_loan_mutex(loan))
		hugetlb_vmemmap_restore_part(&loan->vmemmap_parts, page, &pages);
	hugetlb_vmemmap_free_pages(&pages);
	return 0;
}

static int loan_restore_parts(struct hugetlb_loan *loan)
{
	unsigned long i, nr_pages = pages_per_huge_page(loan->split.h);
	int ret;

	for (i = 0; i < nr_pages; i += BIT(loan->vmemmap_parts.order)) {
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

	if (!loan->vmemmap_parts.order) {
		/* It would take PG_hwpoison off the pages that have it themselves. */
		if (loan->optimized && !loan->merged_bad &&
		    !folio_test_hugetlb_vmemmap_optimized(folio))
			hugetlb_vmemmap_reoptimize_folio(h, folio);
		return;
	}
	if (folio_test_hugetlb_vmemmap_optimized(folio)) {
		/* There was no split after all. */
		hugetlb_vmemmap_end_parts(&loan->vmemmap_parts);
	} else if (!loan->merged_bad) {
		hugetlb_vmemmap_optimize_parts(h, folio, &loan->vmemmap_parts);
	} else if (!loan_restore_parts(loan)) {
		hugetlb_vmemmap_end_parts(&loan->vmemmap_parts);
	} else {
		hugetlb_vmemmap_optimize_parts(h, folio, &loan->vmemmap_parts);
		hugetlb_loan_lose_track(loan);
	}
}

/**
 * hugetlb_loan_prepare_part() - Get what it needs to make a part into smaller pieces
 * @loan: A split loan
 * @page: First page of a piece, frozen, of the order that the loan was split in parts of
 *
 * Must be followed by hugetlb_loan_make_pieces() of smaller ones, or by
 * hugetlb_loan_cancel_part(), before the folio is unfrozen.
 *
 * Context: Process context, may sleep.
 * Return: 0, or nothing has changed: -ENOMEM if there is no memory for struct pages.
 */
int hugetlb_loan_prepare_part(struct hugetlb_loan *loan, struct page *page)
{
	VM_WARN_ON_ONCE_PAGE(loan->whole, page);
	VM_WARN_ON_ONCE_PAGE(page_ref_count(page), page);

	return loan->vmemmap_parts.order ? loan_restore_part(loan, page) : 0;
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_prepare_part, "kvm");

/* Under the mutex: a part that is one frozen piece does with less struct pages. */
void hugetlb_loan_share_part(struct hugetlb_loan *loan, struct page *page)
{
	lockdep_assert_held(hugetlb_loan_mutex(loan));

	/* They would share PG_hwpoison. */
	if (!loan->split_bad)
		hugetlb_vmemmap_share_part(&loan->vmemmap_parts, page);
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

	if (!loan->vmemmap_parts.order)
		return;
	guard(mutex)(hugetlb_loan_mutex(loan));
	hugetlb_loan_share_part(loan, page);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_cancel_part, "kvm");

/* -- Bad pages ------------------------------------------------------------ */

/* Which pages of a whole loan are bad is not known any more, so all of it is. */
void hugetlb_loan_lose_track(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);

	folio_set_hwpoison(folio);
	folio_set_hugetlb_raw_hwp_unreliable(folio);
}

/* The part of vmemmap that has the struct page of @page. */
static struct page *loan_part(struct hugetlb_loan *loan, struct page *page)
{
	return loan->page + round_down(page - loan->page, BIT(loan->vmemmap_parts.order));
}

static bool loan_page_is_shared(struct page *page, void *data)
{
	struct hugetlb_loan *loan = data;
	struct page *part = loan_part(loan, page);

	return page - part >= hugetlb_vmemmap_part_pages(&loan->vmemmap_parts, part);
}

/*
 * Under the mutex and hugetlb_lock: a bad page of a whole, frozen loan that shares its
 * struct page with others, as long as spare pages can change that.
 */
struct page *hugetlb_loan_shared_bad_page(struct hugetlb_loan *loan)
{
	lockdep_assert_held(hugetlb_loan_mutex(loan));

	if (!loan->vmemmap_parts.order || list_empty(&loan->vmemmap_parts.spare))
		return NULL;
	return hugetlb_find_hwpoison(hugetlb_loan_folio(loan), loan_page_is_shared, loan);
}

/* Under the mutex: the page gets a struct page of its own, from the spare ones. */
void hugetlb_loan_use_spare(struct hugetlb_loan *loan, struct page *page)
{
	LIST_HEAD(none);

	lockdep_assert_held(hugetlb_loan_mutex(loan));
	hugetlb_vmemmap_restore_part(&loan->vmemmap_parts, loan_part(loan, page), &none);
}

#ifdef CONFIG_MEMORY_FAILURE
/* Under the mutex, with which it stays there. */
static struct hugetlb_loan *loan_find(struct hstate *h, unsigned long pfn)
{
	struct hugetlb_loan *loan;

	lockdep_assert_held(loan_mutex(h, pfn));

	/* One of another size has another mutex, and may go away. */
	guard(rcu)();
	loan = xa_load(&hugetlb_loans, pfn);
	return loan && loan->split.h == h ? loan : NULL;
}

static unsigned int loan_parts_order(struct hstate *h, unsigned long pfn)
{
	struct hugetlb_loan *loan;

	guard(mutex)(loan_mutex(h, pfn));

	loan = loan_find(h, pfn);
	return loan && !loan->whole ? loan->vmemmap_parts.order : 0;
}

/* The page is bad, which its borrower has to see even if the piece is frozen. */
static int loan_mark_bad_page(struct hugetlb_loan *loan, struct page *page)
{
	struct page *head = compound_head(page);

	lockdep_assert_held(hugetlb_loan_mutex(loan));

	/* For who makes pieces of it from now on. Not all of them may have been made. */
	loan->split_bad = true;
	if (PageHead(head) && page < head + compound_nr(head))
		folio_set_has_hwpoisoned((struct folio *)head);
	return TestSetPageHWPoison(page) ? -EHWPOISON : 0;
}

/* With memory for a part of @order, if the loan has parts. */
static int loan_set_hwpoison_with(struct hstate *h, struct page *page,
				  unsigned int order, struct list_head *pages)
{
	unsigned long first = round_down(page_to_pfn(page), pages_per_huge_page(h));
	struct hugetlb_loan *loan;

	guard(mutex)(loan_mutex(h, first));

	loan = loan_find(h, first);
	if (!loan)
		return -ENOENT;
	/* It was merged meanwhile, and perhaps split once more. */
	if (loan->whole || loan->vmemmap_parts.order != order)
		return -EAGAIN;
	if (order)
		hugetlb_vmemmap_restore_part(&loan->vmemmap_parts,
					     loan_part(loan, page), pages);
	return loan_mark_bad_page(loan, page);
}

static int loan_set_hwpoison(struct hstate *h, struct page *page)
{
	unsigned long pfn = page_to_pfn(page);
	unsigned int order;
	LIST_HEAD(pages);
	int ret;

	order = loan_parts_order(h, round_down(pfn, pages_per_huge_page(h)));
	/* There are spare pages if this fails. */
	if (order)
		hugetlb_vmemmap_alloc_part(pfn_to_page(round_down(pfn, BIT(order))),
					   order, &pages);
	ret = loan_set_hwpoison_with(h, page, order, &pages);
	hugetlb_vmemmap_free_pages(&pages);
	return ret;
}

/**
 * hugetlb_loan_set_hwpoison() - Set PG_hwpoison of a page that may be lent
 * @page: Was not part of a hugetlb folio just now
 *
 * A page of a split loan gets a struct page of its own first, if it had none. Where not
 * even spare pages are left, others have the mark, too.
 *
 * Context: Process context, may sleep and allocate, which is allowed to fail.
 * Return: 0; -EHWPOISON if it was set before; -EAGAIN if the page is part of a hugetlb
 * folio now, which notes its bad pages in another way: the loan was merged, or is over.
 */
int hugetlb_loan_set_hwpoison(struct page *page)
{
	struct hstate *h;
	int ret;

	for_each_hstate(h) {
		ret = loan_set_hwpoison(h, page);
		if (ret != -ENOENT)
			return ret;
	}
	if (PageHuge(page))
		return -EAGAIN;
	return TestSetPageHWPoison(page) ? -EHWPOISON : 0;
}
#endif
