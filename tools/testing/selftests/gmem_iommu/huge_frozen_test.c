// SPDX-License-Identifier: GPL-2.0
/*
 * A page that breaks while a conversion has its folio frozen. memory_failure() gets no
 * reference and gives up, so the conversion takes the page away from the guest and from
 * listeners when it is over, whether it was done or refused.
 *
 * Requirements: C12, H10, N1.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/kmsg.h"
#include "lib/listener.h"
#include "lib/text.h"

#define SEED		0x5eed000e
#define NR_TRIES	16

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

TEST_HARNESS_MAIN
