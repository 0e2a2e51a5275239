/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A trace of one's own: an instance of tracefs, so that nobody else's settings are
 * touched and nobody else's events are seen.
 *
 * Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef SELFTESTS_GMEM_IOMMU_TRACING_H
#define SELFTESTS_GMEM_IOMMU_TRACING_H

#include <stdio.h>

/**
 * struct tracing - An instance
 * @dir: Its directory; empty if closed
 */
struct tracing {
	char dir[96];
};

/* @name: of the instance; one that is left over is removed first. */
int tracing_open(struct tracing *t, const char *name);
void tracing_close(struct tracing *t);

/* Write @text to a control file, "events/kmem/kmalloc/enable" for example. */
int tracing_set(const struct tracing *t, const char *file, const char *text);
int tracing_enable(const struct tracing *t, const char *event);

/* The trace as text, for fclose(); NULL on error. Forget all of it. */
FILE *tracing_read(const struct tracing *t);
int tracing_clear(const struct tracing *t);

/* Lines of the trace that contain @text; -EOVERFLOW when events were lost. */
long tracing_count(const struct tracing *t, const char *text);

#endif /* SELFTESTS_GMEM_IOMMU_TRACING_H */
