// SPDX-License-Identifier: GPL-2.0
/*
 * M10: what a binding maps, and what devices may do there.
 *
 * GMEM_IOMMU_POLICY_ALL needs hardware that keeps devices off private pages. No
 * emulator has that; a kernel with CONFIG_KVM_GMEM_LISTENER_TEST can pretend it. So
 * in these tests devices do reach private pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/mirror.h"
#include "lib/text.h"
#include "lib/walker.h"

#define NPAGES		64
#define SEED		0x5eed7000
#define ALL_IOVA	0x30000000ULL
#define PRETEND		"/sys/module/kvm/parameters/gmem_pretend_protected"
#define MAX_TABLE	0x100000

#define READ_WRITE	(GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_WRITE)

static int pretend_protected(bool yes)
{
	return text_write(PRETEND, yes ? "Y" : "N");
}

static int bind_policy(const struct env *env, __u32 policy, __u32 prot, __u64 iova)
{
	struct gmem_iommu_bind args = {
		.flags = prot | GMEM_IOMMU_BIND_FIXED_IOVA,
		.gmem_fd = env->vm.gmem_fd,
		.iommufd = env->ioas.iommufd,
		.ioas_id = env->ioas.id,
		.policy = policy,
		.length = env->vm.size,
		.iova = iova,
		.max_leaf_size = GMEM_PAGE_SIZE,
	};

	return mirror_bind_args(&args);
}

/* The page table of the device, as debugfs shows it; freed by the caller. */
static char *read_table(const struct edu *edu)
{
	char path[128], *text = calloc(1, MAX_TABLE);
	FILE *file;

	snprintf(path, sizeof(path),
		 "/sys/kernel/debug/iommu/intel/%s/domain_translation_struct",
		 edu->bdf);
	file = fopen(path, "r");
	if (!text || !file || !fread(text, 1, MAX_TABLE - 1, file)) {
		free(text);
		text = NULL;
	}
	if (file)
		fclose(file);
	return text;
}

static __u64 all_iova(size_t page)
{
	return ALL_IOVA + page * GMEM_PAGE_SIZE;
}

/**
 * struct rig - What the tests of GMEM_IOMMU_POLICY_ALL work on
 * @env: All pages are private and have memory; without binding
 * @all: Binding of the whole file at ALL_IOVA
 * @has_memory: PAGE_SHARED for pages that have memory, PAGE_HOLE for others
 */
struct rig {
	struct env env;
	int all;
	__u8 has_memory[NPAGES];
};

FIXTURE(all)
{
	struct rig rig;
};

FIXTURE_SETUP(all)
{
	const char *why = env_missing(1);
	struct rig *rig = &self->rig;

	if (!why && pretend_protected(true))
		why = "no " PRETEND " (CONFIG_KVM_GMEM_LISTENER_TEST)";
	if (why)
		SKIP(return, "%s", why);

	ASSERT_EQ(0, env_create_filled(&rig->env, NPAGES, false, SEED));
	memset(rig->has_memory, PAGE_SHARED, NPAGES);
	rig->all = bind_policy(&rig->env, GMEM_IOMMU_POLICY_ALL, READ_WRITE,
			       ALL_IOVA);
	ASSERT_LE(0, rig->all);
}

FIXTURE_TEARDOWN(all)
{
	if (self->rig.all >= 0)
		close(self->rig.all);
	env_destroy(&self->rig.env);
	pretend_protected(false);
}

/* Exactly what has memory translates, and leads to it where the host can tell. */
static void expect_all(struct __test_metadata *_metadata, struct rig *rig)
{
	struct env *env = &rig->env;
	size_t i;

	EXPECT_STREQ("", walker_check(env->edu[0].bdf, ALL_IOVA, rig->has_memory,
				      NPAGES, NULL));
	for (i = 0; i < NPAGES; i++)
		if (rig->has_memory[i] == PAGE_SHARED &&
		    env->model[i] == PAGE_SHARED)
			EXPECT_STREQ("", walker_check(env->edu[0].bdf,
						      all_iova(i),
						      &rig->has_memory[i], 1,
						      env_host(env, i)));
}

