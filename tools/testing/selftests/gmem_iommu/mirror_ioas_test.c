// SPDX-License-Identifier: GPL-2.0
/*
 * The mirror and its IOAS: any range of a file at any IOVA, several times and in several
 * IOASes; domains that come later and go earlier; and areas like others, which leave
 * others alone. Each test compares the IOMMU's own page table (lib/walker.c), the
 * binding's runs and, where it says so, real DMA with the test's model.
 *
 * GMEM_IOMMU_LONG=1 in the environment asks for a larger sparse file.
 *
 * Requirements: M1, M2, M3, M8, M9, M14, U4.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/walker.h"

#define NPAGES		256
#define SEED		0x5eed1000
#define OTHER_IOVA	0x30000000ULL

FIXTURE(mirror)
{
	struct env env;
	struct edu *edu;
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

/* M1: the same range twice in one IOAS, and a part of it in a third place. */
TEST_F(mirror, M1_same_range_at_several_iovas)
{
	const __u64 third = OTHER_IOVA + 2 * NPAGES * GMEM_PAGE_SIZE;
	struct env *env = &self->env;
	int second, part, i;

	ASSERT_EQ(0, env_bind(env));
	second = mirror_bind(env->vm.gmem_fd, &env->ioas, 0, env->vm.size,
			     OTHER_IOVA);
	ASSERT_LE(0, second);
	part = mirror_bind(env->vm.gmem_fd, &env->ioas, 64 * GMEM_PAGE_SIZE,
			   64 * GMEM_PAGE_SIZE, third);
	ASSERT_LE(0, part);

	for (i = 0; i < 4; i++) {
		/* Over the start, the end and the whole of the part */
		ASSERT_EQ(0, env_convert(env, 60 + i * 4, 8, i % 2));
		ASSERT_EQ(0, env_convert(env, 120, 16, !(i % 2)));
		ASSERT_EQ(0, env_convert(env, 32, 128, i / 2));
		ASSERT_EQ(0, env_convert(env, 70, 3 + i, !(i / 2)));
		ASSERT_MIRROR(&self->env);
		ASSERT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA,
					      env->model, NPAGES, env->vm.mem));
		ASSERT_STREQ("", walker_check(self->edu->bdf, third,
					      env->model + 64, 64,
					      env_host(env, 64)));
		ASSERT_STREQ("", mirror_check_runs(second, 0, env->model,
						   NPAGES));
		ASSERT_STREQ("", mirror_check_runs(part, 64 * GMEM_PAGE_SIZE,
						   env->model + 64, 64));
	}

	/* One goes, the others stay. */
	close(second);
	EXPECT_EQ(0, walker_count(self->edu->bdf, OTHER_IOVA, NPAGES));
	EXPECT_MIRROR(&self->env);
	EXPECT_STREQ("", walker_check(self->edu->bdf, third, env->model + 64,
				      64, env_host(env, 64)));
	close(part);
}

/* M1: two files, of one VM, in one IOAS; neither hears of the other. */
TEST_F(mirror, M1_two_files_in_one_ioas)
{
	const size_t size = 32 * GMEM_PAGE_SIZE;
	struct env *env = &self->env;
	__u8 model[32];
	int fd, second;
	void *mem;

	ASSERT_EQ(0, env_bind(env));
	fd = gmem_create_fd(env->vm.vm_fd, size, GMEM_VM_SHARED);
	ASSERT_LE(0, fd);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	second = mirror_bind(fd, &env->ioas, 0, size, OTHER_IOVA);
	ASSERT_LE(0, second);

	memset(model, PAGE_SHARED, sizeof(model));
	ASSERT_EQ(0, gmem_convert(fd, 4 * GMEM_PAGE_SIZE, 3 * GMEM_PAGE_SIZE,
				  KVM_GMEM_TARGET_PRIVATE, NULL));
	memset(model + 4, PAGE_PRIVATE, 3);
	ASSERT_EQ(0, env_convert(env, 4, 20, true));
	ASSERT_EQ(0, env_convert(env, 5, 2, false));
	EXPECT_MIRROR(&self->env);
	EXPECT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA, model, 32, mem));
	EXPECT_STREQ("", mirror_check_runs(second, 0, model, 32));

	/* Side by side: the second ends where the first of the IOAS begins. */
	close(second);
	second = mirror_bind(fd, &env->ioas, 0, size, ENV_IOVA - size);
	ASSERT_LE(0, second);
	EXPECT_MIRROR(&self->env);
	EXPECT_STREQ("", walker_check(self->edu->bdf, ENV_IOVA - size, model,
				      32, mem));
	close(second);
	munmap(mem, size);
	close(fd);
}

