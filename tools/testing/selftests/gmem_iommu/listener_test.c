// SPDX-License-Identifier: GPL-2.0
/*
 * Listeners of a guest_memfd: which calls they get for each kind of change, in
 * which order, what is true during each call, and that a refusal leaves
 * everything as it was. The listeners are those of gmem_listener_test.ko, and the
 * mirror of a device is one more among them.
 *
 * Requirements: N1, N2, N3, N4, N5, C7, C8, C10, C12.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/kvm_stats.h"
#include "lib/listener.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define PAGES(n)	((n) * GMEM_PAGE_SIZE)
#define NPAGES		64
#define SEED		0x5eed3000
#define SHARED		KVM_GMEM_TARGET_SHARED
#define PRIVATE		KVM_GMEM_TARGET_PRIVATE

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

static int convert(struct gmem_vm *vm, size_t first, size_t npages,
		   __u32 target)
{
	return gmem_convert(vm->gmem_fd, PAGES(first), PAGES(npages), target,
			    &vm->error_offset);
}

TEST_F(heard, N1_N3_to_private)
{
	ASSERT_EQ(0, convert(&self->vm, 8, 8, PRIVATE));
	EXPECT_STREQ("prepare convert -8-15 (shared, memory)\n"
		     "invalidate convert -8-15 (shared, memory)\n"
		     "populate convert -8-15 (private, memory)\n",
		     listener_log(self->l));
}

/* N1, M11: what becomes shared has memory before anyone is asked. */
TEST_F(heard, N1_N3_M11_to_shared)
{
	ASSERT_EQ(0, convert(&self->vm, 8, 8, PRIVATE));
	ASSERT_EQ(0, gmem_punch_hole(self->vm.gmem_fd, PAGES(8), PAGES(8)));
	listener_forget(self->l);

	ASSERT_EQ(0, convert(&self->vm, 8, 8, SHARED));
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

	ASSERT_EQ(0, convert(&self->vm, 40, 8, PRIVATE));
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
	ASSERT_EQ(0, convert(&self->vm, 8, 8, PRIVATE));
	ASSERT_EQ(0, gmem_punch_hole(self->vm.gmem_fd, PAGES(8), PAGES(8)));
	ASSERT_EQ(0, listener_set_idle(self->l));
	listener_forget(self->l);

	ASSERT_EQ(0, convert(&self->vm, 8, 8, SHARED));
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
	ASSERT_EQ(0, convert(&self->vm, 8, 8, PRIVATE));
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

static int delete_slot(struct gmem_vm *vm)
{
	return gmem_set_slot(vm->vm_fd, GMEM_VM_SLOT, 0, 0, -1, 0, NULL);
}

static int create_slot(struct gmem_vm *vm)
{
	return gmem_set_slot(vm->vm_fd, GMEM_VM_SLOT, 0, vm->size, vm->gmem_fd,
			     0, vm->mem);
}

TEST_F(heard, N1_C12_memslot)
{
	ASSERT_EQ(0, delete_slot(&self->vm));
	EXPECT_STREQ("prepare memslot_delete -0-63 (shared, pending)\n"
		     "invalidate memslot_delete -0-63 (shared, pending)\n"
		     "populate memslot_delete -0-63 (shared, pending)\n",
		     listener_log(self->l));

	ASSERT_EQ(0, create_slot(&self->vm));
	EXPECT_STREQ("prepare memslot_create +0-63 (shared, pending)\n"
		     "populate memslot_create +0-63 (shared, memory)\n",
		     listener_log(self->l));
}

/* Only shared pages come back, by memslots that take only a part each. */
TEST_F(heard, N1_C12_memslot_of_a_part)
{
	struct gmem_vm *vm = &self->vm;

	ASSERT_EQ(0, convert(vm, 0, 16, PRIVATE));
	ASSERT_EQ(0, delete_slot(vm));
	listener_forget(self->l);

	/* Conversions go on; what becomes shared is not there. */
	ASSERT_EQ(0, convert(vm, 10, 2, SHARED));
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
	ASSERT_EQ(0, delete_slot(vm));
	EXPECT_STREQ("prepare memslot_delete -0-10 (private, pending)\n"
		     "invalidate memslot_delete -0-10 (private, pending)\n"
		     "populate memslot_delete -0-10 (private, pending)\n",
		     listener_log(self->l));
	ASSERT_EQ(0, create_slot(vm));
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
	ASSERT_EQ(0, delete_slot(&self->vm));
	EXPECT_STREQ("", listener_log(self->l));
}

/* N1: a pin refuses after the listeners have prepared. */
TEST_F(heard, N1_C4_abort)
{
	int pin = host_pin(self->vm.mem + PAGES(10), PAGES(1));

	if (pin == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, pin);
	EXPECT_EQ(-EAGAIN, convert(&self->vm, 8, 8, PRIVATE));
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
	ASSERT_EQ(0, convert(&self->vm, 0, 32, PRIVATE));
	EXPECT_STREQ("", listener_log(upper));
	listener_forget(self->l);

	ASSERT_EQ(0, convert(&self->vm, 24, 12, SHARED));
	EXPECT_STREQ("prepare convert +24-31 (private, memory)\n"
		     "invalidate convert +24-31 (private, memory)\n"
		     "populate convert +24-31 (shared, memory)\n",
		     listener_log(self->l));
	EXPECT_STREQ("", listener_log(upper));

	ASSERT_EQ(0, convert(&self->vm, 24, 12, PRIVATE));
	EXPECT_STREQ("prepare convert -24-35 (shared, memory)\n"
		     "invalidate convert -24-35 (shared, memory)\n"
		     "populate convert -24-35 (private, memory)\n",
		     listener_log(upper));
	close(upper);
}

/* C7: nothing to do: nobody is told. */
TEST_F(heard, C7_nothing_to_do)
{
	ASSERT_EQ(0, convert(&self->vm, 0, NPAGES, SHARED));
	EXPECT_EQ(0, gmem_set_attributes2(self->vm.gmem_fd, 0, PAGES(NPAGES), 0,
					  NULL));
	EXPECT_STREQ("", listener_log(self->l));

	ASSERT_EQ(0, convert(&self->vm, 8, 8, PRIVATE));
	listener_forget(self->l);
	ASSERT_EQ(0, convert(&self->vm, 10, 4, PRIVATE));
	EXPECT_EQ(0, gmem_set_attributes2(self->vm.gmem_fd, PAGES(8), PAGES(8),
					  KVM_MEMORY_ATTRIBUTE_PRIVATE, NULL));
	EXPECT_STREQ("", listener_log(self->l));
}

/* C8: of a mixed range exactly what differs. */
TEST_F(heard, C8_only_runs_that_differ)
{
	ASSERT_EQ(0, convert(&self->vm, 8, 8, PRIVATE));
	ASSERT_EQ(0, convert(&self->vm, 63, 1, PRIVATE));
	listener_forget(self->l);

	ASSERT_EQ(0, convert(&self->vm, 4, 60, PRIVATE));
	EXPECT_STREQ("prepare convert -4-7 (shared, memory) -16-62 (shared, memory)\n"
		     "invalidate convert -4-7 (shared, memory) -16-62 (shared, memory)\n"
		     "populate convert -4-7 (private, memory) -16-62 (private, memory)\n",
		     listener_log(self->l));

	ASSERT_EQ(0, convert(&self->vm, 30, 2, SHARED));
	listener_forget(self->l);
	ASSERT_EQ(0, convert(&self->vm, 0, NPAGES, SHARED));
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
		ret = convert(vm, first, npages,
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

/*
 * N2: one of three listeners refuses. The mirror of a device is registered
 * between the second and the third.
 */
#define NR_LISTENERS	3

struct veto_rig {
	struct env env;
	int l[NR_LISTENERS];
	struct gmem_state before;
	__u64 pfns[NPAGES];
	__u64 generation;
	long long guest_mappings;
	struct gmem_iommu_stats stats;
};

FIXTURE(veto)
{
	struct veto_rig rig;
};

/* What is heard when the first, second, third listener refuses. */
static const char * const veto_order[NR_LISTENERS] = {
	"1:refuse ",
	"1:prepare 2:refuse 1:abort ",
	"1:prepare 2:prepare 3:refuse 2:abort 1:abort ",
};

FIXTURE_VARIANT(veto)
{
	int who;
};

FIXTURE_VARIANT_ADD(veto, by_first)
{
	.who = 0,
};

FIXTURE_VARIANT_ADD(veto, by_second)
{
	.who = 1,
};

FIXTURE_VARIANT_ADD(veto, by_third)
{
	.who = 2,
};

FIXTURE_SETUP(veto)
{
	struct env *env = &self->rig.env;
	const char *why;
	int i;

	why = listener_env_missing();
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(env, NPAGES, true));
	ASSERT_EQ(0, env_convert(env, 32, 16, true));
	for (i = 0; i < NR_LISTENERS; i++) {
		if (i == 2)
			ASSERT_EQ(0, env_bind(env));
		self->rig.l[i] = listener_open(env->vm.gmem_fd, 0, NPAGES);
		ASSERT_LE(0, self->rig.l[i]);
	}
	ASSERT_EQ(0, gmem_vm_fill(&env->vm, 0, env->vm.size, SEED));
}

FIXTURE_TEARDOWN(veto)
{
	int i;

	for (i = 0; i < NR_LISTENERS; i++)
		close(self->rig.l[i]);
	env_destroy(&self->rig.env);
}

/* Take down everything that a refusal has to leave alone. */
static void veto_remember(struct __test_metadata *_metadata,
			  struct veto_rig *rig)
{
	struct env *env = &rig->env;
	int i;

	ASSERT_STREQ("", gmem_state_read(&rig->before, env->binding,
					 env->vm.mem, NPAGES));
	ASSERT_STREQ("", env_check(env));
	ASSERT_EQ(0, host_pfns(env->vm.mem, rig->pfns, NPAGES));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &rig->stats));
	rig->generation = mirror_generation(env->binding);
	rig->guest_mappings = kvm_stat(env->vm.vm_fd, "pages_4k");
	ASSERT_LT(NPAGES, rig->guest_mappings);
	for (i = 0; i < NR_LISTENERS; i++)
		listener_forget(rig->l[i]);
}

