// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loans: huge pages of the hugetlb pool that a borrower splits and merges.
 *
 * The pool never learns that a loan is split. To it the page is in use: it counts in
 * nr_huge_pages and NR_HUGETLB, in the subpool of the borrower and in the cgroups.
 * What a hugetlb folio keeps of this in its struct pages moves to struct hugetlb_loan
 * while it is split, and back when it is merged. As the pages of a loan are freed to
 * the pool only and as a whole, page_owner and allocation tags are not split either.
 *
 * Invariants:
 *
 * - A whole loan is on the hstate's hugepage_activelist, a split one is on
 *   hugetlb_split_pages, both under hugetlb_lock. The latter exists for cgroups that
 *   go away: they move their charges to their parents.
 * - A loan is in hugetlb_loans from allocation to its end.
 *
 * Which struct pages it has is the idea of hugetlb_loan_vmemmap.c, how its pages come
 * home that of hugetlb_loan_return.c.
 *
 * Bad pages: memory_failure() notes those of a whole loan in the hugetlb folio, as
 * for every hugetlb folio; the split hands them over to PG_hwpoison of the page
 * itself. Which of both it is changes under hugetlb_loan_mutex().
 */
#include <linux/bits.h>
#include <linux/cleanup.h>
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/hugetlb_loan.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/unroll.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "hugetlb_internal.h"
#include "hugetlb_loan.h"
#include "hugetlb_vmemmap.h"
#include "internal.h"

/**
 * struct hugetlb_loan_pool - A reservation
 * @h: Pages of which size
 * @spool: Has the reservation. Outlives the pool as long as there are loans of it.
 */
struct hugetlb_loan_pool {
	struct hstate *h;
	struct hugepage_subpool *spool;
};

LIST_HEAD(hugetlb_split_pages);

DEFINE_XARRAY(hugetlb_loans);

/* Is the page part of a loan? Any context; the answer may be outdated at once. */
bool hugetlb_pfn_is_lent(unsigned long pfn)
{
	struct hugetlb_loan *loan;
	struct hstate *h;

	guard(rcu)();

	for_each_hstate(h) {
		loan = xa_load(&hugetlb_loans,
			       round_down(pfn, pages_per_huge_page(h)));
		if (loan && loan->split.h == h)
			return true;
	}
	return false;
}

/* -- Reservations --------------------------------------------------------- */

/**
 * hugetlb_loan_pool_create() - Reserve huge pages
 * @page_shift: Their size
 * @nr_loans: How many
 *
 * The pages are reserved in the hugetlb pool, which may get surplus pages for that if
 * its overcommit limit allows it. Up to @nr_loans loans can be out at the same time.
 *
 * Context: Process context, may sleep.
 * Return: The reservation; -EINVAL if there are no huge pages of that size or
 * @nr_loans is not in range, -ENOMEM if the pool cannot give so many.
 */
struct hugetlb_loan_pool *hugetlb_loan_pool_create(unsigned int page_shift,
						   unsigned long nr_loans)
{
	struct hugetlb_loan_pool *pool;
	struct hstate *h;

	if (page_shift >= BITS_PER_LONG || !nr_loans || nr_loans > LONG_MAX)
		return ERR_PTR(-EINVAL);
	h = size_to_hstate(1UL << page_shift);
	if (!h)
		return ERR_PTR(-EINVAL);

	pool = kzalloc_obj(*pool, GFP_KERNEL_ACCOUNT);
	if (!pool)
		return ERR_PTR(-ENOMEM);

	pool->h = h;
	pool->spool = hugepage_new_subpool(h, nr_loans, nr_loans);
	if (!pool->spool) {
		kfree(pool);
		return ERR_PTR(-ENOMEM);
	}
	return pool;
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_pool_create, "kvm");

/**
 * hugetlb_loan_pool_destroy() - Give up a reservation
 * @pool: The reservation
 *
 * The reservation is gone when this returns, but for loans that have been returned and
 * have pieces that somebody still holds: these stay charged until they are home.
 *
 * Context: Process context, may sleep.
 */
