/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A thread that does something while the test changes ext pages.
 */
#ifndef __SELFTEST_IOMMUFD_EXT_RACE
#define __SELFTEST_IOMMUFD_EXT_RACE

#include <pthread.h>

#include "iommufd_ext_utils.h"

/* Something that a thread does over and over until it is told to stop */
struct racer {
	pthread_t thread;
	int (*fn)(struct racer *racer);
	int fd;
	uint32_t ioas_id;
	uint32_t stdev_id;
	uint32_t hwpts[2];
	unsigned int max_leaf_lg2;
	struct ext *ext;
	unsigned long rounds;
	int error;
	bool stop;
};

static void *race(void *arg)
{
	struct racer *racer = arg;

	while (!__atomic_load_n(&racer->stop, __ATOMIC_RELAXED)) {
		racer->error = racer->fn(racer);
		if (racer->error)
			break;
		__atomic_add_fetch(&racer->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static unsigned long race_rounds(struct racer *racer)
{
	return __atomic_load_n(&racer->rounds, __ATOMIC_RELAXED);
}

#define race_start(which)                                                \
	({                                                               \
		struct racer *_r = (which);                              \
									 \
		ASSERT_EQ(0, pthread_create(&_r->thread, NULL, race, _r)); \
	})

#define race_stop(which)                                                 \
	({                                                               \
		struct racer *_r = (which);                              \
									 \
		__atomic_store_n(&_r->stop, true, __ATOMIC_RELAXED);     \
		ASSERT_EQ(0, pthread_join(_r->thread, NULL));            \
		ASSERT_EQ(0, _r->error);                                 \
		ASSERT_LT(0, _r->rounds);                                \
	})

#endif
