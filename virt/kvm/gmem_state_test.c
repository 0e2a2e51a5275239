// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the shareability of a guest_memfd: changes of the state, with memory
 * and without, and lookups meanwhile.
 *
 * The ids in the comments are requirements: C2, a change that was reserved cannot
 * fail; C8, only what differs changes.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fault-inject.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/xarray.h>

#include "gmem_state_test.h"

/* How many chunks are kept page by page. */
static unsigned long gmem_test_count_bitmaps(struct gmem_test *t)
{
	unsigned long index, nr = 0;
	void *entry;

	xa_for_each(&t->state.chunks, index, entry)
		if (!xa_is_value(entry))
			nr++;
	return nr;
}

#if defined(CONFIG_FAILSLAB) && defined(CONFIG_FAULT_INJECTION_DEBUG_FS)
/**
 * struct gmem_test_famine - A scope in which this task gets few slab objects, or none
 * @failslab: Its knobs. failslab is not exported; its debugfs files point to it.
 * @ignore_gfp_wait: Whether allocations that can wait are spared
 * @saved: The knobs before
 * @saved_ignore_gfp_wait: Likewise
 *
 * current->fail_nth is not enough here: it fails one allocation, and an xarray
 * tries twice, the first time without reclaim.
 */
struct gmem_test_famine {
	struct fault_attr *failslab;
	bool *ignore_gfp_wait;
	struct fault_attr saved;
	bool saved_ignore_gfp_wait;
};

static void *gmem_test_debugfs_data(struct dentry *dir, const char *name)
{
	struct dentry *dentry = debugfs_lookup(name, dir);
	void *data;

	if (!dentry)
		return NULL;
	data = d_inode(dentry)->i_private;
	dput(dentry);
	return data;
}

static bool gmem_test_famine_init(struct gmem_test_famine *famine)
{
	struct dentry *dir = debugfs_lookup("failslab", NULL);
	unsigned long *probability;

	if (!dir)
		return false;
	probability = gmem_test_debugfs_data(dir, "probability");
	famine->ignore_gfp_wait = gmem_test_debugfs_data(dir, "ignore-gfp-wait");
	dput(dir);
	if (!probability || !famine->ignore_gfp_wait)
		return false;
	famine->failslab = container_of(probability, struct fault_attr,
					probability);
	return true;
}

/* @room: bytes that are still given out */
static void gmem_test_famine_begin(struct gmem_test_famine *famine, int room)
{
	struct fault_attr *attr = famine->failslab;

	famine->saved = *attr;
	famine->saved_ignore_gfp_wait = *famine->ignore_gfp_wait;
	attr->verbose = 0;
	attr->interval = 1;
	atomic_set(&attr->space, room);
	atomic_set(&attr->times, -1);
	attr->task_filter = true;
	*famine->ignore_gfp_wait = false;
	current->make_it_fail = 1;
	attr->probability = 100;
}

static void gmem_test_famine_end(struct gmem_test_famine *famine)
{
	struct fault_attr *attr = famine->failslab;

	attr->probability = famine->saved.probability;
	current->make_it_fail = 0;
	*famine->ignore_gfp_wait = famine->saved_ignore_gfp_wait;
	attr->task_filter = famine->saved.task_filter;
	atomic_set(&attr->times, atomic_read(&famine->saved.times));
	atomic_set(&attr->space, atomic_read(&famine->saved.space));
	attr->interval = famine->saved.interval;
	attr->verbose = famine->saved.verbose;
}
#else
struct gmem_test_famine {
};

static bool gmem_test_famine_init(struct gmem_test_famine *famine)
{
	return false;
}

static void gmem_test_famine_begin(struct gmem_test_famine *famine, int room)
{
}

static void gmem_test_famine_end(struct gmem_test_famine *famine)
{
}
#endif

/* C2: what is reserved is stored without memory. */
static void gmem_test_change_starved(struct kunit *test, struct gmem_test *t,
				     const struct gmem_run *range,
				     struct gmem_test_famine *famine)
{
	unsigned long nr = gmem_test_reserve(test, t, range);

