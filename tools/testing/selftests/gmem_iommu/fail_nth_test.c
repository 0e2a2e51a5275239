// SPDX-License-Identifier: GPL-2.0
/*
 * C1, C2, C11, C12, M3, M6: every allocation of every entry point fails once.
 *
 * The n-th allocation of a call is made to fail, for n = 1, 2, ... until the call
 * has fewer. Each time it answers ENOMEM and everything that can be observed is
 * as before: state, contents, runs, generation, mappings of the host, of the guest
 * and of the domains, KVM's counters and the bindings', and open files; or it did
 * without the allocation and succeeds. In the end it succeeds.
 *
 * Domains are iommufd's mock, so that page tables are a part of the test.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>

#include "drivers/iommu/iommufd/iommufd_test.h"
#include "kselftest_harness.h"
#include "lib/gmem_vm.h"
#include "lib/host.h"
#include "lib/inject.h"
#include "lib/ioas.h"
#include "lib/kvm_stats.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define PAGES(n)	((n) * GMEM_PAGE_SIZE)
#define NR_PAGES	64
#define FILE_SIZE	PAGES(NR_PAGES)
#define NR_BINDINGS	2
#define IOVA(i)		(0x10000000ULL + (i) * 0x1000000ULL)
#define SEED		0x5eed0003
#define MAX_NTH		2000

/**
 * struct rig - One file, bound twice in an IOAS
 * @vm: The VM
 * @ioas: Where it is bound
 * @parking: IOAS of the mock device when it is not attached to @ioas
 * @stdev_id: The mock device, or 0 without CONFIG_IOMMUFD_TEST
 * @hwpt_id: The mock domain of @ioas, or 0
 * @bindings: The first of the whole file, the second of its second half; -1
 *	where there is none
 * @nth_fd: Of inject_open()
 * @nr_fds: Open files before the call
 * @nr_resident: Pages with memory before the call
 * @before: State before the call
 * @pfns: Mappings of the host before the call
 * @counters: KVM's counters of the VM before the call
 * @stats: The bindings' counters before the call
 */
struct rig {
	struct gmem_vm vm;
	struct ioas ioas;
	struct ioas parking;
	__u32 stdev_id;
	__u32 hwpt_id;
	int bindings[NR_BINDINGS];
	int nth_fd;
	int nr_fds;
	long nr_resident;
	struct gmem_state before;
	__u64 pfns[NR_PAGES];
	struct kvm_counters counters;
	struct gmem_iommu_stats stats[NR_BINDINGS];
};

static int xioctl(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

static int create_mock(struct rig *rig)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN,
		.id = rig->parking.id,
	};
	int ret;

	ret = xioctl(rig->ioas.iommufd, IOMMU_TEST_CMD, &cmd);
	if (!ret)
		rig->stdev_id = cmd.mock_domain.out_stdev_id;
	return ret;
}

/* Move the mock device to the domain of another IOAS, which comes into being. */
static int move_mock(struct rig *rig, const struct ioas *ioas, __u32 *hwpt_id)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
		.id = rig->stdev_id,
		.mock_domain_replace = {
			.pt_id = ioas->id,
		},
	};
	int ret;

	ret = xioctl(rig->ioas.iommufd, IOMMU_TEST_CMD, &cmd);
	if (!ret)
		*hwpt_id = cmd.mock_domain_replace.pt_id;
	return ret;
}

static int attach_mock(struct rig *rig)
{
	return move_mock(rig, &rig->ioas, &rig->hwpt_id);
}

static void detach_mock(struct rig *rig)
{
	__u32 unused;

	move_mock(rig, &rig->parking, &unused);
	rig->hwpt_id = 0;
}

/* Whether the mock domain translates @iova to the page at @addr. */
static bool mock_translates(struct rig *rig, __u64 iova, const void *addr)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_MD_CHECK_MAP,
		.id = rig->hwpt_id,
		.check_map = {
			.iova = iova,
			.length = GMEM_PAGE_SIZE,
			.uptr = (unsigned long)addr,
		},
	};

	return !xioctl(rig->ioas.iommufd, IOMMU_TEST_CMD, &cmd);
}

