// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of hugetlb loans with bad pages: only these are lost, the rest of the
 * huge page comes home, and the reservation gets another one if there is one.
 *
 * The ids in the comments are requirements: H7, pinned pages come home on the last
 * unpin; H10, a memory failure costs 4 KiB.
 */
#include <kunit/test.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_loan.h>
#include <linux/mm.h>

#include "hugetlb_loan_kunit.h"

/* A huge page in 4 KiB pieces, unfrozen. */
static struct hugetlb_loan *borrow_small_pieces(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned long i, nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan = borrow(test);

	start_split(test, loan);
	make_small_pieces(test, loan, 0, nr);
	for (i = 0; i < nr; i++)
		folio_ref_unfreeze(page_folio(loan_pages(loan) + i), 1);
	return loan;
}

static void return_small_pieces(struct kunit *test, struct hugetlb_loan *loan)
{
	struct loan_test *ctx = test->priv;
	struct page *page = loan_pages(loan);
	unsigned long nr = pages_per_huge_page(ctx->h);

	while (nr--)
		hugetlb_loan_return(loan, page_folio(page++));
}

/* The page is lost. Repair it, so that the test leaves nothing behind. */
static void expect_lost(struct kunit *test, struct page *page)
{
	KUNIT_EXPECT_TRUE(test, PageHWPoison(page));
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 0);
	KUNIT_EXPECT_FALSE(test, PageCompound(page));
	KUNIT_EXPECT_FALSE(test, is_free_buddy_page(page));
	KUNIT_EXPECT_FALSE(test, hugetlb_pfn_is_lent(page_to_pfn(page)));
	ClearPageHWPoison(page);
	init_page_count(page);
	__free_page(page);
}

static void fail_memory(struct kunit *test, struct page *page, int expected)
{
	KUNIT_EXPECT_EQ(test, memory_failure(page_to_pfn(page), MF_SW_SIMULATED),
			expected);
}

/* And it counts no more. */
static void expect_failed_lost(struct kunit *test, struct page *page)
{
	expect_lost(test, page);
	num_poisoned_pages_sub(page_to_pfn(page), 1);
}

/* H10: of a split loan; the reservation gets another page. */
static void test_bad_piece(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned long nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan, *others[TEST_LOANS];
	struct page *bad;
	int i;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	bad = loan_pages(loan) + 13;
	start_split(test, loan);
	make_small_pieces(test, loan, 0, nr);
	SetPageHWPoison(bad);
	KUNIT_EXPECT_TRUE(test, hugetlb_loan_page_is_bad(loan, bad));
	KUNIT_EXPECT_FALSE(test, hugetlb_loan_page_is_bad(loan, bad + 1));
	KUNIT_EXPECT_FALSE(test, hugetlb_loan_page_is_bad(loan, loan_pages(loan)));
	KUNIT_EXPECT_TRUE(test, folio_test_has_hwpoisoned(make_piece(test, loan, 8, 3)));
	KUNIT_EXPECT_FALSE(test, folio_test_has_hwpoisoned(make_piece(test, loan, 0, 3)));
	give_back_pieces(loan, nr);
	expect_counters(test, 0, TEST_LOANS, 0, 1);
	expect_lost(test, bad);

	for (i = 0; i < TEST_LOANS; i++)
		others[i] = borrow(test);
	expect_counters(test, TEST_LOANS, 0, 0, 1);
	for (i = 0; i < TEST_LOANS; i++)
		give_back(others[i], hugetlb_loan_folio(others[i]));
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 1);
}

/* H10: no other page is left to reserve. The first page is a special case. */
static void test_bad_without_spare(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	long nr = ctx->base.free - ctx->base.resv;
	struct hugetlb_loan *loan, *others[TEST_PAGES];
	struct page *bad;
	int i;

	make_pool(test, nr);
	loan = borrow_small_pieces(test);
	bad = loan_pages(loan);
	SetPageHWPoison(bad);
	return_small_pieces(test, loan);
	expect_counters(test, 0, nr - 1, 0, 1);
	expect_lost(test, bad);

	for (i = 0; i < TEST_PAGES - 1; i++)
		others[i] = borrow(test);
	for (i = 0; i < TEST_PAGES - 1; i++)
		give_back(others[i], hugetlb_loan_folio(others[i]));
	expect_counters(test, 0, nr - 1, 0, 1);
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 1);
}

