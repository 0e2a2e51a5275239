// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of a guest_memfd that comes in huge pages of the hugetlb pool.
 *
 * A huge page belongs to the file as a whole, from the first access to one of its
 * pages until it is punched out. What folios it consists of follows from the state of
 * its pages:
 *
 *   all of it private		one hugetlb folio
 *   a block of it private	one folio of the block; a block is what a PMD maps
 *   everything else		folios of 4 KiB, so that each shared page can be mapped,
 *				pinned and converted by itself
 *
 * A conversion splits what it has to and leaves the rest: with one shared page in it
 * 1 GiB is 511 blocks and 512 pages. What has become private is merged afterwards; when
 * somebody holds a reference to a page, the merge is left to the next conversion of the
 * block. The PFNs never change, so devices and the guest see nothing of this.
 *
 * What the folios are is written in the page cache, and is asked there.
 */
#include <linux/highmem.h>
#include <linux/hugetlb_loan.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "gmem_internal.h"

#define GMEM_BLOCK_ORDER	(PMD_SHIFT - PAGE_SHIFT)
#define GMEM_BLOCK_PAGES	BIT(GMEM_BLOCK_ORDER)

#define GMEM_HUGE_MUTEXES	16

/**
 * struct gmem_huge - The huge pages of a file
 * @pool: Where they come from
 * @loans: The huge pages, by their number in the file. Added to under the invalidate
 *	lock held in any mode and one of @mutexes, removed under it held exclusively.
 * @order: Of a huge page
 * @mutexes: To allocate each huge page once, by hash of its number
 */
struct gmem_huge {
	struct hugetlb_loan_pool *pool;
	struct xarray loans;
	unsigned int order;
	struct mutex mutexes[GMEM_HUGE_MUTEXES];	/* see above */
};

static struct gmem_huge *gmem_huge(struct inode *inode)
{
	return GMEM_I(inode)->huge;
}

static unsigned long gmem_huge_size(struct gmem_huge *huge)
{
	return PAGE_SIZE << huge->order;
}

static struct hugetlb_loan *gmem_find_loan(struct inode *inode, pgoff_t index)
{
	return xa_load(&gmem_huge(inode)->loans,
		       index >> gmem_huge(inode)->order);
}

/* Whether a range is a number of whole huge pages. */
bool gmem_huge_is_aligned(struct inode *inode, loff_t offset, loff_t len)
{
	unsigned long size = gmem_huge_size(gmem_huge(inode));

	return IS_ALIGNED(offset, size) && IS_ALIGNED(len, size);
}

/* To the huge pages that have the pages. */
void gmem_huge_round_out(struct inode *inode, pgoff_t *start, pgoff_t *last)
{
	const pgoff_t mask = BIT(gmem_huge(inode)->order) - 1;

	*start &= ~mask;
	*last |= mask;
}

/* -- the page cache -------------------------------------------------------- */

/*
 * An entry of the page cache can be replaced by smaller ones that lead to the same
 * folio. This allocates; after it each of them can be overwritten without.
 */
static int gmem_split_entry(struct inode *inode, void *entry, pgoff_t index,
			    unsigned int order, unsigned int new_order)
{
	XA_STATE_ORDER(xas, &inode->i_mapping->i_pages, index, new_order);

	xas_split_alloc(&xas, entry, order, GFP_KERNEL_ACCOUNT);
	if (xas_error(&xas))
		return xas_error(&xas);

	xas_lock_irq(&xas);
	xas_split(&xas, entry, order);
	xas_unlock_irq(&xas);
	return 0;
}

/* From @order down to @new_order, as far at once as an xarray can: by a level of it. */
static int gmem_split_entries(struct inode *inode, void *entry, pgoff_t index,
			      unsigned int order, unsigned int new_order)
{
	const pgoff_t end = index + BIT(order);
	unsigned int level, next;
	pgoff_t i;
	int ret;

	for (; order > new_order; order = next) {
		level = rounddown(order, XA_CHUNK_SHIFT);
		next = level ? max(new_order, level - XA_CHUNK_SHIFT) : new_order;
		for (i = index; i < end; i += BIT(order)) {
			ret = gmem_split_entry(inode, entry, i, order, next);
			if (ret)
				return ret;
			cond_resched();
		}
	}
	return 0;
}

