// SPDX-License-Identifier: GPL-2.0
/*
 * M14: a process is killed in the middle of what it does with a binding that others
 * use, too. Whatever it was at, it is done or not done: the runs of the binding and
 * the page table of the IOMMU are one, and nothing of the process is left.
 *
 * GMEM_IOMMU_LONG=1 in the environment asks for 1,000 kills.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define NPAGES		256
#define OTHER_IOVA	0x30000000ULL
#define SEED		0x5eed8000

#define NR_KILLS	25	/* of each of the four kinds of work */
#define NR_KILLS_LONG	250
#define MAX_LIFE_US	6000

FIXTURE(life)
{
	struct env env;
};

FIXTURE_SETUP(life)
{
	const char *why = env_missing(2);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create_bound(&self->env, NPAGES, SEED));
}

FIXTURE_TEARDOWN(life)
{
	env_destroy(&self->env);
}

/* What a child does again and again; it ends with a status when it cannot. */
typedef int (*work_fn)(struct env *env, unsigned int *state);

static int work_convert(struct env *env, unsigned int *state)
{
	struct kvm_gmem_range ranges[NPAGES / 2];
	int i;

	for (i = 0; i < NPAGES / 2; i++)
		ranges[i] = (struct kvm_gmem_range) {
			.offset = 2 * i * GMEM_PAGE_SIZE,
			.size = GMEM_PAGE_SIZE,
			.target = rand_r(state) % 2 ? KVM_GMEM_TARGET_PRIVATE :
						      KVM_GMEM_TARGET_SHARED,
		};
	return gmem_convert_vec(env->vm.gmem_fd, ranges, NPAGES / 2, NULL);
}

/* With memory that has to be allocated: that is where a signal is looked for. */
static int work_populate(struct env *env, unsigned int *state)
{
	__u64 offset = rand_r(state) % (NPAGES / 2) * GMEM_PAGE_SIZE;
	__u64 size = (1 + rand_r(state) % (NPAGES / 2)) * GMEM_PAGE_SIZE;
	int ret;

	ret = gmem_convert(env->vm.gmem_fd, offset, size,
			   KVM_GMEM_TARGET_PRIVATE, NULL);
	if (!ret)
		ret = gmem_punch_hole(env->vm.gmem_fd, offset, size);
	if (!ret)
		ret = gmem_convert(env->vm.gmem_fd, offset, size,
				   KVM_GMEM_TARGET_SHARED, NULL);
	return ret;
}

static int work_bind(struct env *env, unsigned int *state)
{
	int binding;

	binding = mirror_bind(env->vm.gmem_fd, &env->ioas, 0, env->vm.size,
			      OTHER_IOVA);
	return binding < 0 ? binding : close(binding);
}

static int work_attach(struct env *env, unsigned int *state)
{
	int ret;

	ret = edu_attach(&env->edu[1], &env->ioas, env->ioas.id);
	return ret ?: edu_detach(&env->edu[1]);
}

FIXTURE_VARIANT(life)
{
	work_fn work;
};

FIXTURE_VARIANT_ADD(life, convert)
{
	.work = work_convert,
};

FIXTURE_VARIANT_ADD(life, populate)
{
	.work = work_populate,
};

FIXTURE_VARIANT_ADD(life, bind_and_unbind)
{
	.work = work_bind,
};

FIXTURE_VARIANT_ADD(life, attach_and_detach)
{
	.work = work_attach,
};

/* A child that has begun to work, or -1. */
static pid_t start_worker(struct env *env, work_fn work, unsigned int seed)
{
	int pipefd[2], ret;
	char byte = 0;
	pid_t pid;

	if (pipe(pipefd))
		return -1;
	pid = fork();
	if (!pid) {
		ret = work(env, &seed);
		if (write(pipefd[1], &byte, 1) != 1)
			_exit(1);
		while (!ret)
			ret = work(env, &seed);
		_exit(2);
	}
	close(pipefd[1]);
	if (pid > 0 && read(pipefd[0], &byte, 1) != 1)
		pid = -1;
	close(pipefd[0]);
	return pid;
}

