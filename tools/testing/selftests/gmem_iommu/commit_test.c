// SPDX-License-Identifier: GPL-2.0
/*
 * C2, M6: past the point of no return a conversion allocates nothing: no slab
 * object and no page. The kernel's own trace says so: allocations of the task
 * between guest_memfd:gmem_convert_decided and guest_memfd:gmem_convert_commit,
 * interrupts not counted.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/tracing.h"

#define NPAGES		(2 * NR_RUNS)
#define NR_RUNS		300
#define SEED		0x5eed5000

static const char * const events[] = {
	"guest_memfd/gmem_convert_begin",
	"guest_memfd/gmem_convert_decided",
	"guest_memfd/gmem_convert_commit",
	"kmem/kmalloc",
	"kmem/kmem_cache_alloc",
	"kmem/mm_page_alloc",
};

/**
 * struct allocations - What the trace has of this task
 * @conversions: Whole conversions
 * @before: Allocations between begin and decided
 * @commit: Allocations between decided and commit
 * @first: The first of these
 */
struct allocations {
	int conversions;
	int before;
	int commit;
	char first[256];
};

/*
 * A line is "comm-pid [cpu] flags time: event: ...". The third of the flags says
 * whether an interrupt had the CPU.
 */
static bool parse_line(const char *line, char *context, const char **event)
{
	const char *flags, *colon;

	flags = strchr(line, ']');
	if (line[0] == '#' || !flags || strlen(flags) < 8)
		return false;
	*context = flags[4];	/* "] dnh.. " */
	colon = strstr(flags, ": ");
	if (!colon)
		return false;
	*event = colon + 2;
	return true;
}

static bool is_event(const char *event, const char *name)
{
	size_t len = strlen(name);

	return !strncmp(event, name, len) && event[len] == ':';
}

static int read_trace(const struct tracing *tracing, struct allocations *a)
{
	enum { OUTSIDE, BEGUN, DECIDED } at = OUTSIDE;
	char line[512], context;
	const char *event;
	FILE *file;

	memset(a, 0, sizeof(*a));
	file = tracing_read(tracing);
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (strstr(line, "LOST"))
			a->conversions = -1000000;
		if (!parse_line(line, &context, &event))
			continue;
		if (is_event(event, "gmem_convert_begin")) {
			at = BEGUN;
		} else if (is_event(event, "gmem_convert_decided")) {
			at = DECIDED;
		} else if (is_event(event, "gmem_convert_commit")) {
			a->conversions += at == DECIDED;
			at = OUTSIDE;
		} else if (context == 'h' || context == 'H' || context == 's' ||
			   context == 'z' || context == 'Z') {
			continue;
		} else if (at == BEGUN) {
			a->before++;
		} else if (at == DECIDED && !a->commit++) {
			snprintf(a->first, sizeof(a->first), "%.200s", line);
		}
	}
	fclose(file);
	return 0;
}

struct commit_rig {
	struct env env;
	struct tracing tracing;
	struct kvm_gmem_range ranges[NR_RUNS];
};

FIXTURE(commit)
{
	struct commit_rig rig;
};

FIXTURE_VARIANT(commit)
{
	int devices;	/* -1: no binding */
};

FIXTURE_VARIANT_ADD(commit, no_binding)
{
	.devices = -1,
};

FIXTURE_VARIANT_ADD(commit, no_domain)
{
	.devices = 0,
};

FIXTURE_VARIANT_ADD(commit, one_domain)
{
	.devices = 1,
};

FIXTURE_VARIANT_ADD(commit, two_domains)
{
	.devices = 2,
};

