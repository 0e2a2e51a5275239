/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Measurements that hold on any machine: ratios of two costs from one boot. Of time,
 * both sides are measured by turns, a batch each, and the medians of the batches are
 * compared. Each claim is a test, with its limit.
 *
 * Unlike the rest of the library these print, and end the program when they fail.
 */
#ifndef SELFTESTS_GMEM_IOMMU_MEASURE_H
#define SELFTESTS_GMEM_IOMMU_MEASURE_H

#include <linux/types.h>

/**
 * struct side - One side of a comparison
 * @name: What is done
 * @prepare: NULL, or what comes before each call and is not measured
 * @op: Does it once; the number of calls so far tells which way to convert
 * @arg: For @op
 * @calls: Number of calls so far
 * @median: Out: nanoseconds of one call
 */
struct side {
	const char *name;
	void (*prepare)(void *arg, unsigned long call);
	void (*op)(void *arg, unsigned long call);
	void *arg;
	unsigned long calls;
	double median;
};

/*
 * Measure all sides by turns, @batch calls each. What takes minutes gets less rounds
 * than what takes microseconds, but never less than three.
 */
void measure(struct side *sides, int nr, int batch);

/* The test: @ratio is at most @limit. */
void claim(const char *what, double ratio, double limit);

/* End the program if @ret is a negative errno. */
void must(const char *what, int ret);

/* A line "name: value" or "name value" of a file of /proc. */
long long proc_value(const char *path, const char *name);

/**
 * struct measurement - One of a program
 * @name: What the command line calls it
 * @run: Measures, and makes its claims
 * @nr_claims: How many
 */
struct measurement {
	const char *name;
	void (*run)(void);
	int nr_claims;
};

/* main() of a program: all measurements, or those that the arguments name. */
int run_measurements(const struct measurement *all, int nr, const char *missing,
		     int argc, char **argv);

#endif /* SELFTESTS_GMEM_IOMMU_MEASURE_H */