/* H7, H10: a bad page that somebody holds longer than the reservation exists. */
static void test_bad_pinned(struct kunit *test)
{
	struct hugetlb_loan *loan;
	struct page *bad;

	make_pool(test, TEST_LOANS);
	loan = borrow_small_pieces(test);
	bad = loan_pages(loan) + 511;
	folio_get(page_folio(bad));
	return_small_pieces(test, loan);
	drop_pool(test);
	SetPageHWPoison(bad);
	expect_counters(test, 1, 0, 1, 0);
	put_atomic(page_folio(bad));
	expect_counters_flushed(test, 0, 0, 0, 1);
	expect_lost(test, bad);
}

/* H10: a page goes bad while it is merged. It is not forgotten. */
static void test_bad_merge(struct kunit *test)
{
	struct hugetlb_loan *loan;
	struct page *page;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	page = loan_pages(loan);
	start_split(test, loan);
	make_tree(test, loan, huge_page_order(((struct loan_test *)test->priv)->h));
	SetPageHWPoison(page);
	SetPageHWPoison(page + 77);
	hugetlb_loan_merge(loan, 0);
	hugetlb_loan_merge_done(loan);
	expect_counters(test, 1, TEST_LOANS - 1, 1, 0);
	KUNIT_EXPECT_TRUE(test, hugetlb_loan_page_is_bad(loan, page));
	KUNIT_EXPECT_TRUE(test, hugetlb_loan_page_is_bad(loan, page + 77));
	KUNIT_EXPECT_FALSE(test, hugetlb_loan_page_is_bad(loan, page + 78));
	give_back(loan, hugetlb_loan_folio(loan));
	expect_counters(test, 0, TEST_LOANS, 0, 1);
	expect_lost(test, page);
	expect_lost(test, page + 77);
	drop_pool(test);
}

/*
 * H7, H10: the same, and somebody holds the huge page when it is returned. The pool, which
 * cannot know what is bad of it, never lets go of it.
 */
static void test_bad_merge_held(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	struct hugetlb_loan *loan;
	struct folio *folio, *stuck[2];
	struct page *bad;
	int first;

	make_pool(test, TEST_LOANS);
	for (first = 0; first < 2; first++) {
		loan = borrow(test);
		folio = hugetlb_loan_folio(loan);
		bad = loan_pages(loan) + (first ? 0 : 77);
		start_split(test, loan);
		make_tree(test, loan, huge_page_order(ctx->h));
		SetPageHWPoison(bad);
		hugetlb_loan_merge(loan, 0);
		hugetlb_loan_merge_done(loan);
		folio_ref_unfreeze(folio, 2);
		hugetlb_loan_return(loan, folio);
		expect_counters(test, 1, TEST_LOANS - 1, first + 1, 0);
		folio_put(folio);
		expect_counters(test, 0, TEST_LOANS, first + 1, 0);
		KUNIT_EXPECT_TRUE(test, folio_test_hwpoison(folio));
		KUNIT_EXPECT_TRUE(test, folio_test_hugetlb_raw_hwp_unreliable(folio));
		KUNIT_EXPECT_TRUE(test, PageHWPoison(bad));
		stuck[first] = folio;
	}
	drop_pool(test);

	/* Repair them, so that the test leaves nothing behind. */
	while (first--) {
		folio = stuck[first];
		ClearPageHWPoison(folio_page(folio, first ? 0 : 77));
		folio_clear_hwpoison(folio);
		folio_clear_hugetlb_raw_hwp_unreliable(folio);
	}
}

