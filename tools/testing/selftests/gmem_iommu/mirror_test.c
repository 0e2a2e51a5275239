// SPDX-License-Identifier: GPL-2.0
/*
 * The mirror: what devices reach equals the shared set, after every operation, in
 * every domain. Each test compares the IOMMU's own page table (lib/walker.c), the
 * binding's runs and, where it says so, real DMA with the test's model.
 *
 * Requirements: M1, M2, M3, M7, M9, M11, M14, C1, C4, C7, C8, C11, C12,
 * C14, N3, N5, U4.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/walker.h"

#define NPAGES		256
#define SEED		0x5eed1000
#define OTHER_IOVA	0x30000000ULL

#define RANDOM_STEPS	250	/* with either initial state */
#define RANDOM_RANGES	6	/* most ranges of a random request */
#define DMA_EVERY	50	/* a DMA takes 300 ms, so not in every step */

#define NR_ORDERS	24	/* of 120 */

#define EXPECT_MIRROR() EXPECT_STREQ("", env_check(&self->env))
#define ASSERT_MIRROR() ASSERT_STREQ("", env_check(&self->env))

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
	ASSERT_EQ(0, env_create(&self->env, NPAGES, false));
	self->edu = &self->env.edu[0];
	ASSERT_EQ(0, gmem_vm_fill(&self->env.vm, 0, self->env.vm.size, SEED));
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
	ASSERT_EQ(0, env_create(&self->env, NPAGES, variant->shared));
	self->edu = &self->env.edu[0];
	ASSERT_EQ(0, gmem_vm_fill(&self->env.vm, 0, self->env.vm.size, SEED));
}

FIXTURE_TEARDOWN(initial)
{
	env_destroy(&self->env);
}

/* The device receives the contents of the page. */
static bool device_reads(struct edu *edu, __u64 iova, size_t page)
{
	__u8 buf[GMEM_PAGE_SIZE];

	return !dma_read(edu, iova, buf) &&
	       gmem_pattern_matches(buf, page * GMEM_PAGE_SIZE, SEED);
}

/* M1, M2: what is shared at the time of the bind. */
TEST_F(initial, M1_M2_C14_bind_maps_exactly_the_shared_pages)
{
	ASSERT_EQ(0, env_convert(&self->env, 3, 7, true));
	ASSERT_EQ(0, env_convert(&self->env, 100, 50, false));
	ASSERT_EQ(0, env_convert(&self->env, NPAGES - 1, 1, !variant->shared));
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));

	ASSERT_EQ(0, env_bind(&self->env));
	EXPECT_MIRROR();

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
	EXPECT_MIRROR();
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
	ASSERT_MIRROR();
	EXPECT_TRUE(device_reads(self->edu, env_iova(10), 10));

	ASSERT_EQ(0, gmem_vm_map_gpa_range(&env->vm, 10 * GMEM_PAGE_SIZE,
					   GMEM_PAGE_SIZE, true));
	env_set_model(env, 10, 1, PAGE_PRIVATE);
	ASSERT_MIRROR();
	EXPECT_FALSE(device_reads(self->edu, env_iova(10), 10));
	EXPECT_TRUE(device_reads(self->edu, env_iova(9), 9));
	EXPECT_TRUE(device_reads(self->edu, env_iova(11), 11));
	EXPECT_TRUE(host_faults(env_host(env, 10)));
	EXPECT_TRUE(dma_read_faults(self->edu, env_iova(10)));

	/* The device cannot write it either. */
	memset(self->page, 0xff, sizeof(self->page));
	ASSERT_EQ(0, dma_write(self->edu, env_iova(10), self->page));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));

	ASSERT_EQ(0, gmem_vm_map_gpa_range(&env->vm, 10 * GMEM_PAGE_SIZE,
					   GMEM_PAGE_SIZE, false));
	env_set_model(env, 10, 1, PAGE_SHARED);
	ASSERT_MIRROR();
	EXPECT_TRUE(device_reads(self->edu, env_iova(10), 10));
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
		ASSERT_TRUE(device_reads(self->edu, env_iova(page), page));
		ASSERT_EQ(0, env_convert(env, page, 1, true));
		ASSERT_FALSE(device_reads(self->edu, env_iova(page), page));
	}
	EXPECT_MIRROR();
}

