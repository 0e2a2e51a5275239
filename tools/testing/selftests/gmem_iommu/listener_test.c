// SPDX-License-Identifier: GPL-2.0
/*
 * What the listeners of a guest_memfd hear: which calls they get for each kind of
 * change, in which order, exactly one end of each event, whenever they and their
 * module come and go. The listeners are those of gmem_listener_test.ko.
 *
 * What is true during each call is in listener_order_test.c, what a refusal does in
 * listener_veto_test.c.
 *
 * Requirements: N1, N3, N4, C4, C7, C8, C10, C12, M11.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/listener.h"

#define NPAGES		64
#define SEED		0x5eed3000

/*
 * One guest whose pages are all shared and have contents, one listener to all of
 * them.
 */
FIXTURE(heard)
{
	struct gmem_vm vm;
	int l;
};

FIXTURE_SETUP(heard)
{
	const char *why = listener_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, gmem_vm_create(&self->vm, PAGES(NPAGES), GMEM_VM_SHARED));
	ASSERT_EQ(0, gmem_vm_fill(&self->vm, 0, PAGES(NPAGES), SEED));
	self->l = listener_open(self->vm.gmem_fd, 0, NPAGES);
	ASSERT_LE(0, self->l);
}

FIXTURE_TEARDOWN(heard)
{
	close(self->l);
	gmem_vm_destroy(&self->vm);
}

TEST_F(heard, N1_N3_to_private)
{
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 8, 8, PRIVATE));
	EXPECT_STREQ("prepare convert -8-15 (shared, memory)\n"
		     "invalidate convert -8-15 (shared, memory)\n"
		     "populate convert -8-15 (private, memory)\n",
		     listener_log(self->l));
}

/* N1, M11: what becomes shared has memory before anyone is asked. */
TEST_F(heard, N1_N3_M11_to_shared)
{
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 8, 8, PRIVATE));
	ASSERT_EQ(0, gmem_punch_hole(self->vm.gmem_fd, PAGES(8), PAGES(8)));
	listener_forget(self->l);

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 8, 8, SHARED));
	EXPECT_STREQ("prepare convert +8-15 (private, memory)\n"
		     "invalidate convert +8-15 (private, memory)\n"
		     "populate convert +8-15 (shared, memory)\n",
		     listener_log(self->l));
}

/* Both directions are one event, to private stored first but told at once. */
TEST_F(heard, N1_N3_both_ways)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(40), .size = PAGES(4), .target = SHARED },
		{ .offset = PAGES(20), .size = PAGES(4), .target = PRIVATE },
	};

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 40, 8, PRIVATE));
	listener_forget(self->l);
	ASSERT_EQ(0, gmem_convert_vec(self->vm.gmem_fd, ranges, 2, NULL));
	EXPECT_STREQ("prepare convert -20-23 (shared, memory) +40-43 (private, memory)\n"
		     "invalidate convert -20-23 (shared, memory) +40-43 (private, memory)\n"
		     "populate convert -20-23 (private, memory) +40-43 (shared, memory)\n",
		     listener_log(self->l));
}

/* A listener that asks for no memory any more still hears of everything. */
TEST_F(heard, N1_idle_listener_gets_no_memory)
{
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 8, 8, PRIVATE));
	ASSERT_EQ(0, gmem_punch_hole(self->vm.gmem_fd, PAGES(8), PAGES(8)));
	ASSERT_EQ(0, listener_set_idle(self->l));
	listener_forget(self->l);

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 8, 8, SHARED));
	EXPECT_STREQ("prepare convert +8-15 (private, none)\n"
		     "invalidate convert +8-15 (private, none)\n"
		     "populate convert +8-15 (shared, none)\n",
		     listener_log(self->l));
}

TEST_F(heard, N1_C12_punch_hole)
{
	ASSERT_EQ(0, gmem_punch_hole(self->vm.gmem_fd, PAGES(8), PAGES(8)));
	EXPECT_STREQ("prepare truncate -8-15 (shared, memory)\n"
		     "invalidate truncate -8-15 (shared, memory)\n"
		     "populate truncate -8-15 (shared, none)\n",
		     listener_log(self->l));
}

