// SPDX-License-Identifier: GPL-2.0
/*
 * C1, C2, C4, H4, H5, H6: every allocation of every entry point fails once, where the
 * memory of the file comes in huge pages.
 *
 * Each time, besides what lib/sweep.h says, the folios, the pool of huge pages and
 * the blocks of the file are as before. Bindings have large leaves, so that IOMMU
 * leaves are cut and merged with the huge pages. The vmemmap of the pool is optimized
 * if the kernel can, so that to split one takes memory for its struct pages.
 *
 * GMEM_IOMMU_LONG=1 in the environment also asks for the leaf of 1 GiB.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/mirror.h"
#include "lib/rig.h"
#include "lib/sweep_harness.h"

#define PAGE		5UL	/* the one that is converted */

/* The middle of the file, which is the end of a huge page if it has two. */
static size_t middle(struct rig *rig)
{
	return rig_npages(rig) / 2;
}

static int convert(struct rig *rig, size_t first, size_t nr, __u32 target)
{
	__u64 offset;
	int ret;

	ret = gmem_convert(rig->vm.gmem_fd, PAGES(first), PAGES(nr), target,
			   &offset);
	/* C4: defined on every return; a failed allocation may blame a page. */
	if (ret ? offset >= rig->config.size : offset)
		return -EPROTO;
	return ret;
}

static void watch_pages(struct rig *rig)
{
	rig_watch(rig, 0, 6);
	rig_watch(rig, 508, 4);
	rig_watch(rig, middle(rig), 7);
	rig_watch(rig, rig_npages(rig) - 5, 5);
}

static void setup_rig(struct __test_metadata *_metadata, struct rig *rig,
		      const struct rig_config *config, __u32 target)
{
	const char *missing = rig_missing(config);
	struct rig_view view;
	int ret;

	if (missing)
		SKIP(return, "%s", missing);
	ret = rig_create(rig, config);
	if (ret == -ENOENT)
		SKIP(return, "no fail-nth");
	ASSERT_EQ(0, ret);
	watch_pages(rig);
	sweep_write_contents(_metadata, rig);
	/* Now the host can tell which huge pages these are. */
	ASSERT_STREQ("", rig_look(rig, &view));
	ASSERT_EQ(!config->huge_size, !rig->base_pfns[0]);
	ASSERT_EQ(0, convert(rig, 0, rig_npages(rig), target));
	ret = rig_bind(rig);
	if (ret == -ENODEV)
		SKIP(return, "no CONFIG_IOMMUFD_TEST");
	ASSERT_EQ(0, ret);
}

/**
 * struct stand - Two huge pages of 2 MiB
 * @rig: With a file of them
 * @before: The pool before there was one
 * @was_optimized: Whether the pool saved struct pages then; it does now
 */
struct stand {
	struct rig rig;
	struct hugepool before;
	int was_optimized;
};

static void setup_stand(struct __test_metadata *_metadata, struct stand *s,
			int nr_bindings)
{
	const struct rig_config config = {
		.size = 2 * SIZE_2M,
		.huge_size = SIZE_2M,
		.nr_bindings = nr_bindings,
		.domain = nr_bindings,
	};

	s->was_optimized = hugepool_is_optimized();
	if (!s->was_optimized)
		ASSERT_EQ(0, hugepool_optimize(SIZE_2M, true));
	ASSERT_EQ(0, hugepool_read(SIZE_2M, &s->before));
	setup_rig(_metadata, &s->rig, &config, SHARED);
}

static void teardown_stand(struct __test_metadata *_metadata, struct stand *s)
{
	struct hugepool now;

	sweep_check_contents(_metadata, &s->rig);
	EXPECT_EQ(0, rig_destroy(&s->rig));
	/* H6 */
	EXPECT_EQ(0, hugepool_read(SIZE_2M, &now));
	EXPECT_EQ(0, memcmp(&s->before, &now, sizeof(now)));
	if (!s->was_optimized)
		EXPECT_EQ(0, hugepool_optimize(SIZE_2M, false));
}

FIXTURE(rig)
{
	struct stand s;
};

FIXTURE_VARIANT(rig)
{
	int nr_bindings;
};