void hugetlb_loan_pool_destroy(struct hugetlb_loan_pool *pool)
{
	struct hugepage_subpool *spool = pool->spool;
	long unused;

	/* Nobody will borrow what is reserved: do not wait for the last page. */
	scoped_guard(spinlock_irq, &spool->lock) {
		unused = spool->rsv_hpages;
		spool->rsv_hpages = 0;
		spool->min_hpages = -1;
	}
	hugetlb_acct_memory(pool->h, -unused);
	hugepage_put_subpool(spool);
	kfree(pool);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_pool_destroy, "kvm");

/* -- Turn pages into other folios ----------------------------------------- */

/* A folio keeps what it knows in its first struct pages. */
#define FOLIO_STRUCT_PAGES	(sizeof(struct folio) / sizeof(struct page))

/**
 * hugetlb_loan_folio() - The huge page
 * @loan: The loan
 *
 * Context: Any.
 * Return: The hugetlb folio of a whole loan. For a split one it is the piece that
 * starts with the first page, once hugetlb_loan_make_pieces() made it.
 */
struct folio *hugetlb_loan_folio(const struct hugetlb_loan *loan)
{
	return (struct folio *)loan->page;
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_folio, "kvm");

/**
 * hugetlb_loan_is_whole() - Is it a hugetlb folio?
 * @loan: The loan
 *
 * Context: Any. The borrower's serialization keeps the answer true.
 * Return: Whether it is.
 */
bool hugetlb_loan_is_whole(const struct hugetlb_loan *loan)
{
	return READ_ONCE(loan->whole);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_is_whole, "kvm");

/**
 * hugetlb_loan_page_is_bad() - Did a page suffer a memory failure?
 * @loan: The loan
 * @page: A page of it
 *
 * PG_hwpoison of a hugetlb folio means some page of it, so ask this instead. If it is
 * not known any more which, all pages are bad.
 *
 * Context: Any but NMI.
 * Return: Whether it did. Best effort, as hardware fails when it likes.
 */
bool hugetlb_loan_page_is_bad(const struct hugetlb_loan *loan, struct page *page)
{
	struct folio *folio = hugetlb_loan_folio(loan);

	/* Every fault asks. Any bad page of a hugetlb folio sets this. */
	if (READ_ONCE(loan->whole) && !folio_test_hwpoison(folio))
		return false;

	guard(spinlock_irqsave)(&hugetlb_lock);

	if (!loan->whole)
		return PageHWPoison(page);
	if (page == loan->page ? loan->first_bad :
	    loan->merged_bad && PageHWPoison(page))
		return true;
	return hugetlb_page_is_hwpoison(folio, page);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_page_is_bad, "kvm");

/*
 * A frozen or dead folio is not mlocked any more. It can be left if munlock(2) got in
 * the way of the zap, see __free_pages_prepare(). Atomic, as PG_hwpoison can come at
 * any time.
 */
void hugetlb_loan_clear_mlocked(struct folio *folio, long nr_pages)
{
	if (likely(!folio_test_mlocked(folio)))
		return;
	folio_clear_mlocked(folio);
	zone_stat_mod_folio(folio, NR_MLOCK, -nr_pages);
	count_vm_events(UNEVICTABLE_PGCLEARED, nr_pages);
}

/*
 * Makes a frozen page one on its own, whatever folio it was a part of. Under the mutex:
 * nobody may set PG_hwpoison at the same time.
 */
void hugetlb_loan_reset_page(struct page *page)
{
	VM_WARN_ON_ONCE_PAGE(page_ref_count(page), page);

	/* Only single pages are ever mapped. */
	if (!PageCompound(page))
		hugetlb_loan_clear_mlocked((struct folio *)page, 1);

	/* All but PG_hwpoison, and on second pages what overlays the flags. */
	page->flags.f &= ~PAGE_FLAGS_CHECK_AT_PREP;
	page->mapping = NULL;
	page->__folio_index = 0;
	set_page_private(page, 0);
	atomic_set(&page->_mapcount, -1);
#ifdef CONFIG_MEMCG
	page->memcg_data = 0;
#endif
	clear_compound_head(page);
}