	gmem_test_famine_begin(famine, 0);
	gmem_test_store(t, nr);
	gmem_test_famine_end(famine);
	gmem_test_free_unused(test, t);
}

/* A new file is one run of the state that was asked for. */
static void gmem_state_test_initial(struct kunit *test)
{
	static const pgoff_t sizes[] = { 1, 2, 16, TEST_MAX_PAGES };
	struct gmem_test *t;
	struct gmem_run run;
	int i;

	for (i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		pgoff_t nr_pages = sizes[i / 2];

		t = gmem_test_create(test, nr_pages, i % 2);
		down_read(&t->lock);
		gmem_test_check(test, t);
		KUNIT_EXPECT_TRUE(test, xa_empty(&t->state.chunks));

		/* Beyond the file there is nothing, and runs end with it. */
		KUNIT_EXPECT_FALSE(test, gmem_state_next_run(&t->state, nr_pages,
							     ULONG_MAX, &run));
		KUNIT_EXPECT_TRUE(test, gmem_state_next_run(&t->state, 0,
							    ULONG_MAX, &run));
		KUNIT_EXPECT_EQ(test, nr_pages - 1, run.last);
		KUNIT_EXPECT_FALSE(test, gmem_state_next_run(&t->state, 1, 0,
							     &run));
		up_read(&t->lock);
	}
}

/* A state that never had a file, or whose file failed, can be destroyed. */
static void gmem_state_test_destroy_unused(struct kunit *test)
{
	struct gmem_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	init_rwsem(&t->lock);
	gmem_state_init_once(&t->state, &t->lock);
	gmem_state_destroy(&t->state);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->state.chunks));
}

/* C8: every range around the ends of chunks, in both directions. */
static void gmem_state_test_edges(struct kunit *test)
{
	static const pgoff_t edges[] = {
		0, 1, TEST_CHUNK - 1, TEST_CHUNK, TEST_CHUNK + 1,
		2 * TEST_CHUNK - 1, 2 * TEST_CHUNK, 3 * TEST_CHUNK - 1,
		3 * TEST_CHUNK, TEST_MAX_PAGES - 2, TEST_MAX_PAGES - 1,
	};
	struct gmem_test *t;
	struct gmem_run range;
	int initial, i, j;

	for (initial = 0; initial < 2; initial++) {
		t = gmem_test_create(test, TEST_MAX_PAGES, initial);
		down_write(&t->lock);
		for (i = 0; i < ARRAY_SIZE(edges); i++) {
			for (j = i; j < ARRAY_SIZE(edges); j++) {
				range.start = edges[i];
				range.last = edges[j];
				range.shared = !initial;
				gmem_test_change(test, t, &range);
				gmem_test_check(test, t);

				range.shared = initial;
				gmem_test_change(test, t, &range);
				gmem_test_check(test, t);
			}
		}
		up_write(&t->lock);
	}
}

/* The smallest file. */
static void gmem_state_test_one_page(struct kunit *test)
{
	struct gmem_test *t = gmem_test_create(test, 1, false);
	struct gmem_run range = { .start = 0, .last = 0 };
	int i;

	down_write(&t->lock);
	for (i = 0; i < 6; i++) {
		range.shared = i % 2;
		if (i % 3)
			gmem_test_change(test, t, &range);
		else
			gmem_test_reserve(test, t, &range);
		gmem_test_check(test, t);
		KUNIT_EXPECT_EQ(test, 0, gmem_test_count_bitmaps(t));
	}
	up_write(&t->lock);
}