static bool device_reads(struct edu *edu, size_t page)
{
	return dma_read_matches(edu, all_iova(page), page * GMEM_PAGE_SIZE, SEED);
}

/* Conversions do not touch the page table: it is the same to the last bit. */
TEST_F(all, M10_conversions_change_nothing)
{
	struct gmem_iommu_stats before, after;
	struct rig *rig = &self->rig;
	struct env *env = &rig->env;
	char *table, *now;
	int i;

	expect_all(_metadata, rig);
	table = read_table(&env->edu[0]);
	ASSERT_NE(NULL, table);
	ASSERT_EQ(0, mirror_get_stats(rig->all, &before));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, env_convert(env, (i * 7) % (NPAGES - 9), 1 + i % 9,
					 i % 3 == 0));
		now = read_table(&env->edu[0]);
		ASSERT_NE(NULL, now);
		EXPECT_STREQ(table, now);
		free(now);
	}
	free(table);
	expect_all(_metadata, rig);

	ASSERT_EQ(0, mirror_get_stats(rig->all, &after));
	EXPECT_LT(before.conversions, after.conversions);
	EXPECT_EQ(before.mapped_pages, after.mapped_pages);
	EXPECT_EQ(before.unmapped_pages, after.unmapped_pages);
	EXPECT_EQ(before.syncs, after.syncs);

	ASSERT_EQ(0, env_convert(env, 10, 1, true));
	EXPECT_TRUE(device_reads(&env->edu[0], 10));
	ASSERT_EQ(0, env_convert(env, 10, 1, false));
	EXPECT_TRUE(device_reads(&env->edu[0], 10));
}

/* Both policies side by side: each follows its own rule. */
TEST_F(all, M10_M1_both_policies_in_one_ioas)
{
	struct rig *rig = &self->rig;
	struct env *env = &rig->env;

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 5, 20, false));
	ASSERT_EQ(0, env_convert(env, 9, 3, true));
	EXPECT_MIRROR(env);
	expect_all(_metadata, rig);

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 8 * GMEM_PAGE_SIZE,
				     2 * GMEM_PAGE_SIZE));
	env_set_model(env, 8, 1, PAGE_HOLE);
	memset(rig->has_memory + 8, PAGE_HOLE, 2);
	EXPECT_MIRROR(env);
	expect_all(_metadata, rig);

	/* Page 8 was shared all the time; page 9 gets memory to become shared. */
	ASSERT_EQ(0, env_convert(env, 9, 1, false));
	rig->has_memory[9] = PAGE_SHARED;
	EXPECT_MIRROR(env);
	expect_all(_metadata, rig);
}

/* Memory goes and comes, of private pages too. */
TEST_F(all, M10_M11_C12_follows_memory)
{
	struct rig *rig = &self->rig;
	struct env *env = &rig->env;

	ASSERT_EQ(0, env_convert(env, 32, 32, false));
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 20 * GMEM_PAGE_SIZE,
				     20 * GMEM_PAGE_SIZE));
	memset(rig->has_memory + 20, PAGE_HOLE, 20);
	env_set_model(env, 32, 8, PAGE_HOLE);
	expect_all(_metadata, rig);
	EXPECT_FALSE(device_reads(&env->edu[0], 25));

	/* The guest touches a private page and a shared one. */
	ASSERT_EQ(0, gmem_vm_fill(&env->vm, 25 * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE,
				  SEED));
	ASSERT_EQ(0, gmem_vm_fill(&env->vm, 35 * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE,
				  SEED));
	rig->has_memory[25] = PAGE_SHARED;
	rig->has_memory[35] = PAGE_SHARED;
	env_set_model(env, 35, 1, PAGE_SHARED);
	expect_all(_metadata, rig);
	EXPECT_TRUE(device_reads(&env->edu[0], 25));

	/* A conversion gives memory to all of its pages that have none. */
	ASSERT_EQ(0, env_convert(env, 22, 6, false));
	memset(rig->has_memory + 22, PAGE_SHARED, 6);
	expect_all(_metadata, rig);
	EXPECT_TRUE(device_reads(&env->edu[0], 25));
}