/* Divides the number of tails of what is split or merged, but for the first page. */
#define LOAN_TAILS_AT_ONCE	32

/*
 * Nobody ever writes to a page behind the first ones of a folio, so all that has to
 * change is which folio it is a tail of.
 */
static void loan_move_tails(struct page *tail, struct page *end, struct page *head,
			    unsigned int order)
{
	unsigned int i;

	for (; end - tail >= LOAN_TAILS_AT_ONCE; tail += LOAN_TAILS_AT_ONCE) {
		unrolled_count(LOAN_TAILS_AT_ONCE)
		for (i = 0; i < LOAN_TAILS_AT_ONCE; i++)
			set_compound_head(tail + i, head, order);
	}
	for (; tail < end; tail++)
		set_compound_head(tail, head, order);
}

/*
 * Makes frozen pages a part of the folio of @head, not yet with a head. They are in
 * folios of @from or more.
 */
static void loan_join_pages(struct page *page, struct page *end, unsigned int from,
			    struct page *head, unsigned int order)
{
	const unsigned long part = 1UL << min(from, order);
	unsigned long used = min(part, FOLIO_STRUCT_PAGES);
	unsigned long i;

	/* In the middle of a folio no page but the new head changes more than its head. */
	if (used == FOLIO_STRUCT_PAGES && !IS_ALIGNED(page_to_pfn(page), BIT(from)))
		used = 1;

	for (; page < end; page += part) {
		/* All of them at once, and then those that change more. */
		if (part > used)
			loan_move_tails(page, min(page + part, end), head, order);
		for (i = 0; i < used; i++) {
			hugetlb_loan_reset_page(page + i);
			if (page + i != head)
				prep_compound_tail(page + i, head, order);
		}
	}
}

static void loan_set_head(struct page *page, unsigned int order)
{
	__folio_set_head((struct folio *)page);
	prep_compound_head(page, order);
}

static bool loan_has_bad_page(const struct page *page, const struct page *end)
{
	unsigned long flags = 0;

	unrolled_count(8)
	for (; page < end; page++)
		flags |= READ_ONCE(page->flags.f);
	return flags & __PG_HWPOISON;
}

/**
 * hugetlb_loan_prepare_split() - Get what a split will need
 * @loan: A loan that is whole and frozen
 * @parts: Which pages will be in pieces of that order; NULL if it is not known, or if
 *	all pieces will be smaller
 *
 * Where the hugetlb vmemmap optimization has saved struct pages, a part that stays one
 * piece needs one page of them, and others all that there are.
 *
 * Must be followed by hugetlb_loan_split() or hugetlb_loan_cancel_split() before the
 * folio is unfrozen.
 *
 * Context: Process context, may sleep.
 * Return: 0, or nothing has changed: -ENOMEM if there is no memory for the struct
 * pages that the hugetlb vmemmap optimization saved; -EHWPOISON if the huge page has
 * a bad page, and it is not known which.
 */
int hugetlb_loan_prepare_split(struct hugetlb_loan *loan,
			       const struct hugetlb_loan_parts *parts)
{
	struct folio *folio = hugetlb_loan_folio(loan);

	might_sleep();
	VM_WARN_ON_ONCE_FOLIO(!loan->whole, folio);
	VM_WARN_ON_ONCE_FOLIO(folio_ref_count(folio), folio);

	if (folio_test_hugetlb_raw_hwp_unreliable(folio))
		return -EHWPOISON;
	return hugetlb_loan_prepare_vmemmap(loan, parts);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_prepare_split, "kvm");

/**
 * hugetlb_loan_cancel_split() - Do without the split after all
 * @loan: A loan, still frozen, of which hugetlb_loan_prepare_split() succeeded
 *
 * Context: Process context, may sleep and allocate, which is allowed to fail.
 */