/* The model is what the binding says. */
static int read_model(struct env *env)
{
	static struct gmem_iommu_run runs[NPAGES];
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = NPAGES,
		.runs = (unsigned long)runs,
	};
	__u32 i;

	if (ioctl(env->binding, GMEM_IOMMU_QUERY_RUNS, &query))
		return -errno;
	for (i = 0; i < query.nr_runs; i++)
		env_set_model(env, runs[i].offset / GMEM_PAGE_SIZE,
			      runs[i].length / GMEM_PAGE_SIZE,
			      !(runs[i].flags & GMEM_IOMMU_RUN_SHARED) ?
			      PAGE_PRIVATE :
			      runs[i].flags & GMEM_IOMMU_RUN_MAPPED ?
			      PAGE_SHARED : PAGE_HOLE);
	return 0;
}

static void expect_whole(struct __test_metadata *_metadata, struct env *env)
{
	struct edu *late = &env->edu[1];

	ASSERT_EQ(0, read_model(env));
	/* Attached or not: it died at that. */
	late->ioas = walker_count(late->bdf, IOAS_SCRATCH_IOVA, 1) == 1 ?
		     &env->ioas : NULL;
	EXPECT_MIRROR(env);
	if (late->ioas)
		ASSERT_EQ(0, edu_detach(late));

	/* Nothing of it is bound. */
	EXPECT_EQ(0, walker_count(env->edu[0].bdf, OTHER_IOVA, NPAGES));
	ASSERT_EQ(0, work_bind(env, NULL));
}

TEST_F_TIMEOUT(life, M14_killed_at_work, 3600)
{
	int nr = getenv("GMEM_IOMMU_LONG") ? NR_KILLS_LONG : NR_KILLS;
	struct env *env = &self->env;
	unsigned int state = 20261122;
	int i, status;
	pid_t pid;

	ASSERT_EQ(0, edu_open(&env->edu[1], env->bdfs.bdf[1], env->ioas.iommufd));
	for (i = 0; i < nr; i++) {
		pid = start_worker(env, variant->work, state + i);
		ASSERT_LT(0, pid);
		usleep(rand_r(&state) % MAX_LIFE_US);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status)) {
			TH_LOG("round %d: the work failed", i);
		}
		expect_whole(_metadata, env);
		if (__test_passed(_metadata))
			continue;
		TH_LOG("after round %d", i);
		break;
	}

	/* It is as good as new. */
	ASSERT_EQ(0, env_convert(env, 0, NPAGES, true));
	EXPECT_MIRROR(env);
	ASSERT_EQ(0, env_convert(env, 0, NPAGES, false));
	EXPECT_MIRROR(env);
}

FIXTURE(exec)
{
	struct env env;
};

FIXTURE_SETUP(exec)
{
	const char *why = env_missing(1);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(&self->env, NPAGES, true));
	ASSERT_EQ(0, env_bind(&self->env));
}

FIXTURE_TEARDOWN(exec)
{
	env_destroy(&self->env);
}

/* A binding is close-on-exec: a program that is started does not keep it. */
TEST_F(exec, M14_program_does_not_inherit_the_binding)
{
	struct env *env = &self->env;
	int pipefd[2], status;
	char byte;
	pid_t pid;

	/* It closes when the child has become another program. */
	ASSERT_EQ(0, pipe2(pipefd, O_CLOEXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		execlp("sleep", "sleep", "1000", NULL);
		_exit(1);
	}
	close(pipefd[1]);
	ASSERT_EQ(0, read(pipefd[0], &byte, 1));
	close(pipefd[0]);

	EXPECT_MIRROR(env);
	close(env->binding);
	env->binding = -1;
	EXPECT_EQ(0, walker_count(env->edu[0].bdf, ENV_IOVA, NPAGES));

	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status)) {
		TH_LOG("no program to start");
	}
}

TEST_HARNESS_MAIN
