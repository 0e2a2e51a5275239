// SPDX-License-Identifier: GPL-2.0
/*
 * What comes to folios while a conversion has them frozen, or tries to.
 *
 * A page breaks: memory_failure() gets no reference and gives up, so the conversion takes
 * the page away from the guest and from listeners when it is over, whether it was done or
 * refused. Somebody looks for a build ID in the file: who cannot sleep must not wait for
 * the folio. Somebody passes by with a reference: all folios are frozen nevertheless.
 *
 * Requirements: C4, C5, C12, H3, H4, H10, N1.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/perf_event.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/kmsg.h"
#include "lib/listener.h"
#include "lib/text.h"

#define SEED		0x5eed000e
#define NR_TRIES	16
#define TOUCH_US	500

struct request {
	struct gmem_vm *vm;
	size_t first;
	size_t nr;
	__u32 target;
	bool stop;
	int ret;
};

static void *convert(void *arg)
{
	struct request *r = arg;

	do {
		r->ret = gmem_vm_convert(r->vm, r->first, r->nr, r->target);
	} while (r->ret == -EAGAIN && !__atomic_load_n(&r->stop, __ATOMIC_RELAXED));
	return NULL;
}

static void mend(__u64 pfn)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)pfn);
	if (text_write("/sys/kernel/debug/hwpoison/unpoison-pfn", text))
		fprintf(stderr, "# page %s stays broken\n", text);
}

/* Whether the listener was told of that page. */
static bool has_heard(int listener, size_t page)
{
	char line[64];

	snprintf(line, sizeof(line), "invalidate memory_failure -%zu-%zu ", page, page);
	return strstr(listener_log(listener), line);
}

/* -- a request that is refused --------------------------------------------- */

FIXTURE(refused)
{
	struct gmem_vm vm;
	int listener;
	int nr_broken;
	__u64 broken[NR_TRIES];
};

FIXTURE_SETUP(refused)
{
	const char *missing = listener_missing();
	struct gmem_vm *vm = &self->vm;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, gmem_vm_create(vm, PAGES(2 * NR_TRIES), GMEM_VM_SHARED));
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, vm->size, SEED));
	self->listener = listener_open(vm->gmem_fd, 0, 2 * NR_TRIES);
	ASSERT_LE(0, self->listener);
}

FIXTURE_TEARDOWN(refused)
{
	int i;

	close(self->listener);
	gmem_vm_destroy(&self->vm);
	for (i = 0; i < self->nr_broken; i++)
		mend(self->broken[i]);
}

/*
 * The second page of the request has a reference that is no pin, so the first one is
 * frozen for as long as it is waited for. The host does not map it, or it would not be
 * frozen yet. Most of the time of the loop is that; once is enough.
 */
TEST_F(refused, C12_N1_broken_page_is_reported)
{
	struct gmem_vm *vm = &self->vm;
	bool given_up = false;
	int i, hold, kmsg;
	pthread_t thread;
	char text[64];
	__u64 pfn = 0;

	kmsg = kmsg_open();
	ASSERT_LE(0, kmsg);
	for (i = 0; !given_up && i < NR_TRIES; i++) {
		struct request r = { vm, 2 * i, 2, PRIVATE };

		ASSERT_FALSE(host_faults(vm->mem + PAGES(2 * i)));
		ASSERT_EQ(0, host_pfns(vm->mem + PAGES(2 * i), &pfn, 1));
		ASSERT_EQ(0, madvise(vm->mem + PAGES(2 * i), PAGES(1), MADV_DONTNEED));
		hold = host_hold(vm->mem + PAGES(2 * i + 1));
		ASSERT_LE(0, hold);

		listener_forget(self->listener);
		ASSERT_EQ(0, pthread_create(&thread, NULL, convert, &r));
		usleep(20000);
		self->broken[self->nr_broken++] = pfn;
		ASSERT_EQ(0, host_break_pfn(pfn));
		__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		close(hold);
		/* Refused for the reference, or later for the broken page. */
		EXPECT_NE(0, r.ret);
		EXPECT_TRUE(has_heard(self->listener, 2 * i));

		snprintf(text, sizeof(text), "%#llx: recovery action for get hwpoison page",
			 (unsigned long long)pfn);
		given_up = kmsg_wait(kmsg, text, 200);
	}
	EXPECT_TRUE(given_up)
		TH_LOG("memory_failure() always got the page");
	close(kmsg);
}