/* N2, C1: the order of calls, and nothing else. */
static void veto_expect_nothing(struct __test_metadata *_metadata,
				struct veto_rig *rig, int who)
{
	struct env *env = &rig->env;
	static struct gmem_state after;
	struct gmem_iommu_stats stats;
	__u64 pfns[NPAGES];

	EXPECT_STREQ(veto_order[who], listener_order(rig->l, NR_LISTENERS));

	/* Mappings first: to read the contents may repair them. */
	EXPECT_EQ(rig->guest_mappings, kvm_stat(env->vm.vm_fd, "pages_4k"));
	ASSERT_EQ(0, host_pfns(env->vm.mem, pfns, NPAGES));
	EXPECT_EQ(0, memcmp(rig->pfns, pfns, sizeof(pfns)));
	EXPECT_EQ(rig->generation, mirror_generation(env->binding));
	EXPECT_STREQ("", env_check(env));

	ASSERT_EQ(0, mirror_get_stats(env->binding, &stats));
	EXPECT_EQ(rig->stats.aborts + (who == 2), stats.aborts);
	EXPECT_EQ(rig->stats.conversions, stats.conversions);
	EXPECT_EQ(rig->stats.mapped_pages, stats.mapped_pages);
	EXPECT_EQ(rig->stats.unmapped_pages, stats.unmapped_pages);

