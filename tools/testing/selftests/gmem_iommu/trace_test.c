// SPDX-License-Identifier: GPL-2.0
/*
 * U5: the tracepoints say what happened: which file, which pages, in which
 * direction, and with which errno. A request that changes nothing has no event.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/tracing.h"
#include "lib/walker.h"

#define NPAGES		32
#define SEED		0x5eed5000
#define MAX_EVENTS	16
#define EVENT_LEN	192

/**
 * struct events - What was traced since the last look
 * @nr: How many
 * @text: "name: fields", without process, time, and anything that is not known
 *	before
 */
struct events {
	int nr;
	char text[MAX_EVENTS][EVENT_LEN];
};

/**
 * struct scene - What is traced
 * @env: The stand, all pages shared
 * @tracing: The instance
 * @ino: Inode number of the file
 * @events: What was read last
 */
struct scene {
	struct env env;
	struct tracing tracing;
	unsigned long long ino;
	struct events events;
};

FIXTURE(trace)
{
	struct scene s;
};

/* Returns NULL, or what is missing. */
static const char *start_tracing(struct tracing *tracing)
{
	if (tracing_open(tracing, "gmem_iommu_test"))
		return "no tracefs";
	if (tracing_enable(tracing, "guest_memfd") ||
	    tracing_enable(tracing, "gmem_iommu"))
		return "no events of guest_memfd or gmem_iommu";
	return NULL;
}

FIXTURE_SETUP(trace)
{
	const char *why = env_missing(1);
	struct stat st;

	if (!why)
		why = start_tracing(&self->s.tracing);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create_filled(&self->s.env, NPAGES, true, SEED));
	ASSERT_EQ(0, fstat(self->s.env.vm.gmem_fd, &st));
	self->s.ino = st.st_ino;
}

FIXTURE_TEARDOWN(trace)
{
	env_destroy(&self->s.env);
	tracing_close(&self->s.tracing);
}

/* Replace the number before @unit by "N". */
static void hide_number(char *text, const char *unit)
{
	char *end = strstr(text, unit), *start = end;

	if (!end)
		return;
	while (start > text && start[-1] >= '0' && start[-1] <= '9')
		start--;
	memmove(start + 1, end, strlen(end) + 1);
	*start = 'N';
}

/* "  task-123   [000] .....  12.345678: name: fields": from the name on. */
static void add_event(struct events *events, char *line)
{
	char *text = strstr(line, ": ");

	if (line[0] == '#' || !text || events->nr == MAX_EVENTS)
		return;
	line[strcspn(line, "\n")] = '\0';
	hide_number(text, " ns");
	snprintf(events->text[events->nr++], EVENT_LEN, "%s", text + 2);
}

static void read_events(struct __test_metadata *_metadata, struct scene *s)
{
	char line[512];
	FILE *f;

	s->events.nr = 0;
	f = tracing_read(&s->tracing);
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f))
		add_event(&s->events, line);
	fclose(f);
	ASSERT_EQ(0, tracing_clear(&s->tracing));
}

/* The event number @i is @name of this file, and goes on with @fields. */
static void expect_event(struct __test_metadata *_metadata,
			 struct scene *s, int i, const char *name,
			 const char *fields)
{
	char want[EVENT_LEN];

	snprintf(want, sizeof(want), "%s: ino %llu %s", name, s->ino, fields);
	ASSERT_LT(i, s->events.nr);
	EXPECT_STREQ(want, s->events.text[i]);
}

TEST_F(trace, U5_binding)
{
	struct env *env = &self->s.env;

	read_events(_metadata, &self->s);
	ASSERT_EQ(0, env_bind(env));
	read_events(_metadata, &self->s);
	EXPECT_EQ(1, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_iommu_bind",
		     "pages 0x0-0x1f iova 0x10003000");

	close(env->binding);
	env->binding = -1;
	read_events(_metadata, &self->s);
	EXPECT_EQ(1, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_iommu_unbind",
		     "pages 0x0-0x1f iova 0x10003000");
}

TEST_F(trace, U5_to_private_and_back)
{
	struct env *env = &self->s.env;

	ASSERT_EQ(0, env_bind(env));
	read_events(_metadata, &self->s);

	ASSERT_EQ(0, env_convert(env, 5, 3, true));
	read_events(_metadata, &self->s);
	EXPECT_EQ(4, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_convert_begin",
		     "runs 1 pages 0x5-0x7 first to-private");
	expect_event(_metadata, &self->s, 1, "gmem_convert_decided",
		     "runs 1 pages 0x5-0x7 first to-private");
	expect_event(_metadata, &self->s, 2, "gmem_iommu_unmap",
		     "convert pages 0x5-0x7 of binding iova 0x10003000: 3 pages shared->private, result 0 in N ns");
	expect_event(_metadata, &self->s, 3, "gmem_convert_commit",
		     "runs 1 pages 0x5-0x7 first to-private");

	ASSERT_EQ(0, env_convert(env, 4, 3, false));
	read_events(_metadata, &self->s);
	EXPECT_EQ(4, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_convert_begin",
		     "runs 1 pages 0x5-0x6 first to-shared");
	expect_event(_metadata, &self->s, 1, "gmem_convert_decided",
		     "runs 1 pages 0x5-0x6 first to-shared");
	expect_event(_metadata, &self->s, 2, "gmem_iommu_map",
		     "convert pages 0x5-0x6 of binding iova 0x10003000: 2 pages private->shared, result 0 in N ns");
	expect_event(_metadata, &self->s, 3, "gmem_convert_commit",
		     "runs 1 pages 0x5-0x6 first to-shared");

	/* C7: what is there already is not worth an event. */
	ASSERT_EQ(0, env_convert(env, 0, 4, false));
	read_events(_metadata, &self->s);
	EXPECT_EQ(0, self->s.events.nr);
}

