// SPDX-License-Identifier: GPL-2.0
/*
 * Conversions as user space sees them: what the host can touch, what the guest
 * reads, what a binding reports; no device.
 *
 * Shows C1, C2, C4, C5, C7 to C12, C14 and C15. C3 is in uapi_convert_test.c, failing
 * allocations are in fail_nth_test.c.
 *
 * GMEM_IOMMU_LONG=1 in the environment asks for more random vectors.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define NR_PAGES	128
#define FILE_SIZE	PAGES(NR_PAGES)
#define IOVA		0x10000000ULL
#define SEED		0x5eed0002

/**
 * struct rig - A VM with its file, and the test's opinion of the file
 * @vm: The VM
 * @ioas: Without devices
 * @binding: Of the whole file, or -1 without the module
 * @seed: Seed of the contents of each page, 0: never written
 * @model: What each page should be
 */
struct rig {
	struct gmem_vm vm;
	struct ioas ioas;
	int binding;
	__u32 seed[GMEM_STATE_MAX_PAGES];
	__u8 model[GMEM_STATE_MAX_PAGES];
};

static void rig_setup(struct __test_metadata *_metadata, struct rig *rig,
		      unsigned long vm_type, size_t nr_pages, __u64 flags)
{
	const char *missing = gmem_vm_missing();

	if (missing)
		SKIP(return, "%s", missing);

	ASSERT_EQ(0, gmem_vm_create_type(&rig->vm, vm_type, PAGES(nr_pages), flags));
	memset(rig->seed, 0, sizeof(rig->seed));
	memset(rig->model, flags & GUEST_MEMFD_FLAG_INIT_SHARED ? PAGE_SHARED :
	       PAGE_PRIVATE, sizeof(rig->model));

	rig->ioas.iommufd = -1;
	rig->binding = -1;
	if (mirror_missing())
		return;
	ASSERT_EQ(0, ioas_open(&rig->ioas));
	rig->binding = mirror_bind(rig->vm.gmem_fd, &rig->ioas, 0,
				   PAGES(nr_pages), IOVA);
	ASSERT_LE(0, rig->binding);
}

static void rig_teardown(struct rig *rig)
{
	if (rig->binding >= 0)
		close(rig->binding);
	ioas_close(&rig->ioas);
	gmem_vm_destroy(&rig->vm);
}

static size_t rig_nr_pages(const struct rig *rig)
{
	return rig->vm.size / GMEM_PAGE_SIZE;
}

static void *rig_page(const struct rig *rig, size_t i)
{
	return rig->vm.mem + PAGES(i);
}

/* The host writes a page that is shared. */
static void rig_write(struct __test_metadata *_metadata, struct rig *rig,
		      size_t i, __u32 seed)
{
	__u8 page[GMEM_PAGE_SIZE];

	gmem_pattern(page, PAGES(i), seed);
	ASSERT_EQ(0, host_write(rig_page(rig, i), page, sizeof(page)));
	rig->seed[i] = seed;
}

static void rig_write_all(struct __test_metadata *_metadata, struct rig *rig)
{
	size_t i;

	for (i = 0; i < rig_nr_pages(rig); i++) {
		if (rig->model[i] == PAGE_SHARED)
			rig_write(_metadata, rig, i, SEED + i);
	}
}

/* The page as the host reads it, if it can. */
static void rig_expect_contents(struct __test_metadata *_metadata,
				struct rig *rig, size_t i)
{
	static const __u8 zeroes[GMEM_PAGE_SIZE];
	__u8 page[GMEM_PAGE_SIZE];

	if (host_read(page, rig_page(rig, i), sizeof(page)))
		return;
	if (!rig->seed[i]) {
		EXPECT_EQ(0, memcmp(page, zeroes, sizeof(page)))
			TH_LOG("page %zu was never written", i);
		return;
	}
	EXPECT_TRUE(gmem_pattern_matches(page, PAGES(i), rig->seed[i]))
		TH_LOG("contents of page %zu", i);
}