	ASSERT_STREQ("", gmem_state_read(&after, env->binding, env->vm.mem,
					 NPAGES));
	EXPECT_EQ(-1, gmem_state_diff(&rig->before, &after));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

TEST_F(veto, N2_conversion)
{
	static const struct {
		size_t first, npages, refused;
		bool private;
	} requests[] = {
		{ 8, 8, 8, true },
		{ 8, 8, 11, true },
		{ 4, 40, 31, true },
		{ 36, 8, 43, false },
		{ 0, NPAGES, 40, false },
	};
	struct env *env = &self->rig.env;
	__u64 offset;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY,
					     ON_CONVERT, requests[i].refused));
		veto_remember(_metadata, &self->rig);

		EXPECT_EQ(-EBUSY, env_convert(env, requests[i].first,
					      requests[i].npages,
					      requests[i].private));
		EXPECT_EQ(PAGES(requests[i].refused), env->vm.error_offset);
		veto_expect_nothing(_metadata, &self->rig, variant->who);

		offset = 1;
		EXPECT_EQ(-EBUSY,
			  gmem_set_attributes2(env->vm.gmem_fd,
					       PAGES(requests[i].first),
					       PAGES(requests[i].npages),
					       requests[i].private ?
					       KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
					       &offset));
		EXPECT_EQ(PAGES(requests[i].refused), offset);
		EXPECT_STREQ("", env_check(env));
	}

	/* Others go through, and the same one without the veto. */
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY, ON_CONVERT, 9));
	EXPECT_EQ(0, env_convert(env, 10, 2, true));
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], 0, 0, 0));
	EXPECT_EQ(0, env_convert(env, 8, 8, true));
	EXPECT_STREQ("", env_check(env));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/* Pages that a refused request to shared had allocated are freed again. */
