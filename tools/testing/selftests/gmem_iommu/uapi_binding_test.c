// SPDX-License-Identifier: GPL-2.0
/*
 * The file descriptor of a binding: its ioctls under bad input, what it tells of
 * runs and of the end, and that its area is kept in the IOAS (U4, M9).
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/refusal_harness.h"

/* GMEM_IOMMU_QUERY_RUNS, on a binding of pages 2 to 9 */
FIXTURE(query)
{
	struct refusal b;
	int binding;
};

FIXTURE_VARIANT(query)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define QUERY_SIZE	sizeof(struct gmem_iommu_query_runs)

FIXTURE_VARIANT_ADD(query, exact) CASE(0);
FIXTURE_VARIANT_ADD(query, U2_long_zero) CASE(0, POKE32(query.size, QUERY_SIZE + 8));
FIXTURE_VARIANT_ADD(query, U2_long_tail)
	CASE(E2BIG, POKE32(query.size, QUERY_SIZE + 8), POKE_TAIL(gmem_iommu_query_runs));
FIXTURE_VARIANT_ADD(query, U2_short) CASE(EINVAL, POKE32(query.size, QUERY_SIZE - 8));
FIXTURE_VARIANT_ADD(query, U2_no_size) CASE(EINVAL, POKE32(query.size, 0));
FIXTURE_VARIANT_ADD(query, no_runs) CASE(EINVAL, POKE32(query.nr_runs, 0));
FIXTURE_VARIANT_ADD(query, many_runs) CASE(0, POKE32(query.nr_runs, ~0U));
FIXTURE_VARIANT_ADD(query, cursor_first) CASE(0, POKE64(query.cursor, PAGES(2)));
FIXTURE_VARIANT_ADD(query, cursor_unaligned) CASE(EINVAL, POKE64(query.cursor, PAGES(3) + 1));
FIXTURE_VARIANT_ADD(query, cursor_before) CASE(EINVAL, POKE64(query.cursor, PAGES(1)));
FIXTURE_VARIANT_ADD(query, cursor_at_end) CASE(EINVAL, POKE64(query.cursor, PAGES(10)));
FIXTURE_VARIANT_ADD(query, cursor_behind) CASE(EINVAL, POKE64(query.cursor, FILE_SIZE));
FIXTURE_VARIANT_ADD(query, cursor_done) CASE(EINVAL, POKE64(query.cursor, ~0ULL));
FIXTURE_VARIANT_ADD(query, cursor_far) CASE(EINVAL, POKE64(query.cursor, -PAGES(1)));
FIXTURE_VARIANT_ADD(query, runs_null) CASE(EFAULT, POKE64(query.runs, 0));
FIXTURE_VARIANT_ADD(query, runs_kernel) CASE(EFAULT, POKE64(query.runs, KERNEL_ADDRESS));
FIXTURE_VARIANT_ADD(query, runs_unreadable) CASE(EFAULT, POKE_PTR(query.runs, PTR_UNREADABLE));
FIXTURE_VARIANT_ADD(query, runs_readonly) CASE(EFAULT, POKE_PTR(query.runs, PTR_READONLY));
FIXTURE_VARIANT_ADD(query, runs_split) CASE(EFAULT, POKE_PTR(query.runs, PTR_SPLIT));

FIXTURE_SETUP(query)
{
	struct refusal *b = &self->b;

	refusal_setup(_metadata, b, true);
	if (_metadata->exit_code)
		return;
	self->binding = mirror_bind(b->gmem_fd, &b->ioas, PAGES(2), PAGES(8), IOVA);
	ASSERT_LE(0, self->binding);
}

FIXTURE_TEARDOWN(query)
{
}

TEST_F(query, U4_U7_answers)
{
	struct refusal *b = &self->b;
	union request req;

	make_query(b, &req);
	spoil(_metadata, b, &req, variant->poke);
	refusal_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(self->binding, GMEM_IOMMU_QUERY_RUNS, &req));
	if (!variant->err) {
		EXPECT_EQ(3, req.query.nr_runs);
		EXPECT_EQ(~0ULL, req.query.cursor);
	}
	refusal_expect_same(_metadata, b);
	EXPECT_STREQ("", mirror_check_runs(self->binding, PAGES(2), b->before.page + 2, 8));
}

/* GMEM_IOMMU_GET_STATS */
FIXTURE(stats)
{
	struct refusal b;
};

FIXTURE_VARIANT(stats)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define STATS_SIZE	sizeof(struct gmem_iommu_stats)

FIXTURE_VARIANT_ADD(stats, exact) CASE(0);
FIXTURE_VARIANT_ADD(stats, U2_long_zero) CASE(0, POKE32(stats.size, STATS_SIZE + 8));
FIXTURE_VARIANT_ADD(stats, U2_long_tail)
	CASE(E2BIG, POKE32(stats.size, STATS_SIZE + 8), POKE_TAIL(gmem_iommu_stats));
FIXTURE_VARIANT_ADD(stats, U2_short) CASE(EINVAL, POKE32(stats.size, STATS_SIZE - 8));
FIXTURE_VARIANT_ADD(stats, U2_no_size) CASE(EINVAL, POKE32(stats.size, 0));
FIXTURE_VARIANT_ADD(stats, flags) CASE(EOPNOTSUPP, POKE32(stats.flags, 1));