/* Everything is as the model says: for the host, and for the binding. */
static void rig_check(struct __test_metadata *_metadata, struct rig *rig)
{
	static struct gmem_state state;
	size_t i;

	ASSERT_STREQ("", gmem_state_read(&state, rig->binding, rig->vm.mem,
					 rig_nr_pages(rig)));
	for (i = 0; i < rig_nr_pages(rig); i++) {
		ASSERT_EQ(rig->model[i], state.page[i]) TH_LOG("page %zu", i);
		rig_expect_contents(_metadata, rig, i);
	}
}

/* The guest reads what it should, in private and in shared pages. */
static void rig_check_guest(struct __test_metadata *_metadata, struct rig *rig)
{
	size_t i;

	for (i = 0; i < rig_nr_pages(rig); i++) {
		if (rig->seed[i])
			ASSERT_EQ(0, gmem_vm_verify(&rig->vm, PAGES(i), PAGES(1), rig->seed[i]))
				TH_LOG("guest reads page %zu", i);
	}
}

static void model_range(struct rig *rig, const struct kvm_gmem_range *range)
{
	memset(rig->model + range->offset / GMEM_PAGE_SIZE,
	       range->target == SHARED ? PAGE_SHARED : PAGE_PRIVATE,
	       range->size / GMEM_PAGE_SIZE);
}

static void rig_convert(struct __test_metadata *_metadata, struct rig *rig,
			size_t first, size_t nr, __u32 target)
{
	struct kvm_gmem_range range = {
		.offset = PAGES(first),
		.size = PAGES(nr),
		.target = target,
	};
	__u64 error_offset;

	ASSERT_EQ(0, gmem_convert_vec(rig->vm.gmem_fd, &range, 1, &error_offset));
	EXPECT_EQ(0, error_offset);
	model_range(rig, &range);
}

/* Both initial states of both kinds of VM that every machine has. */
FIXTURE(state)
{
	struct rig rig;
};

FIXTURE_VARIANT(state)
{
	unsigned long vm_type;
	__u64 flags;
};

FIXTURE_VARIANT_ADD(state, sw_private) { KVM_X86_SW_PROTECTED_VM, GMEM_VM_PRIVATE };
FIXTURE_VARIANT_ADD(state, sw_shared) { KVM_X86_SW_PROTECTED_VM, GMEM_VM_SHARED };
FIXTURE_VARIANT_ADD(state, default_private) { KVM_X86_DEFAULT_VM, GMEM_VM_PRIVATE };
FIXTURE_VARIANT_ADD(state, default_shared) { KVM_X86_DEFAULT_VM, GMEM_VM_SHARED };

FIXTURE_SETUP(state)
{
	rig_setup(_metadata, &self->rig, variant->vm_type, NR_PAGES, variant->flags);
}

FIXTURE_TEARDOWN(state)
{
	rig_teardown(&self->rig);
}

TEST_F(state, C14_initial)
{
	rig_check(_metadata, &self->rig);
}

TEST_F(state, C9_host_follows)
{
	struct rig *rig = &self->rig;

	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	rig_write_all(_metadata, rig);
	rig_convert(_metadata, rig, 10, 1, PRIVATE);
	EXPECT_TRUE(host_faults(rig_page(rig, 10)));
	EXPECT_EQ(-EFAULT, host_write(rig_page(rig, 10), "x", 1));
	EXPECT_FALSE(host_faults(rig_page(rig, 9)));
	EXPECT_FALSE(host_faults(rig_page(rig, 11)));
	rig_convert(_metadata, rig, 10, 1, SHARED);
	rig_check(_metadata, rig);
}