/*
 * M8, M14: 64 TiB of which next to nothing is shared take no longer than that: what is
 * empty is passed over, by bind, attach and unbind. In steps of 2 MiB it would be hours.
 * CONFIG_IOMMU_DEBUG_PAGEALLOC looks at each page, so a kernel with that gets less.
 */
TEST_F(mirror, M1_M8_M14_sparse_file)
{
	const __u64 size = getenv("GMEM_IOMMU_LONG") ? 1ULL << 46 : 1ULL << 30;
	const __u64 iova = 1ULL << 46;
	const size_t middle = size / GMEM_PAGE_SIZE / 2 + 77;
	const __u64 last = size - GMEM_PAGE_SIZE;
	struct env *env = &self->env;
	int fd, binding;

	fd = gmem_create_fd(env->vm.vm_fd, size, GMEM_VM_PRIVATE);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, gmem_convert(fd, PAGES(middle), PAGES(3), SHARED, NULL));
	binding = mirror_bind(fd, &env->ioas, 0, size, iova);
	ASSERT_LE(0, binding);
	EXPECT_EQ(3, walker_count(self->edu->bdf, iova + PAGES(middle), 3));
	ASSERT_EQ(0, gmem_convert(fd, last, GMEM_PAGE_SIZE, SHARED, NULL));
	EXPECT_EQ(1, walker_count(self->edu->bdf, iova + last, 1));

	/* All of it, however empty. */
	ASSERT_EQ(0, gmem_convert(fd, PAGES(middle), PAGES(2), PRIVATE, NULL));
	EXPECT_EQ(0, walker_count(self->edu->bdf, iova + PAGES(middle), 2));
	EXPECT_EQ(1, walker_count(self->edu->bdf, iova + PAGES(middle + 2), 1));
	ASSERT_EQ(0, gmem_punch_hole(fd, 0, size));
	EXPECT_EQ(0, walker_count(self->edu->bdf, iova + PAGES(middle), 3));
	EXPECT_EQ(0, walker_count(self->edu->bdf, iova + last, 1));
	close(binding);
	close(fd);
}

/* M1: one file in two IOASes of two iommufds, a device in each. */
TEST_F(mirror, M1_two_ioases)
{
	struct env *env = &self->env;
	struct edu second_edu;
	struct ioas second;
	int binding;

	if (env->bdfs.nr < 2)
		SKIP(return, "only one edu device");

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, ioas_open(&second));
	ASSERT_EQ(0, edu_open(&second_edu, env->bdfs.bdf[1], second.iommufd));
	ASSERT_EQ(0, edu_attach(&second_edu, &second, second.id));
	binding = mirror_bind(env->vm.gmem_fd, &second, 0, env->vm.size,
			      OTHER_IOVA);
	ASSERT_LE(0, binding);

	ASSERT_EQ(0, env_convert(env, 50, 100, false));
	ASSERT_EQ(0, env_convert(env, 90, 5, true));
	EXPECT_MIRROR(&self->env);
	EXPECT_STREQ("", walker_check(second_edu.bdf, OTHER_IOVA, env->model,
				      NPAGES, env->vm.mem));
	EXPECT_STREQ("", mirror_check_runs(binding, 0, env->model, NPAGES));
	EXPECT_EQ(env->model[92] == PAGE_SHARED,
		  dma_read_matches(&second_edu,
				   OTHER_IOVA + 92 * GMEM_PAGE_SIZE,
				   92 * GMEM_PAGE_SIZE, SEED));

	/* The first IOAS goes entirely. */
	close(env->binding);
	env->binding = -1;
	edu_close(self->edu);
	ioas_close(&env->ioas);
	ASSERT_EQ(0, env_convert(env, 0, 60, true));
	EXPECT_STREQ("", walker_check(second_edu.bdf, OTHER_IOVA, env->model,
				      NPAGES, env->vm.mem));

	close(binding);
	edu_close(&second_edu);
	ioas_close(&second);
}