static void gmem_test_random_changes(struct kunit *test, pgoff_t nr_pages)
{
	struct gmem_test *t = gmem_test_create(test, nr_pages, false);
	struct gmem_test_famine famine;
	bool have_famine = gmem_test_famine_init(&famine);
	struct gmem_run range;
	int i;

	down_write(&t->lock);
	for (i = 0; i < TEST_STEPS; i++) {
		gmem_test_random_range(t, nr_pages, &range);
		/* Some are given up half way. */
		if (!gmem_test_random(t, 4))
			gmem_test_reserve(test, t, &range);
		else if (have_famine)
			gmem_test_change_starved(test, t, &range, &famine);
		else
			gmem_test_change(test, t, &range);
		gmem_test_check_runs(test, t);
		if (i % TEST_FULL_CHECK == 0)
			gmem_test_check(test, t);
		KUNIT_ASSERT_LE(test, gmem_test_count_bitmaps(t),
				DIV_ROUND_UP(nr_pages, TEST_CHUNK));
		cond_resched();
	}

	/* One state for all of the file takes no bitmap. */
	range = (struct gmem_run) { .last = nr_pages - 1, .shared = true };
	gmem_test_change(test, t, &range);
	range.shared = false;
	gmem_test_change(test, t, &range);
	gmem_test_check(test, t);
	KUNIT_EXPECT_EQ(test, 0, gmem_test_count_bitmaps(t));
	up_write(&t->lock);
}

/* C2, C8: as guest_memfd does it, without memory for the store. */
static void gmem_state_test_random(struct kunit *test)
{
	gmem_test_random_changes(test, 2);
	gmem_test_random_changes(test, 67);
	gmem_test_random_changes(test, TEST_CHUNK);
	gmem_test_random_changes(test, TEST_MAX_PAGES);
}

/* C2: without memory a reservation fails and changes nothing; a store works. */
static void gmem_test_no_memory(struct kunit *test, bool shared, pgoff_t start,
				pgoff_t last, unsigned long nr_bitmaps)
{
	struct gmem_test *t = gmem_test_create(test, TEST_MAX_PAGES, shared);
	struct gmem_run run = { .start = start, .last = last, .shared = !shared };
	struct gmem_test_famine famine;
	int ret;

	if (!gmem_test_famine_init(&famine))
		kunit_skip(test, "needs FAILSLAB and FAULT_INJECTION_DEBUG_FS");

	down_write(&t->lock);
	gmem_test_famine_begin(&famine, 0);
	ret = gmem_state_reserve(&t->state, &run);
	gmem_test_famine_end(&famine);
	KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
	gmem_test_check(test, t);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->state.chunks));

	KUNIT_ASSERT_EQ(test, 0, gmem_state_reserve(&t->state, &run));
	gmem_test_check(test, t);
	KUNIT_EXPECT_EQ(test, nr_bitmaps, gmem_test_count_bitmaps(t));
	gmem_test_famine_begin(&famine, 0);
	gmem_state_store(&t->state, &run);
	gmem_test_famine_end(&famine);
	gmem_model_set(t, &run);
	gmem_test_check(test, t);

	/* Back again: what was made stays, so there is nothing to reserve. */
	run.shared = shared;
	gmem_test_famine_begin(&famine, 0);
	ret = gmem_state_reserve(&t->state, &run);
	gmem_state_store(&t->state, &run);
	gmem_test_famine_end(&famine);
	KUNIT_EXPECT_EQ(test, 0, ret);
	gmem_model_set(t, &run);
	gmem_test_check(test, t);
	up_write(&t->lock);
}

static void gmem_state_test_no_memory(struct kunit *test)
{
	int shared;

	for (shared = 0; shared < 2; shared++) {
		gmem_test_no_memory(test, shared, 8, 15, 1);
		gmem_test_no_memory(test, shared, TEST_CHUNK - 1, TEST_CHUNK, 2);
		gmem_test_no_memory(test, shared, TEST_CHUNK,
				    2 * TEST_CHUNK - 1, 0);
		gmem_test_no_memory(test, shared, 3 * TEST_CHUNK,
				    TEST_MAX_PAGES - 1, 0);
		gmem_test_no_memory(test, shared, 5, TEST_MAX_PAGES - 5, 2);
	}
}

/*
 * C2: memory that ends in the middle of a reservation, after each object. What was
 * made for the first chunks is no change, and the same reservation goes on there.
 */