FIXTURE_VARIANT_ADD(rig, alone) { 0 };
FIXTURE_VARIANT_ADD(rig, mapped) { RIG_BINDINGS };

FIXTURE_SETUP(rig)
{
	setup_stand(_metadata, &self->s, variant->nr_bindings);
}

FIXTURE_TEARDOWN(rig)
{
	teardown_stand(_metadata, &self->s);
}

/* What has the same allocations, and some more, when the file is bound. */
FIXTURE(bound)
{
	struct stand s;
};

FIXTURE_SETUP(bound)
{
	setup_stand(_metadata, &self->s, RIG_BINDINGS);
}

FIXTURE_TEARDOWN(bound)
{
	teardown_stand(_metadata, &self->s);
}

/*
 * A huge page of 1 GiB, bound and mapped, that is private or shared at first. To split
 * and merge it takes long, so that the guest does not map it: then what is refused
 * before the split leaves nothing behind.
 */
static const struct rig_config gigantic_config = {
	.size = SIZE_1G,
	.huge_size = SIZE_1G,
	.no_guest = true,
	.nr_bindings = 1,
	.domain = true,
};

FIXTURE(gigantic)
{
	struct rig rig;
};

FIXTURE_VARIANT(gigantic)
{
	__u32 target;
};

FIXTURE_VARIANT_ADD(gigantic, whole) { PRIVATE };
FIXTURE_VARIANT_ADD(gigantic, pieces) { SHARED };

FIXTURE_SETUP(gigantic)
{
	if (variant->target == SHARED && !getenv("GMEM_IOMMU_LONG"))
		SKIP(return, "takes long (GMEM_IOMMU_LONG)");
	/* A split then allocates 526 pages for struct pages, and more for each divided block. */
	if (hugepool_is_optimized() > 0)
		SKIP(return, "takes too long with vm.hugetlb_optimize_vmemmap");
	setup_rig(_metadata, &self->rig, &gigantic_config, variant->target);
}

FIXTURE_TEARDOWN(gigantic)
{
	sweep_check_contents(_metadata, &self->rig);
	EXPECT_EQ(0, rig_destroy(&self->rig));
}

/*
 * The same, of a pool that saves struct pages: a split needs some of them again, blocks
 * that are in pieces more than others.
 */
FIXTURE(saved)
{
	struct rig rig;
};

FIXTURE_SETUP(saved)
{
	if (!getenv("GMEM_IOMMU_LONG"))
		SKIP(return, "takes long (GMEM_IOMMU_LONG)");
	if (hugepool_is_optimized() <= 0)
		SKIP(return, "needs vm.hugetlb_optimize_vmemmap");
	setup_rig(_metadata, &self->rig, &gigantic_config, PRIVATE);
}

FIXTURE_TEARDOWN(saved)
{
	sweep_check_contents(_metadata, &self->rig);
	EXPECT_EQ(0, rig_destroy(&self->rig));
}

/* An ordinary file, with memory that one large leaf can map. */
FIXTURE(block)
{
	struct rig rig;
};

FIXTURE_SETUP(block)
{
	const struct rig_config config = {
		.size = 2 * SIZE_2M,
		.block = true,
		.nr_bindings = RIG_BINDINGS,
		.domain = true,
	};

	setup_rig(_metadata, &self->rig, &config, SHARED);
}

FIXTURE_TEARDOWN(block)
{
	sweep_check_contents(_metadata, &self->rig);
	EXPECT_EQ(0, rig_destroy(&self->rig));
}

/* -- conversions ----------------------------------------------------------- */

static int run_split(struct rig *rig)
{
	return convert(rig, PAGE, 1, SHARED);
}

static void undo_split(struct rig *rig)
{
	convert(rig, 0, rig_npages(rig), PRIVATE);
}

TEST_F_TIMEOUT(rig, C1_C2_C4_H4_H5_split, 300)
{
	const struct sweep_call call = { run_split, undo_split, 5 };

	sweep(_metadata, &self->s.rig, &call);
}

/* All is shared but for this page, so that leaves are as large as can be. */
static int run_cut(struct rig *rig)
{
	return convert(rig, PAGE, 1, PRIVATE);
}

static void undo_cut(struct rig *rig)
{
	convert(rig, PAGE, 1, SHARED);
}

