// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of hugetlb loans, from the reservation to the end: allocation, split and
 * merge, pieces that somebody holds, and cgroups.
 *
 * The ids in the comments are requirements: H2, splits need not be uniform; H3, and
 * can be merged; H5, the vmemmap is conserved; H6, counters are exact after each step;
 * H7, pinned pages come home on the last unpin.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/cgroup.h>
#include <linux/folio_batch.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/hugetlb_loan.h>
#include <linux/mm.h>
#include <linux/page_counter.h>
#include <linux/smp.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>

#include "../hugetlb_loan.h"
#include "hugetlb_loan_kunit.h"

/* Each page gets contents of its own, at both ends. */
static void write_pages(struct hugetlb_loan *loan, unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		u64 *data = page_to_virt(loan_pages(loan) + i);

		data[0] = i;
		data[PAGE_SIZE / sizeof(*data) - 1] = ~i;
	}
}

static void expect_contents(struct kunit *test, struct hugetlb_loan *loan,
			    unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		u64 *data = page_to_virt(loan_pages(loan) + i);

		if (data[0] != i || data[PAGE_SIZE / sizeof(*data) - 1] != ~i) {
			KUNIT_FAIL(test, "contents of page %lu changed", i);
			return;
		}
	}
}

/* -- Reservations and whole pages ----------------------------------------- */

static void test_reserve(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned int shift = huge_page_shift(ctx->h);
	struct hugetlb_loan_pool *pool;

	KUNIT_EXPECT_PTR_EQ(test, hugetlb_loan_pool_create(shift + 1, 1),
			    ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, hugetlb_loan_pool_create(PAGE_SHIFT, 1),
			    ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, hugetlb_loan_pool_create(BITS_PER_LONG, 1),
			    ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, hugetlb_loan_pool_create(shift, 0),
			    ERR_PTR(-EINVAL));
	pool = hugetlb_loan_pool_create(shift, ctx->base.free - ctx->base.resv + 1);
	KUNIT_EXPECT_PTR_EQ(test, pool, ERR_PTR(-ENOMEM));
	expect_counters(test, 0, 0, 0, 0);

	make_pool(test, TEST_LOANS);
	expect_counters(test, 0, TEST_LOANS, 0, 0);
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}

/* H6 */
static void test_whole(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	struct hugetlb_loan *loans[TEST_LOANS];
	int i;

	make_pool(test, TEST_LOANS);
	for (i = 0; i < TEST_LOANS; i++) {
		loans[i] = borrow(test);
		expect_counters(test, i + 1, TEST_LOANS - i - 1, 0, 0);
		/* Frozen, which looks as if it was about to become free. */
		KUNIT_EXPECT_EQ(test, -EBUSY,
				dissolve_free_hugetlb_folio(hugetlb_loan_folio(loans[i])));
	}
	KUNIT_EXPECT_PTR_EQ(test, hugetlb_loan_alloc(ctx->pool, NULL, 0),
			    ERR_PTR(-ENOSPC));
	expect_counters(test, TEST_LOANS, 0, 0, 0);

	for (i = 0; i < TEST_LOANS; i++) {
		unsigned long pfn = folio_pfn(hugetlb_loan_folio(loans[i]));

		give_back(loans[i], hugetlb_loan_folio(loans[i]));
		KUNIT_EXPECT_FALSE(test, hugetlb_pfn_is_lent(pfn));
		expect_counters(test, TEST_LOANS - i - 1, i + 1, 0, 0);
	}
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}

/* H7: of a whole page, when the reservation is gone, too. */
static void test_whole_pinned(struct kunit *test)
{
	struct hugetlb_loan *loan;
	struct folio *folio;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	folio = hugetlb_loan_folio(loan);
	folio_ref_unfreeze(folio, 2);
	hugetlb_loan_return(loan, folio);
	expect_counters(test, 1, TEST_LOANS - 1, 0, 0);
	drop_pool(test);
	expect_counters(test, 1, 0, 0, 0);
	folio_put(folio);
	expect_counters(test, 0, 0, 0, 0);
}

/* -- Split and merge ------------------------------------------------------ */