static size_t random_below(unsigned int *state, size_t limit)
{
	return rand_r(state) % limit;
}

/*
 * A random request: ranges in random order and mixed directions that do not
 * overlap, because each lies in its own part of the file.
 */
static __u32 random_request(unsigned int *state, size_t npages,
			    struct kvm_gmem_range *ranges)
{
	__u32 nr = 1 + random_below(state, RANDOM_RANGES), i, j;
	size_t part = npages / nr, first, len;
	struct kvm_gmem_range tmp;

	for (i = 0; i < nr; i++) {
		first = random_below(state, part);
		len = 1 + random_below(state, part - first);
		ranges[i] = (struct kvm_gmem_range) {
			.offset = (i * part + first) * GMEM_PAGE_SIZE,
			.size = len * GMEM_PAGE_SIZE,
			.target = random_below(state, 2) ?
				  KVM_GMEM_TARGET_PRIVATE :
				  KVM_GMEM_TARGET_SHARED,
		};
	}
	for (i = nr - 1; i > 0; i--) {
		j = random_below(state, i + 1);
		tmp = ranges[i];
		ranges[i] = ranges[j];
		ranges[j] = tmp;
	}
	return nr;
}

/* M2, C1, C8, C11, N5 */
TEST_F(initial, M2_C1_C8_C11_random_conversions)
{
	struct kvm_gmem_range ranges[RANDOM_RANGES];
	struct env *env = &self->env;
	unsigned int state = 20261121;
	__u32 nr;
	int i;

	ASSERT_EQ(0, env_bind(env));
	for (i = 0; i < RANDOM_STEPS; i++) {
		nr = random_request(&state, NPAGES, ranges);
		/* No false EAGAIN: the mirror holds no reference (N5). */
		ASSERT_EQ(0, env_convert_vec(env, ranges, nr));
		ASSERT_STREQ("", env_check(env)) {
			TH_LOG("step %d", i);
		}
		if (i % DMA_EVERY == DMA_EVERY - 1) {
			size_t page = random_below(&state, NPAGES);

			ASSERT_EQ(env->model[page] == PAGE_SHARED,
				  device_reads(self->edu, env_iova(page), page));
		}
	}
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
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
		ASSERT_MIRROR();
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
	EXPECT_MIRROR();
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
	EXPECT_MIRROR();
	EXPECT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA, model, 32, mem));
	EXPECT_STREQ("", mirror_check_runs(second, 0, model, 32));

	/* Side by side: the second ends where the first of the IOAS begins. */
	close(second);
	second = mirror_bind(fd, &env->ioas, 0, size, ENV_IOVA - size);
	ASSERT_LE(0, second);
	EXPECT_MIRROR();
	EXPECT_STREQ("", walker_check(self->edu->bdf, ENV_IOVA - size, model,
				      32, mem));
	close(second);
	munmap(mem, size);
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
	EXPECT_MIRROR();
	EXPECT_STREQ("", walker_check(second_edu.bdf, OTHER_IOVA, env->model,
				      NPAGES, env->vm.mem));
	EXPECT_STREQ("", mirror_check_runs(binding, 0, env->model, NPAGES));
	EXPECT_EQ(env->model[92] == PAGE_SHARED,
		  device_reads(&second_edu, OTHER_IOVA + 92 * GMEM_PAGE_SIZE, 92));

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
		ASSERT_MIRROR();
		ASSERT_EQ(0, env_convert(env, 30 + 10 * i, 25, i % 2));
		ASSERT_MIRROR();
		ASSERT_EQ(0, env_detach_late(env));
		ASSERT_EQ(0, env_convert(env, 35 + 10 * i, 5, !(i % 2)));
		ASSERT_MIRROR();
	}

	/* The first domain of the IOAS goes, the second stays. */
	ASSERT_EQ(0, env_attach_late(env, true));
	ASSERT_EQ(0, edu_detach(self->edu));
	ASSERT_EQ(0, env_convert(env, 0, 128, false));
	ASSERT_EQ(0, env_convert(env, 9, 9, true));
	ASSERT_MIRROR();
	EXPECT_TRUE(device_reads(late, env_iova(8), 8));
	EXPECT_FALSE(device_reads(late, env_iova(9), 9));

	/* No domain at all, then all again */
	ASSERT_EQ(0, env_detach_late(env));
	ASSERT_EQ(0, env_convert(env, 10, 3, false));
	ASSERT_MIRROR();
	ASSERT_EQ(0, edu_attach(self->edu, &env->ioas, env->ioas.id));
	ASSERT_EQ(0, env_attach_late(env, true));
	ASSERT_MIRROR();
}

