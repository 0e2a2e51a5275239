// SPDX-License-Identifier: GPL-2.0
/*
 * What else the kernel does to memory that it thinks is the host's: it looks which pages
 * are there, locks, write protects and guards mappings, tries to migrate folios, to drop
 * them and to take them out of use. None of it may keep a mapping of what is private,
 * cost contents, or refuse a conversion for good.
 *
 * Requirements: C4, C5, C6, C9, C11, C12, H4.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/state.h"
#include "lib/text.h"
#include "lib/vmstat.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define NR_PAGES	64UL
#define SEED		0x5eed000d

FIXTURE(host)
{
	struct gmem_vm vm;
	long long mlocked;
};

FIXTURE_SETUP(host)
{
	const char *missing = gmem_vm_missing();

	if (missing)
		SKIP(return, "%s", missing);
	self->mlocked = vmstat_get("nr_mlock");
	ASSERT_EQ(0, gmem_vm_create(&self->vm, PAGES(NR_PAGES), GMEM_VM_SHARED));
	ASSERT_EQ(0, gmem_vm_fill(&self->vm, 0, self->vm.size, SEED));
}

FIXTURE_TEARDOWN(host)
{
	gmem_vm_destroy(&self->vm);
	EXPECT_EQ(self->mlocked, vmstat_get("nr_mlock"));
}

static int run_on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* The host reads what the guest wrote. */
static bool host_sees(struct gmem_vm *vm, size_t page)
{
	__u8 buf[GMEM_PAGE_SIZE];

	return !host_read(buf, vm->mem + PAGES(page), sizeof(buf)) &&
	       gmem_pattern_matches(buf, PAGES(page), SEED);
}

/* -- mlock ----------------------------------------------------------------- */

/* The batches of mlock and munlock hold references, on whichever CPU they are. */
TEST_F(host, C4_C5_locked_pages_convert_at_once)
{
	static const size_t nr[] = { 1, 30, 31, NR_PAGES };
	struct gmem_vm *vm = &self->vm;
	size_t i, page;

	if (run_on_cpu(1))
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, mlock2(vm->mem, vm->size, MLOCK_ONFAULT));
	for (i = 0; i < ARRAY_SIZE(nr); i++) {
		ASSERT_EQ(0, gmem_vm_convert(vm, 0, NR_PAGES, SHARED));
		ASSERT_EQ(0, run_on_cpu(1));
		for (page = 0; page < nr[i]; page++)
			ASSERT_TRUE(host_sees(vm, page));
		ASSERT_EQ(0, run_on_cpu(0));
		ASSERT_EQ(0, gmem_vm_convert(vm, 0, nr[i], PRIVATE)) {
			TH_LOG("%zu pages", nr[i]);
		}
		ASSERT_TRUE(host_faults(vm->mem));
	}
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, vm->size, SEED));
}

/* -- mincore --------------------------------------------------------------- */

#define NR_LOOKED	32	/* and one page that has no memory */
#define LOOK_ROUNDS	200

struct looker {
	struct gmem_vm *vm;
	unsigned long looks;
	long nr_resident;
	bool stop;
};