/* C12: a memslot takes everything with it, and brings it back. */
TEST_F(all, M10_C12_follows_memslots)
{
	struct rig *rig = &self->rig;
	struct env *env = &rig->env;

	ASSERT_EQ(0, env_convert(env, 3, 10, false));
	ASSERT_EQ(0, gmem_set_slot(env->vm.vm_fd, GMEM_VM_SLOT, 0, 0,
				   env->vm.gmem_fd, 0, env->vm.mem));
	EXPECT_EQ(0, walker_count(env->edu[0].bdf, ALL_IOVA, NPAGES));
	ASSERT_EQ(0, gmem_vm_create_slot(&env->vm));
	expect_all(_metadata, rig);

	gmem_vm_close_gmem(&env->vm);
	EXPECT_EQ(0, walker_count(env->edu[0].bdf, ALL_IOVA, NPAGES));
	EXPECT_EQ(1, mirror_poll_dead(rig->all));
}

/* M3: a domain that comes late gets the private pages as well. */
TEST_F(all, M10_M3_late_domain)
{
	struct rig *rig = &self->rig;
	struct env *env = &rig->env;

	if (env->bdfs.nr < 2)
		SKIP(return, "only one edu device");
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 7 * GMEM_PAGE_SIZE,
				     GMEM_PAGE_SIZE));
	rig->has_memory[7] = PAGE_HOLE;
	ASSERT_EQ(0, env_convert(env, 30, 10, false));
	ASSERT_EQ(0, env_attach_late(env, true));
	EXPECT_STREQ("", walker_check(env->edu[1].bdf, ALL_IOVA, rig->has_memory,
				      NPAGES, NULL));
	EXPECT_TRUE(device_reads(&env->edu[1], 8));
}

/* U4: the runs of the file, with what is mapped. */
TEST_F(all, M10_U4_runs)
{
	struct rig *rig = &self->rig;
	struct env *env = &rig->env;
	struct gmem_iommu_run runs[4];
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = 4,
		.runs = (unsigned long)runs,
	};

	ASSERT_EQ(0, env_convert(env, 30, NPAGES - 30, false));
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 20 * GMEM_PAGE_SIZE,
				     10 * GMEM_PAGE_SIZE));
	ASSERT_EQ(0, ioctl(rig->all, GMEM_IOMMU_QUERY_RUNS, &query));
	ASSERT_EQ(3, query.nr_runs);
	EXPECT_EQ(GMEM_IOMMU_RUN_MAPPED, runs[0].flags);
	EXPECT_EQ(20 * GMEM_PAGE_SIZE, runs[0].length);
	EXPECT_EQ(GMEM_PAGE_SIZE, runs[0].leaf_size);
	EXPECT_EQ(0, runs[1].flags);
	EXPECT_EQ(10 * GMEM_PAGE_SIZE, runs[1].length);
	EXPECT_EQ(GMEM_IOMMU_RUN_SHARED | GMEM_IOMMU_RUN_MAPPED, runs[2].flags);
	EXPECT_EQ((NPAGES - 30) * GMEM_PAGE_SIZE, runs[2].length);
}

/* Of a huge page more gets memory than what is asked for, and nobody is told. */
TEST_F(all, M10_H6_refused_for_huge_pages)
{
	struct env other = self->rig.env;
	struct hugepool pool;
	struct gmem_vm huge;
	int binding;

	if (hugepool_read(SIZE_2M, &pool) || !pool.free)
		SKIP(return, "no huge page");
	ASSERT_EQ(0, gmem_vm_create(&huge, SIZE_2M,
				    GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
				    GUEST_MEMFD_HUGE_2MB));
	other.vm.gmem_fd = huge.gmem_fd;
	EXPECT_EQ(-EOPNOTSUPP, bind_policy(&other, GMEM_IOMMU_POLICY_ALL, READ_WRITE,
					   ALL_IOVA + other.vm.size));
	binding = bind_policy(&other, GMEM_IOMMU_POLICY_SHARED_ONLY, READ_WRITE,
			      ALL_IOVA + other.vm.size);
	EXPECT_LE(0, binding);
	close(binding);
	gmem_vm_destroy(&huge);
}