static __u64 offset_of(int binding)
{
	return binding ? FILE_SIZE / 2 : 0;
}

static int bind_nth(struct rig *rig, int i)
{
	return mirror_bind(rig->vm.gmem_fd, &rig->ioas, offset_of(i),
			   FILE_SIZE - offset_of(i), IOVA(i));
}

/* M2: each shared page is where it should be in the domain. */
static void check_domain(struct __test_metadata *_metadata, struct rig *rig,
			 const struct gmem_state *state)
{
	size_t page;
	__u64 iova;
	int i;

	for (i = 0; i < NR_BINDINGS; i++) {
		if (!rig->hwpt_id || rig->bindings[i] < 0)
			continue;
		for (page = offset_of(i) / GMEM_PAGE_SIZE; page < NR_PAGES; page++) {
			iova = IOVA(i) + PAGES(page) - offset_of(i);
			if (state->page[page] == PAGE_SHARED)
				EXPECT_TRUE(mock_translates(rig, iova, rig->vm.mem + PAGES(page)))
					TH_LOG("binding %d, page %zu", i, page);
		}
	}
}

static void read_state(struct __test_metadata *_metadata, struct rig *rig,
		       struct gmem_state *state)
{
	size_t half = NR_PAGES / 2;

	ASSERT_STREQ("", gmem_state_read(state, rig->bindings[0], rig->vm.mem, NR_PAGES));
	if (rig->bindings[1] >= 0)
		ASSERT_STREQ("", mirror_check_runs(rig->bindings[1], PAGES(half),
						   state->page + half, half));
	check_domain(_metadata, rig, state);
}

static void expect_same(struct __test_metadata *_metadata, struct rig *rig)
{
	static struct gmem_state now;

	EXPECT_EQ(rig->nr_resident, gmem_nr_resident(rig->vm.mem, NR_PAGES));
	read_state(_metadata, rig, &now);
	EXPECT_EQ(-1, gmem_state_diff(&rig->before, &now));
	EXPECT_EQ(rig->nr_fds, count_open_fds());
}

/* Map all memory in the guest, which is what a refused call has to leave alone. */
static void map_in_guest(struct rig *rig)
{
	struct kvm_pre_fault_memory args;
	unsigned char in_core[NR_PAGES];
	size_t i;

	if (mincore(rig->vm.mem, FILE_SIZE, in_core))
		return;
	for (i = 0; i < NR_PAGES; i++) {
		if (!(in_core[i] & 1))
			continue;
		args = (struct kvm_pre_fault_memory) {
			.gpa = PAGES(i),
			.size = PAGES(1),
		};
		ioctl(rig->vm.vcpu_fd, KVM_PRE_FAULT_MEMORY, &args);
	}
}

/* What else there is before a call, see expect_untouched(). */
static void remember(struct __test_metadata *_metadata, struct rig *rig)
{
	int i;

	map_in_guest(rig);
	ASSERT_EQ(0, kvm_counters_read(rig->vm.vm_fd, &rig->counters));
	ASSERT_EQ(0, host_pfns(rig->vm.mem, rig->pfns, NR_PAGES));
	for (i = 0; i < NR_BINDINGS; i++)
		if (rig->bindings[i] >= 0)
			ASSERT_EQ(0, mirror_get_stats(rig->bindings[i], &rig->stats[i]));
}

/*
 * Mappings of the guest and of the host, and counters, are as they were. To look
 * at the contents may repair what is missing, so this comes first.
 */