/* H10: the failure of two pages of a hugetlb folio that is split later, or never. */
static void test_failure_whole(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned long nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan;
	struct folio *folio;
	struct page *page;
	int split;

	make_pool(test, TEST_LOANS);
	for (split = 0; split < 2; split++) {
		loan = borrow(test);
		folio = hugetlb_loan_folio(loan);
		page = loan_pages(loan);
		folio_ref_unfreeze(folio, 1);
		/* Without a mapping there is nobody to tell, which is a failure. */
		fail_memory(test, page + 9, -EBUSY);
		fail_memory(test, page, -EBUSY);
		fail_memory(test, page + 9, -EHWPOISON);
		KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
		KUNIT_EXPECT_TRUE(test, hugetlb_loan_page_is_bad(loan, page));
		KUNIT_EXPECT_TRUE(test, hugetlb_loan_page_is_bad(loan, page + 9));
		KUNIT_EXPECT_FALSE(test, hugetlb_loan_page_is_bad(loan, page + 8));
		expect_counters(test, 1, TEST_LOANS - 1, 0, split);

		if (split) {
			KUNIT_ASSERT_TRUE(test, folio_ref_freeze(folio, 1));
			start_split(test, loan);
			make_small_pieces(test, loan, 0, nr);
			KUNIT_EXPECT_TRUE(test, PageHWPoison(page));
			KUNIT_EXPECT_TRUE(test, PageHWPoison(page + 9));
			KUNIT_EXPECT_FALSE(test, PageHWPoison(page + 8));
			give_back_pieces(loan, nr);
		} else {
			hugetlb_loan_return(loan, folio);
		}
		expect_counters(test, 0, TEST_LOANS, 0, split + 1);
		expect_failed_lost(test, page);
		expect_failed_lost(test, page + 9);
	}
	drop_pool(test);
	expect_counters(test, 0, 0, 0, split);
}

/* H10: of pieces, small and large. Nobody else splits a large one. */
static void test_failure_piece(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned int order = huge_page_order(ctx->h);
	unsigned long nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan;
	struct folio *folio;
	struct page *page;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	page = loan_pages(loan);
	start_split(test, loan);
	make_tree(test, loan, order);

	folio = page_folio(page + nr - 1);
	folio_ref_unfreeze(folio, 1);
	fail_memory(test, page + nr - 1, 0);
	KUNIT_EXPECT_TRUE(test, hugetlb_loan_page_is_bad(loan, page + nr - 1));
	KUNIT_EXPECT_TRUE(test, folio_ref_freeze(folio, 1));

	folio = page_folio(page);
	folio_ref_unfreeze(folio, 1);
	fail_memory(test, page + 21, 0);
	KUNIT_EXPECT_TRUE(test, hugetlb_loan_page_is_bad(loan, page + 21));
	KUNIT_EXPECT_FALSE(test, hugetlb_loan_page_is_bad(loan, page));
	KUNIT_EXPECT_TRUE(test, folio_test_has_hwpoisoned(folio));
	KUNIT_EXPECT_EQ(test, folio_order(folio), order - 1);
	KUNIT_EXPECT_TRUE(test, folio_ref_freeze(folio, 1));

	give_back_pieces(loan, nr);
	expect_counters(test, 0, TEST_LOANS, 0, 1);
	expect_failed_lost(test, page + 21);
	expect_failed_lost(test, page + nr - 1);
	drop_pool(test);
	expect_counters(test, 0, 0, 0, 1);
}

/*
 * H10: what memory_failure() does to a page that was in no hugetlb folio when it looked.
 * If it is in one now it has to look again, and must not write to the struct page.
 */
