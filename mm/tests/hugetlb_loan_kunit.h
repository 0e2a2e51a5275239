/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the KUnit tests of hugetlb loans share: huge pages to borrow, the steps that
 * tests are made of, and the check of all counters.
 *
 * Every test grows the pool by some huge pages, and compares all counters with what
 * they were then after each step, with and without the vmemmap optimization.
 */
#ifndef _MM_TESTS_HUGETLB_LOAN_KUNIT_H
#define _MM_TESTS_HUGETLB_LOAN_KUNIT_H

#include <kunit/test.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_loan.h>
#include <linux/mm.h>
#include <linux/spinlock.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>

#include "../hugetlb_internal.h"
#include "../hugetlb_vmemmap.h"
#include "../internal.h"

/* How many huge pages a test has, and how many of these it reserves. */
#define TEST_PAGES	4
#define TEST_LOANS	2

/**
 * struct loan_counters - What has to be exact
 * @nr: Huge pages
 * @max: What the administrator asked for
 * @free: Not in use
 * @resv: Of these, reserved
 * @surplus: Above @max
 * @nr_hugetlb: Of /proc/vmstat, in pages
 * @memmap: Of /proc/vmstat: pages with struct pages
 */
struct loan_counters {
	long nr;
	long max;
	long free;
	long resv;
	long surplus;
	long nr_hugetlb;
	long memmap;
};

/**
 * struct loan_test - Context of a test
 * @h: Its huge pages
 * @base: Counters when it began
 * @old_max: Size of the pool before
 * @old_hvo: Whether the vmemmap was optimized before
 * @saved: Pages of vmemmap that a whole huge page saves
 * @pool: Reservation of TEST_LOANS pages
 */
struct loan_test {
	struct hstate *h;
	struct loan_counters base;
	unsigned long old_max;
	bool old_hvo;
	long saved;
	struct hugetlb_loan_pool *pool;
};

static inline void count(struct loan_test *ctx, struct loan_counters *counters)
{
	struct hstate *h = ctx->h;

	guard(spinlock_irq)(&hugetlb_lock);
	*counters = (struct loan_counters){
		.nr = h->nr_huge_pages,
		.max = h->max_huge_pages,
		.free = h->free_huge_pages,
		.resv = h->resv_huge_pages,
		.surplus = h->surplus_huge_pages,
		.nr_hugetlb = global_node_page_state(NR_HUGETLB),
		.memmap = atomic_long_read(&nr_memmap_pages),
	};
}

/*
 * Since the test began, @used huge pages were taken, @reserved were reserved and not
 * taken, @split of these in use have all of their struct pages, @lost left the pool.
 */
static inline void expect_counters(struct kunit *test, long used, long reserved,
				   long split, long lost)
{
	struct loan_test *ctx = test->priv;
	struct loan_counters *base = &ctx->base, now;

	count(ctx, &now);
	KUNIT_EXPECT_EQ(test, now.nr, base->nr - lost);
	KUNIT_EXPECT_EQ(test, now.max, base->max - lost);
	KUNIT_EXPECT_EQ(test, now.free, base->free - used - lost);
	KUNIT_EXPECT_EQ(test, now.resv, base->resv + reserved);
	KUNIT_EXPECT_EQ(test, now.surplus, base->surplus);
	KUNIT_EXPECT_EQ(test, now.nr_hugetlb,
			base->nr_hugetlb + used * (long)pages_per_huge_page(ctx->h));
	KUNIT_EXPECT_EQ(test, now.memmap,
			base->memmap + (split + lost) * ctx->saved);
}

/* The same, when it was a work that brought the last page home. */
static inline void expect_counters_flushed(struct kunit *test, long used,
					   long reserved, long split, long lost)
{
	/* The macro around it rightly says that only tests should do this. */
	__flush_workqueue(system_dfl_wq);
	expect_counters(test, used, reserved, split, lost);
}

static inline void set_hvo(bool on)
{
#ifdef CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP
	WRITE_ONCE(vmemmap_optimize_enabled, on);
#endif
}

static inline bool get_hvo(void)
{
#ifdef CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP
	return READ_ONCE(vmemmap_optimize_enabled);
#else
	return false;
#endif
}