FIXTURE_SETUP(stats)
{
	refusal_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(stats)
{
}

TEST_F(stats, U4_U7_answers)
{
	struct refusal *b = &self->b;
	union request req;

	make_stats(b, &req);
	spoil(_metadata, b, &req, variant->poke);
	refusal_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(b->witness, GMEM_IOMMU_GET_STATS, &req));
	if (!variant->err) {
		/* Bound after the setup's conversion, without a domain. */
		EXPECT_EQ(0, req.stats.conversions);
		EXPECT_EQ(0, req.stats.mapped_pages);
		EXPECT_EQ(0, req.stats.failures);
	}
	refusal_expect_same(_metadata, b);
}

/* What kills a binding. */
FIXTURE(dead)
{
	struct refusal b;
	int binding;
};

enum death {
	CLOSE_GMEM,
	UNMAP_IOVA,
	DESTROY_IOAS,
};

FIXTURE_VARIANT(dead)
{
	enum death death;
};

FIXTURE_VARIANT_ADD(dead, C12_gmem_closed) { .death = CLOSE_GMEM };
FIXTURE_VARIANT_ADD(dead, M9_iova_unmapped) { .death = UNMAP_IOVA };
FIXTURE_VARIANT_ADD(dead, M9_ioas_destroyed) { .death = DESTROY_IOAS };

FIXTURE_SETUP(dead)
{
	struct refusal *b = &self->b;

	refusal_setup(_metadata, b, true);
	if (_metadata->exit_code)
		return;
	self->binding = mirror_bind(b->gmem_fd, &b->ioas, 0, FILE_SIZE, IOVA);
	ASSERT_LE(0, self->binding);
}

FIXTURE_TEARDOWN(dead)
{
}

TEST_F(dead, U4_reported)
{
	struct refusal *b = &self->b;
	union request req;

	EXPECT_EQ(0, mirror_poll_dead(self->binding));
	refusal_remember(_metadata, b);

	switch (variant->death) {
	case CLOSE_GMEM:
		ASSERT_EQ(0, munmap(b->mem, FILE_SIZE));
		ASSERT_EQ(0, close(b->gmem_fd));
		break;
	case UNMAP_IOVA:
		ASSERT_EQ(0, ioas_unmap(&b->ioas, IOVA, FILE_SIZE));
		break;
	case DESTROY_IOAS:
		ASSERT_EQ(0, iommufd_destroy(b->ioas.iommufd, b->ioas.id));
		break;
	}

	EXPECT_EQ(1, mirror_poll_dead(self->binding));
	make_query(b, &req);
	EXPECT_EQ(-ENODEV, xioctl(self->binding, GMEM_IOMMU_QUERY_RUNS, &req));
	EXPECT_EQ(variant->death == CLOSE_GMEM, mirror_poll_dead(b->witness));

	/* M9: the other binding of the file lives, and still follows it. */
	if (variant->death != CLOSE_GMEM) {
		refusal_expect_same(_metadata, b);
		EXPECT_EQ(0, gmem_convert(b->gmem_fd, 0, PAGES(4),
					  KVM_GMEM_TARGET_PRIVATE, NULL));
		EXPECT_STREQ("", gmem_state_read(&b->before, b->witness, b->mem, NR_PAGES));
	}
	EXPECT_EQ(0, close(self->binding));
}

/* One binding of the file in each of two IOASes, and the process around it. */
FIXTURE(live)
{
	struct refusal b;
	int binding;
};

FIXTURE_SETUP(live)
{
	self->binding = refusal_setup_bound(_metadata, &self->b);
}

FIXTURE_TEARDOWN(live)
{
}

TEST_F(live, M9_area_is_kept)
{
	struct refusal *b = &self->b;
	void *anon = map_pages(1);

	EXPECT_EQ(-EEXIST, ioas_map(&b->ioas, IOVA + PAGES(3), anon, PAGES(1)));
	EXPECT_EQ(-ENOENT, ioas_unmap(&b->ioas, IOVA, PAGES(1)));
	EXPECT_EQ(-ENOENT, ioas_unmap(&b->ioas, IOVA + PAGES(1), FILE_SIZE - PAGES(1)));
	EXPECT_EQ(0, mirror_poll_dead(self->binding));
	EXPECT_STREQ("", mirror_check_runs(self->binding, 0, b->before.page, NR_PAGES));
	refusal_expect_same(_metadata, b);
}

TEST_F(live, U4_cursor_clips)
{
	struct gmem_iommu_run run;
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = 1,
		.cursor = PAGES(5),
		.runs = (unsigned long)&run,
	};

	ASSERT_EQ(0, xioctl(self->binding, GMEM_IOMMU_QUERY_RUNS, &query));
	EXPECT_EQ(1, query.nr_runs);
	EXPECT_EQ(PAGES(8), query.cursor);
	EXPECT_EQ(PAGES(5), run.offset);
	EXPECT_EQ(PAGES(3), run.length);
	EXPECT_EQ(0, run.flags);
	EXPECT_EQ(0, run.leaf_size);
}

TEST_F(live, U4_generation)
{
	struct refusal *b = &self->b;
	__u64 generation = mirror_generation(self->binding);

	EXPECT_EQ(generation, mirror_generation(self->binding));
	ASSERT_EQ(0, gmem_convert(b->gmem_fd, 0, PAGES(1), KVM_GMEM_TARGET_PRIVATE, NULL));
	EXPECT_NE(generation, mirror_generation(self->binding));
}

TEST_HARNESS_MAIN