static void *look(void *arg)
{
	struct looker *l = arg;

	while (l->nr_resident == NR_LOOKED &&
	       !__atomic_load_n(&l->stop, __ATOMIC_RELAXED)) {
		l->nr_resident = gmem_nr_resident(l->vm->mem, NR_LOOKED + 1);
		__atomic_add_fetch(&l->looks, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/*
 * mincore(2) looks for pages that are not mapped in the page cache, and holds the lock
 * of the page table that it found the others in. A conversion waits for that lock when
 * it has frozen what is not mapped; so neither waits for the other to be done, and a
 * page that is frozen is resident.
 */
TEST_F(host, C5_mincore_meanwhile)
{
	struct gmem_vm *vm = &self->vm;
	struct looker looker = { .vm = vm, .nr_resident = NR_LOOKED };
	void *last = vm->mem + PAGES(NR_LOOKED - 1);
	pthread_t thread;
	__u64 pfn;
	int i;

	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, PAGES(NR_LOOKED), PAGES(1)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, look, &looker));
	while (!__atomic_load_n(&looker.looks, __ATOMIC_RELAXED))
		sched_yield();
	for (i = 0; i < LOOK_ROUNDS; i++) {
		/* From the first round on only the last page is mapped. */
		ASSERT_EQ(0, gmem_vm_convert(vm, 0, NR_LOOKED, PRIVATE));
		ASSERT_EQ(0, gmem_vm_convert(vm, 0, NR_LOOKED, SHARED));
		ASSERT_FALSE(host_faults(last));
	}
	__atomic_store_n(&looker.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(NR_LOOKED, looker.nr_resident)
		TH_LOG("after %lu looks", looker.looks);

	/* Shared and not mapped, or mapped, or private; and the hole. */
	ASSERT_EQ(0, host_pfns(vm->mem, &pfn, 1));
	EXPECT_EQ(0, pfn);
	EXPECT_EQ(1, gmem_nr_resident(vm->mem, 1));
	EXPECT_EQ(1, gmem_nr_resident(last, 1));
	EXPECT_EQ(0, gmem_nr_resident(vm->mem + PAGES(NR_LOOKED), 1));
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 8, PRIVATE));
	EXPECT_EQ(8, gmem_nr_resident(vm->mem, 8));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(NR_LOOKED), SEED));
	EXPECT_EQ(0, gmem_vm_verify(vm, PAGES(NR_LOOKED + 1),
				    PAGES(NR_PAGES - NR_LOOKED - 1), SEED));
}

/* -- entries of page tables that are not mappings -------------------------- */

/* A userfaultfd that makes nobody wait: written pages are just not protected any more. */
static int write_protect(struct gmem_vm *vm)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range = { (unsigned long)vm->mem, vm->size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)vm->mem, vm->size },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int uffd;

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (uffd < 0)
		return -errno;
	if (ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg) ||
	    ioctl(uffd, UFFDIO_WRITEPROTECT, &wp)) {
		close(uffd);
		return -EOPNOTSUPP;
	}
	return uffd;
}

/* Pages that the host has not touched, has touched, and that were private meanwhile. */
TEST_F(host, C6_C9_write_protected_pages_are_there)
{
	struct gmem_vm *vm = &self->vm;
	__u8 byte = 1;
	size_t page;
	int uffd;

	for (page = 0; page < NR_PAGES; page += 2)
		ASSERT_TRUE(host_sees(vm, page));
	uffd = write_protect(vm);
	if (uffd < 0)
		SKIP(return, "no userfaultfd that write protects");
	ASSERT_EQ(0, gmem_vm_convert(vm, 8, 8, PRIVATE));
	for (page = 8; page < 16; page++)
		EXPECT_TRUE(host_faults(vm->mem + PAGES(page)));
	ASSERT_EQ(0, gmem_vm_convert(vm, 8, 8, SHARED));

	for (page = 0; page < 16; page++) {
		EXPECT_TRUE(host_sees(vm, page));
		EXPECT_EQ(0, host_write(vm->mem + PAGES(page), &byte, 1));
	}
	/* Written before it is read. */
	for (; page < 32; page++)
		EXPECT_EQ(0, host_write(vm->mem + PAGES(page), &byte, 1));
	for (; page < NR_PAGES; page++)
		EXPECT_TRUE(host_sees(vm, page));
	close(uffd);
}

static void *guard(void *arg)
{
	struct gmem_vm *vm = arg;
	int i;

	for (i = 0; i < 500; i++) {
		madvise(vm->mem, vm->size, MADV_GUARD_INSTALL);
		madvise(vm->mem, vm->size, MADV_GUARD_REMOVE);
	}
	return NULL;
}