/* N1: memory comes to shared pages; until then it is only pending. */
TEST_F(heard, N1_populate)
{
	ASSERT_EQ(0, gmem_punch_hole(self->vm.gmem_fd, PAGES(8), PAGES(8)));
	listener_forget(self->l);

	ASSERT_EQ(0, gmem_allocate(self->vm.gmem_fd, PAGES(8), PAGES(2)));
	EXPECT_STREQ("prepare populate +8-8 (shared, pending)\n"
		     "populate populate +8-8 (shared, memory)\n"
		     "prepare populate +9-9 (shared, pending)\n"
		     "populate populate +9-9 (shared, memory)\n",
		     listener_log(self->l));

	ASSERT_EQ(0, host_write(self->vm.mem + PAGES(10), "x", 1));
	EXPECT_STREQ("prepare populate +10-10 (shared, pending)\n"
		     "populate populate +10-10 (shared, memory)\n",
		     listener_log(self->l));

	ASSERT_EQ(0, gmem_vm_fill(&self->vm, PAGES(11), PAGES(1), SEED));
	EXPECT_STREQ("prepare populate +11-11 (shared, pending)\n"
		     "populate populate +11-11 (shared, memory)\n",
		     listener_log(self->l));

	/* As a bind does it: the rest, in one event. */
	ASSERT_EQ(0, listener_fill(self->l));
	EXPECT_STREQ("prepare populate +12-15 (shared, memory)\n"
		     "populate populate +12-15 (shared, memory)\n",
		     listener_log(self->l));

	/* All of it is there now. */
	ASSERT_EQ(0, gmem_allocate(self->vm.gmem_fd, 0, PAGES(NPAGES)));
	ASSERT_EQ(0, listener_fill(self->l));
	EXPECT_STREQ("", listener_log(self->l));
}

/* Memory in private pages is the guest's own business. */
TEST_F(heard, N1_private_memory_is_not_reported)
{
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 8, 8, PRIVATE));
	ASSERT_EQ(0, gmem_punch_hole(self->vm.gmem_fd, PAGES(8), PAGES(8)));
	listener_forget(self->l);

	ASSERT_EQ(0, gmem_allocate(self->vm.gmem_fd, PAGES(8), PAGES(2)));
	ASSERT_EQ(0, gmem_vm_fill(&self->vm, PAGES(10), PAGES(4), SEED));
	ASSERT_EQ(0, listener_fill(self->l));
	EXPECT_STREQ("", listener_log(self->l));
}

/* N1, C12: it has happened, so the phases follow one another at once. */
TEST_F(heard, N1_C12_memory_failure)
{
	int ret;

	ASSERT_EQ(0, host_write(self->vm.mem + PAGES(5), "x", 1));
	listener_forget(self->l);

	ret = host_break(self->vm.mem + PAGES(5));
	if (ret == -EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	ASSERT_EQ(0, ret);
	EXPECT_STREQ("prepare memory_failure -5-5 (shared, none)\n"
		     "invalidate memory_failure -5-5 (shared, none)\n"
		     "populate memory_failure -5-5 (shared, none)\n",
		     listener_log(self->l));
}

TEST_F(heard, N1_C12_memslot)
{
	ASSERT_EQ(0, gmem_vm_delete_slot(&self->vm));
	EXPECT_STREQ("prepare memslot_delete -0-63 (shared, pending)\n"
		     "invalidate memslot_delete -0-63 (shared, pending)\n"
		     "populate memslot_delete -0-63 (shared, pending)\n",
		     listener_log(self->l));

	ASSERT_EQ(0, gmem_vm_create_slot(&self->vm));
	EXPECT_STREQ("prepare memslot_create +0-63 (shared, pending)\n"
		     "populate memslot_create +0-63 (shared, memory)\n",
		     listener_log(self->l));
}

/* Only shared pages come back, by memslots that take only a part each. */
TEST_F(heard, N1_C12_memslot_of_a_part)
{
	struct gmem_vm *vm = &self->vm;

	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 16, PRIVATE));
	ASSERT_EQ(0, gmem_vm_delete_slot(vm));
	listener_forget(self->l);

	/* Conversions go on; what becomes shared is not there. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 10, 2, SHARED));
	EXPECT_STREQ("prepare convert +10-11 (private, pending)\n"
		     "invalidate convert +10-11 (private, pending)\n"
		     "populate convert +10-11 (shared, pending)\n",
		     listener_log(self->l));

	ASSERT_EQ(0, gmem_set_slot(vm->vm_fd, GMEM_VM_SLOT, 0, PAGES(11),
				   vm->gmem_fd, 0, vm->mem));
	EXPECT_STREQ("prepare memslot_create +10-10 (shared, pending)\n"
		     "populate memslot_create +10-10 (shared, memory)\n",
		     listener_log(self->l));

	/* The part that is back goes again; the rest is gone already. */
	ASSERT_EQ(0, gmem_vm_delete_slot(vm));
	EXPECT_STREQ("prepare memslot_delete -0-10 (private, pending)\n"
		     "invalidate memslot_delete -0-10 (private, pending)\n"
		     "populate memslot_delete -0-10 (private, pending)\n",
		     listener_log(self->l));
	ASSERT_EQ(0, gmem_vm_create_slot(vm));
	EXPECT_STREQ("prepare memslot_create +10-11 (shared, pending) +16-63 (shared, pending)\n"
		     "populate memslot_create +10-11 (shared, memory) +16-63 (shared, memory)\n",
		     listener_log(self->l));
}

