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
 * Each vCPU stays on one CPU: QEMU 10.0's emulation of SVM (TCG, two CPUs) corrupts
 * the host within a minute when several vCPU threads move between its CPUs, without
 * any conversion too.
 *
 * Requirements: C6, C11, C1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"

#define PAGES(n)	((n) * GMEM_PAGE_SIZE)
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

FIXTURE(vcpus)
{
	struct gmem_vm vm;
	struct gmem_vm more[NR_VCPUS - 1];
	struct vcpu vcpus[NR_VCPUS];
	bool stop;
};

/* For the threads: @self is in memory that they share. */
static bool *stop;

FIXTURE_SETUP(vcpus)
{
	const char *why = gmem_vm_missing();
	int i;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, gmem_vm_create(&self->vm, PAGES(NPAGES), GMEM_VM_SHARED));
	for (i = 0; i < NR_VCPUS - 1; i++)
		ASSERT_EQ(0, gmem_vm_add_vcpu(&self->vm, &self->more[i], i + 1));
	for (i = 0; i < NR_VCPUS; i++) {
		self->vcpus[i].vm = i ? &self->more[i - 1] : &self->vm;
		self->vcpus[i].nr = i;
		self->vcpus[i].state = 1 + i;
	}
	stop = &self->stop;
}

FIXTURE_TEARDOWN(vcpus)
{
	int i;

	for (i = 0; i < NR_VCPUS - 1; i++)
		gmem_vm_destroy(&self->more[i]);
	gmem_vm_destroy(&self->vm);
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
	while (!v->ret && !__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		page = rand_r(&v->state) % (NPAGES / NR_VCPUS) * NR_VCPUS + v->nr;
		v->ret = access_page(v, page);
		__atomic_add_fetch(&v->accesses, 1, __ATOMIC_RELAXED);
	}
	return NULL;
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

TEST_F_TIMEOUT(vcpus, C6_C11_10000_conversions, 7200)
{
	bool all = getenv("GMEM_IOMMU_LONG");
	unsigned long accesses = 0, exits = 0;
	size_t first = 0, npages = 0, page = 0;
	time_t start = time(NULL);
	unsigned int state = 4711;
	__u64 offset;
	int i, ret;

	for (i = 0; i < NR_VCPUS; i++)
		ASSERT_EQ(0, pthread_create(&self->vcpus[i].thread, NULL, run,
					    &self->vcpus[i]));

	/* The vCPUs are busy for as long as it takes; let that not be long. */
	setpriority(PRIO_PROCESS, 0, -10);
	for (i = 0; i < NR_CONVERSIONS; i++) {
		choose_range(i, all, &state, &first, &npages);
		ret = gmem_convert(self->vm.gmem_fd, PAGES(first), PAGES(npages),
				   i % 2 ? KVM_GMEM_TARGET_SHARED :
					   KVM_GMEM_TARGET_PRIVATE, &offset);
		ASSERT_EQ(0, ret) {
			TH_LOG("conversion %d of %zu pages from %zu, refused at page %llu",
			       i, npages, first,
			       (unsigned long long)offset / GMEM_PAGE_SIZE);
		}
		if (i / 2 % HOST_EVERY)
			continue;
		/* Whatever the guest does meanwhile, the host sees the new state. */
		page = first + rand_r(&state) % npages;
		ASSERT_EQ(!(i % 2), host_faults(self->vm.mem + PAGES(page))) {
			TH_LOG("after conversion %d, page %zu", i, page);
		}
	}
	__atomic_store_n(stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < NR_VCPUS; i++)
		ASSERT_EQ(0, pthread_join(self->vcpus[i].thread, NULL));

	for (i = 0; i < NR_VCPUS; i++) {
		struct vcpu *v = &self->vcpus[i];

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
		__u32 seed = self->vcpus[page % NR_VCPUS].seed[page];

		if (seed)
			EXPECT_TRUE(gmem_pattern_matches(self->vm.mem + PAGES(page),
							 PAGES(page), seed)) {
				TH_LOG("page %zu", page);
			}
	}
}

TEST_HARNESS_MAIN