static void sweep_cut(struct __test_metadata *_metadata, struct rig *rig)
{
	const struct sweep_call call = { run_cut, undo_cut, rig->config.domain };
	struct gmem_iommu_stats before, after;

	if (!rig->config.domain) {
		sweep(_metadata, rig, &call);
		return;
	}
	ASSERT_EQ(0, mirror_get_stats(rig->bindings[0], &before));
	sweep(_metadata, rig, &call);
	ASSERT_EQ(0, mirror_get_stats(rig->bindings[0], &after));
	/*
	 * Each attempt is completed and undone, so it is cut and merged at least once;
	 * what was cut for one that failed in the middle is not counted in merges.
	 */
	EXPECT_LE(before.merges + last.nr, after.merges);
	EXPECT_LE(after.merges - before.merges, after.cuts - before.cuts);
}

TEST_F_TIMEOUT(rig, C1_C2_M4_M6_cut, 300)
{
	sweep_cut(_metadata, &self->s.rig);
}

TEST_F_TIMEOUT(block, C1_C2_M4_M6_cut, 300)
{
	sweep_cut(_metadata, &self->rig);
}

/* The last shared page of a huge page, which is whole afterwards. */
static int run_merge(struct rig *rig)
{
	return convert(rig, PAGE, 1, PRIVATE);
}

static void undo_merge(struct rig *rig)
{
	convert(rig, 0, rig_npages(rig), PRIVATE);
	convert(rig, PAGE, 1, SHARED);
}

TEST_F_TIMEOUT(rig, C1_C2_H3_H5_merge, 300)
{
	const struct sweep_call call = { run_merge, undo_merge, 0 };

	sweep(_metadata, &self->s.rig, &call);
}

/* Both directions, in every huge page and every block of the file that is watched. */
static int convert_mixed(struct rig *rig, bool back)
{
	const __u32 to = back ? PRIVATE : SHARED, fro = back ? SHARED : PRIVATE;
	const size_t half = middle(rig), end = rig_npages(rig);
	const struct kvm_gmem_range ranges[] = {
		{ .offset = 0, .size = PAGES(4), .target = to },
		{ .offset = PAGES(508), .size = PAGES(2), .target = fro },
		{ .offset = PAGES(half), .size = PAGES(3), .target = to },
		{ .offset = PAGES(half + 4), .size = PAGES(2), .target = fro },
		{ .offset = PAGES(end - 4), .size = PAGES(4), .target = to },
	};
	__u64 offset;
	int ret;

	ret = gmem_convert_vec(rig->vm.gmem_fd, ranges, ARRAY_SIZE(ranges), &offset);
	if (ret ? offset >= rig->config.size : offset)
		return -EPROTO;
	return ret;
}

static int run_mixed(struct rig *rig)
{
	return convert_mixed(rig, false);
}

static void undo_mixed(struct rig *rig)
{
	convert(rig, 0, rig_npages(rig), PRIVATE);
	convert(rig, 508, 4, SHARED);
	convert(rig, middle(rig) + 4, 4, SHARED);
}

TEST_F_TIMEOUT(rig, C1_C2_C4_H4_vector, 300)
{
	const struct sweep_call call = { run_mixed, undo_mixed, 2 };

	sweep(_metadata, &self->s.rig, &call);
}

TEST_F_TIMEOUT(block, C1_C2_C4_M4_vector, 300)
{
	const struct sweep_call call = { run_mixed, undo_mixed, 2 };

	sweep(_metadata, &self->rig, &call);
}

/* The same when all of it is large: each huge page of the file has to be split. */
static void undo_mixed_whole(struct rig *rig)
{
	convert(rig, 0, rig_npages(rig), PRIVATE);
}

TEST_F_TIMEOUT(rig, C1_C2_C4_H4_H5_split_several, 300)
{
	const struct sweep_call call = { run_mixed, undo_mixed_whole, 10 };

	sweep(_metadata, &self->s.rig, &call);
}

/* One test, as to make the file takes most of the time: what its pages ask for. */
TEST_F_TIMEOUT(gigantic, C1_C2_C4_H4_H5_M4_M6_split_or_cut, 300)
{
	const struct sweep_call split = {
		.run = run_mixed,
		.undo = undo_mixed_whole,
		.min = 10,
		.leaves_nothing = true,
	};

	if (variant->target == PRIVATE)
		sweep(_metadata, &self->rig, &split);
	else
		sweep_cut(_metadata, &self->rig);
}