/* One entry in place of all of a range, which takes no memory. */
static void gmem_store_entry(struct inode *inode, void *entry, pgoff_t index,
			     unsigned int order)
{
	XA_STATE_ORDER(xas, &inode->i_mapping->i_pages, index, order);

	xas_lock_irq(&xas);
	xas_store(&xas, entry);
	if (!entry)
		xas_init_marks(&xas);
	xas_unlock_irq(&xas);
}

/* One entry where there was none, or others, which can take memory. */
static int gmem_add_entry(struct inode *inode, void *entry, pgoff_t index,
			  unsigned int order)
{
	XA_STATE_ORDER(xas, &inode->i_mapping->i_pages, index, order);

	do {
		xas_lock_irq(&xas);
		xas_store(&xas, entry);
		xas_unlock_irq(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL));
	return xas_error(&xas);
}

static struct folio *gmem_next_folio(struct inode *inode, pgoff_t *index,
				     pgoff_t last)
{
	unsigned long i = *index;
	struct folio *folio;

	folio = xa_find(&inode->i_mapping->i_pages, &i, last, XA_PRESENT);
	*index = i;
	return folio;
}

static void gmem_account_pages(struct inode *inode, long nr_pages)
{
	xa_lock_irq(&inode->i_mapping->i_pages);
	inode->i_mapping->nrpages += nr_pages;
	xa_unlock_irq(&inode->i_mapping->i_pages);
}

static void gmem_init_folio(struct inode *inode, struct folio *folio,
			    pgoff_t index, bool uptodate)
{
	folio->mapping = inode->i_mapping;
	folio->index = index;
	if (uptodate)
		folio_mark_uptodate(folio);
}

/* Put a frozen folio into the page cache, whose references are all it then has. */
static void gmem_enter_folio(struct inode *inode, struct folio *folio,
			     pgoff_t index, bool uptodate)
{
	gmem_init_folio(inode, folio, index, uptodate);
	gmem_store_entry(inode, folio, index, folio_order(folio));
	gmem_unfreeze_folio(inode, folio);
}

/* -- layout ---------------------------------------------------------------- */

/**
 * struct gmem_layout - What pages will be when runs have their new state
 * @inode: The file
 * @start: First page of a huge page, or a part of one
 * @last: Its last page
 * @order: Its size
 * @runs: The runs, or NULL if all stays as it is
 * @end: After the last one
 * @run: A run that ends behind the last question, as most come in order
 * @present: A present run, for the same reason
 * @parts: The same for the loan of a whole huge page
 */
struct gmem_layout {
	struct inode *inode;
	pgoff_t start;
	pgoff_t last;
	unsigned int order;
	const struct gmem_run *runs;
	const struct gmem_run *end;
	const struct gmem_run *run;
	struct gmem_run present;
	struct hugetlb_loan_parts parts;
};

/* The first page, from @index on, that is shared now; behind the last if none is. */
static pgoff_t gmem_next_present(struct gmem_layout *l, pgoff_t index)
{
	for (; index <= l->last; index = l->present.last + 1) {
		if ((index < l->present.start || index > l->present.last) &&
		    !gmem_next_run(l->inode, index, l->last, &l->present))
			return index;
		if (l->present.shared)
			return index;
	}
	return l->last + 1;
}

/* The first page, from @index on, that the runs make shared; the same. */
static pgoff_t gmem_next_coming(struct gmem_layout *l, pgoff_t index)
{
	if (l->run > l->runs && l->run[-1].last >= index)
		l->run = gmem_find_run(l->runs, l->end, index);
	while (l->run < l->end && l->run->start <= l->last &&
	       (l->run->last < index || !l->run->shared))
		l->run++;
	if (l->run == l->end || l->run->start > l->last)
		return l->last + 1;
	return max(l->run->start, index);
}

/* The first block, from @index on, that will not be one folio; the same. */
static pgoff_t gmem_next_divided(struct gmem_layout *l, pgoff_t index)
{
	return round_down(min(gmem_next_present(l, index), gmem_next_coming(l, index)),
			  GMEM_BLOCK_PAGES);
}

static bool gmem_all_stays_private(struct gmem_layout *l)
{
	return gmem_next_divided(l, l->start) > l->last;
}