/* N1, C12: the last close, not one of many. Nothing comes afterwards. */
TEST_F(heard, N1_C12_release)
{
	int fd = dup(self->vm.gmem_fd);

	ASSERT_LE(0, fd);
	gmem_vm_close_gmem(&self->vm);
	EXPECT_STREQ("", listener_log(self->l));
	close(fd);
	EXPECT_STREQ("prepare release -0-63 (shared, memory)\n"
		     "invalidate release -0-63 (shared, memory)\n"
		     "populate release -0-63 (shared, memory)\n",
		     listener_log(self->l));

	/* The slot over the closed file goes; nobody is left to hear it. */
	ASSERT_EQ(0, gmem_vm_delete_slot(&self->vm));
	EXPECT_STREQ("", listener_log(self->l));
}

/* N1: a pin refuses after the listeners have prepared. */
TEST_F(heard, N1_C4_abort)
{
	int pin = host_pin(self->vm.mem + PAGES(10), PAGES(1));

	if (pin == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, pin);
	EXPECT_EQ(-EAGAIN, gmem_vm_convert(&self->vm, 8, 8, PRIVATE));
	EXPECT_EQ(PAGES(10), self->vm.error_offset);
	EXPECT_STREQ("prepare convert -8-15 (shared, memory)\n"
		     "abort convert -8-15 (shared, memory)\n",
		     listener_log(self->l));
	close(pin);
}

/* Whoever covers no page of a change is not called; runs are not clipped. */
TEST_F(heard, N1_only_who_is_concerned)
{
	int upper = listener_open(self->vm.gmem_fd, 32, 32);

	ASSERT_LE(0, upper);
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 0, 32, PRIVATE));
	EXPECT_STREQ("", listener_log(upper));
	listener_forget(self->l);

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 24, 12, SHARED));
	EXPECT_STREQ("prepare convert +24-31 (private, memory)\n"
		     "invalidate convert +24-31 (private, memory)\n"
		     "populate convert +24-31 (shared, memory)\n",
		     listener_log(self->l));
	EXPECT_STREQ("", listener_log(upper));

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 24, 12, PRIVATE));
	EXPECT_STREQ("prepare convert -24-35 (shared, memory)\n"
		     "invalidate convert -24-35 (shared, memory)\n"
		     "populate convert -24-35 (private, memory)\n",
		     listener_log(upper));
	close(upper);
}

/* C7: nothing to do: nobody is told. */
TEST_F(heard, C7_nothing_to_do)
{
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 0, NPAGES, SHARED));
	EXPECT_EQ(0, gmem_set_attributes2(self->vm.gmem_fd, 0, PAGES(NPAGES), 0,
					  NULL));
	EXPECT_STREQ("", listener_log(self->l));

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 8, 8, PRIVATE));
	listener_forget(self->l);
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 10, 4, PRIVATE));
	EXPECT_EQ(0, gmem_set_attributes2(self->vm.gmem_fd, PAGES(8), PAGES(8),
					  KVM_MEMORY_ATTRIBUTE_PRIVATE, NULL));
	EXPECT_STREQ("", listener_log(self->l));
}

/* C8: of a mixed range exactly what differs. */
TEST_F(heard, C8_only_runs_that_differ)
{
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 8, 8, PRIVATE));
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 63, 1, PRIVATE));
	listener_forget(self->l);

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 4, 60, PRIVATE));
	EXPECT_STREQ("prepare convert -4-7 (shared, memory) -16-62 (shared, memory)\n"
		     "invalidate convert -4-7 (shared, memory) -16-62 (shared, memory)\n"
		     "populate convert -4-7 (private, memory) -16-62 (private, memory)\n",
		     listener_log(self->l));

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 30, 2, SHARED));
	listener_forget(self->l);
	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 0, NPAGES, SHARED));
	EXPECT_STREQ("prepare convert +4-29 (private, memory) +32-63 (private, memory)\n"
		     "invalidate convert +4-29 (private, memory) +32-63 (private, memory)\n"
		     "populate convert +4-29 (shared, memory) +32-63 (shared, memory)\n",
		     listener_log(self->l));
}