static void gmem_state_test_memory_ends(struct kunit *test)
{
	struct gmem_run run = { .start = 5, .last = TEST_MAX_PAGES - 5 };
	unsigned long index, nr, most = 0;
	struct gmem_test_famine famine;
	int room = 0, shared = 0, ret;
	struct gmem_test *t;
	void *entry;

	if (!gmem_test_famine_init(&famine))
		kunit_skip(test, "needs FAILSLAB and FAULT_INJECTION_DEBUG_FS");

	do {
		t = gmem_test_create(test, TEST_MAX_PAGES, shared);
		run.shared = !shared;
		down_write(&t->lock);
		gmem_test_famine_begin(&famine, room);
		ret = gmem_state_reserve(&t->state, &run);
		gmem_test_famine_end(&famine);
		gmem_test_check(test, t);

		nr = 0;
		xa_for_each(&t->state.chunks, index, entry)
			nr++;
		if (ret) {
			KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
			KUNIT_EXPECT_GT(test, 4, nr);
			most = max(most, nr);
		} else {
			KUNIT_EXPECT_EQ(test, 4, nr);
		}

		KUNIT_ASSERT_EQ(test, 0, gmem_state_reserve(&t->state, &run));
		gmem_test_change_starved(test, t, &run, &famine);
		gmem_test_check(test, t);
		up_write(&t->lock);

		room += 64;
		shared = !shared;
		KUNIT_ASSERT_GT(test, SZ_64K, room);
	} while (ret);

	/* It did end in the middle. */
	KUNIT_EXPECT_GT(test, most, 0);
}

/**
 * struct gmem_test_reader - A thread that looks at pages without a lock
 * @t: The state; the first page of each chunk is always shared
 * @task: The thread
 * @lookups: How often it has looked at all chunks
 * @wrong: How often one of those pages was not shared
 */
struct gmem_test_reader {
	struct gmem_test *t;
	struct task_struct *task;
	unsigned long lookups;
	unsigned long wrong;
};

static int gmem_test_read(void *data)
{
	struct gmem_test_reader *reader = data;
	pgoff_t index;

	while (!kthread_should_stop()) {
		for (index = 0; index < TEST_MAX_PAGES; index += TEST_CHUNK)
			if (!gmem_state_is_shared(&reader->t->state, index))
				reader->wrong++;
		WRITE_ONCE(reader->lookups, reader->lookups + 1);
		cond_resched();
	}
	return 0;
}

static void gmem_test_stop_reading(void *data)
{
	struct gmem_test_reader *reader = data;

	kthread_stop(reader->task);
}

static struct gmem_test_reader *
gmem_test_start_reading(struct kunit *test, struct gmem_test *t)
{
	struct gmem_test_reader *reader;

	reader = kunit_kzalloc(test, sizeof(*reader), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, reader);
	reader->t = t;
	reader->task = kthread_run(gmem_test_read, reader, "gmem_state_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(reader->task));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, gmem_test_stop_reading,
						  reader));
	return reader;
}

/* A single page is looked up without a lock, while its chunk comes and goes. */
static void gmem_state_test_readers(struct kunit *test)
{
	struct gmem_test *t = gmem_test_create(test, TEST_MAX_PAGES, true);
	struct gmem_test_reader *reader = gmem_test_start_reading(test, t);
	struct gmem_run all = { .last = TEST_MAX_PAGES - 1, .shared = true };
	struct gmem_run run = { .shared = false };
	unsigned long seen;
	int i, step;

	for (step = 0; step < 50; step++) {
		seen = READ_ONCE(reader->lookups);
		down_write(&t->lock);
		/* Bitmaps come and change, and mostly go again. */
		for (i = 0; i < 4; i++) {
			run.start = i * TEST_CHUNK + 1;
			run.last = run.start + 3;
			gmem_test_change(test, t, &run);
		}
		if (step % 4)
			gmem_test_change(test, t, &all);
		else
			gmem_test_reserve(test, t, &all);
		up_write(&t->lock);
		for (i = 0; i < 1000 && seen == READ_ONCE(reader->lookups); i++)
			usleep_range(100, 200);
	}
	kunit_release_action(test, gmem_test_stop_reading, reader);
	KUNIT_EXPECT_EQ(test, 0, reader->wrong);
	KUNIT_EXPECT_GT(test, reader->lookups, 10);
}

