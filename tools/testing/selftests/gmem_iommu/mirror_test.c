// SPDX-License-Identifier: GPL-2.0
/*
 * The mirror of a file: what devices reach equals the shared set, after every operation
 * on the file. Each test compares the IOMMU's own page table (lib/walker.c), the
 * binding's runs and, where it says so, real DMA with the test's model.
 *
 * Other bindings and domains are in mirror_ioas_test.c, the end in mirror_close_test.c.
 *
 * GMEM_IOMMU_LONG=1 in the environment asks for more random conversions.
 *
 * Requirements: M1, M2, M7, M11, C1, C4, C7, C8, C11, C12, C14, N1, N3, N5, U4.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define NPAGES		256
#define SEED		0x5eed1000
#define OTHER_IOVA	0x30000000ULL

#define RANDOM_STEPS	100	/* with either initial state */
#define RANDOM_STEPS_LONG	1000
#define DMA_EVERY	50	/* a DMA takes 300 ms, so not in every step */

FIXTURE(mirror)
{
	struct env env;
	struct edu *edu;
	__u8 page[GMEM_PAGE_SIZE];
};

FIXTURE_SETUP(mirror)
{
	const char *why = env_missing(1);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create_filled(&self->env, NPAGES, false, SEED));
	self->edu = &self->env.edu[0];
}

FIXTURE_TEARDOWN(mirror)
{
	env_destroy(&self->env);
}

/* For what depends on the state that the file was created in (C14) */
FIXTURE(initial)
{
	struct env env;
	struct edu *edu;
};

FIXTURE_VARIANT(initial)
{
	bool shared;
};

FIXTURE_VARIANT_ADD(initial, shared)
{
	.shared = true,
};

FIXTURE_VARIANT_ADD(initial, private)
{
	.shared = false,
};

FIXTURE_SETUP(initial)
{
	const char *why = env_missing(1);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create_filled(&self->env, NPAGES, variant->shared, SEED));
	self->edu = &self->env.edu[0];
}

FIXTURE_TEARDOWN(initial)
{
	env_destroy(&self->env);
}

/* M1, M2: what is shared at the time of the bind. */
TEST_F(initial, M1_M2_C14_bind_maps_exactly_the_shared_pages)
{
	ASSERT_EQ(0, env_convert(&self->env, 3, 7, true));
	ASSERT_EQ(0, env_convert(&self->env, 100, 50, false));
	ASSERT_EQ(0, env_convert(&self->env, NPAGES - 1, 1, !variant->shared));
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));

	ASSERT_EQ(0, env_bind(&self->env));
	EXPECT_MIRROR(&self->env);

	/* Nothing beside the range */
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA - GMEM_PAGE_SIZE, 1));
	EXPECT_EQ(0, walker_count(self->edu->bdf, env_iova(NPAGES), 1));

	EXPECT_EQ(0, close(self->env.binding));
	self->env.binding = -1;
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
}

/* M11: pages that nobody has touched yet are allocated, and zero. */
TEST_F(mirror, M11_bind_allocates_missing_shared_pages)
{
	static const __u8 zero[GMEM_PAGE_SIZE];

	ASSERT_EQ(0, env_convert(&self->env, 0, NPAGES, false));
	ASSERT_EQ(0, gmem_punch_hole(self->env.vm.gmem_fd, 0,
				     self->env.vm.size));
	ASSERT_EQ(0, env_bind(&self->env));
	EXPECT_MIRROR(&self->env);
	ASSERT_EQ(0, dma_read(self->edu, env_iova(17), self->page));
	EXPECT_EQ(0, memcmp(zero, self->page, sizeof(zero)));
}