static void expect_untouched(struct __test_metadata *_metadata, struct rig *rig)
{
	struct gmem_iommu_stats stats;
	__u64 pfns[NR_PAGES];
	int i;

	EXPECT_STREQ("", kvm_counters_changed(rig->vm.vm_fd, &rig->counters));
	ASSERT_EQ(0, host_pfns(rig->vm.mem, pfns, NR_PAGES));
	EXPECT_EQ(0, memcmp(rig->pfns, pfns, sizeof(pfns)));
	for (i = 0; i < NR_BINDINGS; i++) {
		if (rig->bindings[i] < 0)
			continue;
		ASSERT_EQ(0, mirror_get_stats(rig->bindings[i], &stats));
		/* These count that it failed. */
		stats.aborts = rig->stats[i].aborts;
		stats.refusals = rig->stats[i].refusals;
		EXPECT_EQ(0, memcmp(&rig->stats[i], &stats, sizeof(stats)));
	}
}

/**
 * struct call - What is tested
 * @run: Make the call; 0, or a negative errno
 * @undo: After a success: bring back the state before
 * @min: Allocations that are known to be in it; fewer means that the injection
 *	does not reach it
 * @iommufd: It passes fault points of iommufd that are not allocations: looking
 *	up an object (ENOENT) and reserved regions of a device (EINVAL)
 * @prepare: Before each call; what it changes, @undo or @recover bring back. NULL:
 *	nothing to prepare
 * @recover: After a failure: check what only this call is about, and undo
 *	@prepare. 0, or a negative errno. NULL: nothing to recover
 */
struct call {
	int (*run)(struct rig *rig);
	void (*undo)(struct rig *rig);
	unsigned int min;
	bool iommufd;
	int (*prepare)(struct rig *rig);
	int (*recover)(struct rig *rig);
};

static bool may_answer(const struct call *call, int ret)
{
	return ret == -ENOMEM ||
	       (call->iommufd && (ret == -ENOENT || ret == -EINVAL));
}

static int prepare_call(struct rig *rig, const struct call *call)
{
	return call->prepare ? call->prepare(rig) : 0;
}

/* Returns false when the call has fewer than @nth allocations. */
static bool sweep_one(struct __test_metadata *_metadata, struct rig *rig,
		      const struct call *call, unsigned int nth)
{
	__u64 generation;
	bool failed;
	int ret;

	EXPECT_EQ(0, prepare_call(rig, call));
	remember(_metadata, rig);
	generation = mirror_generation(rig->bindings[0]);
	EXPECT_TRUE(inject_arm(rig->nth_fd, nth));
	ret = call->run(rig);
	failed = inject_disarm(rig->nth_fd);
	if (ret) {
		EXPECT_TRUE(may_answer(call, ret)) TH_LOG("%d", ret);
		EXPECT_TRUE(failed);
		EXPECT_EQ(generation, mirror_generation(rig->bindings[0]));
		expect_untouched(_metadata, rig);
		if (call->recover)
			EXPECT_EQ(0, call->recover(rig));
	} else {
		call->undo(rig);
	}
	expect_same(_metadata, rig);
	return failed;
}

static void sweep(struct __test_metadata *_metadata, struct rig *rig,
		  const struct call *call)
{
	unsigned int nth = 0;
	bool failed;

	/* Once without: what comes into being at the first call is not a change. */
	ASSERT_EQ(0, prepare_call(rig, call));
	ASSERT_EQ(0, call->run(rig));
	call->undo(rig);
	rig->nr_resident = gmem_nr_resident(rig->vm.mem, NR_PAGES);
	ASSERT_LE(0, rig->nr_resident);
	read_state(_metadata, rig, &rig->before);
	rig->nr_fds = count_open_fds();

	do {
		failed = sweep_one(_metadata, rig, call, ++nth);
		ASSERT_EQ(0, _metadata->exit_code) TH_LOG("allocation %u", nth);
	} while (failed && nth < MAX_NTH);

	TH_LOG("%u allocations", nth - 1);
	EXPECT_FALSE(failed);
	EXPECT_LT(call->min, nth);
}