/* What the vmemmap optimization saves of each huge page, in pages. */
static inline long get_saved(struct hstate *h)
{
	return get_hvo() ? hugetlb_vmemmap_optimizable_size(h) >> PAGE_SHIFT : 0;
}

static inline int set_pool_size(struct hstate *h, unsigned long nr)
{
	return __nr_hugepages_store_common(false, h, NUMA_NO_NODE, nr, 0);
}

static inline void make_pool(struct kunit *test, unsigned long nr_loans)
{
	struct loan_test *ctx = test->priv;

	ctx->pool = hugetlb_loan_pool_create(huge_page_shift(ctx->h), nr_loans);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, ctx->pool);
}

static inline void drop_pool(struct kunit *test)
{
	struct loan_test *ctx = test->priv;

	hugetlb_loan_pool_destroy(ctx->pool);
	ctx->pool = NULL;
}

static inline struct page *loan_pages(struct hugetlb_loan *loan)
{
	return &hugetlb_loan_folio(loan)->page;
}

static inline struct hugetlb_loan *borrow(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	struct hugetlb_loan *loan = hugetlb_loan_alloc(ctx->pool, NULL, 0);
	struct folio *folio;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, loan);
	folio = hugetlb_loan_folio(loan);
	KUNIT_EXPECT_TRUE(test, hugetlb_loan_is_whole(loan));
	KUNIT_EXPECT_TRUE(test, folio_test_hugetlb(folio));
	KUNIT_EXPECT_EQ(test, folio_order(folio), huge_page_order(ctx->h));
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 0);
	KUNIT_EXPECT_EQ(test, folio_test_hugetlb_vmemmap_optimized(folio),
			ctx->saved != 0);
	KUNIT_EXPECT_TRUE(test, hugetlb_pfn_is_lent(folio_pfn(folio)));
	KUNIT_EXPECT_TRUE(test, hugetlb_pfn_is_lent(folio_pfn(folio) + 7));
	return loan;
}

static inline void give_back(struct hugetlb_loan *loan, struct folio *folio)
{
	folio_ref_unfreeze(folio, 1);
	hugetlb_loan_return(loan, folio);
}

/* A part of 1 MiB has four pages of struct pages, three of which it can share. */
#define PART_ORDER	8

static inline unsigned long no_divided_part(void *data, unsigned long part)
{
	return ULONG_MAX;
}

#define PARTS_THAT_STAY_ONE { .order = PART_ORDER, .next_divided = no_divided_part }

static inline void start_split(struct kunit *test, struct hugetlb_loan *loan)
{
	KUNIT_ASSERT_EQ(test, hugetlb_loan_prepare_split(loan, NULL), 0);
	hugetlb_loan_split(loan, NULL);
	KUNIT_EXPECT_FALSE(test, hugetlb_loan_is_whole(loan));
}

/* A piece, as hugetlb_loan_make_pieces() has to leave it. */
static inline struct folio *check_piece(struct kunit *test,
					struct hugetlb_loan *loan,
					unsigned long first, unsigned int order)
{
	struct page *page = loan_pages(loan) + first;
	struct folio *folio = page_folio(page);
	unsigned long i;

	KUNIT_ASSERT_PTR_EQ(test, &folio->page, page);
	for (i = 1; i < BIT(order); i++)
		if (page_folio(page + i) != folio || !PageTail(page + i))
			KUNIT_FAIL_AND_ABORT(test, "page %lu is no tail", first + i);
	KUNIT_ASSERT_EQ(test, folio_order(folio), order);
	KUNIT_ASSERT_EQ(test, folio_ref_count(folio), 0);
	KUNIT_ASSERT_EQ(test, folio_mapcount(folio), 0);
	KUNIT_ASSERT_EQ(test, folio_test_large(folio), order > 0);
	KUNIT_ASSERT_FALSE(test, folio_test_hugetlb(folio));
	KUNIT_ASSERT_NULL(test, folio->mapping);
	KUNIT_ASSERT_NULL(test, folio->private);
	KUNIT_ASSERT_EQ(test, folio->flags.f &
			(PAGE_FLAGS_CHECK_AT_PREP & ~BIT(PG_head)), 0);

	/* What a borrower does with it. */
	INIT_LIST_HEAD(&folio->lru);
	folio->index = folio_pfn(folio);
	folio_mark_uptodate(folio);
	folio_set_dirty(folio);
	return folio;
}

