/* SPDX-License-Identifier: GPL-2.0-only */
/**
 * DOC: hugetlb loans
 *
 * A loan is one huge page of the hugetlb pool that its borrower may take apart into
 * folios of smaller orders, and put together again.
 *
 * While it is whole, a loan is an ordinary hugetlb folio. When it is split, each of
 * its pages belongs to a *piece*: a folio of an order of the borrower's choice that is
 * no hugetlb folio. The pool still counts the huge page as one that is in use.
 *
 * Everything that turns pages into other folios wants them frozen: with a reference
 * count of zero, so that nobody gains a reference meanwhile. What can fail is
 * hugetlb_loan_prepare_split() and hugetlb_loan_prepare_part() alone. Nothing is
 * allocated when a loan is returned.
 *
 * The life of a loan::
 *
 *   alloc -> whole, frozen --unfreeze--> in the page cache --return--> pool
 *              |      ^
 *              |      | merge, merge_done
 *   prepare_split,    |
 *   split      v      |
 *            split, frozen
 *              |      ^
 *  make_pieces |      | freeze
 *   of all     v      |
 *            pieces, frozen --unfreeze--> in the page cache --return of all--> pool
 *
 * If the pool saves struct pages (hugetlb vmemmap optimization), they come back when a
 * loan is split, and go again when it is merged. A split that leaves large pieces can say
 * so, see struct hugetlb_loan_parts: then these get along with one page of struct pages
 * each, until hugetlb_loan_prepare_part() makes one complete.
 *
 * The borrower serializes what is done to one loan. The exceptions are
 * hugetlb_loan_make_pieces() and hugetlb_loan_return() of different pages, which can
 * run at the same time, and hugetlb_loan_page_is_bad().
 */
#ifndef __LINUX_HUGETLB_LOAN_H
#define __LINUX_HUGETLB_LOAN_H

#include <linux/types.h>

struct folio;
struct hugetlb_loan;
struct hugetlb_loan_pool;
struct mempolicy;
struct page;

/**
 * struct hugetlb_loan_parts - Where a split leaves large pieces
 * @order: Of the parts: a piece has this order or a lower one
 * @next_divided: The first part that will not be one piece, from the number @part on,
 *	where the first part of the huge page is 0. Behind the last part if there is none,
 *	or if @part is. Has to give the same answers when it is prepared and when it is done.
 * @data: For @next_divided
 */
struct hugetlb_loan_parts {
	unsigned int order;
	unsigned long (*next_divided)(void *data, unsigned long part);
	void *data;
};

struct hugetlb_loan_pool *hugetlb_loan_pool_create(unsigned int page_shift,
						   unsigned long nr_loans);
void hugetlb_loan_pool_destroy(struct hugetlb_loan_pool *pool);

struct hugetlb_loan *hugetlb_loan_alloc(struct hugetlb_loan_pool *pool,
					struct mempolicy *policy,
					unsigned long ilx);
struct folio *hugetlb_loan_folio(const struct hugetlb_loan *loan);
bool hugetlb_loan_is_whole(const struct hugetlb_loan *loan);
bool hugetlb_loan_page_is_bad(const struct hugetlb_loan *loan,
			      struct page *page);

int hugetlb_loan_prepare_split(struct hugetlb_loan *loan,
			       const struct hugetlb_loan_parts *parts);
void hugetlb_loan_cancel_split(struct hugetlb_loan *loan);
int hugetlb_loan_prepare_part(struct hugetlb_loan *loan, struct page *page);
void hugetlb_loan_cancel_part(struct hugetlb_loan *loan, struct page *page);
void hugetlb_loan_split(struct hugetlb_loan *loan,
			const struct hugetlb_loan_parts *parts);
void hugetlb_loan_make_pieces(struct hugetlb_loan *loan, struct page *page,
			      unsigned long nr, unsigned int order,
			      unsigned int from);
void hugetlb_loan_merge(struct hugetlb_loan *loan, unsigned int from);
void hugetlb_loan_merge_done(struct hugetlb_loan *loan);

void hugetlb_loan_return(struct hugetlb_loan *loan, struct folio *folio);

#endif /* __LINUX_HUGETLB_LOAN_H */