/* -- a build ID ------------------------------------------------------------ */

/* Each file that this task maps now is looked at, with interrupts disabled or not. */
static int count_build_ids(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
		.mmap = 1,
		.mmap_data = 1,
		.mmap2 = 1,
		.build_id = 1,
	};

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* In a child: a task that waits for a folio in the page cache cannot be killed. */
static pid_t map_in_child(int gmem_fd)
{
	pid_t pid = fork();
	void *mem;

	if (pid)
		return pid;
	if (count_build_ids() < 0)
		_exit(KSFT_FAIL);
	mem = mmap(NULL, PAGES(1), PROT_READ, MAP_SHARED, gmem_fd, 0);
	_exit(mem == MAP_FAILED ? KSFT_FAIL : KSFT_PASS);
}

TEST_F(refused, C5_build_id_meanwhile)
{
	struct request r = { &self->vm, 0, NR_TRIES, PRIVATE };
	struct gmem_listener_test_record record;
	int i, status = -1;
	pthread_t thread;
	pid_t pid, ended;

	ASSERT_EQ(0, listener_hold(self->listener, HOLD_INVALIDATE));
	ASSERT_EQ(0, pthread_create(&thread, NULL, convert, &r));
	ASSERT_EQ(0, listener_wait(self->listener, &record));	/* prepare */
	ASSERT_EQ(0, listener_wait(self->listener, &record));

	pid = map_in_child(self->vm.gmem_fd);
	ASSERT_LE(0, pid);
	for (i = 0; i < 600; i++) {	/* 30 s: half of what the listener waits */
		ended = waitpid(pid, &status, WNOHANG);
		if (ended)
			break;
		usleep(50000);
	}
	EXPECT_EQ(pid, ended)
		TH_LOG("it waits for the conversion");

	ASSERT_EQ(0, listener_hold(self->listener, 0));
	ASSERT_EQ(0, listener_let_go(self->listener));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, r.ret);
	if (!ended)
		waitpid(pid, &status, 0);
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(KSFT_PASS, WEXITSTATUS(status));
}

/* -- a request that is done ------------------------------------------------ */

FIXTURE(split)
{
	struct gmem_vm vm;
	struct hugepool before;
	int listener;
	__u64 base_pfn;
};

FIXTURE_SETUP(split)
{
	const char *missing = listener_missing();
	struct gmem_vm *vm = &self->vm;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, hugepool_read(SIZE_2M, &self->before));
	if (!self->before.free)
		SKIP(return, "no huge page");
	ASSERT_EQ(0, gmem_vm_create(vm, SIZE_2M, GMEM_VM_PRIVATE |
				    GUEST_MEMFD_FLAG_HUGETLB | GUEST_MEMFD_HUGE_2MB));
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, SHARED));
	ASSERT_FALSE(host_faults(vm->mem));
	ASSERT_EQ(0, host_pfns(vm->mem, &self->base_pfn, 1));
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, PRIVATE));
	ASSERT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));
	self->listener = listener_open(vm->gmem_fd, 0, 512);
	ASSERT_LE(0, self->listener);
}

FIXTURE_TEARDOWN(split)
{
	close(self->listener);
	gmem_vm_destroy(&self->vm);
	mend(self->base_pfn + 9);
	EXPECT_EQ(0, hugepool_resize(SIZE_2M, self->before.nr));
}