/* Every fourth page is private. */
static void set_states(struct rig *rig)
{
	struct kvm_gmem_range ranges[NR_PAGES];
	size_t i;

	for (i = 0; i < NR_PAGES; i++) {
		ranges[i].offset = PAGES(i);
		ranges[i].size = PAGES(1);
		ranges[i].target = i % 4 == 3 ? KVM_GMEM_TARGET_PRIVATE :
				   KVM_GMEM_TARGET_SHARED;
		ranges[i].reserved = 0;
	}
	gmem_convert_vec(rig->vm.gmem_fd, ranges, NR_PAGES, NULL);
}

static void write_contents(struct __test_metadata *_metadata, struct rig *rig)
{
	__u8 page[GMEM_PAGE_SIZE];
	size_t i;

	for (i = 0; i < NR_PAGES; i++) {
		gmem_pattern(page, PAGES(i), SEED);
		ASSERT_EQ(0, host_write(rig->vm.mem + PAGES(i), page, sizeof(page)));
	}
}

static void setup_rig(struct __test_metadata *_metadata, struct rig *rig,
		      int nr_bindings, bool domain)
{
	const char *missing;
	int i;

	missing = nr_bindings ? mirror_missing() : gmem_vm_missing();
	if (!missing)
		missing = inject_open(&rig->nth_fd);
	if (missing)
		SKIP(return, "%s", missing);

	ASSERT_EQ(0, gmem_vm_create(&rig->vm, FILE_SIZE, GMEM_VM_SHARED));
	write_contents(_metadata, rig);
	set_states(rig);

	rig->stdev_id = 0;
	rig->hwpt_id = 0;
	rig->ioas.iommufd = -1;
	for (i = 0; i < NR_BINDINGS; i++)
		rig->bindings[i] = -1;
	if (!nr_bindings)
		return;

	/* Without its scratch page: pinning that one is not what is tested. */
	ASSERT_EQ(0, ioas_open(&rig->ioas));
	ASSERT_EQ(0, ioas_unmap(&rig->ioas, IOAS_SCRATCH_IOVA, PAGES(1)));
	ASSERT_EQ(0, ioas_open_in(&rig->parking, rig->ioas.iommufd));
	if (create_mock(rig) && domain)
		SKIP(return, "no CONFIG_IOMMUFD_TEST");
	if (domain)
		ASSERT_EQ(0, attach_mock(rig));
	for (i = 0; i < nr_bindings; i++) {
		rig->bindings[i] = bind_nth(rig, i);
		ASSERT_LE(0, rig->bindings[i]);
	}
}

static void teardown_rig(struct __test_metadata *_metadata, struct rig *rig)
{
	__u8 page[GMEM_PAGE_SIZE];
	size_t i;

	/*
	 * C11: the contents of private pages are as they were. Only converting
	 * them shows it, so it is done last.
	 */
	EXPECT_EQ(0, gmem_convert(rig->vm.gmem_fd, 0, FILE_SIZE, KVM_GMEM_TARGET_SHARED, NULL));
	for (i = 0; i < NR_PAGES; i++) {
		if (host_read(page, rig->vm.mem + PAGES(i), sizeof(page)))
			memset(page, 0, sizeof(page));
		EXPECT_TRUE(gmem_pattern_matches(page, PAGES(i), SEED))
			TH_LOG("contents of page %zu", i);
	}
	for (i = 0; i < NR_BINDINGS; i++) {
		if (rig->bindings[i] >= 0)
			close(rig->bindings[i]);
	}
	if (rig->stdev_id)
		EXPECT_EQ(0, iommufd_destroy(rig->ioas.iommufd, rig->stdev_id));
	ioas_close(&rig->ioas);
	gmem_vm_destroy(&rig->vm);
	close(rig->nth_fd);
}

/* The file alone. */
FIXTURE(file)
{
	struct rig rig;
};

FIXTURE_SETUP(file)
{
	setup_rig(_metadata, &self->rig, 0, false);
}

FIXTURE_TEARDOWN(file)
{
	teardown_rig(_metadata, &self->rig);
}

/* The file, or the file with bindings, or with bindings that are mapped. */
FIXTURE(rig)
{
	struct rig rig;
};

FIXTURE_VARIANT(rig)
{
	bool domain;
	int nr_bindings;
};