/* M2, C8, C11: by the guest's own request; contents survive both ways. */
TEST_F(mirror, M2_C8_C11_device_follows_the_guest)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, gmem_vm_map_gpa_range(&env->vm, 8 * GMEM_PAGE_SIZE,
					   8 * GMEM_PAGE_SIZE, false));
	env_set_model(env, 8, 8, PAGE_SHARED);
	ASSERT_MIRROR(&self->env);
	EXPECT_TRUE(env_device_reads(self->edu, 10, SEED));

	ASSERT_EQ(0, gmem_vm_map_gpa_range(&env->vm, 10 * GMEM_PAGE_SIZE,
					   GMEM_PAGE_SIZE, true));
	env_set_model(env, 10, 1, PAGE_PRIVATE);
	ASSERT_MIRROR(&self->env);
	EXPECT_FALSE(env_device_reads(self->edu, 10, SEED));
	EXPECT_TRUE(env_device_reads(self->edu, 9, SEED));
	EXPECT_TRUE(env_device_reads(self->edu, 11, SEED));
	EXPECT_TRUE(host_faults(env_host(env, 10)));
	EXPECT_TRUE(dma_read_faults(self->edu, env_iova(10)));

	/* The device cannot write it either. */
	memset(self->page, 0xff, sizeof(self->page));
	ASSERT_EQ(0, dma_write(self->edu, env_iova(10), self->page));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));

	ASSERT_EQ(0, gmem_vm_map_gpa_range(&env->vm, 10 * GMEM_PAGE_SIZE,
					   GMEM_PAGE_SIZE, false));
	env_set_model(env, 10, 1, PAGE_SHARED);
	ASSERT_MIRROR(&self->env);
	EXPECT_TRUE(env_device_reads(self->edu, 10, SEED));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/*
 * N3, M7: the IOTLB is flushed before the conversion returns. The IOMMU has
 * cached the translation, because the device has just used it.
 */
TEST_F(mirror, N3_M7_cached_translation_is_flushed)
{
	struct env *env = &self->env;
	int i;

	ASSERT_EQ(0, env_bind(env));
	for (i = 0; i < 5; i++) {
		size_t page = 40 + i % 2;

		ASSERT_EQ(0, env_convert(env, page, 1, false));
		ASSERT_TRUE(env_device_reads(self->edu, page, SEED));
		ASSERT_EQ(0, env_convert(env, page, 1, true));
		ASSERT_FALSE(env_device_reads(self->edu, page, SEED));
	}
	EXPECT_MIRROR(&self->env);
}

/* M2, C1, C8, C11, N5 */
TEST_F_TIMEOUT(initial, M2_C1_C8_C11_random_conversions, 1200)
{
	int steps = getenv("GMEM_IOMMU_LONG") ? RANDOM_STEPS_LONG : RANDOM_STEPS;
	struct env *env = &self->env;
	unsigned int state = 20261121;
	int i;

	ASSERT_EQ(0, env_bind(env));
	for (i = 0; i < steps; i++) {
		/* No false EAGAIN: the mirror holds no reference (N5). */
		ASSERT_EQ(0, env_convert_random(env, &state));
		ASSERT_MIRROR(env) {
			TH_LOG("step %d", i);
		}
		if (i % DMA_EVERY == DMA_EVERY - 1) {
			size_t page = rand_r(&state) % NPAGES;

			ASSERT_EQ(env->model[page] == PAGE_SHARED,
				  env_device_reads(self->edu, page, SEED));
		}
	}
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/* C12, M11: a punched page is gone for devices; a conversion brings it back. */
TEST_F(mirror, C12_M11_punch_hole_unmaps)
{
	static const __u8 zero[GMEM_PAGE_SIZE];
	struct env *env = &self->env;

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 0, NPAGES, false));
	ASSERT_EQ(0, env_convert(env, 30, 4, true));
	ASSERT_TRUE(env_device_reads(self->edu, 21, SEED));

	/* Shared pages, then a range that is partly private */
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 20 * GMEM_PAGE_SIZE,
				     3 * GMEM_PAGE_SIZE));
	env_set_model(env, 20, 3, PAGE_HOLE);
	ASSERT_MIRROR(&self->env);
	EXPECT_FALSE(env_device_reads(self->edu, 21, SEED));
	EXPECT_TRUE(env_device_reads(self->edu, 23, SEED));

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 28 * GMEM_PAGE_SIZE,
				     4 * GMEM_PAGE_SIZE));
	env_set_model(env, 28, 2, PAGE_HOLE);
	ASSERT_MIRROR(&self->env);

	/* Private, and shared again: new pages, zero. */
	ASSERT_EQ(0, env_convert(env, 20, 20, true));
	ASSERT_MIRROR(&self->env);
	ASSERT_EQ(0, env_convert(env, 20, 20, false));
	ASSERT_MIRROR(&self->env);
	ASSERT_EQ(0, dma_read(self->edu, env_iova(21), self->page));
	EXPECT_EQ(0, memcmp(zero, self->page, sizeof(zero)));
	ASSERT_EQ(0, dma_read(self->edu, env_iova(31), self->page));
	EXPECT_EQ(0, memcmp(zero, self->page, sizeof(zero)));
	EXPECT_TRUE(env_device_reads(self->edu, 33, SEED));
}