/* Of pages of folios of the order @from. */
static inline struct folio *make_piece_of(struct kunit *test,
					  struct hugetlb_loan *loan,
					  unsigned long first, unsigned int order,
					  unsigned int from)
{
	hugetlb_loan_make_pieces(loan, loan_pages(loan) + first, 1, order, from);
	return check_piece(test, loan, first, order);
}

/* The same, and they are not what a split in parts has left. */
static inline struct folio *make_piece(struct kunit *test,
				       struct hugetlb_loan *loan,
				       unsigned long first, unsigned int order)
{
	struct page *page = loan_pages(loan) + first;

	return make_piece_of(test, loan, first, order, folio_order(page_folio(page)));
}

/* Pieces of 4 KiB in [@first, @last). */
static inline void make_small_pieces(struct kunit *test,
				     struct hugetlb_loan *loan,
				     unsigned long first, unsigned long last)
{
	for (; first < last; first++)
		make_piece(test, loan, first, 0);
}

/* Half of the huge page, half of the rest, and so on; two pages at the end. */
static inline void make_tree(struct kunit *test, struct hugetlb_loan *loan,
			     unsigned int order)
{
	unsigned long first = 0;

	while (order--) {
		make_piece(test, loan, first, order);
		first += BIT(order);
	}
	make_piece(test, loan, first, 0);
}

/* All pieces, whatever they are, but for those that were returned and are held. */
static inline void give_back_pieces(struct hugetlb_loan *loan, unsigned long nr)
{
	struct page *page = loan_pages(loan), *end = page + nr;

	while (page < end) {
		struct folio *folio = page_folio(page);

		page += folio_nr_pages(folio);
		if (!folio_test_hugetlb_piece(folio))
			give_back(loan, folio);
	}
}

/* Drops a reference where nothing may sleep. */
static inline void put_atomic(struct folio *folio)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock_irq(&lock);
	folio_put(folio);
	spin_unlock_irq(&lock);
}

/* -- With and without the vmemmap optimization ----------------------------- */

static const struct hvo_param {
	const char *name;
	bool hvo;
} hvo_params[] = {
	{ "vmemmap complete", false },
#ifdef CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP
	{ "vmemmap optimized", true },
#endif
};

KUNIT_ARRAY_PARAM_DESC(hvo, hvo_params, name);

static inline int loan_test_init(struct kunit *test)
{
	const struct hvo_param *param = test->param_value;
	struct loan_test *ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);

	if (!ctx)
		return -ENOMEM;
	ctx->h = size_to_hstate(PMD_SIZE);
	if (!ctx->h)
		return -ENODEV;
	test->priv = ctx;
	ctx->old_hvo = get_hvo();
	ctx->old_max = ctx->h->max_huge_pages;
	set_hvo(param->hvo);
	set_pool_size(ctx->h, ctx->old_max + TEST_PAGES);
	ctx->saved = get_saved(ctx->h);
	count(ctx, &ctx->base);
	return ctx->base.max == ctx->old_max + TEST_PAGES ? 0 : -ENOMEM;
}

static inline void loan_test_exit(struct kunit *test)
{
	struct loan_test *ctx = test->priv;

	if (!ctx)
		return;
	if (ctx->pool)
		drop_pool(test);
	set_pool_size(ctx->h, ctx->old_max);
	set_hvo(ctx->old_hvo);
}

/* loan_test_init() needs the parameter. */
#define LOAN_CASE(test)		KUNIT_CASE_PARAM(test, hvo_gen_params)

#define LOAN_SUITE(suite_name, suite_cases)	\
static struct kunit_suite loan_suite = {	\
	.name = suite_name,			\
	.init = loan_test_init,			\
	.exit = loan_test_exit,			\
	.test_cases = suite_cases,		\
};						\
kunit_test_suite(loan_suite)

#endif /* _MM_TESTS_HUGETLB_LOAN_KUNIT_H */
