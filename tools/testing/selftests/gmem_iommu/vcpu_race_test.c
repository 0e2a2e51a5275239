// SPDX-License-Identifier: GPL-2.0
/*
 * Four vCPUs write and read 512 pages without pause, while the host converts the
 * pages back and forth 10,000 times. Nobody holds a pin, so no conversion may be
 * refused (C6); conversion is in place, so whatever a vCPU has written it reads
 * again, in either state (C11); and the host reaches a page when it is shared and
 * not when it is private.
 *
 * A conversion of all 512 pages takes some 30 ms on a debug kernel in an emulated
 * machine. So by default the conversions take turns with sizes: 512, 256, ... 1
 * pages, at random places, and mostly without the largest, 44 pages on average. With
 * GMEM_IOMMU_LONG=1 in the environment each of the 10,000 converts all 512 pages.
 *
 * QEMU 10.0's emulation of SVM (TCG) is not up to several vCPUs on CPUs that run at
 * the same time: a vCPU goes on with a wrong RIP, even one of the host's kernel, or the
 * host crashes. It needs no conversion and no guest_memfd. That is what the test of
 * plain memory is for: the host unmaps it from the guest in place of every conversion.
 * A machine that fails there can tell nothing about conversions. That each vCPU stays on
 * one CPU makes it rare, and CPUs that take turns do not have it (tests/boot.suite and
 * tests/scale_vcpu.suite).
 *
 * Requirements: C6, C11, C1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"

#define NPAGES		512
#define NR_VCPUS	4
#define NR_CONVERSIONS	10000
#define SIZES		10	/* 512, 256, ... 1 */
#define LARGE_SIZES	3	/* which only every fourth turn has */
#define HOST_EVERY	8	/* pairs of conversions: the host looks, too */

/**
 * struct vcpu - One thread with its vCPU
 * @vm: The vCPU
 * @nr: Its number; its pages are those whose index is @nr modulo NR_VCPUS
 * @seed: What it has last written to each of its pages, 0: nothing
 * @state: Of rand_r()
 * @thread: The thread
 * @accesses: Pages that it has written or verified
 * @page: The page of the last command
 * @ret: What went wrong
 */
struct vcpu {
	struct gmem_vm *vm;
	int nr;
	__u32 seed[NPAGES];
	unsigned int state;
	pthread_t thread;
	unsigned long accesses;
	size_t page;
	int ret;
};

/**
 * struct race - Who takes part
 * @vm: The VM with its first vCPU
 * @more: Its other vCPUs
 * @vcpus: The threads
 */
struct race {
	struct gmem_vm vm;
	struct gmem_vm more[NR_VCPUS - 1];
	struct vcpu vcpus[NR_VCPUS];
};

static bool stop;

FIXTURE(vcpus)
{
	struct race race;
};

FIXTURE_SETUP(vcpus)
{
	int i;

	gmem_vm_init(&self->race.vm);
	for (i = 0; i < NR_VCPUS - 1; i++)
		gmem_vm_init(&self->race.more[i]);
}

FIXTURE_TEARDOWN(vcpus)
{
	int i;

	for (i = 0; i < NR_VCPUS - 1; i++)
		gmem_vm_destroy(&self->race.more[i]);
	gmem_vm_destroy(&self->race.vm);
}

/* Verify a page of its own, and write something else to it. */
static int access_page(struct vcpu *v, size_t page)
{
	__u32 seed = v->seed[page];
	int ret;

	v->page = page;
	ret = seed ? gmem_vm_verify(v->vm, PAGES(page), PAGES(1), seed) : 0;
	if (ret)
		return ret;
	seed = rand_r(&v->state) | 1;
	ret = gmem_vm_fill(v->vm, PAGES(page), PAGES(1), seed);
	if (!ret)
		v->seed[page] = seed;
	return ret;
}