/* M11: memory that comes back to a punched place, by each of three ways. */
TEST_F(mirror, M11_allocated_again_is_mapped_again)
{
	struct env *env = &self->env;
	__u8 byte = 1;

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 0, NPAGES, false));
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 20 * GMEM_PAGE_SIZE,
				     20 * GMEM_PAGE_SIZE));
	env_set_model(env, 20, 20, PAGE_HOLE);
	ASSERT_MIRROR(&self->env);

	ASSERT_EQ(0, gmem_allocate(env->vm.gmem_fd, 22 * GMEM_PAGE_SIZE,
				   3 * GMEM_PAGE_SIZE));
	env_set_model(env, 22, 3, PAGE_SHARED);
	EXPECT_MIRROR(&self->env);

	ASSERT_EQ(0, host_write(env_host(env, 30), &byte, 1));
	env_set_model(env, 30, 1, PAGE_SHARED);
	EXPECT_MIRROR(&self->env);

	ASSERT_EQ(0, gmem_vm_fill(&env->vm, 35 * GMEM_PAGE_SIZE,
				  GMEM_PAGE_SIZE, SEED));
	env_set_model(env, 35, 1, PAGE_SHARED);
	EXPECT_MIRROR(&self->env);
	EXPECT_TRUE(env_device_reads(self->edu, 35, SEED));
}

/* C12: the last close of the file revokes; the binding is dead for good. */
TEST_F(mirror, C12_last_close_of_the_file_revokes)
{
	struct env *env = &self->env;
	struct gmem_iommu_run run;

	ASSERT_EQ(0, env_convert(env, 0, 100, false));
	ASSERT_EQ(0, env_bind(env));
	ASSERT_MIRROR(&self->env);

	gmem_vm_close_gmem(&env->vm);
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
	EXPECT_EQ(1, mirror_poll_dead(env->binding));
	EXPECT_EQ(-ENODEV, mirror_read_runs(env->binding, 0, &run, 1));
	EXPECT_EQ(1, walker_count(self->edu->bdf, IOAS_SCRATCH_IOVA, 1));
}

/* U4, C7: the generation changes with the runs, and only with them. */
TEST_F(mirror, U4_C7_generation_changes_with_the_runs)
{
	struct env *env = &self->env;
	__u64 before, after;

	ASSERT_EQ(0, env_convert(env, 0, 10, false));
	ASSERT_EQ(0, env_bind(env));
	before = mirror_generation(env->binding);
	ASSERT_NE(0, before);
	EXPECT_EQ(before, mirror_generation(env->binding));

	ASSERT_EQ(0, env_convert(env, 0, 10, false));	/* shared already */
	EXPECT_EQ(before, mirror_generation(env->binding));

	ASSERT_EQ(0, env_convert(env, 3, 1, true));
	after = mirror_generation(env->binding);
	ASSERT_NE(0, after);
	EXPECT_NE(before, after);
}

#define NR_RANGES	6