static void test_mark(struct kunit *test)
{
	struct loan_test *ctx = test->priv;
	unsigned int order = huge_page_order(ctx->h);
	unsigned long nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan;
	struct page *page;

	make_pool(test, TEST_LOANS);
	loan = borrow(test);
	page = loan_pages(loan);
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page + 21), -EAGAIN);
	give_back(loan, hugetlb_loan_folio(loan));
	/* The loan is over, and it is in the pool. */
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page), -EAGAIN);
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page + 21), -EAGAIN);
	KUNIT_EXPECT_FALSE(test, PageHWPoison(page));

	loan = borrow(test);
	page = loan_pages(loan);
	start_split(test, loan);
	/* Before and after there are pieces, which are frozen. */
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page + 21), 0);
	make_tree(test, loan, order);
	KUNIT_EXPECT_TRUE(test, folio_test_has_hwpoisoned(page_folio(page)));
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page + 21), -EHWPOISON);
	KUNIT_EXPECT_FALSE(test, folio_test_has_hwpoisoned(page_folio(page + nr / 2)));
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page + nr / 2 + 5), 0);
	KUNIT_EXPECT_TRUE(test, folio_test_has_hwpoisoned(page_folio(page + nr / 2)));
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page + nr - 1), 0);

	hugetlb_loan_merge(loan, 0);
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page + 22), -EAGAIN);
	hugetlb_loan_merge_done(loan);
	KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(page + 22), -EAGAIN);
	KUNIT_EXPECT_FALSE(test, hugetlb_loan_page_is_bad(loan, page + 22));
	give_back(loan, hugetlb_loan_folio(loan));
	expect_counters(test, 0, TEST_LOANS, 0, 1);
	expect_lost(test, page + 21);
	expect_lost(test, page + nr / 2 + 5);
	expect_lost(test, page + nr - 1);
	drop_pool(test);
}

static void expect_one_bad(struct kunit *test, struct hugetlb_loan *loan,
			   struct page *bad)
{
	struct loan_test *ctx = test->priv;
	unsigned long i, nr = pages_per_huge_page(ctx->h);
	struct page *page = loan_pages(loan);

	for (i = 0; i < nr; i++)
		if (PageHWPoison(page + i) != (page + i == bad))
			KUNIT_FAIL(test, "page %lu is wrong", i);
	for (i = 0; i < nr; i += BIT(PART_ORDER))
		KUNIT_EXPECT_EQ(test, folio_test_has_hwpoisoned(page_folio(page + i)),
				bad >= page + i && bad < page + i + BIT(PART_ORDER));
}

/*
 * H10: parts of a split loan share struct pages, but not with a bad page, whether it turns
 * bad between prepare and split or later.
 */
static void test_bad_parts(struct kunit *test)
{
	const struct hugetlb_loan_parts parts = PARTS_THAT_STAY_ONE;
	struct loan_test *ctx = test->priv;
	unsigned long i, nr = pages_per_huge_page(ctx->h);
	struct hugetlb_loan *loan;
	struct page *bad;
	int late;

	make_pool(test, TEST_LOANS);
	for (late = 0; late < 2; late++) {
		loan = borrow(test);
		bad = loan_pages(loan) + (late ? nr : BIT(PART_ORDER)) - 1;
		KUNIT_ASSERT_EQ(test, hugetlb_loan_prepare_split(loan, &parts), 0);
		/* That it is frozen is a failure. */
		if (!late)
			fail_memory(test, bad, -EBUSY);
		hugetlb_loan_split(loan, &parts);
		if (late)
			KUNIT_EXPECT_EQ(test, hugetlb_loan_set_hwpoison(bad), 0);
		for (i = 0; i < nr; i += BIT(PART_ORDER))
			make_piece_of(test, loan, i, PART_ORDER,
				      huge_page_order(ctx->h));
		expect_one_bad(test, loan, bad);

		give_back_pieces(loan, nr);
		expect_counters(test, 0, TEST_LOANS, 0, late + 1);
		if (late)
			expect_lost(test, bad);
		else
			expect_failed_lost(test, bad);
	}
	drop_pool(test);
}

static struct kunit_case loan_bad_cases[] = {
	LOAN_CASE(test_bad_piece),
	LOAN_CASE(test_bad_without_spare),
	LOAN_CASE(test_bad_pinned),
	LOAN_CASE(test_bad_merge),
	LOAN_CASE(test_bad_merge_held),
	LOAN_CASE(test_failure_whole),
	LOAN_CASE(test_failure_piece),
	LOAN_CASE(test_mark),
	LOAN_CASE(test_bad_parts),
	{}
};

LOAN_SUITE("hugetlb_loan_bad", loan_bad_cases);