TEST_F(veto, N2_C1_memory_for_shared)
{
	struct env *env = &self->rig.env;
	long resident;

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, PAGES(32), PAGES(8)));
	resident = gmem_nr_resident(env->vm.mem, NPAGES);
	ASSERT_EQ(NPAGES - 8, resident);
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EPERM, ON_CONVERT, 39));
	listener_order(self->rig.l, NR_LISTENERS);

	EXPECT_EQ(-EPERM, env_convert(env, 32, 8, false));
	EXPECT_EQ(PAGES(39), env->vm.error_offset);
	EXPECT_EQ(resident, gmem_nr_resident(env->vm.mem, NPAGES));
	EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
	EXPECT_STREQ("", env_check(env));
}

TEST_F(veto, N2_C12_punch_hole)
{
	struct env *env = &self->rig.env;

	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY, ON_TRUNCATE, 11));
	veto_remember(_metadata, &self->rig);
	EXPECT_EQ(-EBUSY, gmem_punch_hole(env->vm.gmem_fd, PAGES(8), PAGES(8)));
	veto_expect_nothing(_metadata, &self->rig, variant->who);

	EXPECT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, PAGES(12), PAGES(4)));
	env_set_model(env, 12, 4, PAGE_HOLE);
	EXPECT_STREQ("", env_check(env));
}

/* Nobody refuses what has happened: all hear the rest, and the mirror does its part. */
TEST_F(veto, N2_C12_memslot_deletion)
{
	static const char * const order[NR_LISTENERS] = {
		"1:refuse 2:prepare 3:prepare ",
		"1:prepare 2:refuse 3:prepare ",
		"1:prepare 2:prepare 3:refuse ",
	};
	struct env *env = &self->rig.env;
	char want[200];

	snprintf(want, sizeof(want), "%s%s%s", order[variant->who],
		 "1:invalidate 2:invalidate 3:invalidate ",
		 "1:populate 2:populate 3:populate ");
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY,
				     ON_MEMSLOT_DELETE, 9));
	listener_order(self->rig.l, NR_LISTENERS);

	ASSERT_EQ(0, delete_slot(&env->vm));
	EXPECT_STREQ(want, listener_order(self->rig.l, NR_LISTENERS));
	env_set_model(env, 0, 32, PAGE_HOLE);
	env_set_model(env, 48, 16, PAGE_HOLE);
	EXPECT_STREQ("", env_check(env));
}