static unsigned long gmem_next_divided_part(void *layout, unsigned long part)
{
	struct gmem_layout *l = layout;
	pgoff_t block = gmem_next_divided(l, l->start + part * GMEM_BLOCK_PAGES);

	return (block - l->start) / GMEM_BLOCK_PAGES;
}

static void gmem_layout_init(struct gmem_layout *l, struct inode *inode,
			     pgoff_t start, unsigned int order,
			     const struct gmem_run *runs,
			     const struct gmem_run *end)
{
	l->inode = inode;
	l->start = start;
	l->last = start + BIT(order) - 1;
	l->order = order;
	l->runs = runs;
	l->end = end;
	l->run = gmem_find_run(runs, end, start);
	l->present.start = 1;
	l->present.last = 0;
	l->parts.order = GMEM_BLOCK_ORDER;
	l->parts.next_divided = gmem_next_divided_part;
	l->parts.data = l;
}

/* Where a split of the loan leaves blocks; NULL if it is one itself. */
static const struct hugetlb_loan_parts *gmem_layout_parts(const struct gmem_layout *l)
{
	return l->order > GMEM_BLOCK_ORDER ? &l->parts : NULL;
}

/*
 * Split @entry, which leads to all of the pages, into those that gmem_enter_pieces()
 * will replace.
 */
static int gmem_prepare_entries(struct gmem_layout *l, void *entry)
{
	pgoff_t block;
	int ret;

	ret = gmem_split_entries(l->inode, entry, l->start, l->order,
				 GMEM_BLOCK_ORDER);
	if (ret)
		return ret;

	for (block = gmem_next_divided(l, l->start); block <= l->last;
	     block = gmem_next_divided(l, block + GMEM_BLOCK_PAGES)) {
		ret = gmem_split_entries(l->inode, entry, block,
					 GMEM_BLOCK_ORDER, 0);
		if (ret)
			return ret;
	}
	return 0;
}

/* Make frozen pages of a split loan, from @start to before @end, into folios. */
static void gmem_make_folios(struct gmem_layout *l, struct hugetlb_loan *loan,
			     struct page *page, pgoff_t start, pgoff_t end,
			     unsigned int order, bool uptodate)
{
	pgoff_t index;

	hugetlb_loan_make_pieces(loan, page, (end - start) >> order, order, l->order);
	for (index = start; index < end; index += BIT(order), page += BIT(order)) {
		gmem_init_folio(l->inode, page_folio(page), index, uptodate);
		cond_resched();
	}
}

static void gmem_make_pieces(struct gmem_layout *l, struct hugetlb_loan *loan,
			     struct page *page, bool uptodate)
{
	unsigned int order;
	pgoff_t index, end;

	for (index = l->start; index <= l->last; index = end) {
		end = gmem_next_divided(l, index);
		order = GMEM_BLOCK_ORDER;
		if (end == index) {
			end += GMEM_BLOCK_PAGES;
			order = 0;
		}
		gmem_make_folios(l, loan, page + (index - l->start), index, end, order,
				 uptodate);
	}
}

/*
 * Put the folios of pages into the page cache, in place of entries that were split for
 * them.
 */
static void gmem_enter_pieces(struct gmem_layout *l, struct page *page)
{
	XA_STATE(xas, &l->inode->i_mapping->i_pages, l->start);
	struct folio *folio, *last = NULL;
	unsigned int nr = 0;
	void *entry;

	xas_lock_irq(&xas);
	xas_for_each(&xas, entry, l->last) {
		folio = page_folio(page + (xas.xa_index - l->start));
		/*
		 * The first slot of an entry leads to the folio and the others lead there,
		 * so that one is enough; of values the xarray counts the slots.
		 */
		if (xa_is_value(entry))
			xas_set_order(&xas, folio->index, folio_order(folio));
		xas_store(&xas, folio);
		/* Other entries still lead to the folio of this address that was split. */
		if (entry == folio)
			last = folio;
		else
			gmem_unfreeze_folio(l->inode, folio);
		xas_advance(&xas, folio_next_index(folio) - 1);
		if (++nr % XA_CHECK_SCHED)
			continue;

		/* From the root again, and for entries of any size. */
		xas_set_order(&xas, folio_next_index(folio), 0);
		xas_unlock_irq(&xas);
		cond_resched();
		xas_lock_irq(&xas);
	}
	xas_unlock_irq(&xas);
	if (last)
		gmem_unfreeze_folio(l->inode, last);
}