FIXTURE_VARIANT_ADD(rig, alone) { false, 0 };
FIXTURE_VARIANT_ADD(rig, bound) { false, NR_BINDINGS };
FIXTURE_VARIANT_ADD(rig, mapped) { true, NR_BINDINGS };

FIXTURE_SETUP(rig)
{
	setup_rig(_metadata, &self->rig, variant->nr_bindings, variant->domain);
}

FIXTURE_TEARDOWN(rig)
{
	teardown_rig(_metadata, &self->rig);
}

/* What needs the IOAS or a binding. */
FIXTURE(bound)
{
	struct rig rig;
};

FIXTURE_VARIANT(bound)
{
	bool domain;
};

FIXTURE_VARIANT_ADD(bound, unmapped) { false };
FIXTURE_VARIANT_ADD(bound, mapped) { true };

FIXTURE_SETUP(bound)
{
	setup_rig(_metadata, &self->rig, NR_BINDINGS, variant->domain);
}

FIXTURE_TEARDOWN(bound)
{
	teardown_rig(_metadata, &self->rig);
}

/* A device that waits in another IOAS. */
FIXTURE(parked)
{
	struct rig rig;
};

FIXTURE_SETUP(parked)
{
	setup_rig(_metadata, &self->rig, NR_BINDINGS, false);
	if (!_metadata->exit_code && !self->rig.stdev_id)
		SKIP(return, "no CONFIG_IOMMUFD_TEST");
}

FIXTURE_TEARDOWN(parked)
{
	teardown_rig(_metadata, &self->rig);
}

/* A vector of both directions that crosses the bindings, and its inverse. */
static int convert_mixed(struct rig *rig, bool back)
{
	struct kvm_gmem_range ranges[NR_PAGES / 2];
	__u64 error_offset;
	size_t i;
	int ret;

	/* Pages 0 and 3 of each four swap their state. */
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		ranges[i].offset = PAGES(i / 2 * 4 + i % 2 * 3);
		ranges[i].size = PAGES(1);
		ranges[i].target = (i % 2) ^ back ? KVM_GMEM_TARGET_SHARED :
				   KVM_GMEM_TARGET_PRIVATE;
		ranges[i].reserved = 0;
	}
	ret = gmem_convert_vec(rig->vm.gmem_fd, ranges, ARRAY_SIZE(ranges), &error_offset);
	/* C4: defined on every return; a failed allocation may blame a page. */
	if (error_offset >= FILE_SIZE || (!ret && error_offset))
		return -EPROTO;
	return ret;
}

static int run_convert(struct rig *rig)
{
	return convert_mixed(rig, false);
}

static void undo_convert(struct rig *rig)
{
	convert_mixed(rig, true);
}

TEST_F_TIMEOUT(rig, C1_C2_N2_convert, 300)
{
	const struct call call = { run_convert, undo_convert, 2 };

	sweep(_metadata, &self->rig, &call);
}

static int run_to_private(struct rig *rig)
{
	return gmem_convert(rig->vm.gmem_fd, 0, FILE_SIZE, KVM_GMEM_TARGET_PRIVATE, NULL);
}

static int run_to_shared(struct rig *rig)
{
	return gmem_set_attributes2(rig->vm.gmem_fd, 0, FILE_SIZE, 0, NULL);
}

TEST_F_TIMEOUT(rig, C1_C2_M6_to_private, 300)
{
	const struct call call = { run_to_private, set_states, 0 };

	sweep(_metadata, &self->rig, &call);
}

TEST_F_TIMEOUT(rig, C1_C2_C11_to_shared, 300)
{
	const struct call call = { run_to_shared, set_states, 0 };

	sweep(_metadata, &self->rig, &call);
}

/* This ioctl blames the start of the request when there is no memory. */
static int run_attributes(struct rig *rig)
{
	__u64 start = PAGES(4), offset = 1;
	int ret;

	ret = gmem_set_attributes2(rig->vm.gmem_fd, start, FILE_SIZE - start, 0,
				   &offset);
	return offset == (ret == -ENOMEM ? start : 0) ? ret : -EPROTO;
}