/* C7: nothing to do costs nothing, and tells no one. */
TEST_F(state, C7_already_there)
{
	__u32 target = variant->flags & GUEST_MEMFD_FLAG_INIT_SHARED ? SHARED : PRIVATE;
	struct gmem_iommu_stats before, after;
	struct rig *rig = &self->rig;
	__u64 generation;

	if (rig->binding < 0)
		SKIP(return, "no binding to ask");

	ASSERT_EQ(0, mirror_get_stats(rig->binding, &before));
	generation = mirror_generation(rig->binding);
	rig_convert(_metadata, rig, 0, NR_PAGES, target);
	rig_convert(_metadata, rig, 7, 1, target);
	EXPECT_EQ(0, gmem_set_attributes2(rig->vm.gmem_fd, 0, FILE_SIZE, target == PRIVATE ?
					  KVM_MEMORY_ATTRIBUTE_PRIVATE : 0, NULL));
	ASSERT_EQ(0, mirror_get_stats(rig->binding, &after));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	EXPECT_EQ(generation, mirror_generation(rig->binding));

	/* The means of this test tell a real one. */
	rig_convert(_metadata, rig, 7, 1, target == PRIVATE ? SHARED : PRIVATE);
	ASSERT_EQ(0, mirror_get_stats(rig->binding, &after));
	EXPECT_EQ(before.conversions + 1, after.conversions);
	EXPECT_NE(generation, mirror_generation(rig->binding));
	rig_check(_metadata, rig);
}

/* C11: contents go through both directions, and what never was is zero. */
FIXTURE(contents)
{
	struct rig rig;
};

FIXTURE_VARIANT(contents)
{
	__u64 flags;
};

FIXTURE_VARIANT_ADD(contents, private) { GMEM_VM_PRIVATE };
FIXTURE_VARIANT_ADD(contents, shared) { GMEM_VM_SHARED };

FIXTURE_SETUP(contents)
{
	rig_setup(_metadata, &self->rig, KVM_X86_SW_PROTECTED_VM, NR_PAGES, variant->flags);
}

FIXTURE_TEARDOWN(contents)
{
	rig_teardown(&self->rig);
}

TEST_F(contents, C11_host_writes)
{
	struct rig *rig = &self->rig;

	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	rig_write_all(_metadata, rig);
	rig_convert(_metadata, rig, 0, NR_PAGES, PRIVATE);
	rig_check_guest(_metadata, rig);
	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	rig_check(_metadata, rig);
	rig_check_guest(_metadata, rig);
}

TEST_F(contents, C11_guest_writes)
{
	struct rig *rig = &self->rig;
	size_t i;

	rig_convert(_metadata, rig, 0, NR_PAGES, PRIVATE);
	for (i = 0; i < NR_PAGES; i += 2) {
		ASSERT_EQ(0, gmem_vm_fill(&rig->vm, PAGES(i), PAGES(1), SEED + i));
		rig->seed[i] = SEED + i;
	}
	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	rig_check(_metadata, rig);
	rig_convert(_metadata, rig, 0, NR_PAGES, PRIVATE);
	rig_check_guest(_metadata, rig);
}

TEST_F(contents, C11_never_written)
{
	struct rig *rig = &self->rig;
	int i;

	for (i = 0; i < 3; i++) {
		rig_convert(_metadata, rig, 0, NR_PAGES, i & 1 ? PRIVATE : SHARED);
		rig_check(_metadata, rig);
	}
}

/* C12: a punched page is as if never written, in the same state. */
TEST_F(contents, C11_C12_punch_hole)
{
	struct rig *rig = &self->rig;
	size_t i;

	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	rig_write_all(_metadata, rig);
	rig_convert(_metadata, rig, 8, 8, PRIVATE);
	ASSERT_EQ(0, gmem_punch_hole(rig->vm.gmem_fd, PAGES(4), PAGES(8)));
	for (i = 4; i < 12; i++)
		rig->seed[i] = 0;

	memset(rig->model + 4, PAGE_HOLE, 4);
	if (rig->binding >= 0)
		EXPECT_STREQ("", mirror_check_runs(rig->binding, 0, rig->model, NR_PAGES));

	/* Looking at it allocates it again. */
	memset(rig->model + 4, PAGE_SHARED, 4);
	rig_check(_metadata, rig);
	rig_convert(_metadata, rig, 8, 8, SHARED);
	rig_check(_metadata, rig);
}

