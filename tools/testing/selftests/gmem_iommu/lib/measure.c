// SPDX-License-Identifier: GPL-2.0
/*
 * Measurements by turns, see measure.h.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kselftest.h"
#include "measure.h"

#define MAX_ROUNDS	15
#define MIN_ROUNDS	3
#define ENOUGH		60e9	/* nanoseconds */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double run_batch(struct side *side, int batch)
{
	double start = now(), unmeasured = 0;
	int i;

	for (i = 0; i < batch; i++) {
		if (side->prepare) {
			double began = now();

			side->prepare(side->arg, side->calls);
			unmeasured += now() - began;
		}
		side->op(side->arg, side->calls++);
	}
	return (now() - start - unmeasured) / batch;
}

void measure(struct side *sides, int nr, int batch)
{
	double (*cost)[MAX_ROUNDS] = calloc(nr, sizeof(*cost));
	double start = now();
	int i, round;

	if (!cost)
		ksft_exit_fail_msg("no memory\n");
	for (i = 0; i < nr; i++)
		run_batch(&sides[i], batch);
	for (round = 0; round < MAX_ROUNDS; round++) {
		if (round >= MIN_ROUNDS && now() - start > ENOUGH)
			break;
		for (i = 0; i < nr; i++)
			cost[i][round] = run_batch(&sides[i], batch);
	}
	for (i = 0; i < nr; i++) {
		qsort(cost[i], round, sizeof(double), compare_doubles);
		sides[i].median = cost[i][round / 2];
		ksft_print_msg("%-44s %12.0f ns\n", sides[i].name,
			       sides[i].median);
	}
	free(cost);
}

void claim(const char *what, double ratio, double limit)
{
	ksft_test_result(ratio <= limit, "%s: %.3g times, at most %.3g\n", what,
			 ratio, limit);
}

void must(const char *what, int ret)
{
	if (ret < 0)
		ksft_exit_fail_msg("%s: %s\n", what, strerror(-ret));
}

long long proc_value(const char *path, const char *name)
{
	size_t len = strlen(name);
	long long value = -1;
	char line[256];
	FILE *file;

	file = fopen(path, "r");
	if (!file)
		must(path, -errno);
	while (value < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, len) && strchr(": \t", line[len]))
			value = strtoll(line + len + 1, NULL, 10);
	fclose(file);
	if (value < 0)
		must(name, -ENOENT);
	return value;
}

static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(name, argv[i]))
			return true;
	return argc == 1;
}

int run_measurements(const struct measurement *all, int nr, const char *missing,
		     int argc, char **argv)
{
	int i, nr_claims = 0;

	ksft_print_header();
	if (missing)
		ksft_exit_skip("%s\n", missing);
	for (i = 0; i < nr; i++)
		nr_claims += wanted(all[i].name, argc, argv) * all[i].nr_claims;
	ksft_set_plan(nr_claims);
	for (i = 0; i < nr; i++)
		if (wanted(all[i].name, argc, argv))
			all[i].run();
	ksft_finished();
}