/* M1, M2: the binding is a window into the file; conversions overlap its ends. */
TEST_F(mirror, M1_part_of_a_file)
{
	const size_t first = 37, npages = 90;
	struct env *env = &self->env;
	int binding, i;

	binding = mirror_bind(env->vm.gmem_fd, &env->ioas,
			      first * GMEM_PAGE_SIZE, npages * GMEM_PAGE_SIZE,
			      OTHER_IOVA);
	ASSERT_LE(0, binding);
	for (i = 0; i < 2; i++) {
		bool private = i;

		ASSERT_EQ(0, env_convert(env, first - 5, 10, private));
		ASSERT_EQ(0, env_convert(env, first + npages - 3, 20, private));
		ASSERT_EQ(0, env_convert(env, 0, first - 5, private));
		ASSERT_EQ(0, env_convert(env, first + npages + 20, 10, private));
		EXPECT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA,
					      env->model + first, npages,
					      env_host(env, first)));
		EXPECT_STREQ("", mirror_check_runs(binding,
						   first * GMEM_PAGE_SIZE,
						   env->model + first, npages));
		EXPECT_EQ(0, walker_count(self->edu->bdf,
					  OTHER_IOVA - 5 * GMEM_PAGE_SIZE, 5));
		EXPECT_EQ(0, walker_count(self->edu->bdf, OTHER_IOVA +
					  npages * GMEM_PAGE_SIZE, 30));
	}
	close(binding);
}

/* M3: attach after the bind replays the shared set; detach leaves the others. */
TEST_F(mirror, M3_attach_late_detach_reattach)
{
	struct env *env = &self->env;
	struct edu *late = &env->edu[1];
	int i;

	if (env->bdfs.nr < 2)
		SKIP(return, "only one edu device");

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 20, 50, false));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, env_attach_late(env, i % 2));
		ASSERT_MIRROR(&self->env);
		ASSERT_EQ(0, env_convert(env, 30 + 10 * i, 25, i % 2));
		ASSERT_MIRROR(&self->env);
		ASSERT_EQ(0, env_detach_late(env));
		ASSERT_EQ(0, env_convert(env, 35 + 10 * i, 5, !(i % 2)));
		ASSERT_MIRROR(&self->env);
	}

	/* The first domain of the IOAS goes, the second stays. */
	ASSERT_EQ(0, env_attach_late(env, true));
	ASSERT_EQ(0, edu_detach(self->edu));
	ASSERT_EQ(0, env_convert(env, 0, 128, false));
	ASSERT_EQ(0, env_convert(env, 9, 9, true));
	ASSERT_MIRROR(&self->env);
	EXPECT_TRUE(env_device_reads(late, 8, SEED));
	EXPECT_FALSE(env_device_reads(late, 9, SEED));

	/* No domain at all, then all again */
	ASSERT_EQ(0, env_detach_late(env));
	ASSERT_EQ(0, env_convert(env, 10, 3, false));
	ASSERT_MIRROR(&self->env);
	ASSERT_EQ(0, edu_attach(self->edu, &env->ioas, env->ioas.id));
	ASSERT_EQ(0, env_attach_late(env, true));
	ASSERT_MIRROR(&self->env);
}