/* N2: a memslot over memory that was gone. */
TEST_F(veto, N2_C12_memslot_creation)
{
	struct env *env = &self->rig.env;

	ASSERT_EQ(0, delete_slot(&env->vm));
	env_set_model(env, 0, 32, PAGE_HOLE);
	env_set_model(env, 48, 16, PAGE_HOLE);
	ASSERT_STREQ("", env_check(env));
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY,
				     ON_MEMSLOT_CREATE, 50));
	listener_order(self->rig.l, NR_LISTENERS);

	EXPECT_EQ(-EBUSY, create_slot(&env->vm));
	EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
	EXPECT_STREQ("", env_check(env));
	/* There is no such slot: the guest's access goes nowhere. */
	EXPECT_NE(0, gmem_vm_verify(&env->vm, 0, PAGES(1), SEED));

	/* Half of it does not concern page 50. */
	EXPECT_EQ(0, gmem_set_slot(env->vm.vm_fd, GMEM_VM_SLOT, 0, PAGES(32),
				   env->vm.gmem_fd, 0, env->vm.mem));
	env_set_model(env, 0, 32, PAGE_SHARED);
	EXPECT_STREQ("", env_check(env));
	ASSERT_EQ(0, delete_slot(&env->vm));

	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], 0, 0, 0));
	EXPECT_EQ(0, create_slot(&env->vm));
	env_set_model(env, 48, 16, PAGE_SHARED);
	EXPECT_STREQ("", env_check(env));
}

/* N2: nobody gets memory that a listener refused, by none of the ways to it. */
TEST_F(veto, N2_populate)
{
	struct env *env = &self->rig.env;
	int i;

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, PAGES(8), PAGES(8)));
	env_set_model(env, 8, 8, PAGE_HOLE);
	ASSERT_STREQ("", env_check(env));
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY, ON_POPULATE, 9));
	listener_order(self->rig.l, NR_LISTENERS);

	/* Each time anew: what was refused did not leave anything behind. */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-EBUSY, gmem_allocate(env->vm.gmem_fd, PAGES(9), PAGES(1)));
		EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
		EXPECT_TRUE(host_faults(env_host(env, 9)));
		EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
		EXPECT_EQ(-EBUSY, gmem_vm_fill(&env->vm, PAGES(9), PAGES(1), SEED));
		EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
		EXPECT_EQ(-EBUSY, listener_fill(self->rig.l[0]));
		EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
		EXPECT_STREQ("", env_check(env));
	}

	/* The binding of another range is refused with the same, and whole. */
	EXPECT_EQ(-EBUSY, mirror_bind(env->vm.gmem_fd, &env->ioas, 0,
				      PAGES(NPAGES), 0x30000000));
	EXPECT_EQ(0, walker_count(env->edu[0].bdf, 0x30000000, NPAGES));
	EXPECT_STREQ("", env_check(env));

	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], 0, 0, 0));
	EXPECT_EQ(0, gmem_vm_fill(&env->vm, PAGES(9), PAGES(1), SEED));
	env_set_model(env, 9, 1, PAGE_SHARED);
	EXPECT_STREQ("", env_check(env));
}

/*
 * N3: what is true in the middle of a conversion: callbacks are held, and the
 * rest is looked at from outside. The first listener comes before the mirror of
 * the device, the second after it.
 */
struct order_rig {
	struct env env;
	int l[2];
	long long guest_mappings;
};

FIXTURE(order)
{
	struct order_rig rig;
};

FIXTURE_SETUP(order)
{
	struct env *env = &self->rig.env;
	const char *why;

	why = listener_env_missing();
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(env, NPAGES, true));
	ASSERT_EQ(0, listener_open_both(env, self->rig.l));
	ASSERT_EQ(0, gmem_vm_fill(&env->vm, 0, env->vm.size, SEED));
}