/* -- allocation ------------------------------------------------------------ */

/* All is one folio, or pieces right from the start. */
static int gmem_enter_loan(struct inode *inode, struct hugetlb_loan *loan,
			   pgoff_t index)
{
	/* A lookup takes it for the trace of a page that was evicted. */
	void *placeholder = xa_mk_value(0);
	struct folio *folio = hugetlb_loan_folio(loan);
	unsigned int order = gmem_huge(inode)->order;
	struct gmem_layout layout;
	int ret;

	gmem_layout_init(&layout, inode, index, order, NULL, NULL);
	ret = gmem_add_entry(inode, placeholder, index, order);
	if (ret)
		return ret;

	/* The pool does not care. */
	folio_clear_uptodate(folio);
	if (gmem_all_stays_private(&layout)) {
		gmem_enter_folio(inode, folio, index, false);
		return 0;
	}

	ret = gmem_prepare_entries(&layout, placeholder);
	if (!ret)
		ret = hugetlb_loan_prepare_split(loan, gmem_layout_parts(&layout));
	if (ret) {
		gmem_store_entry(inode, NULL, index, order);
		return ret;
	}

	hugetlb_loan_split(loan, gmem_layout_parts(&layout));
	gmem_make_pieces(&layout, loan, &folio->page, false);
	gmem_enter_pieces(&layout, &folio->page);
	return 0;
}

static struct hugetlb_loan *gmem_alloc_loan(struct inode *inode, pgoff_t index)
{
	struct gmem_huge *huge = gmem_huge(inode);
	struct hugetlb_loan *loan;
	struct mempolicy *policy;

	policy = mpol_shared_policy_lookup(&GMEM_I(inode)->policy, index);
	loan = hugetlb_loan_alloc(huge->pool, policy, index >> huge->order);
	mpol_cond_put(policy);
	return loan;
}

static int gmem_add_loan(struct inode *inode, pgoff_t index)
{
	struct gmem_huge *huge = gmem_huge(inode);
	unsigned long nr = index >> huge->order;
	struct hugetlb_loan *loan;
	int ret;

	if (xa_load(&huge->loans, nr))
		return 0;
	ret = xa_reserve(&huge->loans, nr, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;

	loan = gmem_alloc_loan(inode, index);
	if (IS_ERR(loan)) {
		ret = PTR_ERR(loan);
		goto err_release;
	}

	/* Whoever finds a page of it finds the loan. */
	xa_store(&huge->loans, nr, loan, 0);
	ret = gmem_enter_loan(inode, loan, nr << huge->order);
	if (ret)
		goto err_return;

	inode_add_bytes(inode, gmem_huge_size(huge));
	gmem_account_pages(inode, BIT(huge->order));
	return 0;

err_return:
	xa_erase(&huge->loans, nr);
	folio_ref_unfreeze(hugetlb_loan_folio(loan), 1);
	hugetlb_loan_return(loan, hugetlb_loan_folio(loan));
	return ret;
err_release:
	xa_release(&huge->loans, nr);
	return ret;
}

/*
 * Give a page memory, and with it all of its huge page. Under the invalidate lock,
 * held in any mode. The folios are not uptodate.
 */
int gmem_huge_add(struct inode *inode, pgoff_t index)
{
	struct gmem_huge *huge = gmem_huge(inode);
	unsigned long nr = index >> huge->order;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);

	guard(mutex)(&huge->mutexes[nr % GMEM_HUGE_MUTEXES]);
	return gmem_add_loan(inode, index);
}

/* -- removal --------------------------------------------------------------- */

/*
 * The folio leaves the file with one reference of ours, and returns to its loan. The
 * references of others keep it away from there for as long as they last.
 */
static void gmem_remove_folio(struct inode *inode, struct folio *folio)
{
	struct hugetlb_loan *loan = gmem_find_loan(inode, folio->index);
	long nr_pages = folio_nr_pages(folio);

	if (gmem_is_frozen(folio))
		folio_ref_unfreeze(folio, nr_pages);

	/* Memory failure looks at the mapping under this lock. */
	folio_lock(folio);
	gmem_store_entry(inode, NULL, folio->index, folio_order(folio));
	gmem_account_pages(inode, -nr_pages);
	folio->mapping = NULL;
	folio_unlock(folio);
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_RECLAIM
	kvm_arch_gmem_reclaim(folio_pfn(folio), nr_pages);
#endif
	folio_ref_sub(folio, nr_pages - 1);
	hugetlb_loan_return(loan, folio);
}

