// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's MMU over a convertible file: the file says which pages are private, for
 * faults, for memory that is mapped in advance and for what user space is told;
 * a conversion costs its neighbours no fault, neither the guest's nor the host's,
 * and one that changes nothing costs nothing.
 *
 * Requirements: C7, C8, C10, C15.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/guest.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/kvm_stats.h"

#define NPAGES		64
#define SEED		0x5eed6000
#define OTHER_GPA	0x10000000ULL
#define OTHER_SLOT	20
#define LARGE_PAGE	0x200000UL

/* All shared, with contents that the guest wrote; all mapped in the guest. */
FIXTURE(mmu)
{
	struct gmem_vm vm;
};

FIXTURE_SETUP(mmu)
{
	const char *why = gmem_vm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, gmem_vm_create(&self->vm, PAGES(NPAGES), GMEM_VM_SHARED));
	ASSERT_EQ(0, gmem_vm_fill(&self->vm, 0, PAGES(NPAGES), SEED));
}

FIXTURE_TEARDOWN(mmu)
{
	gmem_vm_destroy(&self->vm);
}

static int prefault(struct gmem_vm *vm, size_t first, size_t npages)
{
	struct kvm_pre_fault_memory args = {
		.gpa = PAGES(first),
		.size = PAGES(npages),
	};

	return ioctl(vm->vcpu_fd, KVM_PRE_FAULT_MEMORY, &args) ? -errno : 0;
}

static long long guest_faults(struct gmem_vm *vm)
{
	return kvm_stat(vm->vcpu_fd, "pf_taken");
}

/*
 * Pages of both states are mapped in advance: the right ones, so that the guest
 * neither faults nor exits afterwards, and finds its contents.
 */
TEST_F(mmu, C15_prefault)
{
	struct gmem_vm *vm = &self->vm;
	long long faults, mapped;

	ASSERT_EQ(0, gmem_vm_convert(vm, 0, NPAGES, PRIVATE));
	ASSERT_EQ(0, gmem_vm_convert(vm, 16, 24, SHARED));
	mapped = kvm_stat(vm->vm_fd, "pages_4k");
	if (prefault(vm, 0, NPAGES) == -EOPNOTSUPP)
		SKIP(return, "no KVM_PRE_FAULT_MEMORY");
	EXPECT_EQ(mapped + NPAGES, kvm_stat(vm->vm_fd, "pages_4k"));

	faults = guest_faults(vm);
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(NPAGES), SEED));
	EXPECT_EQ(0, gmem_vm_fill(vm, 0, PAGES(NPAGES), SEED + 1));
	EXPECT_EQ(faults, guest_faults(vm));
	EXPECT_EQ(0, vm->nr_fault_exits);

	/* Both wrote to the file, and to nothing else. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, NPAGES, SHARED));
	EXPECT_TRUE(gmem_pattern_matches(vm->mem + PAGES(3), PAGES(3), SEED + 1));
	EXPECT_TRUE(gmem_pattern_matches(vm->mem + PAGES(20), PAGES(20), SEED + 1));
}

/* Each state of a page is mapped once, whoever maps it. */
TEST_F(mmu, C15_prefault_again)
{
	struct gmem_vm *vm = &self->vm;
	long long mapped = kvm_stat(vm->vm_fd, "pages_4k");
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, gmem_vm_convert(vm, 8, 8, i % 2 ? SHARED : PRIVATE));
		EXPECT_EQ(mapped - 8, kvm_stat(vm->vm_fd, "pages_4k"));
		if (prefault(vm, 0, NPAGES) == -EOPNOTSUPP)
			SKIP(return, "no KVM_PRE_FAULT_MEMORY");
		EXPECT_EQ(mapped, kvm_stat(vm->vm_fd, "pages_4k"));
		EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(NPAGES), SEED));
	}
}

/* One entry of the guest, to verify a page; the exit is left in vm->run. */
static int run_once(struct gmem_vm *vm, size_t page)
{
	vm->mbox->gpa = PAGES(page);
	vm->mbox->npages = 1;
	vm->mbox->arg = SEED;
	vm->mbox->cmd = GUEST_CMD_VERIFY;
	return ioctl(vm->vcpu_fd, KVM_RUN, NULL) ? -errno : 0;
}

/*
 * A VM without private memory has every access taken for a shared one. To a
 * private page of the file it leads to an exit that says so; when the page is
 * shared the same access goes on.
 */