FIXTURE_TEARDOWN(order)
{
	listener_close_both(self->rig.l);
	env_destroy(&self->rig.env);
}

struct request {
	struct env *env;
	size_t first, npages;
	bool private;
	int ret;
};

static void *do_request(void *arg)
{
	struct request *r = arg;

	r->ret = env_convert(r->env, r->first, r->npages, r->private);
	return NULL;
}

/* Pages of the host mapping that are present. */
static int count_host_mappings(struct env *env)
{
	__u64 pfns[NPAGES];
	int i, nr = 0;

	if (host_pfns(env->vm.mem, pfns, NPAGES))
		return -1;
	for (i = 0; i < NPAGES; i++)
		nr += !!pfns[i];
	return nr;
}

/* The first of eight pages that are converted. */
#define CONVERTED	8

static bool device_reads(struct edu *edu, size_t page)
{
	__u8 buf[GMEM_PAGE_SIZE];

	return !dma_read(edu, env_iova(page), buf) &&
	       gmem_pattern_matches(buf, PAGES(page), SEED);
}

/**
 * struct moment - What should be true while a callback is held
 * @listener: Of whom
 * @phase: Which callback
 * @is_shared: What the file says
 * @host: Host mappings
 * @guest: Guest mappings that are missing
 * @device: Pages that the device reaches, by its page table and by DMA
 */
struct moment {
	int listener;
	__u32 phase;
	bool is_shared;
	int host;
	int guest;
	int device;
};

static void check_moment(struct __test_metadata *_metadata,
			 struct order_rig *rig, const struct moment *m)
{
	struct gmem_listener_test_record record;
	struct env *env = &rig->env;
	int listener = rig->l[m->listener];

	/* prepare is not held. */
	do {
		ASSERT_EQ(0, listener_wait(listener, &record));
	} while (record.phase == GMEM_LISTENER_TEST_PREPARE);

	EXPECT_EQ(m->phase, record.phase);
	EXPECT_EQ(m->is_shared, record.runs[0].is_shared);
	EXPECT_EQ(m->host, count_host_mappings(env));
	EXPECT_EQ(rig->guest_mappings - m->guest,
		  kvm_stat(env->vm.vm_fd, "pages_4k"));
	EXPECT_EQ(m->device, walker_count(env->edu[0].bdf, ENV_IOVA, NPAGES));
	EXPECT_EQ(m->device == NPAGES, device_reads(&env->edu[0], CONVERTED));
	ASSERT_EQ(0, listener_let_go(listener));
}

static void check_order(struct __test_metadata *_metadata,
			struct order_rig *rig, bool private,
			const struct moment *moments, size_t nr)
{
	struct env *env = &rig->env;
	struct request request = { env, CONVERTED, 8, private };
	pthread_t thread;
	size_t i;

	/* The IOMMU has cached what there is. */
	EXPECT_EQ(private, device_reads(&env->edu[0], CONVERTED));
	for (i = 0; i < 2; i++) {
		listener_forget(rig->l[i]);
		ASSERT_EQ(0, listener_hold(rig->l[i], HOLD_INVALIDATE |
						       HOLD_POPULATE));
	}
	rig->guest_mappings = kvm_stat(env->vm.vm_fd, "pages_4k");
	ASSERT_LT(NPAGES, rig->guest_mappings);

	ASSERT_EQ(0, pthread_create(&thread, NULL, do_request, &request));
	for (i = 0; i < nr; i++) {
		check_moment(_metadata, rig, &moments[i]);
		if (_metadata->exit_code)
			TH_LOG("moment %zu", i);
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, request.ret);
	EXPECT_STREQ("", env_check(env));
}