/*
 * Take the memory of whole huge pages away. Under the invalidate lock, held
 * exclusively; all folios are frozen.
 */
void gmem_huge_remove(struct inode *inode, pgoff_t start, pgoff_t last)
{
	struct gmem_huge *huge = gmem_huge(inode);
	struct hugetlb_loan *loan;
	struct folio *folio;
	pgoff_t index = start;
	unsigned long nr;

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);

	while ((folio = gmem_next_folio(inode, &index, last))) {
		gmem_remove_folio(inode, folio);
		cond_resched();
	}
	xa_for_each_range(&huge->loans, nr, loan, start >> huge->order,
			  last >> huge->order) {
		xa_erase(&huge->loans, nr);
		inode_sub_bytes(inode, gmem_huge_size(huge));
	}
}

/* Undo gmem_huge_add(), when nobody has seen the memory yet. */
void gmem_huge_undo_add(struct inode *inode, pgoff_t index)
{
	unsigned int order = gmem_huge(inode)->order;

	index = round_down(index, BIT(order));
	gmem_huge_remove(inode, index, index + BIT(order) - 1);
}

/* The inode goes. Nobody maps its pages, but they can be pinned. */
void gmem_huge_evict(struct inode *inode)
{
	struct folio *folio;
	pgoff_t index = 0;

	while ((folio = gmem_next_folio(inode, &index, ULONG_MAX))) {
		gmem_remove_folio(inode, folio);
		cond_resched();
	}
}

/* -- split ----------------------------------------------------------------- */

/* A page that the hardware reported as broken stays private. */
static int gmem_refuse_broken(struct inode *inode, struct folio *folio,
			      const struct gmem_run *run, pgoff_t *error_index)
{
	pgoff_t index = max(folio->index, run->start);
	pgoff_t last = min(folio_next_index(folio) - 1, run->last);

	if (!folio_contain_hwpoisoned_page(folio))
		return 0;
	for (; index <= last; index++) {
		if (!gmem_page_is_broken(inode, folio, index))
			continue;
		*error_index = index;
		return -EHWPOISON;
	}
	return 0;
}

/* What a large folio will be, of which all is private. */
static void gmem_layout_init_folio(struct gmem_layout *l, struct gmem_freezer *f,
				   struct folio *folio)
{
	gmem_layout_init(l, f->inode, folio->index, folio_order(folio), f->runs,
			 f->end);
	l->present.start = l->start;
	l->present.last = l->last;
	l->present.shared = false;
}

static int gmem_prepare_split(struct gmem_freezer *f, struct folio *folio)
{
	struct inode *inode = f->inode;
	struct hugetlb_loan *loan = gmem_find_loan(inode, folio->index);
	struct gmem_layout layout;
	int ret;

	gmem_layout_init_folio(&layout, f, folio);
	ret = gmem_prepare_entries(&layout, folio);
	if (ret)
		return ret;
	if (folio_test_hugetlb(folio))
		return hugetlb_loan_prepare_split(loan, gmem_layout_parts(&layout));
	return hugetlb_loan_prepare_part(loan, &folio->page);
}

/*
 * Prepare to split the folios of the runs that become shared. They are frozen until
 * gmem_huge_split() or gmem_huge_cancel_split(). On failure nothing has changed, and
 * @f->error_index is the page that refused.
 */
int gmem_huge_prepare_split(struct gmem_freezer *f)
{
	const struct gmem_run *run;
	struct folio *folio;
	pgoff_t index;
	int ret;

	ret = gmem_freeze(f);
	if (ret)
		return ret;

	for (run = f->runs; run < f->end; run++) {
		if (!run->shared)
			continue;
		for (index = run->start;
		     (folio = gmem_next_folio(f->inode, &index, run->last));
		     index = folio_next_index(folio)) {
			f->error_index = max(folio->index, run->start);
			ret = gmem_refuse_broken(f->inode, folio, run,
						 &f->error_index);
			/* Two runs can be in one folio. */
			if (!ret && folio_test_large(folio) &&
			    f->prepared != folio)
				ret = gmem_prepare_split(f, folio);
			if (ret) {
				gmem_huge_cancel_split(f);
				return ret;
			}
			f->prepared = folio;
			cond_resched();
		}
	}
	return 0;
}