TEST_F(mmu, C15_exit_for_access_of_the_wrong_kind)
{
	struct kvm_run *run;
	struct gmem_vm vm;

	ASSERT_EQ(0, gmem_vm_create_type(&vm, KVM_X86_DEFAULT_VM, PAGES(8),
					 GMEM_VM_SHARED));
	run = vm.run;
	ASSERT_EQ(0, gmem_vm_fill(&vm, 0, PAGES(8), SEED));
	ASSERT_EQ(0, gmem_vm_convert(&vm, 3, 1, PRIVATE));

	EXPECT_EQ(-EFAULT, run_once(&vm, 3));
	EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
	EXPECT_EQ(0, run->memory_fault.flags);
	EXPECT_EQ(PAGES(3), run->memory_fault.gpa);
	EXPECT_EQ(PAGES(1), run->memory_fault.size);

	ASSERT_EQ(0, gmem_vm_convert(&vm, 3, 1, SHARED));
	EXPECT_EQ(0, run_once(&vm, 3));
	EXPECT_EQ(KVM_EXIT_IO, run->exit_reason);
	EXPECT_EQ(0, vm.mbox->ret);
	gmem_vm_destroy(&vm);
}

/* An exit for a broken page says of which kind it is, as the file knows it. */
TEST_F(mmu, C15_exit_says_which_kind)
{
	struct gmem_vm *vm = &self->vm;
	struct kvm_run *run = vm->run;
	__u64 pfns[2];
	int ret, i;

	for (i = 0; i < 2; i++) {
		ASSERT_FALSE(host_faults(vm->mem + PAGES(3 + i)));
		ASSERT_EQ(0, host_pfns(vm->mem + PAGES(3 + i), &pfns[i], 1));
		ASSERT_NE(0, pfns[i]);
	}
	ASSERT_EQ(0, gmem_vm_convert(vm, 4, 1, PRIVATE));
	/* It would be killed for a broken page that it has mapped. */
	ASSERT_EQ(0, munmap(vm->mem, vm->size));
	vm->mem = NULL;

	for (i = 0; i < 2; i++) {
		struct kvm_regs regs;

		ret = host_break_pfn(pfns[i]);
		if (ret == -ENOENT)
			SKIP(return, "no CONFIG_HWPOISON_INJECT");
		ASSERT_EQ(0, ret);
		EXPECT_EQ(-EHWPOISON, run_once(vm, 3 + i));
		EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
		EXPECT_EQ(i ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0,
			  run->memory_fault.flags);
		EXPECT_EQ(PAGES(3 + i), run->memory_fault.gpa);

		/* The guest goes on elsewhere: back to the start of its loop. */
		ASSERT_EQ(0, ioctl(vm->vcpu_fd, KVM_GET_REGS, &regs));
		regs.rip = GMEM_VM_PROG_GPA;
		ASSERT_EQ(0, ioctl(vm->vcpu_fd, KVM_SET_REGS, &regs));
		vm->mbox->cmd = 0;
		ASSERT_EQ(0, ioctl(vm->vcpu_fd, KVM_RUN, NULL));
	}
}

/*
 * Two files side by side in one VM: the state of the convertible one is its own,
 * that of the other is the VM's attribute, and they do not see each other.
 */
TEST_F(mmu, C15_two_kinds_of_files_in_one_vm)
{
	const __u64 all = OTHER_GPA + PAGES(8);
	struct gmem_vm *vm = &self->vm;
	void *anon;
	int fd, i;

	if (ioctl(vm->vm_fd, KVM_CHECK_EXTENSION,
		  KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES))
		SKIP(return, "kvm.gmem_in_place_conversion: there is one kind");
	fd = gmem_create_fd(vm->vm_fd, PAGES(8), 0);
	ASSERT_LE(0, fd);
	anon = mmap(NULL, PAGES(8), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, anon);
	ASSERT_EQ(0, gmem_set_slot(vm->vm_fd, OTHER_SLOT, OTHER_GPA, PAGES(8),
				   fd, 0, anon));

	/* Two sets of contents in the other slot: shared and private. */
	ASSERT_EQ(0, gmem_vm_fill(vm, OTHER_GPA, PAGES(8), SEED + 2));
	if (gmem_vm_set_attributes(vm, 0, all, KVM_MEMORY_ATTRIBUTE_PRIVATE) == -ENOTTY)
		SKIP(return, "no KVM_SET_MEMORY_ATTRIBUTES");
	ASSERT_EQ(0, gmem_vm_fill(vm, OTHER_GPA, PAGES(8), SEED + 3));

	for (i = 0; i < 4; i++) {
		/* The file converts; the VM's attributes of the same pages too. */
		ASSERT_EQ(0, gmem_vm_convert(vm, 8, 8, i % 2 ? SHARED : PRIVATE));
		EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(NPAGES), SEED));
		EXPECT_EQ(0, gmem_vm_verify(vm, OTHER_GPA, PAGES(8),
					    i % 2 ? SEED + 2 : SEED + 3));
		EXPECT_EQ(!(i % 2), host_faults(vm->mem + PAGES(8)));
		ASSERT_EQ(0, gmem_vm_set_attributes(vm, 0, all, i % 2 ?
						    KVM_MEMORY_ATTRIBUTE_PRIVATE : 0));
	}
	EXPECT_TRUE(gmem_pattern_matches(anon, OTHER_GPA, SEED + 2));
	EXPECT_EQ(0, vm->nr_fault_exits);
	close(fd);
}