/* Without such hardware it is refused, whatever else is there. */
TEST_F(all, M10_U3_refused_for_other_vms)
{
	struct gmem_iommu_info info = { .size = sizeof(info) };
	struct env *env = &self->rig.env;
	int fd;

	ASSERT_EQ(0, pretend_protected(false));
	EXPECT_EQ(-EOPNOTSUPP, bind_policy(env, GMEM_IOMMU_POLICY_ALL, READ_WRITE,
					   ALL_IOVA + env->vm.size));
	fd = open("/dev/gmem_iommu", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, GMEM_IOMMU_GET_INFO, &info));
	EXPECT_EQ(GMEM_IOMMU_FEATURE_POLICY_ALL, info.features);
	close(fd);
}

/*
 * Protection, of either policy.
 */
FIXTURE(prot)
{
	struct env env;
	int binding;
};

FIXTURE_VARIANT(prot)
{
	__u32 policy;
	__u32 prot;
	int permissions;
};

FIXTURE_VARIANT_ADD(prot, shared_only_read)
{
	.policy = GMEM_IOMMU_POLICY_SHARED_ONLY,
	.prot = GMEM_IOMMU_BIND_READ,
	.permissions = 1,
};

FIXTURE_VARIANT_ADD(prot, shared_only_write)
{
	.policy = GMEM_IOMMU_POLICY_SHARED_ONLY,
	.prot = GMEM_IOMMU_BIND_WRITE,
	.permissions = 2,
};

FIXTURE_VARIANT_ADD(prot, all_read)
{
	.policy = GMEM_IOMMU_POLICY_ALL,
	.prot = GMEM_IOMMU_BIND_READ,
	.permissions = 1,
};

FIXTURE_VARIANT_ADD(prot, all_write)
{
	.policy = GMEM_IOMMU_POLICY_ALL,
	.prot = GMEM_IOMMU_BIND_WRITE,
	.permissions = 2,
};

FIXTURE_SETUP(prot)
{
	const char *why = env_missing(1);

	if (!why && pretend_protected(true) &&
	    variant->policy == GMEM_IOMMU_POLICY_ALL)
		why = "no " PRETEND " (CONFIG_KVM_GMEM_LISTENER_TEST)";
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create_filled(&self->env, NPAGES, true, SEED));
	self->binding = bind_policy(&self->env, variant->policy, variant->prot,
				    ALL_IOVA);
	ASSERT_LE(0, self->binding);
}

FIXTURE_TEARDOWN(prot)
{
	close(self->binding);
	env_destroy(&self->env);
	pretend_protected(false);
}

/* Whether the device can read, and whether it can write, page 3. */
static void check_access(struct __test_metadata *_metadata, struct env *env,
			 int permissions)
{
	struct edu *edu = &env->edu[0];
	__u8 page[GMEM_PAGE_SIZE], host[GMEM_PAGE_SIZE];

	EXPECT_EQ(permissions, walker_permissions(edu->bdf, all_iova(3)));
	gmem_pattern(page, 3 * GMEM_PAGE_SIZE, SEED);
	ASSERT_EQ(0, host_write(env_host(env, 3), page, sizeof(page)));
	EXPECT_EQ(!!(permissions & 1), device_reads(edu, 3));

	memset(page, 0x3c, sizeof(page));
	ASSERT_EQ(0, dma_write(edu, all_iova(3), page));
	ASSERT_EQ(0, host_read(host, env_host(env, 3), sizeof(host)));
	EXPECT_EQ(!!(permissions & 2), !memcmp(page, host, sizeof(page)));
}

/* It stays what it was when the page went and came back. */
TEST_F(prot, M10_device_may_do_what_was_asked_for)
{
	struct env *env = &self->env;

	check_access(_metadata, env, variant->permissions);
	ASSERT_EQ(0, env_convert(env, 3, 1, true));
	EXPECT_EQ(variant->policy == GMEM_IOMMU_POLICY_ALL ?
		  variant->permissions : 0,
		  walker_permissions(env->edu[0].bdf, all_iova(3)));
	ASSERT_EQ(0, env_convert(env, 3, 1, false));
	check_access(_metadata, env, variant->permissions);
}

TEST_HARNESS_MAIN