/* M2, M3: a domain without a device is a domain of the IOAS too. */
TEST_F(mirror, M2_M3_domain_without_a_device_follows)
{
	struct env *env = &self->env;
	__u32 hwpt;

	ASSERT_EQ(0, ioas_hwpt_alloc(&env->ioas, self->edu->dev_id, 0, &hwpt));
	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 20, 50, false));
	ASSERT_EQ(0, env_convert(env, 30, 5, true));

	/* The device changes over to it, in one step. */
	ASSERT_EQ(0, edu_attach(self->edu, &env->ioas, hwpt));
	ASSERT_MIRROR(&self->env);
	ASSERT_EQ(0, env_convert(env, 32, 10, true));
	ASSERT_MIRROR(&self->env);
	EXPECT_EQ(env->model[35] == PAGE_SHARED,
		  env_device_reads(self->edu, 35, SEED));
}

struct converter {
	struct env *env;
	unsigned int state;
	bool stop;
	int ret;
	unsigned long requests;
};

static void *convert_until_stopped(void *arg)
{
	struct converter *c = arg;

	while (!c->ret && !__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		c->ret = env_convert_random(c->env, &c->state);
		c->requests++;
	}
	return NULL;
}

/* M3: a device comes and goes while conversions run. */
TEST_F(mirror, M3_attach_and_detach_while_converting)
{
	struct converter c = { .env = &self->env, .state = 4711 };
	struct env *env = &self->env;
	pthread_t thread;
	int i;

	if (env->bdfs.nr < 2)
		SKIP(return, "only one edu device");

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, pthread_create(&thread, NULL, convert_until_stopped, &c));
	for (i = 0; i < 20; i++) {
		EXPECT_EQ(0, env_attach_late(env, i % 2));
		usleep(20000);
		EXPECT_EQ(0, env_detach_late(env));
	}
	EXPECT_EQ(0, env_attach_late(env, true));
	__atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));

	EXPECT_EQ(0, c.ret);
	EXPECT_LT(20, c.requests);
	EXPECT_MIRROR(&self->env);
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/* M9, U4: unmapping the whole area unbinds. */
TEST_F(mirror, M9_U4_unmap_of_the_whole_area_unbinds)
{
	struct env *env = &self->env;
	struct gmem_iommu_run run;

	ASSERT_EQ(0, env_bind(env));
	EXPECT_EQ(0, mirror_poll_dead(env->binding));

	ASSERT_EQ(0, ioas_unmap(&env->ioas, ENV_IOVA, env->vm.size));
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
	EXPECT_EQ(1, mirror_poll_dead(env->binding));
	EXPECT_EQ(-ENODEV, mirror_read_runs(env->binding, 0, &run, 1));

	/* The guest goes on, and the place can be used again. */
	ASSERT_EQ(0, env_convert(env, 0, 10, false));
	ASSERT_EQ(0, env_convert(env, 5, 2, true));
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
	close(env->binding);
	ASSERT_EQ(0, env_bind(env));
	EXPECT_MIRROR(&self->env);
}