/* Undo gmem_huge_prepare_split(), also one that has failed half way. */
void gmem_huge_cancel_split(struct gmem_freezer *f)
{
	const struct gmem_run *run;
	struct hugetlb_loan *loan;
	struct folio *folio;
	pgoff_t index;

	for (run = f->runs; run < f->end; run++) {
		if (!run->shared)
			continue;
		for (index = run->start;
		     (folio = gmem_next_folio(f->inode, &index, run->last));
		     index = folio_next_index(folio)) {
			if (!folio_test_large(folio) || !gmem_is_frozen(folio))
				continue;
			gmem_store_entry(f->inode, folio, folio->index,
					 folio_order(folio));
			loan = gmem_find_loan(f->inode, folio->index);
			if (folio_test_hugetlb(folio))
				hugetlb_loan_cancel_split(loan);
			else
				hugetlb_loan_cancel_part(loan, &folio->page);
			gmem_unfreeze_folio(f->inode, folio);
			cond_resched();
		}
	}
}

static void gmem_split_folio(struct gmem_freezer *f, struct folio *folio)
{
	struct hugetlb_loan *loan = gmem_find_loan(f->inode, folio->index);
	struct gmem_layout layout;
	bool uptodate = folio_test_uptodate(folio);

	gmem_layout_init_folio(&layout, f, folio);
	/* From here on there is no folio. */
	if (hugetlb_loan_is_whole(loan))
		hugetlb_loan_split(loan, gmem_layout_parts(&layout));
	gmem_make_pieces(&layout, loan, &folio->page, uptodate);
	gmem_enter_pieces(&layout, &folio->page);
}

/*
 * Split what gmem_huge_prepare_split() has prepared, before the pages become shared.
 * Does not allocate and does not fail.
 */
void gmem_huge_split(struct gmem_freezer *f)
{
	const struct gmem_run *run;
	struct folio *folio;
	pgoff_t index;

	for (run = f->runs; run < f->end; run++) {
		if (!run->shared)
			continue;
		index = run->start;
		while ((folio = gmem_next_folio(f->inode, &index, run->last))) {
			/* Its pages come next. */
			if (folio_test_large(folio))
				gmem_split_folio(f, folio);
			else
				index = folio_next_index(folio);
		}
	}
}

/* -- merge ----------------------------------------------------------------- */

static void gmem_unfreeze_range(struct inode *inode, pgoff_t start, pgoff_t end)
{
	struct folio *folio;
	pgoff_t index;

	for (index = start; index < end; index = folio_next_index(folio)) {
		folio = xa_load(&inode->i_mapping->i_pages, index);
		gmem_unfreeze_folio(inode, folio);
	}
}

/* A folio is merged of those of the next smaller size. */
static unsigned int gmem_part_order(unsigned int order)
{
	return order > GMEM_BLOCK_ORDER ? GMEM_BLOCK_ORDER : 0;
}

/*
 * Freeze the folios that are to be one of @order. If one has not the right size yet,
 * then its own merge is missing.
 */
static bool gmem_freeze_to_merge(struct inode *inode, pgoff_t start,
				 unsigned int order, bool *any_uptodate)
{
	unsigned int part = gmem_part_order(order);
	const pgoff_t end = start + BIT(order);
	struct folio *folio;
	pgoff_t index;

	*any_uptodate = false;
	for (index = start; index < end; index += BIT(part)) {
		folio = xa_load(&inode->i_mapping->i_pages, index);
		if (folio_order(folio) != part || folio_mapped(folio) ||
		    folio_contain_hwpoisoned_page(folio) ||
		    !folio_ref_freeze(folio, BIT(part))) {
			gmem_unfreeze_range(inode, start, index);
			return false;
		}
		*any_uptodate |= folio_test_uptodate(folio);
	}
	return true;
}

/* The folio will be uptodate, so all of it has to be. */
static void gmem_clear_rest(struct inode *inode, pgoff_t start, unsigned int order)
{
	const pgoff_t end = start + BIT(order);
	struct folio *folio;
	pgoff_t index;

	for (index = start; index < end; index = folio_next_index(folio)) {
		folio = xa_load(&inode->i_mapping->i_pages, index);
		if (!folio_test_uptodate(folio))
			gmem_clear_folio(inode, folio);
		cond_resched();
	}
}