/* H5, H6 */
static void test_split_uniform(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned long i, nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	write_pages(loan, nr);

	KUNIT_ASSERT_EQ(test, hugetlb_loan_prepare_split(loan, NULL), 0);
	expect_counters(test, 1, TEST_LOANS - 1, 1, 0);
	hugetlb_loan_split(loan, NULL);
	make_small_pieces(test, loan, 0, nr);
	expect_contents(test, loan, nr);
	expect_counters(test, 1, TEST_LOANS - 1, 1, 0);

	/* The last one counts. */
	for (i = 0; i < nr - 1; i++)
		give_back(loan, page_folio(loan_pages(loan) + i));
	expect_counters(test, 1, TEST_LOANS - 1, 1, 0);
	give_back(loan, page_folio(loan_pages(loan) + i));
	expect_counters(test, 0, TEST_LOANS, 0, 0);
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}

/* H6: the race of munlock() with the zap of a mapping leaves the flag, and the counter. */
static void test_mlocked(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned long nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan;
	struct folio *folio;
	long before;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	start_split(test, loan);
	make_small_pieces(test, loan, 0, nr);

	before = zone_page_state_snapshot(page_zone(loan_pages(loan)), NR_MLOCK);
	folio = page_folio(loan_pages(loan) + 3);
	folio_set_mlocked(folio);
	zone_stat_mod_folio(folio, NR_MLOCK, 1);
	hugetlb_loan_merge(loan, 0);
	hugetlb_loan_merge_done(loan);
	/* Of all CPUs: each keeps some changes to itself. */
	KUNIT_EXPECT_EQ(test, before,
			zone_page_state_snapshot(page_zone(loan_pages(loan)), NR_MLOCK));
	give_back(loan, hugetlb_loan_folio(loan));
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}

/* H2, H3, H5, H6: split again and again, join, and make it whole. */
static void test_split_tree(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned int order = huge_page_order(ctx->h);
	unsigned long nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan;
	struct folio *folio;
	int round;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	write_pages(loan, nr);

	for (round = 0; round < 3; round++) {
		start_split(test, loan);
		make_tree(test, loan, order);
		/* The largest one into small ones, all others into one. */
		make_small_pieces(test, loan, 0, nr / 2);
		make_piece(test, loan, nr / 2, order - 1);
		make_piece(test, loan, 0, order - 2);
		expect_contents(test, loan, nr);
		expect_counters(test, 1, TEST_LOANS - 1, 1, 0);

		hugetlb_loan_merge(loan, 0);
		expect_counters(test, 1, TEST_LOANS - 1, 1, 0);
		hugetlb_loan_merge_done(loan);
		expect_counters(test, 1, TEST_LOANS - 1, 0, 0);
		folio = hugetlb_loan_folio(loan);
		KUNIT_EXPECT_TRUE(test, hugetlb_loan_is_whole(loan));
		KUNIT_EXPECT_TRUE(test, folio_test_hugetlb(folio));
		KUNIT_EXPECT_EQ(test, folio_order(folio), order);
		KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 0);
		KUNIT_EXPECT_EQ(test, folio_mapcount(folio), 0);
		KUNIT_EXPECT_NULL(test, folio->mapping);
		KUNIT_EXPECT_PTR_EQ(test, page_folio(loan_pages(loan) + nr - 1),
				    folio);
		expect_contents(test, loan, nr);
	}

	/* Home in pieces, then home as a whole. */
	start_split(test, loan);
	make_tree(test, loan, order);
	give_back_pieces(loan, nr);
	expect_counters(test, 0, TEST_LOANS, 0, 0);

	loan = borrow(test);
	start_split(test, loan);
	make_tree(test, loan, order);
	hugetlb_loan_merge(loan, 0);
	hugetlb_loan_merge_done(loan);
	give_back(loan, hugetlb_loan_folio(loan));
	expect_counters(test, 0, TEST_LOANS, 0, 0);
	drop_pool(test);
}

static void test_cancel(struct kunit *test)
{
	const struct hugetlb_loan_parts parts = PARTS_THAT_STAY_ONE;
	struct loan_test *ctx = test->priv;
	struct hugetlb_loan *loan;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	KUNIT_ASSERT_EQ(test, hugetlb_loan_prepare_split(loan, NULL), 0);
	expect_counters(test, 1, TEST_LOANS - 1, 1, 0);
	hugetlb_loan_cancel_split(loan);
	expect_counters(test, 1, TEST_LOANS - 1, 0, 0);

	/* What a split in parts would need is not used yet. */
	KUNIT_ASSERT_EQ(test, hugetlb_loan_prepare_split(loan, &parts), 0);
	KUNIT_EXPECT_EQ(test, ctx->saved != 0,
			folio_test_hugetlb_vmemmap_optimized(hugetlb_loan_folio(loan)));
	hugetlb_loan_cancel_split(loan);
	expect_counters(test, 1, TEST_LOANS - 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, hugetlb_loan_is_whole(loan));
	give_back(loan, hugetlb_loan_folio(loan));
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}