/* C10: adjacent, overlapping and repeated ranges are one run. */
TEST_F(heard, C10_merged_before_listeners_see_them)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(20), .size = PAGES(4), .target = PRIVATE },
		{ .offset = PAGES(10), .size = PAGES(5), .target = PRIVATE },
		{ .offset = PAGES(24), .size = PAGES(1), .target = PRIVATE },
		{ .offset = PAGES(12), .size = PAGES(6), .target = PRIVATE },
		{ .offset = PAGES(10), .size = PAGES(5), .target = PRIVATE },
		{ .offset = PAGES(18), .size = PAGES(1), .target = SHARED },
	};

	ASSERT_EQ(0, gmem_convert_vec(self->vm.gmem_fd, ranges, ARRAY_SIZE(ranges),
				      NULL));
	EXPECT_STREQ("prepare convert -10-17 (shared, memory) -20-24 (shared, memory)\n"
		     "invalidate convert -10-17 (shared, memory) -20-24 (shared, memory)\n"
		     "populate convert -10-17 (private, memory) -20-24 (private, memory)\n",
		     listener_log(self->l));
}

/* What a listener heard of one kind of event. */
struct ends {
	unsigned int committed;
	unsigned int aborted;
};

/*
 * Every prepare that did not refuse has exactly one end, nothing comes without a
 * prepare, and an end is whole; unless @quiet, the last event is still going on.
 * "", or what is wrong.
 */
static const char *check_grammar(int listener, struct ends *ends, bool quiet)
{
	enum { IDLE, PREPARED, INVALIDATED } at = IDLE;
	struct gmem_listener_test_record r;

	while (listener_read(listener, &r, 1) > 0) {
		if (r.lost)
			return "calls were lost";
		switch (r.phase) {
		case GMEM_LISTENER_TEST_PREPARE:
			if (at != IDLE)
				return "prepare before the last one ended";
			at = r.result ? IDLE : PREPARED;
			break;
		case GMEM_LISTENER_TEST_ABORT:
			if (at != PREPARED)
				return "abort of nothing";
			ends->aborted++;
			at = IDLE;
			break;
		case GMEM_LISTENER_TEST_INVALIDATE:
			if (at != PREPARED)
				return "invalidate of nothing";
			at = INVALIDATED;
			break;
		case GMEM_LISTENER_TEST_POPULATE:
			if (at != INVALIDATED)
				return "populate of nothing";
			ends->committed++;
			at = IDLE;
			break;
		}
	}
	return at == IDLE || !quiet ? "" : "an event without an end";
}

#define NR_RANDOM	300

/* N1: whatever comes, prepare is followed by a commit or by an abort. */
TEST_F(heard, N1_exactly_one_end)
{
	unsigned int state = 4242, committed = 0, refused = 0;
	struct gmem_vm *vm = &self->vm;
	struct ends ends[2] = {};
	int pin, second, i, j, ret;
	size_t first, npages;

	second = listener_open(vm->gmem_fd, 0, NPAGES);
	ASSERT_LE(0, second);
	pin = host_pin(vm->mem + PAGES(20), PAGES(1));
	if (pin == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, pin);
	ASSERT_EQ(0, listener_refuse(second, EBUSY, ON_CONVERT, 40));
	listener_forget(self->l);
	listener_forget(second);

	for (i = 0; i < NR_RANDOM; i++) {
		first = rand_r(&state) % NPAGES;
		npages = 1 + rand_r(&state) % (NPAGES - first);
		ret = gmem_vm_convert(vm, first, npages,
				      rand_r(&state) % 2 ? SHARED : PRIVATE);
		ASSERT_TRUE(!ret || ret == -EAGAIN || ret == -EBUSY) {
			TH_LOG("step %d: %d", i, ret);
		}
		*(ret ? &refused : &committed) += 1;

		for (j = 0; j < 2; j++) {
			ASSERT_STREQ("", check_grammar(j ? second : self->l,
						       &ends[j], true)) {
				TH_LOG("step %d, listener %d", i, j);
			}
		}
	}

	/* Both were met, and the first heard an end of all that was refused. */
	EXPECT_LT(NR_RANDOM / 10, refused);
	EXPECT_LT(NR_RANDOM / 10, committed);
	EXPECT_EQ(refused, ends[0].aborted);
	EXPECT_EQ(ends[0].committed, ends[1].committed);
	EXPECT_GE(committed, ends[0].committed);
	EXPECT_LT(0, ends[0].committed);
	close(pin);
	close(second);
}