void hugetlb_loan_cancel_split(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);

	might_sleep();
	VM_WARN_ON_ONCE_FOLIO(!loan->whole, folio);
	VM_WARN_ON_ONCE_FOLIO(folio_ref_count(folio), folio);

	hugetlb_loan_optimize_vmemmap(loan);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_cancel_split, "kvm");

/* Bad pages of a hugetlb folio are on a list, those of others have a flag each. */
void hugetlb_loan_mark_bad_pages(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);

	lockdep_assert_held(&hugetlb_lock);

	loan->split_bad = folio_test_hwpoison(folio) || loan->merged_bad;
	/* If it has just become unknown which they are, the first page keeps the mark. */
	if (folio_test_hwpoison(folio))
		folio_clear_hugetlb_hwpoison(folio);
	if (loan->first_bad)
		SetPageHWPoison(loan->page);
	loan->first_bad = false;
	loan->merged_bad = false;
}

/* Done, unless it returns a bad page that has to get a struct page of its own before. */
static struct page *loan_try_split(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);
	struct page *bad;

	guard(spinlock_irq)(&hugetlb_lock);

	bad = hugetlb_loan_shared_bad_page(loan);
	if (bad)
		return bad;

	hugetlb_loan_mark_bad_pages(loan);
	loan->split.cgroup = hugetlb_cgroup_from_folio(folio);
	loan->split.cgroup_rsvd = hugetlb_cgroup_from_folio_rsvd(folio);
	loan->hpage_flags = folio->private;
#ifdef CONFIG_MEMCG
	loan->memcg_data = folio->memcg_data;
#endif
	atomic_long_set(&loan->pages_out, pages_per_huge_page(loan->split.h));
	list_del(&folio->lru);
	list_add(&loan->split.node, &hugetlb_split_pages);
	__folio_clear_hugetlb(folio);
	WRITE_ONCE(loan->whole, false);
	return NULL;
}

/**
 * hugetlb_loan_split() - The huge page is no hugetlb folio any more
 * @loan: A loan, still frozen, of which hugetlb_loan_prepare_split() succeeded
 * @parts: The same as there
 *
 * Its pages are in no folio afterwards. hugetlb_loan_make_pieces() has to be called
 * for all of them before anything else. The hugetlb folio's mapping, index and flags
 * are gone by then.
 *
 * The folio must not be locked, and nobody may have it mapped.
 *
 * Context: Process context, may sleep. Allocates nothing, O(number of parts).
 */
void hugetlb_loan_split(struct hugetlb_loan *loan,
			const struct hugetlb_loan_parts *parts)
{
	struct folio *folio = hugetlb_loan_folio(loan);
	struct page *bad;

	might_sleep();
	VM_WARN_ON_ONCE_FOLIO(!loan->whole, folio);
	VM_WARN_ON_ONCE_FOLIO(folio_ref_count(folio), folio);
	VM_WARN_ON_ONCE_FOLIO(folio_mapcount(folio), folio);
	VM_WARN_ON_ONCE_FOLIO(folio_test_locked(folio), folio);

	guard(mutex)(hugetlb_loan_mutex(loan));

	hugetlb_loan_restore_vmemmap(loan, parts);
	VM_WARN_ON_ONCE_FOLIO(folio_test_hugetlb_vmemmap_optimized(folio), folio);
	/* They came after hugetlb_loan_prepare_split(). */
	while ((bad = loan_try_split(loan)))
		hugetlb_loan_use_spare(loan, bad);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_split, "kvm");

/* Makes pages of a part a piece of its order, which need not have all struct pages. */
static void loan_join_part(struct hugetlb_loan *loan, struct page *page,
			   unsigned int from)
{
	struct hugetlb_vmemmap_parts *parts = &loan->vmemmap_parts;

	/* But for the first part, the split has mapped tails of this page behind it. */
	if (from > parts->order && page != loan->page) {
		hugetlb_loan_reset_page(page);
		return;
	}
	loan_join_pages(page, page + hugetlb_vmemmap_part_pages(parts, page), from,
			page, parts->order);
	if (from < parts->order)
		hugetlb_loan_share_part(loan, page);
}