TEST_F(order, N3_to_private)
{
	static const struct moment moments[] = {
		{ 0, GMEM_LISTENER_TEST_INVALIDATE, true, 56, 8, 64 },
		{ 1, GMEM_LISTENER_TEST_INVALIDATE, true, 56, 8, 56 },
		{ 0, GMEM_LISTENER_TEST_POPULATE, false, 56, 8, 56 },
		{ 1, GMEM_LISTENER_TEST_POPULATE, false, 56, 8, 56 },
	};

	/* To the host, too, everything is mapped. */
	ASSERT_STREQ("", env_check(&self->rig.env));
	ASSERT_EQ(NPAGES, count_host_mappings(&self->rig.env));
	check_order(_metadata, &self->rig, true, moments, ARRAY_SIZE(moments));
	EXPECT_EQ(0, gmem_vm_verify(&self->rig.env.vm, 0, self->rig.env.vm.size, SEED));
}

TEST_F(order, N3_to_shared)
{
	static const struct moment moments[] = {
		{ 0, GMEM_LISTENER_TEST_INVALIDATE, false, 56, 8, 56 },
		{ 1, GMEM_LISTENER_TEST_INVALIDATE, false, 56, 8, 56 },
		{ 0, GMEM_LISTENER_TEST_POPULATE, true, 56, 8, 56 },
		{ 1, GMEM_LISTENER_TEST_POPULATE, true, 56, 8, 64 },
	};

	ASSERT_EQ(0, env_convert(&self->rig.env, 8, 8, true));
	ASSERT_STREQ("", env_check(&self->rig.env));
	ASSERT_EQ(0, gmem_vm_verify(&self->rig.env.vm, 0, self->rig.env.vm.size, SEED));
	check_order(_metadata, &self->rig, false, moments, ARRAY_SIZE(moments));
	EXPECT_EQ(0, gmem_vm_verify(&self->rig.env.vm, 0, self->rig.env.vm.size, SEED));
}

/*
 * While the callbacks of a conversion are held nobody gets at the pages: an
 * access of the host waits, and then has the new state.
 */
static void *touch_page(void *arg)
{
	struct request *r = arg;

	r->ret = host_faults(env_host(r->env, r->first));
	return NULL;
}

TEST_F(order, N3_C9_host_access_waits)
{
	struct request touch = { .env = &self->rig.env, .first = 10, .ret = -1 };
	struct request request = { &self->rig.env, 8, 8, true };
	struct gmem_listener_test_record record;
	pthread_t converter, toucher;

	ASSERT_STREQ("", env_check(&self->rig.env));
	listener_forget(self->rig.l[1]);
	ASSERT_EQ(0, listener_hold(self->rig.l[1], HOLD_INVALIDATE));
	ASSERT_EQ(0, pthread_create(&converter, NULL, do_request, &request));
	do {
		ASSERT_EQ(0, listener_wait(self->rig.l[1], &record));
	} while (record.phase != GMEM_LISTENER_TEST_INVALIDATE);

	ASSERT_EQ(0, pthread_create(&toucher, NULL, touch_page, &touch));
	usleep(200000);
	EXPECT_EQ(-1, __atomic_load_n(&touch.ret, __ATOMIC_RELAXED));
	ASSERT_EQ(0, listener_let_go(self->rig.l[1]));
	ASSERT_EQ(0, pthread_join(toucher, NULL));
	ASSERT_EQ(0, pthread_join(converter, NULL));
	EXPECT_EQ(1, touch.ret);
	EXPECT_EQ(0, request.ret);
}

/* N5: listeners, the mirror among them, never refuse by being there. */
TEST_F(order, N5_no_eagain)
{
	struct env *env = &self->rig.env;
	int i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, env_convert(env, i % 32, 32, true)) {
			TH_LOG("round %d at %#llx", i,
			       (unsigned long long)env->vm.error_offset);
		}
		ASSERT_EQ(0, env_convert(env, i % 32, 32, false));
		/* Fresh references of every kind */
		ASSERT_EQ(0, gmem_vm_verify(&env->vm, PAGES(i % 32), PAGES(2), SEED));
		ASSERT_FALSE(host_faults(env_host(env, i % 32)));
	}
	EXPECT_STREQ("", env_check(env));
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
		p->ret = convert(vm, first, npages,
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