/* N4: listeners and their module come and go while conversions run. */
#define NR_LOADS	20

struct unload_rig {
	struct gmem_vm vm;
	struct progress *progress;
	pid_t converter;
};

FIXTURE(unload)
{
	struct unload_rig rig;
};

/* Shared with the process that converts. */
struct progress {
	bool stop;
	int ret;
	unsigned long rounds;
};

static void convert_until_stopped(struct gmem_vm *vm, struct progress *p)
{
	unsigned int state = 99;
	size_t first, npages;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!p->ret && !__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
		first = rand_r(&state) % NPAGES;
		npages = 1 + rand_r(&state) % (NPAGES - first);
		p->ret = gmem_vm_convert(vm, first, npages,
					 rand_r(&state) % 2 ? SHARED : PRIVATE);
		__atomic_add_fetch(&p->rounds, 1, __ATOMIC_RELAXED);
	}
	_exit(0);
}

FIXTURE_SETUP(unload)
{
	const char *why = listener_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, gmem_vm_create(&self->rig.vm, PAGES(NPAGES), GMEM_VM_SHARED));
	ASSERT_EQ(0, gmem_vm_fill(&self->rig.vm, 0, PAGES(NPAGES), SEED));
	self->rig.progress = mmap(NULL, sizeof(*self->rig.progress),
				  PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->rig.progress);

	self->rig.converter = fork();
	ASSERT_LE(0, self->rig.converter);
	if (!self->rig.converter)
		convert_until_stopped(&self->rig.vm, self->rig.progress);
}

FIXTURE_TEARDOWN(unload)
{
	gmem_vm_destroy(&self->rig.vm);
}

static void stop_converter(struct __test_metadata *_metadata,
			   struct unload_rig *rig)
{
	int status;

	__atomic_store_n(&rig->progress->stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(rig->converter, waitpid(rig->converter, &status, 0));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	EXPECT_EQ(0, rig->progress->ret) {
		TH_LOG("after %lu conversions", rig->progress->rounds);
	}
	EXPECT_LT(0, rig->progress->rounds);
}

/* The listener is in the middle of the conversions, not beside them. */
static void wait_for_call(struct __test_metadata *_metadata, int listener)
{
	struct gmem_listener_test_record record;

	ASSERT_EQ(0, listener_wait(listener, &record));
	EXPECT_EQ(GMEM_LISTENER_TEST_PREPARE, record.phase);
}

TEST_F(unload, N4_load_and_unload)
{
	int i, l;

	for (i = 0; i < NR_LOADS; i++) {
		l = listener_open(self->rig.vm.gmem_fd, i % 32, 32);
		ASSERT_LE(0, l);
		wait_for_call(_metadata, l);
		EXPECT_EQ(-EAGAIN, listener_unload());
		ASSERT_EQ(0, close(l));
		ASSERT_EQ(0, listener_unload());
		ASSERT_EQ(0, listener_load());
	}
	stop_converter(_metadata, &self->rig);
}

/* A listener hears events whole, whenever it comes; whenever it goes, all is well. */
TEST_F(unload, N4_register_while_converting)
{
	struct ends ends = {};
	int i, l, slow;

	/* Most of the time somebody is preparing. */
	slow = listener_open(self->rig.vm.gmem_fd, 0, NPAGES);
	ASSERT_LE(0, slow);
	ASSERT_EQ(0, listener_sleep(slow, 1));
	for (i = 0; i < 200; i++) {
		l = listener_open(self->rig.vm.gmem_fd, 0, NPAGES);
		ASSERT_LE(0, l);
		usleep(i * 100);
		ASSERT_STREQ("", check_grammar(l, &ends, false));
		ASSERT_EQ(0, close(l));
	}
	stop_converter(_metadata, &self->rig);
	EXPECT_LT(0, ends.committed);
	EXPECT_EQ(0, ends.aborted);
	close(slow);
}

TEST_HARNESS_MAIN