/* Under the mutex. */
static void loan_make_piece(struct hugetlb_loan *loan, struct page *page,
			    unsigned int order, unsigned int from)
{
	struct folio *folio = (struct folio *)page;

	if (order && order == loan->vmemmap_parts.order)
		loan_join_part(loan, page, from);
	else
		loan_join_pages(page, page + BIT(order), from, page, order);
	if (!order)
		return;

	loan_set_head(page, order);
	folio_set_large_rmappable(folio);
	/* After a split there is no need to look at every page. */
	if ((from < huge_page_order(loan->split.h) || loan->split_bad) &&
	    loan_has_bad_page(page, page + BIT(order)))
		folio_set_has_hwpoisoned(folio);
}

/**
 * hugetlb_loan_make_pieces() - Make folios of pages of a split loan
 * @loan: The loan
 * @page: First page, aligned to @order
 * @nr: How many folios
 * @order: How many pages has each, below the order of the huge page
 * @from: Order of the folios that the pages are in now. It may be a smaller one, 0 if
 *	it is not known, which only takes more time; after hugetlb_loan_split() it is
 *	that of the huge page.
 *
 * All of the pages have to be frozen, whatever folios they are in. If these are not
 * wholly covered, the rest has to be made into pieces, too, before anything else.
 *
 * Contents of the pages stay. Pages that suffered a memory failure keep PG_hwpoison,
 * and a larger folio is marked as one that has such pages.
 *
 * If the loan was split in parts no piece can be larger than these. One of that order
 * has its struct pages shared again, if those of smaller ones were complete.
 *
 * The folios are frozen, not locked, on no list, with no mapping and no flags but those
 * of memory failure.
 *
 * Context: Process context, may sleep. Allocates nothing, O(number of pages).
 */
void hugetlb_loan_make_pieces(struct hugetlb_loan *loan, struct page *page,
			      unsigned long nr, unsigned int order,
			      unsigned int from)
{
	const unsigned int parts_order = loan->vmemmap_parts.order;

	VM_WARN_ON_ONCE_PAGE(loan->whole, page);
	VM_WARN_ON_ONCE_PAGE(order >= huge_page_order(loan->split.h), page);
	VM_WARN_ON_ONCE_PAGE(!IS_ALIGNED(page_to_pfn(page), 1UL << order), page);
	VM_WARN_ON_ONCE_PAGE(parts_order && order > parts_order, page);

	guard(mutex)(hugetlb_loan_mutex(loan));

	for (; nr--; page += BIT(order)) {
		loan_make_piece(loan, page, order, from);
		cond_resched();
	}
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_make_pieces, "kvm");

/* Makes the pages one compound page. Returns whether one of them is bad. */
static bool loan_join_all(struct hugetlb_loan *loan, unsigned int from)
{
	const unsigned int order = huge_page_order(loan->split.h);
	struct hugetlb_vmemmap_parts *parts = &loan->vmemmap_parts;
	const unsigned long nr_pages = parts->order ? BIT(parts->order) : BIT(order);
	struct page *page, *end, *last = loan->page + BIT(order);
	bool bad = false;

	lockdep_assert_held(hugetlb_loan_mutex(loan));

	for (page = loan->page; page < last; page += nr_pages) {
		end = page + (parts->order ? hugetlb_vmemmap_part_pages(parts, page) :
					     nr_pages);
		loan_join_pages(page, end, from, loan->page, order);
		bad |= loan_has_bad_page(page, end);
	}
	if (parts->order) {
		page = hugetlb_vmemmap_part_tails(parts);
		end = page + HUGETLB_VMEMMAP_RESERVE_PAGES;
		loan_move_tails(page, end, loan->page, order);
		bad |= loan_has_bad_page(page, end);
	}
	loan_set_head(loan->page, order);
	return bad;
}

