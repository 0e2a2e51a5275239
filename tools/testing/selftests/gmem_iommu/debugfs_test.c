// SPDX-License-Identifier: GPL-2.0
/*
 * U5: /sys/kernel/debug/gmem_iommu/<id> tells of a binding what its owner reads from
 * it: GMEM_IOMMU_QUERY_RUNS and GMEM_IOMMU_GET_STATS.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/mirror.h"
#include "lib/walker.h"

#define NPAGES		ENV_MAX_PAGES
#define DIRECTORY	"/sys/kernel/debug/gmem_iommu"
#define PATH_LEN	96
#define DUMP_SIZE	(64 * NPAGES + 4096)

struct dump {
	char path[PATH_LEN];
	char text[DUMP_SIZE];
	char want[DUMP_SIZE];
	struct gmem_iommu_run runs[NPAGES];
};

FIXTURE(debugfs)
{
	struct env env;
	struct dump dump;
};

/* The number of a binding, from fdinfo; or -errno. */
static int binding_id(int binding)
{
	char path[64], line[128];
	int id = -ENOENT;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", binding);
	file = fopen(path, "r");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "gmem-iommu-id: %d", &id) == 1)
			break;
	fclose(file);
	return id;
}

static int binding_path(int binding, char *path)
{
	int id = binding_id(binding);

	if (id < 0)
		return id;
	snprintf(path, PATH_LEN, DIRECTORY "/%d", id);
	return 0;
}

FIXTURE_SETUP(debugfs)
{
	const char *why = env_missing(1);

	if (!why && access(DIRECTORY, R_OK | X_OK))
		why = "no " DIRECTORY;
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(&self->env, NPAGES, true));
	ASSERT_EQ(0, env_bind(&self->env));
	ASSERT_EQ(0, binding_path(self->env.binding, self->dump.path));
}

FIXTURE_TEARDOWN(debugfs)
{
	env_destroy(&self->env);
}

/* In small pieces if @piece is small. Returns the length or -errno. */
static ssize_t read_dump(struct dump *dump, size_t piece)
{
	size_t len = 0;
	ssize_t n = 0;
	int fd;

	fd = open(dump->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		len += n;
		if (len + piece >= DUMP_SIZE)
			piece = DUMP_SIZE - 1 - len;
		n = read(fd, dump->text + len, piece);
	} while (n > 0);
	if (n < 0)
		len = -errno;
	else
		dump->text[len] = '\0';
	close(fd);
	return len;
}

/* The dump as it has to be, from what the binding says. */
static int write_want(struct env *env, struct dump *dump)
{
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = NPAGES,
		.runs = (unsigned long)dump->runs,
	};
	struct gmem_iommu_stats stats;
	struct stat st;
	FILE *file;
	__u32 i;

	if (fstat(env->vm.gmem_fd, &st) || mirror_get_stats(env->binding, &stats) ||
	    ioctl(env->binding, GMEM_IOMMU_QUERY_RUNS, &query))
		return -EIO;
	file = fmemopen(dump->want, DUMP_SIZE, "w");
	if (!file)
		return -errno;

	fprintf(file, "ino %llu\noffset 0x0\nlength 0x%zx\niova 0x%llx\n",
		(unsigned long long)st.st_ino, env->vm.size, ENV_IOVA);
	fprintf(file, "policy shared-only\nprotection rw\nmax_leaf_size 0x1000\n");
	fprintf(file, "dead 0\nconversions %llu\naborts %llu\nrefusals %llu\n",
		stats.conversions, stats.aborts, stats.refusals);
	fprintf(file, "mapped_pages %llu\nunmapped_pages %llu\nsyncs %llu\n",
		stats.mapped_pages, stats.unmapped_pages, stats.syncs);
	fprintf(file, "cuts %llu\nmerges %llu\nfailures %llu\n", stats.cuts,
		stats.merges, stats.failures);
	fprintf(file, "total_ns %llu\nmax_ns %llu\n", stats.total_ns, stats.max_ns);
	for (i = 0; i < query.nr_runs; i++)
		fprintf(file, "run 0x%llx 0x%llx %s %s 0x%x\n",
			dump->runs[i].offset, dump->runs[i].length,
			dump->runs[i].flags & GMEM_IOMMU_RUN_SHARED ?
			"shared" : "private",
			dump->runs[i].flags & GMEM_IOMMU_RUN_MAPPED ?
			"mapped" : "unmapped", dump->runs[i].leaf_size);
	fclose(file);
	return 0;
}