/* The pages of the binding are counted, the runs are those of the request. */
TEST_F(trace, U5_vector_of_both_directions)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = 20 * GMEM_PAGE_SIZE, .size = 4 * GMEM_PAGE_SIZE,
		  .target = KVM_GMEM_TARGET_SHARED },
		{ .offset = 2 * GMEM_PAGE_SIZE, .size = GMEM_PAGE_SIZE,
		  .target = KVM_GMEM_TARGET_PRIVATE },
		{ .offset = 10 * GMEM_PAGE_SIZE, .size = 2 * GMEM_PAGE_SIZE,
		  .target = KVM_GMEM_TARGET_PRIVATE },
	};
	struct env *env = &self->s.env;

	ASSERT_EQ(0, env_convert(env, 20, 4, true));
	ASSERT_EQ(0, env_bind(env));
	read_events(_metadata, &self->s);

	ASSERT_EQ(0, env_convert_vec(env, ranges, 3));
	read_events(_metadata, &self->s);
	EXPECT_EQ(5, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_convert_begin",
		     "runs 3 pages 0x2-0x17 first to-private");
	expect_event(_metadata, &self->s, 1, "gmem_convert_decided",
		     "runs 3 pages 0x2-0x17 first to-private");
	expect_event(_metadata, &self->s, 2, "gmem_iommu_unmap",
		     "convert pages 0x2-0x17 of binding iova 0x10003000: 3 pages shared->private, result 0 in N ns");
	expect_event(_metadata, &self->s, 3, "gmem_iommu_map",
		     "convert pages 0x2-0x17 of binding iova 0x10003000: 4 pages private->shared, result 0 in N ns");
	expect_event(_metadata, &self->s, 4, "gmem_convert_commit",
		     "runs 3 pages 0x2-0x17 first to-private");
}

TEST_F(trace, U5_refused)
{
	struct env *env = &self->s.env;
	int pin;

	ASSERT_EQ(0, env_bind(env));
	pin = host_pin(env_host(env, 9), GMEM_PAGE_SIZE);
	if (pin == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, pin);
	read_events(_metadata, &self->s);

	ASSERT_EQ(-EAGAIN, env_convert(env, 5, 10, true));
	read_events(_metadata, &self->s);
	EXPECT_EQ(2, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_convert_begin",
		     "runs 1 pages 0x5-0xe first to-private");
	/* EAGAIN */
	expect_event(_metadata, &self->s, 1, "gmem_convert_abort", "page 0x9 result -11");
	close(pin);
}

/* C12: each with its own reason. */
TEST_F(trace, C12_U5_reasons)
{
	struct env *env = &self->s.env;
	int ret;

	ASSERT_EQ(0, env_bind(env));
	read_events(_metadata, &self->s);

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 7 * GMEM_PAGE_SIZE,
				     2 * GMEM_PAGE_SIZE));
	read_events(_metadata, &self->s);
	EXPECT_EQ(1, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_iommu_unmap",
		     "truncate pages 0x7-0x8 of binding iova 0x10003000: 2 pages present->hole, result 0 in N ns");

	ASSERT_EQ(0, gmem_allocate(env->vm.gmem_fd, 7 * GMEM_PAGE_SIZE,
				   GMEM_PAGE_SIZE));
	read_events(_metadata, &self->s);
	EXPECT_EQ(1, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_iommu_map",
		     "populate pages 0x7-0x7 of binding iova 0x10003000: 1 pages hole->present, result 0 in N ns");

	ret = host_break(env_host(env, 3));
	if (ret == -EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	ASSERT_EQ(0, ret);
	read_events(_metadata, &self->s);
	EXPECT_EQ(1, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_iommu_unmap",
		     "memory-failure pages 0x3-0x3 of binding iova 0x10003000: 1 pages present->broken, result 0 in N ns");

	/* The whole memslot, where pages are missing by now. */
	ASSERT_EQ(0, gmem_set_slot(env->vm.vm_fd, 0, 0, 0, env->vm.gmem_fd, 0,
				   env->vm.mem));
	read_events(_metadata, &self->s);
	EXPECT_EQ(1, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_iommu_unmap",
		     "memslot-delete pages 0x0-0x1f of binding iova 0x10003000: 32 pages present->gone, result 0 in N ns");

	gmem_vm_close_gmem(&env->vm);
	read_events(_metadata, &self->s);
	EXPECT_EQ(1, self->s.events.nr);
	expect_event(_metadata, &self->s, 0, "gmem_iommu_unmap",
		     "release pages 0x0-0x1f of binding iova 0x10003000: 32 pages present->released, result 0 in N ns");
}

TEST_HARNESS_MAIN