/* C8: what the request does not change stays mapped in the host. */
static bool is_mapped(const void *addr)
{
	const __u64 present = 1ULL << 63;
	__u64 entry = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (pread(fd, &entry, sizeof(entry), (unsigned long)addr / GMEM_PAGE_SIZE *
		  sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry & present;
}

TEST_F(contents, C8_neighbours_stay_mapped)
{
	struct rig *rig = &self->rig;
	struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(20), .size = PAGES(40), .target = PRIVATE },
		{ .offset = PAGES(64), .size = PAGES(8), .target = SHARED },
	};
	size_t i;

	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	rig_write_all(_metadata, rig);
	if (!is_mapped(rig->vm.mem))
		SKIP(return, "no /proc/self/pagemap");

	ASSERT_EQ(0, gmem_convert_vec(rig->vm.gmem_fd, ranges, 2, NULL));
	for (i = 0; i < 2; i++)
		model_range(rig, &ranges[i]);
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(rig->model[i] == PAGE_SHARED, is_mapped(rig_page(rig, i)))
			TH_LOG("page %zu", i);
	rig_check(_metadata, rig);
}

/* C9: a child's mapping is gone as well, and the child learns it by SIGBUS. */
TEST_F(contents, C9_fork)
{
	struct rig *rig = &self->rig;
	int ready[2], go[2], status;
	char byte;
	pid_t child;

	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	rig_write_all(_metadata, rig);
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		bool was = host_faults(rig_page(rig, 5));

		if (was || write(ready[1], "x", 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(host_faults(rig_page(rig, 5)) && !host_faults(rig_page(rig, 6)) ? 0 : 2);
	}

	ASSERT_EQ(1, read(ready[0], &byte, 1));
	rig_convert(_metadata, rig, 5, 1, PRIVATE);
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	rig_check(_metadata, rig);
}

/*
 * C5: pages that were just allocated sit in the LRU batch of the CPU that did
 * it. That reference is the kernel's own and refuses nothing.
 */
TEST_F(contents, C5_lru_batch_of_other_cpu)
{
	struct rig *rig = &self->rig;
	cpu_set_t set;
	size_t i;

	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	for (i = 0; i < NR_PAGES; i++) {
		CPU_ZERO(&set);
		CPU_SET(i & 1, &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			SKIP(return, "needs two CPUs");
		ASSERT_EQ(0, gmem_punch_hole(rig->vm.gmem_fd, PAGES(i), PAGES(1)));
		rig_write(_metadata, rig, i, SEED + i);

		CPU_ZERO(&set);
		CPU_SET(!(i & 1), &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			SKIP(return, "needs two CPUs");
		rig_convert(_metadata, rig, i, 1, PRIVATE);
	}
	rig_check_guest(_metadata, rig);
	rig_check(_metadata, rig);
}

/* The state of the file decides for its slots, whatever the VM says. */
TEST_F(contents, C15_vm_attributes_are_not_asked)
{
	struct rig *rig = &self->rig;

	rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
	rig_write_all(_metadata, rig);
	rig_convert(_metadata, rig, 32, 32, PRIVATE);

	if (gmem_vm_set_attributes(&rig->vm, 0, FILE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE) == -ENOTTY)
		SKIP(return, "no KVM_SET_MEMORY_ATTRIBUTES");
	rig_check_guest(_metadata, rig);
	rig_check(_metadata, rig);
	EXPECT_EQ(0, gmem_vm_set_attributes(&rig->vm, 0, FILE_SIZE, 0));
	rig_check_guest(_metadata, rig);
	rig_check(_metadata, rig);
}

/* The other slots of the same VM are still ruled by the VM. */
TEST_F(contents, C15_vm_attributes_elsewhere)
{
	const __u64 gpa = 0x10000000;
	struct rig *rig = &self->rig;
	__u8 page[GMEM_PAGE_SIZE];
	void *anon;
	int fd;

	if (ioctl(rig->vm.vm_fd, KVM_CHECK_EXTENSION,
		  KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES))
		SKIP(return, "kvm.gmem_in_place_conversion: there are no others");
	fd = gmem_create_fd(rig->vm.vm_fd, PAGES(1), 0);
	ASSERT_LE(0, fd);
	anon = mmap(NULL, PAGES(1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, anon);
	ASSERT_EQ(0, gmem_set_slot(rig->vm.vm_fd, 7, gpa, PAGES(1), fd, 0, anon));

	ASSERT_EQ(0, gmem_vm_fill(&rig->vm, gpa, PAGES(1), SEED));
	memcpy(page, anon, sizeof(page));
	EXPECT_TRUE(gmem_pattern_matches(page, gpa, SEED));

	if (gmem_vm_set_attributes(&rig->vm, gpa, PAGES(1),
				   KVM_MEMORY_ATTRIBUTE_PRIVATE) == -ENOTTY)
		SKIP(return, "no KVM_SET_MEMORY_ATTRIBUTES");
	EXPECT_EQ(-EILSEQ, gmem_vm_verify(&rig->vm, gpa, PAGES(1), SEED));
	ASSERT_EQ(0, gmem_vm_fill(&rig->vm, gpa, PAGES(1), SEED + 1));
	EXPECT_EQ(0, memcmp(page, anon, sizeof(page)));

	EXPECT_EQ(0, gmem_vm_set_attributes(&rig->vm, gpa, PAGES(1), 0));
	EXPECT_EQ(0, gmem_vm_verify(&rig->vm, gpa, PAGES(1), SEED));
	rig_check(_metadata, rig);
}

/*
 * C4: someone holds a page in the middle of what should become private.
 */
FIXTURE(held)
{
	struct rig rig;
};

FIXTURE_VARIANT(held)
{
	int (*hold)(void *addr);
};

/* FOLL_LONGTERM: the file descriptor is the pin. */
static int hold_by_pin(void *addr)
{
	return host_pin(addr, PAGES(1));
}

FIXTURE_VARIANT_ADD(held, pin) { hold_by_pin };
FIXTURE_VARIANT_ADD(held, vmsplice) { host_hold };

FIXTURE_SETUP(held)
{
	struct rig *rig = &self->rig;

	rig_setup(_metadata, rig, KVM_X86_SW_PROTECTED_VM, NR_PAGES, GMEM_VM_SHARED);
	if (!_metadata->exit_code)
		rig_write_all(_metadata, rig);
}

FIXTURE_TEARDOWN(held)
{
	rig_teardown(&self->rig);
}

static void expect_refused(struct __test_metadata *_metadata, struct rig *rig,
			   const struct kvm_gmem_range *ranges, __u32 nr,
			   size_t page)
{
	__u64 error_offset;

	EXPECT_EQ(-EAGAIN, gmem_convert_vec(rig->vm.gmem_fd, ranges, nr, &error_offset));
	EXPECT_EQ(PAGES(page), error_offset);
	rig_check(_metadata, rig);
}

TEST_F(held, C1_C4_C8_exact_offset)
{
	static const size_t held[] = { 16, 17, 40, 62, 63 };
	struct kvm_gmem_range range = {
		.offset = PAGES(16),
		.size = PAGES(48),
		.target = PRIVATE,
	};
	struct rig *rig = &self->rig;
	__u64 error_offset;
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(held); i++) {
		fd = variant->hold(rig_page(rig, held[i]));
		if (fd == -ENOENT)
			SKIP(return, "no CONFIG_GUP_TEST");
		ASSERT_LE(0, fd);

		expect_refused(_metadata, rig, &range, 1, held[i]);
		EXPECT_EQ(-EAGAIN, gmem_set_attributes2(rig->vm.gmem_fd, range.offset, range.size,
							KVM_MEMORY_ATTRIBUTE_PRIVATE,
							&error_offset));
		EXPECT_EQ(PAGES(held[i]), error_offset);
		rig_check(_metadata, rig);

		/* C8: it concerns no one else, and not the state it is in. */
		rig_convert(_metadata, rig, 0, 16, PRIVATE);
		rig_convert(_metadata, rig, held[i], 1, SHARED);
		ASSERT_EQ(0, close(fd));

		rig_convert(_metadata, rig, 16, 48, PRIVATE);
		rig_check(_metadata, rig);
		rig_check_guest(_metadata, rig);
		rig_convert(_metadata, rig, 0, NR_PAGES, SHARED);
		rig_check(_metadata, rig);
	}
}

/* How often this thread has gone to sleep. */
static long nr_sleeps(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

/*
 * A pin stays for long, so it refuses at once; any other reference may go away in
 * a moment, and is given one, but not for ever. The fewest sleeps of ten requests:
 * a lock may make one sleep, too, and a sleep that is over at once is not counted.
 */
#define SHORTEST_US	(19 * 100)	/* of 20 tries, with sleeps in between */

TEST_F(held, C5_only_what_may_go_away_is_waited_for)
{
	long before, sleeps, fewest = LONG_MAX;
	double begin, us, shortest = 1e9;
	struct rig *rig = &self->rig;
	__u64 error_offset;
	int fd, i;

	fd = variant->hold(rig_page(rig, 20));
	if (fd == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, fd);
	for (i = 0; i < 10; i++) {
		before = nr_sleeps();
		begin = now_us();
		EXPECT_EQ(-EAGAIN, gmem_convert(rig->vm.gmem_fd, PAGES(20), PAGES(1),
						PRIVATE, &error_offset));
		us = now_us() - begin;
		shortest = us < shortest ? us : shortest;
		sleeps = nr_sleeps() - before;
		fewest = sleeps < fewest ? sleeps : fewest;
	}
	ASSERT_EQ(0, close(fd));
	if (variant->hold == hold_by_pin) {
		EXPECT_EQ(0, fewest);
	} else {
		EXPECT_LE(SHORTEST_US, shortest);
		EXPECT_LT(0, fewest);
		EXPECT_GT(100, fewest);
	}
	rig_convert(_metadata, rig, 20, 1, PRIVATE);
	rig_check(_metadata, rig);
}

/* C1: in a vector of both directions; the first of two holders is named. */
TEST_F(held, C1_C4_vector)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(100), .size = PAGES(20), .target = PRIVATE },
		{ .offset = PAGES(0), .size = PAGES(8), .target = SHARED },
		{ .offset = PAGES(50), .size = PAGES(20), .target = PRIVATE },
		{ .offset = PAGES(20), .size = PAGES(20), .target = PRIVATE },
	};
	struct rig *rig = &self->rig;
	int fds[2];
	size_t i;

	rig_convert(_metadata, rig, 0, 4, PRIVATE);
	for (i = 0; i < 2; i++) {
		fds[i] = variant->hold(rig_page(rig, i ? 55 : 110));
		if (fds[i] == -ENOENT)
			SKIP(return, "no CONFIG_GUP_TEST");
		ASSERT_LE(0, fds[i]);
	}

	expect_refused(_metadata, rig, ranges, ARRAY_SIZE(ranges), 55);
	ASSERT_EQ(0, close(fds[1]));
	expect_refused(_metadata, rig, ranges, ARRAY_SIZE(ranges), 110);
	ASSERT_EQ(0, close(fds[0]));

	ASSERT_EQ(0, gmem_convert_vec(rig->vm.gmem_fd, ranges, ARRAY_SIZE(ranges), NULL));
	for (i = 0; i < ARRAY_SIZE(ranges); i++)
		model_range(rig, &ranges[i]);
	rig_check(_metadata, rig);
	rig_check_guest(_metadata, rig);
}

/* A refusal reaches the binding as nothing, or as an abort. */
TEST_F(held, N1_binding_unmoved)
{
	struct gmem_iommu_stats before, after;
	struct rig *rig = &self->rig;
	__u64 generation;
	int fd;

	if (rig->binding < 0)
		SKIP(return, "no binding to ask");
	fd = variant->hold(rig_page(rig, 3));
	if (fd == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, fd);

	ASSERT_EQ(0, mirror_get_stats(rig->binding, &before));
	generation = mirror_generation(rig->binding);
	EXPECT_EQ(-EAGAIN, gmem_convert(rig->vm.gmem_fd, 0, FILE_SIZE, PRIVATE, NULL));
	ASSERT_EQ(0, mirror_get_stats(rig->binding, &after));
	EXPECT_EQ(before.conversions, after.conversions);
	EXPECT_GE(before.aborts + 1, after.aborts);
	EXPECT_EQ(before.unmapped_pages, after.unmapped_pages);
	EXPECT_EQ(generation, mirror_generation(rig->binding));
	ASSERT_EQ(0, close(fd));
}

/* C10: the longest vectors. */
FIXTURE(vector)
{
	struct rig rig;
};

FIXTURE_SETUP(vector)
{
	struct rig *rig = &self->rig;

	rig_setup(_metadata, rig, KVM_X86_SW_PROTECTED_VM, GMEM_STATE_MAX_PAGES,
		  GMEM_VM_SHARED);
	if (!_metadata->exit_code)
		rig_write_all(_metadata, rig);
}

FIXTURE_TEARDOWN(vector)
{
	rig_teardown(&self->rig);
}

/* Every second page, last one first, each alone: nothing to merge. */
TEST_F_TIMEOUT(vector, C10_scattered_1024, 120)
{
	static struct kvm_gmem_range ranges[KVM_GMEM_CONVERT_MAX_RANGES];
	struct rig *rig = &self->rig;
	size_t i, round;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < ARRAY_SIZE(ranges); i++) {
			ranges[i].offset = PAGES(2 * (ARRAY_SIZE(ranges) - 1 - i));
			ranges[i].size = PAGES(1);
			ranges[i].target = round & 1 ? SHARED : PRIVATE;
			model_range(rig, &ranges[i]);
		}
		ASSERT_EQ(0, gmem_convert_vec(rig->vm.gmem_fd, ranges, ARRAY_SIZE(ranges), NULL));
		rig_check(_metadata, rig);
	}
}