/* M2, M3: a domain without a device is a domain of the IOAS too. */
TEST_F(mirror, M2_M3_domain_without_a_device_follows)
{
	struct env *env = &self->env;
	__u32 hwpt;

	ASSERT_EQ(0, ioas_hwpt_alloc(&env->ioas, self->edu->dev_id, &hwpt));
	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 20, 50, false));
	ASSERT_EQ(0, env_convert(env, 30, 5, true));

	/* The device changes over to it, in one step. */
	ASSERT_EQ(0, edu_attach(self->edu, &env->ioas, hwpt));
	ASSERT_MIRROR();
	ASSERT_EQ(0, env_convert(env, 32, 10, true));
	ASSERT_MIRROR();
	EXPECT_EQ(env->model[35] == PAGE_SHARED,
		  device_reads(self->edu, env_iova(35), 35));
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
	struct kvm_gmem_range ranges[RANDOM_RANGES];
	struct converter *c = arg;
	__u32 nr;

	while (!c->ret && !__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		nr = random_request(&c->state, c->env->npages, ranges);
		c->ret = env_convert_vec(c->env, ranges, nr);
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
	EXPECT_MIRROR();
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

static int query_once(int binding, __u64 *generation)
{
	struct gmem_iommu_run run;
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = 1,
		.runs = (unsigned long)&run,
	};

	if (ioctl(binding, GMEM_IOMMU_QUERY_RUNS, &query))
		return -errno;
	if (generation)
		*generation = query.generation;
	return 0;
}

/* M9, U4: unmapping the whole area unbinds. */
TEST_F(mirror, M9_U4_unmap_of_the_whole_area_unbinds)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, env_bind(env));
	EXPECT_EQ(0, mirror_poll_dead(env->binding));

	ASSERT_EQ(0, ioas_unmap(&env->ioas, ENV_IOVA, env->vm.size));
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
	EXPECT_EQ(1, mirror_poll_dead(env->binding));
	EXPECT_EQ(-ENODEV, query_once(env->binding, NULL));

	/* The guest goes on, and the place can be used again. */
	ASSERT_EQ(0, env_convert(env, 0, 10, false));
	ASSERT_EQ(0, env_convert(env, 5, 2, true));
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
	close(env->binding);
	ASSERT_EQ(0, env_bind(env));
	EXPECT_MIRROR();
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
	EXPECT_MIRROR();
	ASSERT_EQ(0, env_convert(env, 0, 40, true));
	EXPECT_MIRROR();
}

/* M9: an IOAS is destroyed with a binding in it. */
TEST_F(mirror, M9_destroy_of_the_ioas_unbinds)
{
	struct env *env = &self->env;
	struct ioas doomed;
	int binding;

	ASSERT_EQ(0, ioas_open_in(&doomed, env->ioas.iommufd));
	ASSERT_EQ(0, env_bind(env));
	binding = mirror_bind(env->vm.gmem_fd, &doomed, 0, env->vm.size,
			      ENV_IOVA);
	ASSERT_LE(0, binding);

	ASSERT_EQ(0, iommufd_destroy(doomed.iommufd, doomed.id));
	EXPECT_EQ(1, mirror_poll_dead(binding));
	EXPECT_EQ(-ENODEV, query_once(binding, NULL));
	ASSERT_EQ(0, env_convert(env, 7, 7, false));
	EXPECT_MIRROR();
	close(binding);
	EXPECT_MIRROR();
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
		ASSERT_MIRROR();
		EXPECT_STREQ("", walker_check(self->edu->bdf, before, all, 4, mem));
		EXPECT_STREQ("", walker_check(self->edu->bdf, behind, all, 4, mem));
		close(env->binding);
		env->binding = -1;
		EXPECT_STREQ("", walker_check(self->edu->bdf, before, all, 4, mem));
		EXPECT_STREQ("", walker_check(self->edu->bdf, behind, all, 4, mem));
	}
	EXPECT_TRUE(device_reads(self->edu, behind, 0));
}