TEST_F_TIMEOUT(rig, C1_C15_U7_attributes, 300)
{
	const struct call call = { run_attributes, set_states, 0 };

	sweep(_metadata, &self->rig, &call);
}

/* The same when the private pages have no memory yet. */
static void undo_emptied(struct rig *rig)
{
	size_t i;

	set_states(rig);
	for (i = 3; i < NR_PAGES; i += 4)
		gmem_punch_hole(rig->vm.gmem_fd, PAGES(i), PAGES(1));
}

TEST_F_TIMEOUT(bound, C1_C2_M11_to_shared_allocates, 300)
{
	const struct call call = { run_to_shared, undo_emptied, 16 };
	struct rig *rig = &self->rig;

	sweep(_metadata, rig, &call);
	EXPECT_EQ(NR_PAGES - NR_PAGES / 4, rig->nr_resident);

	/* The teardown wants the contents back. */
	ASSERT_EQ(0, run_to_shared(rig));
	write_contents(_metadata, rig);
}

/*
 * Memory comes to a shared page, by each of four ways. It is punched out before,
 * and looking at the state brings it back, so its contents are zero.
 */
#define HOLE	40

static int punch_hole(struct rig *rig)
{
	return gmem_punch_hole(rig->vm.gmem_fd, PAGES(HOLE), PAGES(1));
}

static void undo_hole(struct rig *rig)
{
	punch_hole(rig);
}

static bool hole_has_memory(struct rig *rig)
{
	unsigned char in_core = 1;

	mincore(rig->vm.mem + PAGES(HOLE), GMEM_PAGE_SIZE, &in_core);
	return in_core & 1;
}

/* It has not got memory, and the binding says so. */
static int expect_hole(struct rig *rig)
{
	__u8 model[NR_PAGES];

	memcpy(model, rig->before.page, NR_PAGES);
	model[HOLE] = PAGE_HOLE;
	if (hole_has_memory(rig) ||
	    (rig->bindings[0] >= 0 &&
	     *mirror_check_runs(rig->bindings[0], 0, model, NR_PAGES)))
		return -EPROTO;
	return 0;
}

static int run_allocate(struct rig *rig)
{
	return gmem_allocate(rig->vm.gmem_fd, PAGES(HOLE), PAGES(1));
}

static int run_prefault(struct rig *rig)
{
	struct kvm_pre_fault_memory args = {
		.gpa = PAGES(HOLE),
		.size = PAGES(1),
	};

	return xioctl(rig->vm.vcpu_fd, KVM_PRE_FAULT_MEMORY, &args);
}

static int run_guest_fault(struct rig *rig)
{
	return gmem_vm_verify(&rig->vm, PAGES(HOLE), PAGES(1), 0) == -ENOMEM ?
	       -ENOMEM : 0;
}

/* The kernel's answer to too little memory is to try again. */
static int run_host_fault(struct rig *rig)
{
	return host_write(rig->vm.mem + PAGES(HOLE), "", 1);
}

/* The teardown wants the contents back. */
static void sweep_hole(struct __test_metadata *_metadata, struct rig *rig,
		       int (*run)(struct rig *rig), unsigned int min)
{
	const struct call call = {
		.run = run,
		.undo = undo_hole,
		.min = min,
		.prepare = punch_hole,
		.recover = expect_hole,
	};

	sweep(_metadata, rig, &call);
	ASSERT_EQ(0, run_to_shared(rig));
	write_contents(_metadata, rig);
}

TEST_F_TIMEOUT(rig, C2_N1_U7_allocate, 300)
{
	sweep_hole(_metadata, &self->rig, run_allocate, 1);
}

TEST_F_TIMEOUT(rig, C2_N1_U7_prefault, 300)
{
	sweep_hole(_metadata, &self->rig, run_prefault, 1);
}