/* Every second page: as many runs as there can be. */
static int convert_alternately(struct gmem_vm *vm, __u32 target)
{
	struct kvm_gmem_range ranges[NPAGES / 2];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++)
		ranges[i] = (struct kvm_gmem_range) {
			.offset = PAGES(2 * i),
			.size = PAGES(1),
			.target = target,
		};
	return gmem_convert_vec(vm->gmem_fd, ranges, ARRAY_SIZE(ranges), NULL);
}

/* 2 MiB of the host, in one page if the host has one; and room to align it. */
static void *map_large_page(void)
{
	unsigned long addr;
	void *mem;

	mem = mmap(NULL, 2 * LARGE_PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return NULL;
	addr = ((unsigned long)mem + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);
	madvise((void *)addr, LARGE_PAGE, MADV_HUGEPAGE);
	return (void *)addr;
}

/*
 * How large a mapping of the guest may be is asked of the file, too, or of the VM
 * for the slot beside it: conversions leave the large mapping there alone, and what
 * splits it is an attribute of the VM, which the file does not care about.
 */
TEST_F(mmu, C15_mapping_level)
{
	struct gmem_vm *vm = &self->vm;
	void *mem = map_large_page();
	int fd;

	if (ioctl(vm->vm_fd, KVM_CHECK_EXTENSION,
		  KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES))
		SKIP(return, "kvm.gmem_in_place_conversion: there is one kind");
	ASSERT_NE(NULL, mem);
	fd = gmem_create_fd(vm->vm_fd, LARGE_PAGE, 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, gmem_set_slot(vm->vm_fd, OTHER_SLOT, OTHER_GPA, LARGE_PAGE,
				   fd, 0, mem));
	ASSERT_EQ(0, gmem_vm_fill(vm, OTHER_GPA, PAGES(2), SEED));
	if (kvm_stat(vm->vm_fd, "pages_2m") != 1)
		SKIP(return, "the host has no large page to give");

	ASSERT_EQ(0, convert_alternately(vm, PRIVATE));
	ASSERT_EQ(0, gmem_vm_convert(vm, 8, 30, PRIVATE));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(NPAGES), SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, NPAGES, SHARED));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(NPAGES), SEED));
	EXPECT_EQ(1, kvm_stat(vm->vm_fd, "pages_2m"));

	/* All of the file, and the first page beside it */
	ASSERT_EQ(0, gmem_vm_set_attributes(vm, 0, OTHER_GPA + PAGES(1),
					    KVM_MEMORY_ATTRIBUTE_PRIVATE));
	EXPECT_EQ(0, gmem_vm_verify(vm, OTHER_GPA + PAGES(1), PAGES(1), SEED));
	EXPECT_EQ(0, kvm_stat(vm->vm_fd, "pages_2m"));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(NPAGES), SEED));
	EXPECT_TRUE(gmem_pattern_matches(vm->mem, 0, SEED));
	close(fd);
}

/* C8: faults that neighbours of converted pages cost. */
static long host_faults_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* Touch pages by the host; how many faults that took. */
static long touch_by_host(struct gmem_vm *vm, size_t first, size_t npages)
{
	long before = host_faults_so_far();
	__u8 byte;
	size_t i;

	for (i = first; i < first + npages; i++)
		if (host_read(&byte, vm->mem + PAGES(i), 1))
			return -EFAULT;
	return host_faults_so_far() - before;
}

static long long touch_by_guest(struct gmem_vm *vm, size_t first, size_t npages)
{
	long long before = guest_faults(vm);

	if (gmem_vm_verify(vm, PAGES(first), PAGES(npages), SEED))
		return -1;
	return guest_faults(vm) - before;
}