/* A neighbour of the page that becomes shared, in the huge page that is split for it. */
TEST_F(split, C12_H10_N1_broken_neighbour_is_reported)
{
	struct gmem_listener_test_record record;
	struct gmem_vm *vm = &self->vm;
	struct request r = { vm, 5, 1, SHARED };
	pthread_t thread;
	__u64 offset;

	ASSERT_EQ(0, listener_hold(self->listener, HOLD_INVALIDATE));
	ASSERT_EQ(0, pthread_create(&thread, NULL, convert, &r));
	ASSERT_EQ(0, listener_wait(self->listener, &record));	/* prepare */
	ASSERT_EQ(0, listener_wait(self->listener, &record));
	host_break_pfn(self->base_pfn + 9);
	ASSERT_EQ(0, listener_hold(self->listener, 0));
	ASSERT_EQ(0, listener_let_go(self->listener));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, r.ret);

	EXPECT_TRUE(has_heard(self->listener, 9));
	EXPECT_EQ(-EHWPOISON, gmem_convert(vm->gmem_fd, PAGES(9), PAGES(1), SHARED,
					   &offset));
	EXPECT_EQ(PAGES(9), offset);
	EXPECT_FALSE(host_faults(vm->mem + PAGES(5)));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(9), SEED));
	EXPECT_EQ(0, gmem_vm_verify(vm, PAGES(10), PAGES(502), SEED));
	/* What it had mapped as a whole is not there for the guest any more. */
	EXPECT_EQ(-EHWPOISON, gmem_vm_verify(vm, PAGES(9), PAGES(1), SEED));
}

/* -- a reference that goes away -------------------------------------------- */

FIXTURE(touched)
{
	struct gmem_vm vm;
	int listener;
};

FIXTURE_SETUP(touched)
{
	const char *missing = listener_missing();
	struct gmem_vm *vm = &self->vm;
	struct hugepool pool;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, hugepool_read(SIZE_2M, &pool));
	if (pool.free < 2)
		SKIP(return, "not enough huge pages");
	ASSERT_EQ(0, gmem_vm_create(vm, 2 * SIZE_2M, GMEM_VM_PRIVATE |
				    GUEST_MEMFD_FLAG_HUGETLB | GUEST_MEMFD_HUGE_2MB));
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, vm->size, SEED));
	self->listener = listener_open(vm->gmem_fd, 0, 2 * 512);
	ASSERT_LE(0, self->listener);
	ASSERT_EQ(0, listener_touch(self->listener, TOUCH_US));
}

FIXTURE_TEARDOWN(touched)
{
	close(self->listener);
	gmem_vm_destroy(&self->vm);
}

/*
 * The last page of a huge page and the first one of the next: when the walk has waited for
 * the first of them it goes on with the second, though it began in the middle.
 */
TEST_F(touched, C4_C5_H3_H4_across_two_huge_pages)
{
	struct gmem_vm *vm = &self->vm;
	struct folio_map map;
	int i, done = 0;
	__u64 pfn;

	for (i = 0; i < NR_TRIES; i++) {
		int ret = gmem_vm_convert(vm, 511, 2, SHARED);

		/* Scheduling can make the reference last for longer. */
		if (ret == -EAGAIN)
			continue;
		ASSERT_EQ(0, ret);
		ASSERT_FALSE(host_faults(vm->mem + PAGES(511)));
		ASSERT_FALSE(host_faults(vm->mem + PAGES(512)));
		ASSERT_TRUE(host_faults(vm->mem + PAGES(510)));
		ASSERT_TRUE(host_faults(vm->mem + PAGES(513)));
		ASSERT_EQ(0, host_pfns(vm->mem + PAGES(512), &pfn, 1));
		ASSERT_EQ(0, listener_touch(self->listener, 0));
		ASSERT_EQ(0, gmem_vm_convert(vm, 511, 2, PRIVATE));
		ASSERT_EQ(0, folio_map_read(pfn, SIZE_2M, &map));
		ASSERT_EQ(1, map.huge);
		ASSERT_EQ(0, listener_touch(self->listener, TOUCH_US));
		done++;
	}
	EXPECT_LT(0, done);
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, vm->size, SEED));
}

TEST_HARNESS_MAIN