/**
 * struct gmem_test_holder - A thread in the middle of a lookup without a lock
 * @t: The state; its first chunk is a bitmap
 * @found: The thread has found the bitmap
 * @replaced: It is not part of the state any more
 */
struct gmem_test_holder {
	struct gmem_test *t;
	struct completion found;
	bool replaced;
};

static int gmem_test_hold(void *data)
{
	struct gmem_test_holder *holder = data;
	u8 *chunk;

	guard(rcu)();

	chunk = xa_load(&holder->t->state.chunks, 0);
	complete(&holder->found);
	/* Pairs with the writer's store. */
	while (!smp_load_acquire(&holder->replaced))
		cpu_relax();
	/* If it is freed, KASAN reports that. */
	READ_ONCE(*chunk);
	return 0;
}

/* What a lookup has found stays until the lookup ends. */
static void gmem_state_test_replaced(struct kunit *test)
{
	struct gmem_test *t = gmem_test_create(test, TEST_CHUNK, true);
	struct gmem_run all = { .last = TEST_CHUNK - 1, .shared = true };
	struct gmem_run page = { .shared = false };
	struct gmem_test_holder holder = { .t = t };
	struct task_struct *task;

	init_completion(&holder.found);
	down_write(&t->lock);
	gmem_test_change(test, t, &page);
	KUNIT_ASSERT_EQ(test, 1, gmem_test_count_bitmaps(t));
	task = kthread_run(gmem_test_hold, &holder, "gmem_state_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	get_task_struct(task);
	wait_for_completion(&holder.found);
	gmem_state_store(&t->state, &all);
	gmem_state_free_unused(&t->state);
	/* Pairs with the holder's load: it reads after that. */
	smp_store_release(&holder.replaced, true);
	kthread_stop(task);
	put_task_struct(task);
	up_write(&t->lock);
	KUNIT_EXPECT_EQ(test, 0, gmem_test_count_bitmaps(t));
}

/* C2: all runs of a request are reserved before the first is stored. */
static void gmem_state_test_reserve_all(struct kunit *test)
{
	struct gmem_test *t = gmem_test_create(test, TEST_MAX_PAGES, false);
	struct gmem_run every = { .start = 0, .last = TEST_MAX_PAGES - 1,
				  .shared = true };
	struct gmem_run run = { .shared = true };
	struct gmem_test_famine famine;

	if (!gmem_test_famine_init(&famine))
		kunit_skip(test, "needs FAILSLAB and FAULT_INJECTION_DEBUG_FS");

	down_write(&t->lock);
	for (run.start = 0; run.start < TEST_MAX_PAGES; run.start += 3) {
		run.last = run.start;
		gmem_test_change(test, t, &run);
	}

	KUNIT_ASSERT_GT(test, gmem_state_diff(&t->state, &every, 1, NULL, 0), 100);
	gmem_test_change_starved(test, t, &every, &famine);
	gmem_test_check(test, t);
	KUNIT_ASSERT_EQ(test, 0, gmem_state_diff(&t->state, &every, 1, NULL, 0));
	up_write(&t->lock);
}

static struct kunit_case gmem_state_test_cases[] = {
	KUNIT_CASE(gmem_state_test_initial),
	KUNIT_CASE(gmem_state_test_destroy_unused),
	KUNIT_CASE(gmem_state_test_edges),
	KUNIT_CASE(gmem_state_test_one_page),
	KUNIT_CASE_SLOW(gmem_state_test_random),
	KUNIT_CASE(gmem_state_test_no_memory),
	KUNIT_CASE(gmem_state_test_memory_ends),
	KUNIT_CASE_SLOW(gmem_state_test_readers),
	KUNIT_CASE(gmem_state_test_replaced),
	KUNIT_CASE(gmem_state_test_reserve_all),
	{}
};

static struct kunit_suite gmem_state_test_suite = {
	.name = "gmem_state",
	.test_cases = gmem_state_test_cases,
};

kunit_test_suite(gmem_state_test_suite);