TEST_F(mmu, C8_neighbours_do_not_fault)
{
	const size_t at = 31, behind = at + 1;
	struct gmem_vm *vm = &self->vm;
	int i;

	ASSERT_LE(0, touch_by_host(vm, 0, NPAGES));
	ASSERT_LE(0, touch_by_guest(vm, 0, NPAGES));
	EXPECT_EQ(0, touch_by_host(vm, 0, NPAGES));
	EXPECT_EQ(0, touch_by_guest(vm, 0, NPAGES));

	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, gmem_vm_convert(vm, at, 1, PRIVATE));
		EXPECT_EQ(0, touch_by_host(vm, 0, at));
		EXPECT_EQ(0, touch_by_host(vm, behind, NPAGES - behind));
		EXPECT_EQ(0, touch_by_guest(vm, 0, at));
		EXPECT_EQ(0, touch_by_guest(vm, behind, NPAGES - behind));
		/* The page itself: one fault, then none. */
		EXPECT_EQ(1, touch_by_guest(vm, at, 1));
		EXPECT_EQ(0, touch_by_guest(vm, 0, NPAGES));

		ASSERT_EQ(0, gmem_vm_convert(vm, at, 1, SHARED));
		EXPECT_EQ(0, touch_by_host(vm, 0, at));
		EXPECT_EQ(0, touch_by_host(vm, behind, NPAGES - behind));
		EXPECT_EQ(0, touch_by_guest(vm, 0, at));
		EXPECT_EQ(0, touch_by_guest(vm, behind, NPAGES - behind));
		EXPECT_EQ(1, touch_by_guest(vm, at, 1));
		EXPECT_EQ(1, touch_by_host(vm, at, 1));
		EXPECT_EQ(0, touch_by_host(vm, 0, NPAGES));
	}
}

/* Requests for the state that all pages are in, by both ioctls. */
static int convert_nothing(struct gmem_vm *vm)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(0), .size = PAGES(8), .target = SHARED },
		{ .offset = PAGES(8), .size = PAGES(8), .target = PRIVATE },
		{ .offset = PAGES(16), .size = PAGES(NPAGES - 16), .target = SHARED },
	};
	__u64 offset = 1;
	int ret;

	ret = gmem_convert_vec(vm->gmem_fd, ranges, ARRAY_SIZE(ranges), &offset);
	if (!ret && !offset)
		ret = gmem_set_attributes2(vm->gmem_fd, PAGES(8), PAGES(8),
					   KVM_MEMORY_ATTRIBUTE_PRIVATE, &offset);
	if (!ret && !offset)
		ret = gmem_set_attributes2(vm->gmem_fd, PAGES(16),
					   PAGES(NPAGES - 16), 0, &offset);
	return !ret && offset ? -EPROTO : ret;
}

/*
 * C7: no mapping is zapped, no TLB is flushed and nobody faults: KVM's counters
 * stand still.
 */
TEST_F(mmu, C7_nothing_to_do_costs_nothing)
{
	struct kvm_counters of_vm, of_vcpu;
	struct gmem_vm *vm = &self->vm;
	int i;

	ASSERT_EQ(0, gmem_vm_convert(vm, 8, 8, PRIVATE));
	ASSERT_LE(0, touch_by_host(vm, 0, 8));
	ASSERT_LE(0, touch_by_host(vm, 16, NPAGES - 16));
	ASSERT_LE(0, touch_by_guest(vm, 0, NPAGES));
	ASSERT_EQ(0, kvm_counters_read(vm->vm_fd, &of_vm));
	ASSERT_EQ(0, kvm_counters_read(vm->vcpu_fd, &of_vcpu));

	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, convert_nothing(vm));
	EXPECT_STREQ("", kvm_counters_changed(vm->vm_fd, &of_vm));
	EXPECT_STREQ("", kvm_counters_changed(vm->vcpu_fd, &of_vcpu));
	EXPECT_EQ(0, touch_by_host(vm, 0, 8));
	EXPECT_EQ(0, touch_by_host(vm, 16, NPAGES - 16));
	EXPECT_EQ(0, touch_by_guest(vm, 0, NPAGES));

	/* They do move. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 20, 1, PRIVATE));
	EXPECT_STRNE("", kvm_counters_changed(vm->vm_fd, &of_vm));
}

/*
 * C8: the TLBs are flushed once, however many runs there are, and although the
 * host unmaps them, too. A conversion that has to make way for another task
 * flushes before it does, so what counts is the fewest flushes of some tries.
 */