static unsigned long second_part(void *data, unsigned long part)
{
	return part < 2 ? 1 : ULONG_MAX;
}

/* H2, H5: the second part is divided, the first one and the others are not. */
static void test_split_parts(struct kunit *test)
{
	const struct hugetlb_loan_parts parts = {
		.order = PART_ORDER,
		.next_divided = second_part,
	};
	struct loan_test *ctx = test->priv;
	unsigned long i, nr = pages_per_huge_page(ctx->h), part = BIT(PART_ORDER);
	unsigned int order = huge_page_order(ctx->h);
	struct hugetlb_loan *loan;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	write_pages(loan, nr);
	KUNIT_ASSERT_EQ(test, hugetlb_loan_prepare_split(loan, &parts), 0);
	hugetlb_loan_split(loan, &parts);
	hugetlb_loan_make_pieces(loan, loan_pages(loan) + part, part, 0, order);
	for (i = part; i < 2 * part; i++)
		check_piece(test, loan, i, 0);
	make_piece_of(test, loan, 0, PART_ORDER, order);
	for (i = 2 * part; i < nr; i += part)
		make_piece_of(test, loan, i, PART_ORDER, order);
	expect_contents(test, loan, nr);

	/* A part that is one piece again does with less, as the others do. */
	make_piece_of(test, loan, part, PART_ORDER, 0);
	hugetlb_loan_merge(loan, PART_ORDER);
	hugetlb_loan_merge_done(loan);
	expect_counters(test, 1, TEST_LOANS - 1, 0, 0);
	expect_contents(test, loan, nr);
	give_back(loan, hugetlb_loan_folio(loan));
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}

static int no_memory(struct hugetlb_loan *loan,
		     const struct hugetlb_loan_parts *parts)
{
	return -ENOMEM;
}

/* A split that cannot be prepared changes nothing. */
static void test_prepare_fails(struct kunit *test)
{
	struct hugetlb_loan *loan;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	kunit_activate_static_stub(test, hugetlb_loan_prepare_vmemmap, no_memory);
	KUNIT_EXPECT_EQ(test, hugetlb_loan_prepare_split(loan, NULL), -ENOMEM);
	kunit_deactivate_static_stub(test, hugetlb_loan_prepare_vmemmap);
	expect_counters(test, 1, TEST_LOANS - 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, hugetlb_loan_is_whole(loan));

	/* The next attempt is not affected. */
	start_split(test, loan);
	make_tree(test, loan, folio_order(hugetlb_loan_folio(loan)));
	hugetlb_loan_merge(loan, 0);
	hugetlb_loan_merge_done(loan);
	give_back(loan, hugetlb_loan_folio(loan));
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}

/* A huge page that comes new into the pool, with its vmemmap as this test wants it. */
static bool renew_gigantic_page(struct hstate *h, unsigned long nr)
{
	set_pool_size(h, nr - 1);
	set_pool_size(h, nr);
	return h->max_huge_pages == nr && h->free_huge_pages > h->resv_huge_pages;
}

static void split_gigantic_page(struct kunit *test, struct hugetlb_loan *loan,
				unsigned long nr)
{
	unsigned long i, small = BIT(PMD_ORDER);

	start_split(test, loan);
	make_small_pieces(test, loan, 0, small);
	for (i = small; i < nr; i += small)
		make_piece(test, loan, i, PMD_ORDER);
	expect_counters(test, 1, 0, 1, 0);
}

/* H2, H3: 511 folios of 2 MiB and 512 of 4 KiB. */
static void test_gigantic(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	struct hstate *h = size_to_hstate(PUD_SIZE), *small_h = ctx->h;
	struct hugetlb_loan *loan;
	unsigned long nr;

	if (!h || !renew_gigantic_page(h, max(h->max_huge_pages, 1UL)))
		kunit_skip(test, "no huge page of 1 GiB");

	ctx->h = h;
	ctx->saved = get_saved(h);
	count(ctx, &ctx->base);
	nr = pages_per_huge_page(h);
	make_pool(test, 1);
	loan = borrow(test);
	write_pages(loan, nr);

	split_gigantic_page(test, loan, nr);
	hugetlb_loan_merge(loan, 0);
	hugetlb_loan_merge_done(loan);
	expect_counters(test, 1, 0, 0, 0);
	expect_contents(test, loan, nr);

	/* The same in two steps, the second of which moves tails only. */
	split_gigantic_page(test, loan, nr);
	make_piece(test, loan, 0, PMD_ORDER);
	hugetlb_loan_merge(loan, PMD_ORDER);
	hugetlb_loan_merge_done(loan);
	expect_counters(test, 1, 0, 0, 0);
	expect_contents(test, loan, nr);

	split_gigantic_page(test, loan, nr);
	give_back_pieces(loan, nr);
	expect_counters(test, 0, 1, 0, 0);
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);

	/* Others may want it as it was. */
	set_hvo(ctx->old_hvo);
	renew_gigantic_page(h, h->max_huge_pages);
	ctx->h = small_h;
}