TEST_F_TIMEOUT(saved, C1_C2_H4_H5_split, 1800)
{
	const struct sweep_call call = {
		.run = run_split,
		.undo = undo_split,
		.min = 2 * 512 - 1 + 6,
		.leaves_nothing = true,
	};

	sweep(_metadata, &self->rig, &call);
}

/* The huge page is in pieces, and two of its blocks become so. */
static int run_blocks(struct rig *rig)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(middle(rig)), .size = PAGES(3), .target = SHARED },
		{ .offset = PAGES(rig_npages(rig) - 4), .size = PAGES(4), .target = SHARED },
	};
	__u64 offset;

	return gmem_convert_vec(rig->vm.gmem_fd, ranges, ARRAY_SIZE(ranges), &offset);
}

static void undo_blocks(struct rig *rig)
{
	convert(rig, middle(rig), 3, PRIVATE);
	convert(rig, rig_npages(rig) - 4, 4, PRIVATE);
}

TEST_F_TIMEOUT(saved, C1_C2_C4_H4_H5_split_blocks, 600)
{
	const struct sweep_call call = { run_blocks, undo_blocks, 2 * 6 };

	ASSERT_EQ(0, convert(&self->rig, PAGE, 1, SHARED));
	sweep(_metadata, &self->rig, &call);
}

/* -- memory ---------------------------------------------------------------- */

/* Pages without memory become shared, for which a binding allocates it. */
static int run_populate(struct rig *rig)
{
	return convert(rig, middle(rig) + 3, 2, SHARED);
}

static void undo_populate(struct rig *rig)
{
	convert(rig, 0, rig_npages(rig), PRIVATE);
	gmem_punch_hole(rig->vm.gmem_fd, 0, rig->config.size);
}

TEST_F_TIMEOUT(rig, C1_C2_M11_H6_to_shared_allocates, 300)
{
	const struct sweep_call call = {
		.run = run_populate,
		.undo = undo_populate,
		.min = variant->nr_bindings ? 5 : 0,
	};
	struct rig *rig = &self->s.rig;

	sweep(_metadata, rig, &call);
	EXPECT_EQ(0, last.nr_resident);
	sweep_restore_contents(_metadata, rig);
}

/*
 * The first huge page has no memory. Its first page is shared, so that what comes to the
 * binding comes first, and nothing stays of a fallocate() that fails.
 */
static int punch_first(struct rig *rig)
{
	return gmem_punch_hole(rig->vm.gmem_fd, 0, SIZE_2M);
}

static bool first_has_memory(struct rig *rig)
{
	unsigned char in_core[512];
	size_t i;

	if (mincore(rig->vm.mem, SIZE_2M, in_core))
		return true;
	for (i = 0; i < ARRAY_SIZE(in_core); i++)
		if (in_core[i] & 1)
			return true;
	return false;
}

static int expect_hole(struct rig *rig)
{
	return first_has_memory(rig) ? -EPROTO : 0;
}

static void undo_hole(struct rig *rig)
{
	punch_first(rig);
}

static int run_allocate(struct rig *rig)
{
	return gmem_allocate(rig->vm.gmem_fd, 0, SIZE_2M);
}

static int run_host_fault(struct rig *rig)
{
	return host_write(rig->vm.mem, "", 1);
}

/* A shared page, and a private one. */
static int run_prefault(struct rig *rig)
{
	return rig_prefault(rig, 0);
}

static int run_prefault_private(struct rig *rig)
{
	return rig_prefault(rig, 1);
}

static int run_guest_fault(struct rig *rig)
{
	return gmem_vm_verify(&rig->vm, 0, PAGES(2), 0) == -ENOMEM ?
	       -ENOMEM : 0;
}

static void sweep_hole(struct __test_metadata *_metadata, struct rig *rig,
		       int (*run)(struct rig *rig))
{
	const struct sweep_call call = {
		.run = run,
		.undo = undo_hole,
		.min = 3,
		.may_keep = true,
		.prepare = punch_first,
		.recover = expect_hole,
	};

	ASSERT_EQ(0, convert(rig, 1, middle(rig) - 1, PRIVATE));
	sweep(_metadata, rig, &call);
	sweep_restore_contents(_metadata, rig);
}