/* C12, M11: a punched page is gone for devices; a conversion brings it back. */
TEST_F(mirror, C12_M11_punch_hole_unmaps)
{
	static const __u8 zero[GMEM_PAGE_SIZE];
	struct env *env = &self->env;

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 0, NPAGES, false));
	ASSERT_EQ(0, env_convert(env, 30, 4, true));
	ASSERT_TRUE(device_reads(self->edu, env_iova(21), 21));

	/* Shared pages, then a range that is partly private */
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 20 * GMEM_PAGE_SIZE,
				     3 * GMEM_PAGE_SIZE));
	env_set_model(env, 20, 3, PAGE_HOLE);
	ASSERT_MIRROR();
	EXPECT_FALSE(device_reads(self->edu, env_iova(21), 21));
	EXPECT_TRUE(device_reads(self->edu, env_iova(23), 23));

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 28 * GMEM_PAGE_SIZE,
				     4 * GMEM_PAGE_SIZE));
	env_set_model(env, 28, 2, PAGE_HOLE);
	ASSERT_MIRROR();

	/* Private, and shared again: new pages, zero. */
	ASSERT_EQ(0, env_convert(env, 20, 20, true));
	ASSERT_MIRROR();
	ASSERT_EQ(0, env_convert(env, 20, 20, false));
	ASSERT_MIRROR();
	ASSERT_EQ(0, dma_read(self->edu, env_iova(21), self->page));
	EXPECT_EQ(0, memcmp(zero, self->page, sizeof(zero)));
	ASSERT_EQ(0, dma_read(self->edu, env_iova(31), self->page));
	EXPECT_EQ(0, memcmp(zero, self->page, sizeof(zero)));
	EXPECT_TRUE(device_reads(self->edu, env_iova(33), 33));
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
	ASSERT_MIRROR();

	ASSERT_EQ(0, gmem_allocate(env->vm.gmem_fd, 22 * GMEM_PAGE_SIZE,
				   3 * GMEM_PAGE_SIZE));
	env_set_model(env, 22, 3, PAGE_SHARED);
	EXPECT_MIRROR();

	ASSERT_EQ(0, host_write(env_host(env, 30), &byte, 1));
	env_set_model(env, 30, 1, PAGE_SHARED);
	EXPECT_MIRROR();

	ASSERT_EQ(0, gmem_vm_fill(&env->vm, 35 * GMEM_PAGE_SIZE,
				  GMEM_PAGE_SIZE, SEED));
	env_set_model(env, 35, 1, PAGE_SHARED);
	EXPECT_MIRROR();
	EXPECT_TRUE(device_reads(self->edu, env_iova(35), 35));
}

/* C12: the last close of the file revokes; the binding is dead for good. */
TEST_F(mirror, C12_last_close_of_the_file_revokes)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, env_convert(env, 0, 100, false));
	ASSERT_EQ(0, env_bind(env));
	ASSERT_MIRROR();

	gmem_vm_close_gmem(&env->vm);
	EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
	EXPECT_EQ(1, mirror_poll_dead(env->binding));
	EXPECT_EQ(-ENODEV, query_once(env->binding, NULL));
	EXPECT_EQ(1, walker_count(self->edu->bdf, IOAS_SCRATCH_IOVA, 1));
}

/* U4, C7: the generation changes with the runs, and only with them. */
TEST_F(mirror, U4_C7_generation_changes_with_the_runs)
{
	struct env *env = &self->env;
	__u64 before = 0, after = 0;

	ASSERT_EQ(0, env_convert(env, 0, 10, false));
	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, query_once(env->binding, &before));
	ASSERT_EQ(0, query_once(env->binding, &after));
	EXPECT_EQ(before, after);

	ASSERT_EQ(0, env_convert(env, 0, 10, false));	/* shared already */
	ASSERT_EQ(0, query_once(env->binding, &after));
	EXPECT_EQ(before, after);

	ASSERT_EQ(0, env_convert(env, 3, 1, true));
	ASSERT_EQ(0, query_once(env->binding, &after));
	EXPECT_NE(before, after);
}