/* Makes the hugetlb folio of the frozen pages of a split loan. */
void hugetlb_loan_join(struct hugetlb_loan *loan, unsigned int from)
{
	struct folio *folio = hugetlb_loan_folio(loan);
	struct hstate *h = loan->split.h;
	bool bad;

	guard(mutex)(hugetlb_loan_mutex(loan));
	bad = loan_join_all(loan, from);

	guard(spinlock_irq)(&hugetlb_lock);

	__folio_set_hugetlb(folio);
	folio->private = loan->hpage_flags;
#ifdef CONFIG_MEMCG
	folio->memcg_data = loan->memcg_data;
#endif
	hugetlb_set_folio_subpool(folio, loan->spool);
	set_hugetlb_cgroup(folio, loan->split.cgroup);
	set_hugetlb_cgroup_rsvd(folio, loan->split.cgroup_rsvd);
	list_del(&loan->split.node);
	list_add(&folio->lru, &h->hugepage_activelist);
	if (bad) {
		loan->merged_bad = true;
		loan->first_bad = folio_test_hwpoison(folio);
		folio_set_hwpoison(folio);
	}
	WRITE_ONCE(loan->whole, true);
}

/**
 * hugetlb_loan_merge() - Make the hugetlb folio again
 * @loan: A split loan, all of its pages frozen, none of them bad, none returned
 * @from: Order of the smallest of its pieces, or a smaller one, which only takes more
 *	time
 *
 * Contents of the pages stay. The folio is not locked, and has no mapping and no
 * flags of the page cache. If a page turns bad meanwhile, this is not forgotten.
 *
 * Must be followed by hugetlb_loan_merge_done() before the folio is unfrozen or
 * anything else.
 *
 * Context: Process context, may sleep. Allocates nothing, O(number of pages).
 */
void hugetlb_loan_merge(struct hugetlb_loan *loan, unsigned int from)
{
	VM_WARN_ON_ONCE_PAGE(loan->whole, loan->page);
	VM_WARN_ON_ONCE_PAGE(atomic_long_read(&loan->pages_out) !=
			     pages_per_huge_page(loan->split.h), loan->page);

	hugetlb_loan_join(loan, from);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_merge, "kvm");

/**
 * hugetlb_loan_merge_done() - Save again what a whole huge page can do without
 * @loan: A loan that hugetlb_loan_merge() made whole, still frozen
 *
 * Optimizes the vmemmap if it was so when the page was borrowed. For this nobody may
 * have a reference to the folio, hence it has to be frozen still. It has to be called
 * after each merge: the parts of the loan, if it was split in parts, still share struct
 * pages in a way that the pool knows nothing of.
 *
 * Context: Process context, may sleep and allocate, which is allowed to fail.
 */
void hugetlb_loan_merge_done(struct hugetlb_loan *loan)
{
	struct folio *folio = hugetlb_loan_folio(loan);

	might_sleep();
	VM_WARN_ON_ONCE_FOLIO(!loan->whole, folio);
	VM_WARN_ON_ONCE_FOLIO(folio_ref_count(folio), folio);

	hugetlb_loan_optimize_vmemmap(loan);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_merge_done, "kvm");

/* -- The start of a loan -------------------------------------------------- */