/* Neighbours and duplicates make one run, and the binding hears of it once. */
TEST_F_TIMEOUT(vector, C10_merged, 120)
{
	static struct kvm_gmem_range ranges[KVM_GMEM_CONVERT_MAX_RANGES];
	struct gmem_iommu_stats before = {}, after = {};
	struct rig *rig = &self->rig;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		/* Every page of 300 to 811 twice, in a scrambled order. */
		ranges[i].offset = PAGES(300 + i * 37 % 512);
		ranges[i].size = PAGES(1 + i % 2 * (i * 37 % 512 != 511));
		ranges[i].target = PRIVATE;
		model_range(rig, &ranges[i]);
	}
	if (rig->binding >= 0)
		ASSERT_EQ(0, mirror_get_stats(rig->binding, &before));
	ASSERT_EQ(0, gmem_convert_vec(rig->vm.gmem_fd, ranges, ARRAY_SIZE(ranges), NULL));
	if (rig->binding >= 0) {
		ASSERT_EQ(0, mirror_get_stats(rig->binding, &after));
		EXPECT_EQ(before.conversions + 1, after.conversions);
	}
	rig_check(_metadata, rig);
}

/* C1: random vectors, against the model. GMEM_RAND=<number> repeats a run. */
FIXTURE(random)
{
	struct rig rig;
	unsigned int rand;
};