/* M9: parts cannot be unmapped, nothing can be mapped over it. */
TEST_F(mirror, M9_part_unmap_and_map_over_are_refused)
{
	struct env *env = &self->env;
	void *mem;

	ASSERT_EQ(0, env_convert(env, 10, 20, false));
	ASSERT_EQ(0, env_bind(env));

	EXPECT_EQ(-ENOENT, ioas_unmap(&env->ioas, ENV_IOVA, GMEM_PAGE_SIZE));
	EXPECT_EQ(-ENOENT, ioas_unmap(&env->ioas, env_iova(3),
				      4 * GMEM_PAGE_SIZE));
	EXPECT_EQ(-ENOENT, ioas_unmap(&env->ioas, env_iova(NPAGES - 1),
				      2 * GMEM_PAGE_SIZE));

	mem = mmap(NULL, 4 * GMEM_PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	/* Over shared pages, over private ones, over the end */
	EXPECT_EQ(-EEXIST, ioas_map(&env->ioas, env_iova(12), mem,
				    GMEM_PAGE_SIZE));
	EXPECT_EQ(-EEXIST, ioas_map(&env->ioas, env_iova(100), mem,
				    GMEM_PAGE_SIZE));
	EXPECT_EQ(-EEXIST, ioas_map(&env->ioas, env_iova(NPAGES - 1), mem,
				    4 * GMEM_PAGE_SIZE));
	EXPECT_EQ(-EEXIST, mirror_bind(env->vm.gmem_fd, &env->ioas, 0,
				       GMEM_PAGE_SIZE, env_iova(NPAGES - 1)));

	EXPECT_EQ(0, mirror_poll_dead(env->binding));
	EXPECT_MIRROR(&self->env);
	ASSERT_EQ(0, env_convert(env, 0, 40, true));
	EXPECT_MIRROR(&self->env);
}

/* M9: an IOAS is destroyed with a binding in it. */
TEST_F(mirror, M9_destroy_of_the_ioas_unbinds)
{
	struct env *env = &self->env;
	struct gmem_iommu_run run;
	struct ioas doomed;
	int binding;

	ASSERT_EQ(0, ioas_open_in(&doomed, env->ioas.iommufd));
	ASSERT_EQ(0, env_bind(env));
	binding = mirror_bind(env->vm.gmem_fd, &doomed, 0, env->vm.size,
			      ENV_IOVA);
	ASSERT_LE(0, binding);

	ASSERT_EQ(0, iommufd_destroy(doomed.iommufd, doomed.id));
	EXPECT_EQ(1, mirror_poll_dead(binding));
	EXPECT_EQ(-ENODEV, mirror_read_runs(binding, 0, &run, 1));
	ASSERT_EQ(0, env_convert(env, 7, 7, false));
	EXPECT_MIRROR(&self->env);
	close(binding);
	EXPECT_MIRROR(&self->env);
}

/* M9: ordinary mappings before, behind and between are left alone. */
TEST_F(mirror, M9_other_mappings_are_untouched)
{
	struct env *env = &self->env;
	const __u64 before = ENV_IOVA - 4 * GMEM_PAGE_SIZE;
	const __u64 behind = env_iova(NPAGES);
	__u8 all[4] = { PAGE_SHARED, PAGE_SHARED, PAGE_SHARED, PAGE_SHARED };
	int i;
	void *mem;

	mem = mmap(NULL, 4 * GMEM_PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	gmem_pattern(mem, 0, SEED);
	ASSERT_EQ(0, ioas_map(&env->ioas, before, mem, 4 * GMEM_PAGE_SIZE));
	ASSERT_EQ(0, ioas_map(&env->ioas, behind, mem, 4 * GMEM_PAGE_SIZE));

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, env_bind(env));
		ASSERT_EQ(0, env_convert(env, 0, NPAGES, i % 2));
		ASSERT_EQ(0, env_convert(env, 0, 1, !(i % 2)));
		ASSERT_EQ(0, env_convert(env, NPAGES - 1, 1, !(i % 2)));
		ASSERT_MIRROR(&self->env);
		EXPECT_STREQ("", walker_check(self->edu->bdf, before, all, 4, mem));
		EXPECT_STREQ("", walker_check(self->edu->bdf, behind, all, 4, mem));
		close(env->binding);
		env->binding = -1;
		EXPECT_STREQ("", walker_check(self->edu->bdf, before, all, 4, mem));
		EXPECT_STREQ("", walker_check(self->edu->bdf, behind, all, 4, mem));
	}
	EXPECT_TRUE(dma_read_matches(self->edu, behind, 0, SEED));
}

TEST_HARNESS_MAIN