TEST_F(mmu, C8_one_flush_for_all_runs)
{
	static const __u32 targets[] = { PRIVATE, SHARED };
	long long before, flushes, fewest[2] = { NPAGES, NPAGES };
	struct gmem_vm *vm = &self->vm;
	int i;

	for (i = 0; i < 20; i++) {
		if (i % 2 == 0)
			ASSERT_LE(0, touch_by_host(vm, 0, NPAGES));
		ASSERT_LE(0, touch_by_guest(vm, 0, NPAGES));
		before = kvm_stat(vm->vm_fd, "remote_tlb_flush_requests");
		ASSERT_LE(0, before);
		ASSERT_EQ(0, convert_alternately(vm, targets[i % 2]));
		flushes = kvm_stat(vm->vm_fd, "remote_tlb_flush_requests") - before;
		if (flushes < fewest[i % 2])
			fewest[i % 2] = flushes;
	}
	EXPECT_EQ(1, fewest[0]);
	EXPECT_EQ(1, fewest[1]);
}

/* C8: the host's mapping goes; the guest, which does not use it, does not notice. */
TEST_F(mmu, C8_host_unmaps_without_the_guest)
{
	struct gmem_vm *vm = &self->vm;
	struct kvm_counters counters;

	ASSERT_LE(0, touch_by_host(vm, 0, NPAGES));
	ASSERT_LE(0, touch_by_guest(vm, 0, NPAGES));
	ASSERT_EQ(0, kvm_counters_read(vm->vm_fd, &counters));
	ASSERT_EQ(0, munmap(vm->mem, vm->size));
	vm->mem = NULL;
	EXPECT_STREQ("", kvm_counters_changed(vm->vm_fd, &counters));
	EXPECT_EQ(0, touch_by_guest(vm, 0, NPAGES));
}

/* C8, C10: between the ranges of a vector, and inside one that is mixed. */
TEST_F(mmu, C8_C10_neighbours_of_a_vector)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(8), .size = PAGES(2), .target = PRIVATE },
		{ .offset = PAGES(12), .size = PAGES(2), .target = PRIVATE },
		{ .offset = PAGES(40), .size = PAGES(8), .target = SHARED },
	};
	struct gmem_vm *vm = &self->vm;

	ASSERT_EQ(0, gmem_vm_convert(vm, 42, 2, PRIVATE));
	touch_by_host(vm, 0, 42);
	touch_by_host(vm, 44, NPAGES - 44);
	ASSERT_LE(0, touch_by_guest(vm, 0, NPAGES));

	ASSERT_EQ(0, gmem_convert_vec(vm->gmem_fd, ranges, 3, NULL));
	/* Only 42 and 43 became shared: 40, 41 and 44 to 47 were. */
	EXPECT_EQ(0, touch_by_host(vm, 0, 8));
	EXPECT_EQ(0, touch_by_host(vm, 10, 2));
	EXPECT_EQ(0, touch_by_host(vm, 14, 28));
	EXPECT_EQ(0, touch_by_host(vm, 44, NPAGES - 44));
	EXPECT_EQ(2, touch_by_host(vm, 42, 2));
	EXPECT_EQ(0, touch_by_guest(vm, 0, 8));
	EXPECT_EQ(0, touch_by_guest(vm, 10, 2));
	EXPECT_EQ(0, touch_by_guest(vm, 14, 28));
	EXPECT_EQ(0, touch_by_guest(vm, 44, NPAGES - 44));
	EXPECT_EQ(6, touch_by_guest(vm, 0, NPAGES));
}

/* C8: a conversion that is refused costs nobody a fault. */
TEST_F(mmu, C8_refused_conversion_costs_no_fault)
{
	struct gmem_vm *vm = &self->vm;
	int pin;

	touch_by_host(vm, 0, NPAGES);
	pin = host_pin(vm->mem + PAGES(20), PAGES(1));
	if (pin == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, pin);
	EXPECT_EQ(0, touch_by_host(vm, 0, NPAGES));

	EXPECT_EQ(-EAGAIN, gmem_vm_convert(vm, 0, NPAGES, PRIVATE));
	EXPECT_EQ(0, touch_by_host(vm, 0, NPAGES));
	EXPECT_EQ(0, touch_by_guest(vm, 0, NPAGES));
	close(pin);
}

TEST_HARNESS_MAIN