FIXTURE_VARIANT(random)
{
	__u64 flags;
};

FIXTURE_VARIANT_ADD(random, private) { GMEM_VM_PRIVATE };
FIXTURE_VARIANT_ADD(random, shared) { GMEM_VM_SHARED };

FIXTURE_SETUP(random)
{
	const char *rand = getenv("GMEM_RAND");

	rig_setup(_metadata, &self->rig, KVM_X86_SW_PROTECTED_VM, 2 * NR_PAGES,
		  variant->flags);
	self->rand = rand ? strtoul(rand, NULL, 0) : time(NULL);
	TH_LOG("GMEM_RAND=%u", self->rand);
}

FIXTURE_TEARDOWN(random)
{
	rig_teardown(&self->rig);
}

/* Fill @ranges; false if two of them contradict each other. */
static bool random_vector(unsigned int *rand, struct kvm_gmem_range *ranges,
			  size_t nr, size_t nr_pages)
{
	static __u8 wanted[GMEM_STATE_MAX_PAGES];
	bool agrees = true;
	size_t i, page;

	memset(wanted, 0, sizeof(wanted));
	for (i = 0; i < nr; i++) {
		size_t first = rand_r(rand) % nr_pages;
		size_t max = rand_r(rand) % 8 ? 4 : nr_pages;
		size_t len = 1 + rand_r(rand) % max;

		if (len > nr_pages - first)
			len = nr_pages - first;
		ranges[i].offset = PAGES(first);
		ranges[i].size = PAGES(len);
		ranges[i].target = rand_r(rand) & 1 ? SHARED : PRIVATE;
		ranges[i].reserved = 0;

		for (page = first; page < first + len; page++) {
			if (wanted[page] && wanted[page] != ranges[i].target)
				agrees = false;
			wanted[page] = ranges[i].target;
		}
	}
	return agrees;
}