/* M7, C7: counters of pages are exact; one sync per domain and direction. */
TEST_F(mirror, M7_C7_counters)
{
	struct kvm_gmem_range ranges[RANDOM_RANGES];
	struct gmem_iommu_stats before, after;
	struct env *env = &self->env;
	int i;

	ASSERT_EQ(0, env_convert(env, 0, NPAGES, false));
	ASSERT_EQ(0, env_bind(env));
	for (i = 0; i < RANDOM_RANGES; i++)
		ranges[i] = (struct kvm_gmem_range) {
			.offset = (3 + 10 * i) * GMEM_PAGE_SIZE,
			.size = (i + 1) * GMEM_PAGE_SIZE,
			.target = KVM_GMEM_TARGET_PRIVATE,
		};

	/* 1 + 2 + ... + 6 pages in six ranges */
	ASSERT_EQ(0, mirror_get_stats(env->binding, &before));
	ASSERT_EQ(0, env_convert_vec(env, ranges, RANDOM_RANGES));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &after));
	EXPECT_EQ(before.conversions + 1, after.conversions);
	EXPECT_EQ(before.unmapped_pages + 21, after.unmapped_pages);
	EXPECT_EQ(before.mapped_pages, after.mapped_pages);
	EXPECT_EQ(before.syncs + 1, after.syncs);

	/* Nothing to do: nothing is done. */
	ASSERT_EQ(0, env_convert_vec(env, ranges, RANDOM_RANGES));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &before));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));

	/* Both directions at once */
	ranges[0].target = KVM_GMEM_TARGET_SHARED;
	ranges[1].target = KVM_GMEM_TARGET_SHARED;
	ranges[2].offset += 5 * GMEM_PAGE_SIZE;
	ASSERT_EQ(0, env_convert_vec(env, ranges, RANDOM_RANGES));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &after));
	EXPECT_EQ(before.conversions + 1, after.conversions);
	EXPECT_EQ(before.unmapped_pages + 3, after.unmapped_pages);
	EXPECT_EQ(before.mapped_pages + 3, after.mapped_pages);
	EXPECT_GE(before.syncs + 2, after.syncs);
	EXPECT_EQ(0, after.failures);
	EXPECT_MIRROR();
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
	EXPECT_MIRROR();
	EXPECT_TRUE(device_reads(self->edu, env_iova(12), 12));
	EXPECT_TRUE(device_reads(self->edu, env_iova(33), 33));

	/* Its neighbours are free to go. */
	EXPECT_EQ(0, env_convert(env, 32, 1, true));
	EXPECT_EQ(0, env_convert(env, 34, 1, true));
	EXPECT_MIRROR();
	close(pin);
	EXPECT_EQ(0, env_convert(env, 10, 50, true));
	EXPECT_EQ(0, env->vm.error_offset);
	EXPECT_MIRROR();
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
	EXPECT_MIRROR();
	EXPECT_TRUE(device_reads(self->edu, OTHER_IOVA + GMEM_PAGE_SIZE, 21));

	ASSERT_EQ(0, ioas_unmap(&env->ioas, OTHER_IOVA, 3 * GMEM_PAGE_SIZE));
	EXPECT_EQ(0, env_convert(env, 0, 64, true));
	EXPECT_MIRROR();
}

/*
 * M14: lifetime. These build everything anew many times, so there is no variant.
 */
FIXTURE(lifetime)
{
	struct env env;
};

FIXTURE_SETUP(lifetime)
{
	const char *why = env_missing(1);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(&self->env, NPAGES, true));
}

FIXTURE_TEARDOWN(lifetime)
{
	env_destroy(&self->env);
}

enum { OBJ_GMEM, OBJ_VM, OBJ_IOMMUFD, OBJ_DEVICE, OBJ_BINDING, NR_OBJS };

