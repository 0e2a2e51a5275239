// SPDX-License-Identifier: GPL-2.0
/*
 * M14: how a binding ends: with its file, the VM, the iommufd and the device in any
 * order, by SIGKILL at any point, and with the last of several processes that have it.
 * No test has variants of the initial state, as these build everything anew many times.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/ioas.h"
#include "lib/walker.h"

#define NPAGES		256
#define NR_ORDERS	24	/* of 120 */

FIXTURE(lifetime)
{
	struct env env;
};

FIXTURE_SETUP(lifetime)
{
	const char *why = env_missing(1);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(&self->env, NPAGES, true));
}

FIXTURE_TEARDOWN(lifetime)
{
	env_destroy(&self->env);
}

enum { OBJ_GMEM, OBJ_VM, OBJ_IOMMUFD, OBJ_DEVICE, OBJ_BINDING, NR_OBJS };

static void close_object(struct env *env, int obj)
{
	switch (obj) {
	case OBJ_GMEM:
		gmem_vm_close_gmem(&env->vm);
		break;
	case OBJ_VM:
		gmem_vm_close_vm(&env->vm);
		break;
	case OBJ_IOMMUFD:
		ioas_close(&env->ioas);
		break;
	case OBJ_DEVICE:
		edu_close(&env->edu[0]);
		break;
	default:
		close(env->binding);
		env->binding = -1;
		break;
	}
}

/* The @n-th of the 120 permutations. */
static void permutation(int n, int *order)
{
	int rest[NR_OBJS] = { 0, 1, 2, 3, 4 };
	int left, i, pick;

	for (left = NR_OBJS; left > 0; left--) {
		pick = n % left;
		n /= left;
		order[NR_OBJS - left] = rest[pick];
		for (i = pick; i < left - 1; i++)
			rest[i] = rest[i + 1];
	}
}

/*
 * M14: devices reach the memory as long as the file, the device and the binding
 * live. To open and close the device takes a second on a debug kernel: by default
 * these are NR_ORDERS of the 120 orders, each object first and last in some; all
 * of them with GMEM_IOMMU_LONG=1 in the environment.
 */
TEST_F_TIMEOUT(lifetime, M14_closing_orders, 1000)
{
	const size_t npages = 16;
	struct env *env = &self->env;
	int nr_orders = getenv("GMEM_IOMMU_LONG") ? 120 : NR_ORDERS;
	int order[NR_OBJS];
	long want;
	int n, i;

	env_destroy(env);
	for (n = 0; n < nr_orders; n++) {
		ASSERT_EQ(0, env_create(env, npages, true));
		ASSERT_EQ(0, env_convert(env, 3, 5, true));
		ASSERT_EQ(0, env_bind(env));
		permutation(n * 37 % 120, order);
		for (i = 0; i < NR_OBJS; i++) {
			close_object(env, order[i]);
			if (env->edu[0].fd < 0)
				continue;
			want = npages - 5;
			if (env->vm.gmem_fd < 0 || env->binding < 0)
				want = 0;
			ASSERT_EQ(want, walker_count(env->edu[0].bdf, ENV_IOVA,
						     npages)) {
				TH_LOG("order %d %d %d %d %d, after %d", order[0],
				       order[1], order[2], order[3], order[4],
				       i + 1);
			}
		}
		env_destroy(env);
	}
}

/* A child that works until it is killed; it never returns. */
static void work_forever(void)
{
	unsigned int state = getpid();
	struct env env;
	int i;

	for (;;) {
		if (env_create(&env, 64, true) || env_bind(&env))
			_exit(1);
		for (i = 0; i < 50; i++) {
			if (env_convert_random(&env, &state))
				_exit(2);
		}
		env_destroy(&env);
	}
}

/* M14: SIGKILL at any point leaves nothing behind. */
TEST_F(lifetime, M14_sigkill_at_any_point)
{
	struct env *env = &self->env;
	int i, status;
	pid_t pid;

	env_destroy(env);
	for (i = 0; i < 20; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			work_forever();
		usleep(10000 * i);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status)) {
			TH_LOG("round %d: child exited with %d", i,
			       WEXITSTATUS(status));
		}
	}

	/* The device and the place are free. */
	ASSERT_EQ(0, env_create(env, NPAGES, true));
	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, env_convert(env, 3, 3, true));
	EXPECT_MIRROR(&self->env);
}

/* M14: a fork that outlives the parent's close keeps the binding alive. */
TEST_F(lifetime, M14_binding_shared_with_a_child)
{
	struct env *env = &self->env;
	int pipefd[2], status;
	pid_t pid;
	char byte;

	ASSERT_EQ(0, env_bind(env));
	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(pipefd[1]);
		if (read(pipefd[0], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}

	close(env->binding);
	env->binding = -1;
	EXPECT_EQ(NPAGES, walker_count(env->edu[0].bdf, ENV_IOVA, NPAGES));
	ASSERT_EQ(0, env_convert(env, 1, 1, true));
	EXPECT_MIRROR(&self->env);

	close(pipefd[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, walker_count(env->edu[0].bdf, ENV_IOVA, NPAGES));
	close(pipefd[0]);
}

TEST_HARNESS_MAIN