FIXTURE_SETUP(commit)
{
	struct tracing *tracing = &self->rig.tracing;
	struct env *env = &self->rig.env;
	char text[64];
	const char *why;
	size_t i;

	why = env_missing(2);
	if (why)
		SKIP(return, "%s", why);
	if (tracing_open(tracing, "gmem_commit_test"))
		SKIP(return, "no instances of tracefs");

	ASSERT_EQ(0, tracing_set(tracing, "buffer_size_kb", "2048"));
	snprintf(text, sizeof(text), "%ld", syscall(SYS_gettid));
	ASSERT_EQ(0, tracing_set(tracing, "set_event_pid", text));
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		ASSERT_EQ(0, tracing_enable(tracing, events[i])) {
			TH_LOG("%s", events[i]);
		}
	}
	ASSERT_EQ(0, tracing_set(tracing, "tracing_on", "0"));

	ASSERT_EQ(0, env_create_filled(env, NPAGES, true, SEED));
	if (variant->devices < 1)
		ASSERT_EQ(0, edu_detach(&env->edu[0]));
	if (variant->devices >= 0)
		ASSERT_EQ(0, env_bind(env));
	if (variant->devices == 2)
		ASSERT_EQ(0, env_attach_late(env, true));
}

FIXTURE_TEARDOWN(commit)
{
	env_destroy(&self->rig.env);
	tracing_close(&self->rig.tracing);
}

/*
 * @nr runs, each of one page with another state next to it, so that nothing can be
 * joined; in both directions, twice: the second time finds other trees.
 */
static void check_commit(struct __test_metadata *_metadata,
			 struct commit_rig *rig, int nr, bool mixed)
{
	const struct tracing *tracing = &rig->tracing;
	struct env *env = &rig->env;
	struct allocations a;
	int round, i, before = 0;

	for (round = 0; round < 4; round++) {
		for (i = 0; i < nr; i++)
			rig->ranges[i] = (struct kvm_gmem_range) {
				.offset = (2 * i + 1) * GMEM_PAGE_SIZE,
				.size = GMEM_PAGE_SIZE,
				.target = (round ^ (mixed & i)) % 2 ?
					  KVM_GMEM_TARGET_SHARED :
					  KVM_GMEM_TARGET_PRIVATE,
			};
		ASSERT_EQ(0, tracing_clear(tracing));
		ASSERT_EQ(0, tracing_set(tracing, "tracing_on", "1"));
		ASSERT_EQ(0, env_convert_vec(env, rig->ranges, nr));
		ASSERT_EQ(0, tracing_set(tracing, "tracing_on", "0"));

		ASSERT_EQ(0, read_trace(tracing, &a));
		EXPECT_EQ(1, a.conversions);
		before += a.before;
		EXPECT_EQ(0, a.commit) {
			TH_LOG("round %d: %s", round, a.first);
		}
	}
	/* The trace sees allocations: there are some in prepare. */
	EXPECT_LT(0, before);
	if (env->binding >= 0)
		EXPECT_MIRROR(env);
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

TEST_F(commit, C2_M6_one_run)
{
	check_commit(_metadata, &self->rig, 1, false);
}

TEST_F(commit, C2_M6_300_runs)
{
	check_commit(_metadata, &self->rig, NR_RUNS, false);
}

TEST_F(commit, C2_M6_300_runs_both_ways)
{
	check_commit(_metadata, &self->rig, NR_RUNS, true);
}

/* One run of many pages, over leaves of several tables and new memory. */
TEST_F(commit, C2_M6_new_memory)
{
	const struct tracing *tracing = &self->rig.tracing;
	struct env *env = &self->rig.env;
	struct allocations a;
	int round;

	for (round = 0; round < 2; round++) {
		ASSERT_EQ(0, env_convert(env, 0, NPAGES, true));
		ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 0, env->vm.size));
		ASSERT_EQ(0, tracing_clear(tracing));
		ASSERT_EQ(0, tracing_set(tracing, "tracing_on", "1"));
		ASSERT_EQ(0, env_convert(env, 0, NPAGES, false));
		ASSERT_EQ(0, tracing_set(tracing, "tracing_on", "0"));
		ASSERT_EQ(0, read_trace(tracing, &a));
		EXPECT_EQ(1, a.conversions);
		EXPECT_EQ(0, a.commit) {
			TH_LOG("round %d: %s", round, a.first);
		}
		/* The pages themselves, if a listener wants them there. */
		if (env->binding >= 0)
			EXPECT_LT(NPAGES, a.before);
	}
}

TEST_HARNESS_MAIN