TEST_F_TIMEOUT(rig, C2_N1_U7_guest_fault, 300)
{
	sweep_hole(_metadata, &self->rig, run_guest_fault, 1);
}

TEST_F_TIMEOUT(rig, C2_N1_U7_host_fault, 300)
{
	sweep_hole(_metadata, &self->rig, run_host_fault, 1);
}

/* Pages of both states lose their memory. */
static int run_punch(struct rig *rig)
{
	return gmem_punch_hole(rig->vm.gmem_fd, PAGES(HOLE), PAGES(4));
}

static void undo_punch(struct rig *rig)
{
	__u8 page[GMEM_PAGE_SIZE];
	size_t i;

	gmem_convert(rig->vm.gmem_fd, PAGES(HOLE), PAGES(4),
		     KVM_GMEM_TARGET_SHARED, NULL);
	for (i = HOLE; i < HOLE + 4; i++) {
		gmem_pattern(page, PAGES(i), SEED);
		host_write(rig->vm.mem + PAGES(i), page, sizeof(page));
	}
	set_states(rig);
}

TEST_F_TIMEOUT(rig, C11_C12_U7_punch_hole, 300)
{
	const struct call call = { .run = run_punch, .undo = undo_punch };

	sweep(_metadata, &self->rig, &call);
}

static int delete_slot(struct rig *rig)
{
	return gmem_set_slot(rig->vm.vm_fd, GMEM_VM_SLOT, 0, 0, -1, 0, NULL);
}

static int create_slot(struct rig *rig)
{
	return gmem_set_slot(rig->vm.vm_fd, GMEM_VM_SLOT, 0, FILE_SIZE,
			     rig->vm.gmem_fd, 0, rig->vm.mem);
}

static void undo_delete_slot(struct rig *rig)
{
	create_slot(rig);
}

TEST_F_TIMEOUT(rig, C12_U7_memslot_deletion, 300)
{
	const struct call call = {
		.run = delete_slot,
		.undo = undo_delete_slot,
		.min = 1,
	};

	sweep(_metadata, &self->rig, &call);
}

static void undo_nothing(struct rig *rig)
{
}

/* A memslot over memory that is gone; one of its pages has none at all. */
static int prepare_creation(struct rig *rig)
{
	return delete_slot(rig) ?: punch_hole(rig);
}

/* There is still no memslot, and devices reach nothing. */
static int recover_creation(struct rig *rig)
{
	__u8 model[NR_PAGES];
	size_t i;

	if (hole_has_memory(rig))
		return -EPROTO;
	for (i = 0; i < NR_PAGES; i++) {
		model[i] = rig->before.page[i] == PAGE_SHARED ? PAGE_HOLE : PAGE_PRIVATE;
		/* To ask for a page gives it memory. */
		if (rig->hwpt_id && i != HOLE && model[i] == PAGE_HOLE &&
		    mock_translates(rig, IOVA(0) + PAGES(i), rig->vm.mem + PAGES(i)))
			return -EPROTO;
	}
	if (rig->bindings[0] >= 0 &&
	    *mirror_check_runs(rig->bindings[0], 0, model, NR_PAGES))
		return -EPROTO;
	/* A slot that is there could not be created again. */
	return create_slot(rig);
}

TEST_F_TIMEOUT(rig, C12_N1_U7_memslot_creation, 300)
{
	const struct call call = {
		.run = create_slot,
		.undo = undo_nothing,
		.min = 3,
		.prepare = prepare_creation,
		.recover = recover_creation,
	};
	struct rig *rig = &self->rig;

	sweep(_metadata, rig, &call);
	ASSERT_EQ(0, run_to_shared(rig));
	write_contents(_metadata, rig);
}

static int new_fd;

static void undo_new_fd(struct rig *rig)
{
	close(new_fd);
}