static void expect_dump(struct __test_metadata *_metadata, struct env *env,
			struct dump *dump, size_t piece)
{
	ASSERT_EQ(0, write_want(env, dump));
	ASSERT_LT(0, read_dump(dump, piece));
	EXPECT_STREQ(dump->want, dump->text);
}

TEST_F(debugfs, U5_equals_what_the_binding_says)
{
	struct env *env = &self->env;

	expect_dump(_metadata, env, &self->dump, DUMP_SIZE);
	ASSERT_EQ(0, env_convert(env, 10, 5, true));
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 20 * GMEM_PAGE_SIZE,
				     3 * GMEM_PAGE_SIZE));
	expect_dump(_metadata, env, &self->dump, DUMP_SIZE);
	EXPECT_NE(NULL, strstr(self->dump.text,
			       "\nrun 0xa000 0x5000 private unmapped 0x0\n"));
	EXPECT_NE(NULL, strstr(self->dump.text,
			       "\nrun 0x14000 0x3000 shared unmapped 0x0\n"));
}

/* A run for each page: more than is read at once, and read in odd pieces. */
TEST_F(debugfs, U5_many_runs)
{
	struct env *env = &self->env;
	size_t i;

	for (i = 0; i < NPAGES; i += 2)
		ASSERT_EQ(0, env_convert(env, i, 1, true));
	expect_dump(_metadata, env, &self->dump, DUMP_SIZE);
	expect_dump(_metadata, env, &self->dump, 61);
	EXPECT_MIRROR(env);
}

/* Each binding has its file, for as long as it exists; only root reads it. */
TEST_F(debugfs, U5_file_lives_with_the_binding)
{
	struct env *env = &self->env;
	char path[PATH_LEN];
	struct stat st;
	int second;

	second = mirror_bind(env->vm.gmem_fd, &env->ioas, 0, env->vm.size,
			     0x30000000);
	ASSERT_LE(0, second);
	ASSERT_EQ(0, binding_path(second, path));
	EXPECT_STRNE(path, self->dump.path);
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(0400, st.st_mode & 0777);

	close(second);
	EXPECT_NE(0, access(path, F_OK));
	EXPECT_EQ(0, access(self->dump.path, F_OK));
}

TEST_F(debugfs, U5_dead_binding_has_no_runs)
{
	ASSERT_EQ(0, ioas_unmap(&self->env.ioas, ENV_IOVA, self->env.vm.size));
	ASSERT_LT(0, read_dump(&self->dump, DUMP_SIZE));
	EXPECT_NE(NULL, strstr(self->dump.text, "\ndead 1\n"));
	EXPECT_EQ(NULL, strstr(self->dump.text, "\nrun "));
}

/* M14: who has the file open does not keep the binding, nor see it when it is gone. */
TEST_F(debugfs, U5_M14_open_file_outlives_the_binding)
{
	struct env *env = &self->env;
	char buf[16];
	int fd;

	fd = open(self->dump.path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(sizeof(buf), read(fd, buf, sizeof(buf)));
	close(env->binding);
	env->binding = -1;
	EXPECT_EQ(-1, read(fd, buf, sizeof(buf)));
	EXPECT_EQ(EIO, errno);
	close(fd);
}

TEST_HARNESS_MAIN