static void close_object(struct env *env, int obj)
{
	switch (obj) {
	case OBJ_GMEM:
		gmem_vm_close_gmem(&env->vm);
		break;
	case OBJ_VM:
		gmem_vm_close_vm(&env->vm);
		break;
	case OBJ_IOMMUFD:
		ioas_close(&env->ioas);
		break;
	case OBJ_DEVICE:
		edu_close(&env->edu[0]);
		break;
	default:
		close(env->binding);
		env->binding = -1;
		break;
	}
}

/* The @n-th of the 120 permutations. */
static void permutation(int n, int *order)
{
	int rest[NR_OBJS] = { 0, 1, 2, 3, 4 };
	int left, i, pick;

	for (left = NR_OBJS; left > 0; left--) {
		pick = n % left;
		n /= left;
		order[NR_OBJS - left] = rest[pick];
		for (i = pick; i < left - 1; i++)
			rest[i] = rest[i + 1];
	}
}

/*
 * M14: devices reach the memory as long as the file, the device and the binding
 * live. To open and close the device takes a second on a debug kernel: by default
 * these are NR_ORDERS of the 120 orders, each object first and last in some; all
 * of them with GMEM_IOMMU_LONG=1 in the environment.
 */
TEST_F_TIMEOUT(lifetime, M14_closing_orders, 1000)
{
	const size_t npages = 16;
	struct env *env = &self->env;
	int nr_orders = getenv("GMEM_IOMMU_LONG") ? 120 : NR_ORDERS;
	int order[NR_OBJS];
	long want;
	int n, i;

	env_destroy(env);
	for (n = 0; n < nr_orders; n++) {
		ASSERT_EQ(0, env_create(env, npages, true));
		ASSERT_EQ(0, env_convert(env, 3, 5, true));
		ASSERT_EQ(0, env_bind(env));
		permutation(n * 37 % 120, order);
		for (i = 0; i < NR_OBJS; i++) {
			close_object(env, order[i]);
			if (env->edu[0].fd < 0)
				continue;
			want = npages - 5;
			if (env->vm.gmem_fd < 0 || env->binding < 0)
				want = 0;
			ASSERT_EQ(want, walker_count(env->edu[0].bdf, ENV_IOVA,
						     npages)) {
				TH_LOG("order %d %d %d %d %d, after %d", order[0],
				       order[1], order[2], order[3], order[4],
				       i + 1);
			}
		}
		env_destroy(env);
	}
}

/* A child that works until it is killed; it never returns. */
static void work_forever(void)
{
	struct kvm_gmem_range ranges[RANDOM_RANGES];
	unsigned int state = getpid();
	struct env env;
	__u32 nr;
	int i;

	for (;;) {
		if (env_create(&env, 64, true) || env_bind(&env))
			_exit(1);
		for (i = 0; i < 50; i++) {
			nr = random_request(&state, 64, ranges);
			if (env_convert_vec(&env, ranges, nr))
				_exit(2);
		}
		env_destroy(&env);
	}
}

/* M14: SIGKILL at any point leaves nothing behind. */
TEST_F(lifetime, M14_sigkill_at_any_point)
{
	struct env *env = &self->env;
	int i, status;
	pid_t pid;

	env_destroy(env);
	for (i = 0; i < 20; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			work_forever();
		usleep(10000 * i);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status)) {
			TH_LOG("round %d: child exited with %d", i,
			       WEXITSTATUS(status));
		}
	}

	/* The device and the place are free. */
	ASSERT_EQ(0, env_create(env, NPAGES, true));
	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 3, 3, true));
	EXPECT_MIRROR();
}

/* M14: a fork that outlives the parent's close keeps the binding alive. */
TEST_F(lifetime, M14_binding_shared_with_a_child)
{
	struct env *env = &self->env;
	int pipefd[2], status;
	pid_t pid;
	char byte;

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(pipefd[1]);
		if (read(pipefd[0], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}

	close(env->binding);
	env->binding = -1;
	EXPECT_EQ(NPAGES, walker_count(env->edu[0].bdf, ENV_IOVA, NPAGES));
	ASSERT_EQ(0, env_convert(env, 1, 1, true));
	EXPECT_MIRROR();

	close(pipefd[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, walker_count(env->edu[0].bdf, ENV_IOVA, NPAGES));
	close(pipefd[0]);
}

TEST_HARNESS_MAIN