static int run_create(struct rig *rig)
{
	new_fd = gmem_create_fd(rig->vm.vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	return new_fd < 0 ? new_fd : 0;
}

TEST_F_TIMEOUT(file, U7_create, 300)
{
	const struct call call = { run_create, undo_new_fd, 3 };

	sweep(_metadata, &self->rig, &call);
}

/* A third binding, of a part of the file, in the same IOAS. */
static int run_bind(struct rig *rig)
{
	new_fd = mirror_bind(rig->vm.gmem_fd, &rig->ioas, PAGES(5), PAGES(20), IOVA(2));
	return new_fd < 0 ? new_fd : 0;
}

TEST_F_TIMEOUT(bound, U7_bind, 300)
{
	const struct call call = { run_bind, undo_new_fd, 3, true };

	sweep(_metadata, &self->rig, &call);
}

/* The pages that a binding allocates are allocated by all of them at once. */
static int run_bind_punched(struct rig *rig)
{
	int ret;

	ret = gmem_create_fd(rig->vm.vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	if (ret < 0)
		return ret;
	new_fd = mirror_bind(ret, &rig->ioas, 0, PAGES(16), IOVA(2));
	close(ret);
	return new_fd < 0 ? new_fd : 0;
}

TEST_F_TIMEOUT(bound, M11_U7_bind_empty_file, 300)
{
	const struct call call = { run_bind_punched, undo_new_fd, 16, true };

	sweep(_metadata, &self->rig, &call);
}

static int run_query(struct rig *rig)
{
	struct gmem_iommu_run runs[NR_PAGES];
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = NR_PAGES,
		.runs = (unsigned long)runs,
	};

	return xioctl(rig->bindings[0], GMEM_IOMMU_QUERY_RUNS, &query);
}

TEST_F_TIMEOUT(bound, U4_U7_query, 300)
{
	const struct call call = { run_query, undo_nothing, 0 };

	sweep(_metadata, &self->rig, &call);
}

/*
 * What cannot fail: the last close of a file that is bound, and the close of a
 * binding. Without memory, too, the domain is clean when they return.
 */
static int new_binding;

static int prepare_release(struct rig *rig)
{
	new_fd = gmem_create_fd(rig->vm.vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	if (new_fd < 0)
		return new_fd;
	new_binding = mirror_bind(new_fd, &rig->ioas, 0, PAGES(16), IOVA(2));
	return new_binding < 0 ? new_binding : 0;
}

static int run_release(struct rig *rig)
{
	struct gmem_iommu_stats stats;

	close(new_fd);
	if (mirror_poll_dead(new_binding) != 1 ||
	    mirror_get_stats(new_binding, &stats) ||
	    stats.unmapped_pages != (rig->hwpt_id ? 16 : 0))
		return -EPROTO;
	return 0;
}

static void undo_release(struct rig *rig)
{
	close(new_binding);
}

TEST_F_TIMEOUT(bound, C12_M14_release, 300)
{
	const struct call call = {
		.run = run_release,
		.undo = undo_release,
		.prepare = prepare_release,
	};

	sweep(_metadata, &self->rig, &call);
}

static int run_unbind(struct rig *rig)
{
	close(rig->bindings[1]);
	rig->bindings[1] = -1;
	if (rig->hwpt_id &&
	    mock_translates(rig, IOVA(1), rig->vm.mem + offset_of(1)))
		return -EPROTO;
	return 0;
}

static void undo_unbind(struct rig *rig)
{
	rig->bindings[1] = bind_nth(rig, 1);
}

TEST_F_TIMEOUT(bound, M14_unbind, 300)
{
	const struct call call = { .run = run_unbind, .undo = undo_unbind };

	sweep(_metadata, &self->rig, &call);
}

/* A domain comes and replays both bindings, or does not come. */
TEST_F_TIMEOUT(parked, M3_attach, 300)
{
	const struct call call = { attach_mock, detach_mock, 10, true };
	struct rig *rig = &self->rig;

	sweep(_metadata, rig, &call);

	/* And it works: with the domain there, all of it is checked. */
	ASSERT_EQ(0, attach_mock(rig));
	read_state(_metadata, rig, &rig->before);
}

TEST_HARNESS_MAIN