/* Faults and guards meet; the kernel's log tells if they do not get along. */
TEST_F(host, C6_guards_come_and_go)
{
	struct gmem_vm *vm = &self->vm;
	pthread_t thread;
	__u8 byte = 1;
	size_t i;

	if (madvise(vm->mem, GMEM_PAGE_SIZE, MADV_GUARD_INSTALL))
		SKIP(return, "no MADV_GUARD_INSTALL");
	ASSERT_EQ(0, madvise(vm->mem, GMEM_PAGE_SIZE, MADV_GUARD_REMOVE));
	ASSERT_EQ(0, pthread_create(&thread, NULL, guard, vm));
	/* By the kernel, which is told of a guard by an error and not by a signal. */
	for (i = 0; pthread_tryjoin_np(thread, NULL); i++) {
		struct iovec to = { vm->mem + PAGES(i % NR_PAGES), 1 };
		struct iovec from = { &byte, 1 };

		process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	}
	EXPECT_FALSE(host_faults(vm->mem));
}

/* -- migration ------------------------------------------------------------- */

/* Negative if the kernel cannot; that it does not is no error. */
static long move_page(void *page, int node)
{
	int status;

	return syscall(__NR_move_pages, 0, 1UL, &page, &node, &status, MPOL_MF_MOVE);
}

struct mover {
	struct gmem_vm *vm;
	unsigned long moves;
	bool stop;
};

/* It is always refused, after the mappings were taken and before they are put back. */
static void *move(void *arg)
{
	struct mover *m = arg;
	int node;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		node = m->moves++ % 2;
		move_page(m->vm->mem, node);
	}
	return NULL;
}

TEST_F(host, C4_C9_H4_migration_puts_no_mapping_back)
{
	struct gmem_vm *vm = &self->vm;
	struct mover mover = { .vm = vm };
	int i, ret, done = 0;
	pthread_t thread;
	__u64 offset;

	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "needs two nodes");
	if (move_page(vm->mem, 0) < 0)
		SKIP(return, "no CONFIG_NUMA_MIGRATION");
	ASSERT_EQ(0, pthread_create(&thread, NULL, move, &mover));
	for (i = 0; i < 2000; i++) {
		ASSERT_FALSE(host_faults(vm->mem));
		ret = gmem_convert(vm->gmem_fd, 0, PAGES(1), PRIVATE, &offset);
		if (ret) {
			/* Who migrates a page holds it for a moment. */
			ASSERT_EQ(-EAGAIN, ret);
			ASSERT_EQ(0, offset);
			continue;
		}
		done++;
		ASSERT_TRUE(host_faults(vm->mem)) {
			TH_LOG("conversion %d left a mapping", done);
		}
		ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, SHARED));
	}
	__atomic_store_n(&mover.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d conversions, %lu attempts to migrate", done, mover.moves);
	EXPECT_LT(0, done);
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, vm->size, SEED));
}

/* -- clean pages that nobody seems to use ---------------------------------- */

TEST_F(host, C11_dropped_caches_do_not_have_guest_memory)
{
	struct gmem_vm *vm = &self->vm;

	ASSERT_EQ(0, gmem_vm_convert(vm, 0, NR_PAGES / 2, PRIVATE));
	if (text_write("/proc/sys/vm/drop_caches", "1"))
		SKIP(return, "needs root");
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, vm->size, SEED));
	EXPECT_TRUE(host_sees(vm, NR_PAGES - 1));
}

/* Without the listeners being told nothing may leave the file. */
TEST_F(host, C11_C12_soft_offline_is_refused)
{
	struct gmem_vm *vm = &self->vm;
	char text[32];
	__u64 pfn;

	ASSERT_TRUE(host_sees(vm, 7));
	ASSERT_EQ(0, host_pfns(vm->mem + PAGES(7), &pfn, 1));
	snprintf(text, sizeof(text), "%llu", (unsigned long long)pfn * GMEM_PAGE_SIZE);
	/* So that the page cache has the only reference. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 7, 1, PRIVATE));
	if (access("/sys/devices/system/memory/soft_offline_page", W_OK))
		SKIP(return, "cannot take pages offline");
	EXPECT_NE(0, text_write("/sys/devices/system/memory/soft_offline_page", text));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, vm->size, SEED));
}

TEST_HARNESS_MAIN