/* Takes a huge page from the pool, with one reference. */
static struct folio *loan_alloc_folio(struct hstate *h, struct mempolicy *policy,
				      unsigned long ilx, u8 alloc_flags)
{
	struct mempolicy_interpreted mpoli = {
		.nid = numa_node_id(),
		.mode = MPOL_DEFAULT,
	};
	struct folio *folio;
	unsigned int flags;

	/* Borrowers pin their pages, and cannot have them migrated. */
	flags = memalloc_pin_save();
#ifdef CONFIG_NUMA
	if (!policy)
		policy = get_task_policy(current);
	mpoli.nid = policy_huge_node(policy, ilx, htlb_alloc_mask(h),
				     &mpoli.nodemask);
	mpoli.mode = policy->mode;
#endif
	folio = hugetlb_alloc_folio(h, &mpoli, current->mm, alloc_flags);
	memalloc_pin_restore(flags);

	/* Gigantic ones come from CMA areas and ZONE_MOVABLE all the same. */
	if (!IS_ERR(folio) && !folio_is_longterm_pinnable(folio)) {
		folio_put(folio);
		return ERR_PTR(-ENOSPC);
	}
	return folio;
}

/* The same, under the reservation. */
static struct folio *loan_alloc_reserved(struct hugetlb_loan_pool *pool,
					 struct mempolicy *policy,
					 unsigned long ilx)
{
	u8 alloc_flags = HUGETLB_ALLOC_CHARG_CGROUP_RSVD;
	struct folio *folio;
	long missing;

	missing = hugepage_subpool_get_pages(pool->spool, 1);
	if (missing < 0)
		return NULL;
	if (!missing)
		alloc_flags |= HUGETLB_ALLOC_USE_GLOBAL_RESERVATIONS;

	folio = loan_alloc_folio(pool->h, policy, ilx, alloc_flags);
	if (IS_ERR(folio)) {
		if (hugepage_subpool_put_pages(pool->spool, 1) && !missing)
			hugetlb_acct_memory(pool->h, -1);
		return NULL;
	}

	/* From here on free_huge_folio() gives the reservation back. */
	hugetlb_set_folio_subpool(folio, pool->spool);
	folio_clear_hugetlb_restore_reserve(folio);
	return folio;
}

/**
 * hugetlb_loan_alloc() - Borrow a huge page
 * @pool: A reservation with less loans out than it was made for
 * @policy: NUMA policy to follow, or NULL for the task's
 * @ilx: Index for a policy of interleaving, or NO_INTERLEAVE_INDEX
 *
 * The page is charged to the hugetlb cgroups of the task, and to its memory cgroup
 * if that accounts for huge pages. It is not taken from memory that is meant to stay
 * movable: CMA areas and ZONE_MOVABLE.
 *
 * Context: Process context, may sleep.
 * Return: A loan that is whole. Its hugetlb folio is frozen, not locked, has no
 * mapping, and its contents are undefined. -ENOSPC if there is no page, or a cgroup
 * is at its limit: no memory that anyone frees would help, so there is no use in
 * calling the OOM killer, or in trying again. -ENOMEM if there is no memory for what
 * the loan itself needs.
 */
struct hugetlb_loan *hugetlb_loan_alloc(struct hugetlb_loan_pool *pool,
					struct mempolicy *policy,
					unsigned long ilx)
{
	struct hugetlb_loan *loan;
	struct folio *folio;
	int ret;

	loan = kzalloc_obj(*loan, GFP_KERNEL_ACCOUNT);
	if (!loan)
		return ERR_PTR(-ENOMEM);

	folio = loan_alloc_reserved(pool, policy, ilx);
	if (!folio) {
		ret = -ENOSPC;
		goto err_free;
	}

	loan->split.h = pool->h;
	loan->split.nid = folio_nid(folio);
	loan->page = &folio->page;
	loan->spool = pool->spool;
	loan->whole = true;
	loan->optimized = folio_test_hugetlb_vmemmap_optimized(folio);
	INIT_WORK(&loan->work, hugetlb_loan_end_work);

	ret = xa_err(xa_store(&hugetlb_loans, folio_pfn(folio), loan, GFP_KERNEL));
	if (ret)
		goto err_put;

	/* Whoever walks over all pages may look at this one for a moment. */
	while (!folio_ref_freeze(folio, 1))
		cond_resched();
	return loan;

err_put:
	folio_put(folio);
err_free:
	kfree(loan);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_FOR_MODULES(hugetlb_loan_alloc, "kvm");