/* -- Pieces that somebody holds ------------------------------------------- */

static void put_rcu_batch(struct folio *folio)
{
	struct folio_batch batch;

	folio_batch_init(&batch);
	folio_batch_add(&batch, folio);
	rcu_read_lock();
	folios_put(&batch);
	rcu_read_unlock();
}

static void put_now(void *folio)
{
	folio_put(folio);
}

static void put_hardirq(struct folio *folio)
{
	smp_call_function_single(0, put_now, folio, true);
	smp_call_function_single(num_online_cpus() - 1, put_now, folio, true);
}

/* Where the last reference of a piece is dropped, and how many are. */
static const struct put_param {
	void (*put)(struct folio *folio);
	int refs;
} put_params[] = {
	{ put_atomic, 1 },
	{ put_rcu_batch, 1 },
	{ put_hardirq, 2 },
};

/* H7: the huge page comes home on the last put, after its reservation if need be. */
static void test_pinned(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned int order = huge_page_order(ctx->h), i;
	unsigned long nr = pages_per_huge_page(ctx->h);
	struct folio *small, *large;
	struct hugetlb_loan *loan;
	long reserved;
	bool keep;

	for (i = 0; i < ARRAY_SIZE(put_params) * 2; i++) {
		const struct put_param *param = &put_params[i / 2];

		keep = i % 2;
		make_pool(test, TEST_LOANS);
		loan = borrow(test);
		start_split(test, loan);
		make_tree(test, loan, order);
		large = page_folio(loan_pages(loan) + nr / 2);
		small = page_folio(loan_pages(loan) + nr - 1);
		folio_ref_unfreeze(large, 1 + param->refs);
		folio_ref_unfreeze(small, 1 + param->refs);
		hugetlb_loan_return(loan, large);
		hugetlb_loan_return(loan, small);
		KUNIT_EXPECT_TRUE(test, folio_test_hugetlb_piece(large));
		KUNIT_EXPECT_TRUE(test, folio_test_hugetlb_piece(small));
		KUNIT_EXPECT_EQ(test, folio_ref_count(small), param->refs);
		give_back_pieces(loan, nr);
		expect_counters(test, 1, TEST_LOANS - 1, 1, 0);

		if (!keep)
			drop_pool(test);
		reserved = keep ? TEST_LOANS - 1 : 0;
		expect_counters(test, 1, reserved, 1, 0);

		param->put(large);
		expect_counters_flushed(test, 1, reserved, 1, 0);
		param->put(small);
		expect_counters_flushed(test, 0, keep ? TEST_LOANS : 0, 0, 0);
		if (keep)
			drop_pool(test);
		expect_counters(test, 0, 0, 0, 0);
	}
}

#define RACE_ROUNDS	50
#define RACE_WORKERS	4
#define RACE_ORDER	3

/**
 * struct racer - Drops a reference to every RACE_WORKERS-th piece
 * @work: To run somewhere
 * @page: First page of its first piece
 * @end: Behind the last page
 */
struct racer {
	struct work_struct work;
	struct page *page;
	struct page *end;
};

static void race_put(struct work_struct *work)
{
	struct racer *racer = container_of(work, struct racer, work);
	struct page *page;

	for (page = racer->page; page < racer->end;
	     page += RACE_WORKERS << RACE_ORDER)
		folio_put(page_folio(page));
}