/* One range by either entry: C15. */
static int convert_by_any(unsigned int *rand, int gmem_fd,
			  const struct kvm_gmem_range *ranges, size_t nr,
			  __u64 *error_offset)
{
	if (nr > 1 || rand_r(rand) & 1)
		return gmem_convert_vec(gmem_fd, ranges, nr, error_offset);

	return gmem_set_attributes2(gmem_fd, ranges->offset, ranges->size,
				    ranges->target == PRIVATE ?
				    KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
				    error_offset);
}

#define NR_ROUNDS	100
#define NR_ROUNDS_LONG	1000
#define MAX_RANGES	24

TEST_F_TIMEOUT(random, C1_C10_C11_C15_vectors, 1200)
{
	struct kvm_gmem_range ranges[MAX_RANGES];
	size_t nr_rounds = getenv("GMEM_IOMMU_LONG") ? NR_ROUNDS_LONG : NR_ROUNDS;
	size_t round, i, nr, done = 0, refused = 0;
	struct rig *rig = &self->rig;
	__u64 error_offset;
	bool agrees;

	for (round = 0; round < nr_rounds; round++) {
		nr = 1 + rand_r(&self->rand) % (round % 3 ? 4 : MAX_RANGES);
		agrees = random_vector(&self->rand, ranges, nr, rig_nr_pages(rig));
		ASSERT_EQ(agrees ? 0 : -EINVAL,
			  convert_by_any(&self->rand, rig->vm.gmem_fd, ranges, nr,
					 &error_offset));
		EXPECT_EQ(0, error_offset);
		for (i = 0; i < nr && agrees; i++)
			model_range(rig, &ranges[i]);
		*(agrees ? &done : &refused) += 1;

		/* Some pages get new contents on the way. */
		i = rand_r(&self->rand) % rig_nr_pages(rig);
		if (rig->model[i] == PAGE_SHARED)
			rig_write(_metadata, rig, i, SEED + round);
		if (round % 8 == 7 || !agrees)
			rig_check(_metadata, rig);
	}
	rig_check(_metadata, rig);
	rig_check_guest(_metadata, rig);

	/* Both answers were met. */
	EXPECT_LT(nr_rounds / 10, done);
	EXPECT_LT(nr_rounds / 20, refused);
}

TEST_HARNESS_MAIN