static void gmem_try_merge(struct inode *inode, pgoff_t index, unsigned int order)
{
	struct hugetlb_loan *loan = gmem_find_loan(inode, index);
	struct gmem_layout layout;
	struct folio *folio;
	bool uptodate;

	gmem_layout_init(&layout, inode, index, order, NULL, NULL);
	if (!loan || hugetlb_loan_is_whole(loan) ||
	    !gmem_all_stays_private(&layout))
		return;
	folio = xa_load(&inode->i_mapping->i_pages, index);
	if (folio_order(folio) >= order ||
	    !gmem_freeze_to_merge(inode, index, order, &uptodate))
		return;
	if (uptodate)
		gmem_clear_rest(inode, index, order);
	/* Where the xarray has shrunk to this range, one entry for it can take memory. */
	if (gmem_add_entry(inode, folio, index, order)) {
		gmem_unfreeze_range(inode, index, index + BIT(order));
		return;
	}

	if (order == gmem_huge(inode)->order) {
		hugetlb_loan_merge(loan, gmem_part_order(order));
		hugetlb_loan_merge_done(loan);
	} else {
		hugetlb_loan_make_pieces(loan, &folio->page, 1, order,
					 gmem_part_order(order));
	}
	gmem_enter_folio(inode, folio, index, uptodate);
}

static void gmem_try_merges(struct gmem_freezer *f, unsigned int order)
{
	const struct gmem_run *run;
	pgoff_t index, next = 0;

	for (run = f->runs; run < f->end; run++) {
		if (run->shared)
			continue;
		index = max(next, round_down(run->start, BIT(order)));
		for (; index <= run->last; index += BIT(order)) {
			gmem_try_merge(f->inode, index, order);
			cond_resched();
		}
		next = max(next, index);
	}
}

/*
 * Merge what has become private, as far as nobody holds a reference to it. Nothing
 * depends on it.
 */
void gmem_huge_merge(struct gmem_freezer *f)
{
	gmem_try_merges(f, GMEM_BLOCK_ORDER);
	if (gmem_huge(f->inode)->order > GMEM_BLOCK_ORDER)
		gmem_try_merges(f, gmem_huge(f->inode)->order);
}

/* -- the file -------------------------------------------------------------- */

/* Whether the hardware reported the page at @index of @folio as broken. */
bool gmem_page_is_broken(struct inode *inode, struct folio *folio, pgoff_t index)
{
	struct page *page = folio_page(folio, index - folio->index);

	if (folio_test_hugetlb(folio))
		return hugetlb_loan_page_is_bad(gmem_find_loan(inode, index),
						page);
	return PageHWPoison(page);
}

/*
 * Reserve the huge pages of a new file. -EINVAL: there are none of that size, or the
 * size of the file is not a multiple of it; -ENOMEM: the pool has not enough.
 */
int gmem_huge_create(struct inode *inode, unsigned int page_shift)
{
	struct gmem_huge *huge;
	int i;

	if (page_shift < PMD_SHIFT || page_shift >= BITS_PER_LONG ||
	    !IS_ALIGNED(i_size_read(inode), BIT(page_shift)))
		return -EINVAL;

	huge = kzalloc_obj(*huge, GFP_KERNEL_ACCOUNT);
	if (!huge)
		return -ENOMEM;

	huge->pool = hugetlb_loan_pool_create(page_shift,
					      i_size_read(inode) >> page_shift);
	if (IS_ERR(huge->pool)) {
		int ret = PTR_ERR(huge->pool);

		kfree(huge);
		return ret;
	}
	huge->order = page_shift - PAGE_SHIFT;
	xa_init(&huge->loans);
	for (i = 0; i < GMEM_HUGE_MUTEXES; i++)
		mutex_init(&huge->mutexes[i]);
	GMEM_I(inode)->huge = huge;
	return 0;
}

void gmem_huge_destroy(struct inode *inode)
{
	struct gmem_huge *huge = gmem_huge(inode);

	if (!huge)
		return;
	hugetlb_loan_pool_destroy(huge->pool);
	xa_destroy(&huge->loans);
	kfree(huge);
}