TEST_F_TIMEOUT(bound, C2_H6_U7_allocate, 300)
{
	sweep_hole(_metadata, &self->s.rig, run_allocate);
}

TEST_F_TIMEOUT(bound, C2_H6_U7_host_fault, 300)
{
	sweep_hole(_metadata, &self->s.rig, run_host_fault);
}

TEST_F_TIMEOUT(bound, C2_H6_U7_prefault, 300)
{
	sweep_hole(_metadata, &self->s.rig, run_prefault);
}

TEST_F_TIMEOUT(bound, C2_H6_U7_prefault_private, 300)
{
	sweep_hole(_metadata, &self->s.rig, run_prefault_private);
}

TEST_F_TIMEOUT(bound, C2_H6_U7_guest_fault, 300)
{
	sweep_hole(_metadata, &self->s.rig, run_guest_fault);
}

/* Of a huge page in pieces, and of a whole one. */
static void undo_punch(struct rig *rig)
{
	convert(rig, 0, middle(rig), PRIVATE);
	convert(rig, PAGE, 2, SHARED);
	gmem_allocate(rig->vm.gmem_fd, 0, SIZE_2M);
}

static int run_punch(struct rig *rig)
{
	return punch_first(rig);
}

TEST_F_TIMEOUT(rig, C12_H6_H8_punch, 300)
{
	const struct sweep_call call = { run_punch, undo_punch, 0 };

	sweep(_metadata, &self->s.rig, &call);
	sweep_restore_contents(_metadata, &self->s.rig);
}

/* -- files and bindings ---------------------------------------------------- */

static int new_fd;

static void undo_new_fd(struct rig *rig)
{
	close(new_fd);
}

static int run_create(struct rig *rig)
{
	new_fd = gmem_create_fd(rig->vm.vm_fd, SIZE_2M,
				GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
				GUEST_MEMFD_HUGE_2MB);
	return new_fd < 0 ? new_fd : 0;
}

TEST_F_TIMEOUT(bound, H1_H6_U7_create, 300)
{
	const struct sweep_call call = { run_create, undo_new_fd, 5 };

	sweep(_metadata, &self->s.rig, &call);
}

/* A file without memory, of which a part is shared. */
static int run_bind(struct rig *rig)
{
	struct gmem_iommu_bind args = {
		.flags = GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_FIXED_IOVA,
		.iommufd = rig->ioas.iommufd,
		.ioas_id = rig->ioas.id,
		.length = SIZE_2M,
		.iova = rig_iova(RIG_BINDINGS),
	};
	int ret;

	ret = run_create(rig);
	if (ret)
		return ret;
	args.gmem_fd = new_fd;
	ret = gmem_convert(new_fd, PAGES(PAGE), PAGES(20), SHARED, NULL);
	if (!ret)
		ret = mirror_bind_args(&args);
	close(new_fd);
	new_fd = ret;
	return ret < 0 ? ret : 0;
}

TEST_F_TIMEOUT(bound, M11_H6_U7_bind_empty_file, 300)
{
	const struct sweep_call call = { run_bind, undo_new_fd, 10, true };

	sweep(_metadata, &self->s.rig, &call);
}

/* A domain comes, with large leaves, or does not come. */
static int run_attach(struct rig *rig)
{
	return mock_attach(&rig->mock, &rig->ioas);
}

static void undo_attach(struct rig *rig)
{
	mock_detach(&rig->mock);
}

TEST_F_TIMEOUT(bound, M3_M5_attach, 300)
{
	const struct sweep_call call = { run_attach, undo_attach, 5, true };
	struct rig *rig = &self->s.rig;

	mock_detach(&rig->mock);
	ASSERT_EQ(0, convert(rig, PAGE, 1, PRIVATE));
	sweep(_metadata, rig, &call);
	/* With the domain there, it is checked. */
	ASSERT_EQ(0, run_attach(rig));
	EXPECT_STREQ("", rig_read_state(rig, &last.before));
}

TEST_HARNESS_MAIN