/* H7: somebody else may be the last one for any piece, and for the huge page. */
static void test_race(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned long i, nr = pages_per_huge_page(ctx->h);
	struct racer racers[RACE_WORKERS];
	struct hugetlb_loan *loan;
	struct page *page;
	int round;

	make_pool(test, TEST_LOANS);
	for (i = 0; i < RACE_WORKERS; i++)
		INIT_WORK_ONSTACK(&racers[i].work, race_put);
	for (round = 0; round < RACE_ROUNDS; round++) {
		loan = borrow(test);
		page = loan_pages(loan);
		start_split(test, loan);
		for (i = 0; i < nr; i += BIT(RACE_ORDER))
			folio_ref_unfreeze(make_piece(test, loan, i, RACE_ORDER), 2);

		for (i = 0; i < RACE_WORKERS; i++) {
			racers[i].page = page + (i << RACE_ORDER);
			racers[i].end = page + nr;
			queue_work(system_dfl_wq, &racers[i].work);
		}
		for (i = 0; i < nr; i += BIT(RACE_ORDER))
			hugetlb_loan_return(loan, page_folio(page + i));
		for (i = 0; i < RACE_WORKERS; i++)
			flush_work(&racers[i].work);
		expect_counters_flushed(test, 0, TEST_LOANS, 0, 0);
	}
	for (i = 0; i < RACE_WORKERS; i++)
		destroy_work_on_stack(&racers[i].work);
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}

/* -- Cgroups -------------------------------------------------------------- */

#ifdef CONFIG_CGROUP_HUGETLB
static struct cgroup_subsys_state *root_css(void)
{
	guard(rcu)();
	return task_css(current, hugetlb_cgrp_id);
}

static unsigned long cgroup_usage(struct loan_test *ctx,
				  struct cgroup_subsys_state *css)
{
	struct hugetlb_cgroup *cgroup =
		container_of(css, struct hugetlb_cgroup, css);

	return page_counter_read(&cgroup->hugepage[hstate_index(ctx->h)]);
}

/* H6: a cgroup goes away while a page that it is charged for is split. */
static void test_cgroup_offline(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned int nr = pages_per_huge_page(ctx->h), idx = hstate_index(ctx->h);
	struct cgroup_subsys_state *root, *css;
	struct hugetlb_cgroup *cgroup;
	struct hugetlb_loan *loan;
	unsigned long base;
	struct folio *folio;

	if (hugetlb_cgroup_disabled())
		kunit_skip(test, "no hugetlb cgroups");

	root = root_css();
	base = cgroup_usage(ctx, root);
	css = hugetlb_cgrp_subsys.css_alloc(root);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, css);
	css->parent = root;
	cgroup = container_of(css, struct hugetlb_cgroup, css);

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	folio = hugetlb_loan_folio(loan);
	KUNIT_EXPECT_EQ(test, cgroup_usage(ctx, root), base + nr);

	page_counter_charge(&cgroup->hugepage[idx], nr);
	spin_lock_irq(&hugetlb_lock);
	hugetlb_cgroup_uncharge_folio(idx, nr, folio);
	hugetlb_cgroup_commit_charge(idx, nr, cgroup, folio);
	spin_unlock_irq(&hugetlb_lock);
	KUNIT_EXPECT_EQ(test, cgroup_usage(ctx, css), nr);
	KUNIT_EXPECT_EQ(test, cgroup_usage(ctx, root), base + nr);

	start_split(test, loan);
	make_tree(test, loan, huge_page_order(ctx->h));
	hugetlb_cgrp_subsys.css_offline(css);
	KUNIT_EXPECT_EQ(test, cgroup_usage(ctx, css), 0);
	KUNIT_EXPECT_EQ(test, cgroup_usage(ctx, root), base + nr);
	hugetlb_cgrp_subsys.css_free(css);

	hugetlb_loan_merge(loan, 0);
	KUNIT_EXPECT_PTR_EQ(test, &hugetlb_cgroup_from_folio(folio)->css, root);
	KUNIT_EXPECT_PTR_EQ(test, &hugetlb_cgroup_from_folio_rsvd(folio)->css, root);
	hugetlb_loan_merge_done(loan);
	give_back(loan, folio);
	KUNIT_EXPECT_EQ(test, cgroup_usage(ctx, root), base);
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 0);
}
#else
static void test_cgroup_offline(struct kunit *test)
{
	kunit_skip(test, "no hugetlb cgroups");
}
#endif

static struct kunit_case loan_test_cases[] = {
	LOAN_CASE(test_reserve),
	LOAN_CASE(test_whole),
	LOAN_CASE(test_whole_pinned),
	LOAN_CASE(test_split_uniform),
	LOAN_CASE(test_mlocked),
	LOAN_CASE(test_split_tree),
	LOAN_CASE(test_cancel),
	LOAN_CASE(test_split_parts),
	LOAN_CASE(test_prepare_fails),
	LOAN_CASE(test_gigantic),
	LOAN_CASE(test_pinned),
	LOAN_CASE(test_race),
	LOAN_CASE(test_cgroup_offline),
	{}
};

LOAN_SUITE("hugetlb_loan", loan_test_cases);