static void stay_on_one_cpu(const struct vcpu *v)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(v->nr % sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *run(void *arg)
{
	struct vcpu *v = arg;
	size_t page;

	stay_on_one_cpu(v);
	while (!v->ret && !__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		page = rand_r(&v->state) % (NPAGES / NR_VCPUS) * NR_VCPUS + v->nr;
		v->ret = access_page(v, page);
		__atomic_add_fetch(&v->accesses, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* In place of a conversion: the guest loses the pages, and may have them again. */
static int unmap_from_guest(struct gmem_vm *vm, size_t first, size_t npages)
{
	if (madvise(vm->mem + PAGES(first), PAGES(npages), MADV_DONTNEED))
		return -errno;
	/* A conversion takes longer. */
	usleep(500);
	return 0;
}

/* The @i-th conversion. Returns 0 or -errno, then with the page. */
static int convert(struct gmem_vm *vm, int i, size_t first, size_t npages,
		   size_t *page)
{
	__u64 offset = 0;
	int ret;

	if (vm->plain)
		return unmap_from_guest(vm, first, npages);
	ret = gmem_convert(vm->gmem_fd, PAGES(first), PAGES(npages),
			   i % 2 ? KVM_GMEM_TARGET_SHARED :
				   KVM_GMEM_TARGET_PRIVATE, &offset);
	*page = offset / GMEM_PAGE_SIZE;
	return ret;
}

/*
 * The @i-th conversion: twice the same range, there and back; the sizes take turns.
 */
static void choose_range(unsigned int i, bool all, unsigned int *state,
			 size_t *first, size_t *npages)
{
	unsigned int shift = i / 2 % SIZES;

	if (i % 2)
		return;
	if (shift < LARGE_SIZES && i / 2 / SIZES % 4)
		shift += LARGE_SIZES;
	*npages = all ? NPAGES : NPAGES >> shift;
	*first = rand_r(state) % (NPAGES - *npages + 1);
}

/* Four vCPUs on the memory of @race->vm, and the 10,000 conversions. */
static void run_race(struct __test_metadata *_metadata, struct race *race)
{
	bool all = getenv("GMEM_IOMMU_LONG");
	unsigned long accesses = 0, exits = 0;
	size_t first = 0, npages = 0, page = 0;
	time_t start = time(NULL);
	unsigned int state = 4711;
	int i, ret;

	for (i = 0; i < NR_VCPUS - 1; i++)
		ASSERT_EQ(0, gmem_vm_add_vcpu(&race->vm, &race->more[i], i + 1));
	for (i = 0; i < NR_VCPUS; i++) {
		race->vcpus[i].vm = i ? &race->more[i - 1] : &race->vm;
		race->vcpus[i].nr = i;
		race->vcpus[i].state = 1 + i;
	}
	for (i = 0; i < NR_VCPUS; i++)
		ASSERT_EQ(0, pthread_create(&race->vcpus[i].thread, NULL, run,
					    &race->vcpus[i]));

	/* The vCPUs are busy for as long as it takes; let that not be long. */
	setpriority(PRIO_PROCESS, 0, -10);
	for (i = 0; i < NR_CONVERSIONS; i++) {
		choose_range(i, all, &state, &first, &npages);
		ret = convert(&race->vm, i, first, npages, &page);
		ASSERT_EQ(0, ret) {
			TH_LOG("conversion %d of %zu pages from %zu, refused at page %zu",
			       i, npages, first, page);
		}
		if (race->vm.plain || i / 2 % HOST_EVERY)
			continue;
		/* Whatever the guest does meanwhile, the host sees the new state. */
		page = first + rand_r(&state) % npages;
		ASSERT_EQ(!(i % 2), host_faults(race->vm.mem + PAGES(page))) {
			TH_LOG("after conversion %d, page %zu", i, page);
		}
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < NR_VCPUS; i++)
		ASSERT_EQ(0, pthread_join(race->vcpus[i].thread, NULL));

	for (i = 0; i < NR_VCPUS; i++) {
		struct vcpu *v = &race->vcpus[i];

		EXPECT_EQ(0, v->ret) {
			TH_LOG("vCPU %d, page %zu, exit %u, suberror or gpa 0x%llx",
			       i, v->page, v->vm->run->exit_reason,
			       (unsigned long long)v->vm->run->mmio.phys_addr);
		}
		EXPECT_LT(0, v->accesses);
		accesses += v->accesses;
		exits += v->vm->nr_fault_exits;
	}
	TH_LOG("%d conversions in %ld s, %lu accesses, %lu memory fault exits",
	       NR_CONVERSIONS, (long)(time(NULL) - start), accesses, exits);

	/* All of it is shared now, and the host sees what the vCPUs wrote. */
	for (page = 0; page < NPAGES; page++) {
		__u32 seed = race->vcpus[page % NR_VCPUS].seed[page];

		if (seed)
			EXPECT_TRUE(gmem_pattern_matches(race->vm.mem + PAGES(page),
							 PAGES(page), seed)) {
				TH_LOG("page %zu", page);
			}
	}
}

TEST_F_TIMEOUT(vcpus, C6_C11_10000_conversions, 7200)
{
	const char *why = gmem_vm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, gmem_vm_create(&self->race.vm, PAGES(NPAGES), GMEM_VM_SHARED));
	run_race(_metadata, &self->race);
}

/* Whether the machine is fit for the other test. */
TEST_F_TIMEOUT(vcpus, plain_memory, 7200)
{
	if (!getenv("GMEM_IOMMU_LONG"))
		SKIP(return, "nothing of ours (GMEM_IOMMU_LONG)");
	ASSERT_EQ(0, gmem_vm_create_plain(&self->race.vm, PAGES(NPAGES)));
	run_race(_metadata, &self->race);
}

TEST_HARNESS_MAIN