/* M7, C7: counters of pages are exact; one sync per domain and direction. */
TEST_F(mirror, M7_C7_counters)
{
	struct kvm_gmem_range ranges[NR_RANGES];
	struct gmem_iommu_stats before, after;
	struct env *env = &self->env;
	int i;

	ASSERT_EQ(0, env_convert(env, 0, NPAGES, false));
	ASSERT_EQ(0, env_bind(env));
	for (i = 0; i < NR_RANGES; i++)
		ranges[i] = (struct kvm_gmem_range) {
			.offset = (3 + 10 * i) * GMEM_PAGE_SIZE,
			.size = (i + 1) * GMEM_PAGE_SIZE,
			.target = KVM_GMEM_TARGET_PRIVATE,
		};

	/* 1 + 2 + ... + 6 pages in six ranges */
	ASSERT_EQ(0, mirror_get_stats(env->binding, &before));
	ASSERT_EQ(0, env_convert_vec(env, ranges, NR_RANGES));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &after));
	EXPECT_EQ(before.conversions + 1, after.conversions);
	EXPECT_EQ(before.unmapped_pages + 21, after.unmapped_pages);
	EXPECT_EQ(before.mapped_pages, after.mapped_pages);
	EXPECT_EQ(before.syncs + 1, after.syncs);

	/* Nothing to do: nothing is done. */
	ASSERT_EQ(0, env_convert_vec(env, ranges, NR_RANGES));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &before));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));

	/* Both directions at once */
	ranges[0].target = KVM_GMEM_TARGET_SHARED;
	ranges[1].target = KVM_GMEM_TARGET_SHARED;
	ranges[2].offset += 5 * GMEM_PAGE_SIZE;
	ASSERT_EQ(0, env_convert_vec(env, ranges, NR_RANGES));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &after));
	EXPECT_EQ(before.conversions + 1, after.conversions);
	EXPECT_EQ(before.unmapped_pages + 3, after.unmapped_pages);
	EXPECT_EQ(before.mapped_pages + 3, after.mapped_pages);
	EXPECT_GE(before.syncs + 2, after.syncs);
	EXPECT_EQ(0, after.failures);
	EXPECT_MIRROR(&self->env);
}

/* A pin refuses; the mirror stays whole and is told of the abort. */
TEST_F(mirror, C1_C4_N1_refused_conversion_changes_nothing)
{
	struct env *env = &self->env;
	int pin;

	ASSERT_EQ(0, env_convert(env, 0, 64, false));
	ASSERT_EQ(0, env_bind(env));
	pin = host_pin(env_host(env, 33), GMEM_PAGE_SIZE);
	if (pin == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, pin);

	EXPECT_EQ(-EAGAIN, env_convert(env, 10, 50, true));
	EXPECT_EQ(33 * GMEM_PAGE_SIZE, env->vm.error_offset);
	EXPECT_MIRROR(&self->env);
	EXPECT_TRUE(env_device_reads(self->edu, 12, SEED));
	EXPECT_TRUE(env_device_reads(self->edu, 33, SEED));

	/* Its neighbours are free to go. */
	EXPECT_EQ(0, env_convert(env, 32, 1, true));
	EXPECT_EQ(0, env_convert(env, 34, 1, true));
	EXPECT_MIRROR(&self->env);
	close(pin);
	EXPECT_EQ(0, env_convert(env, 10, 50, true));
	EXPECT_EQ(0, env->vm.error_offset);
	EXPECT_MIRROR(&self->env);
}

/* C4: an ordinary mapping of the host's address pins, in the same IOAS too. */
TEST_F(mirror, C4_ordinary_mapping_of_the_page_refuses)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, env_convert(env, 0, 64, false));
	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, ioas_map(&env->ioas, OTHER_IOVA, env_host(env, 20),
			      3 * GMEM_PAGE_SIZE));
	EXPECT_EQ(-EAGAIN, env_convert(env, 0, 64, true));
	EXPECT_EQ(20 * GMEM_PAGE_SIZE, env->vm.error_offset);
	EXPECT_EQ(-EAGAIN, env_convert(env, 22, 1, true));
	EXPECT_EQ(22 * GMEM_PAGE_SIZE, env->vm.error_offset);
	EXPECT_MIRROR(&self->env);
	EXPECT_TRUE(dma_read_matches(self->edu, OTHER_IOVA + GMEM_PAGE_SIZE,
				     21 * GMEM_PAGE_SIZE, SEED));

	ASSERT_EQ(0, ioas_unmap(&env->ioas, OTHER_IOVA, 3 * GMEM_PAGE_SIZE));
	EXPECT_EQ(0, env_convert(env, 0, 64, true));
	EXPECT_MIRROR(&self->env);
}

TEST_HARNESS_MAIN
