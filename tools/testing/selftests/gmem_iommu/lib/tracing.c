// SPDX-License-Identifier: GPL-2.0
/*
 * A trace of one's own: an instance of tracefs.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"
#include "tracing.h"

#define INSTANCES	"/sys/kernel/tracing/instances/"
#define PATH_LEN	224

int tracing_open(struct tracing *t, const char *name)
{
	int ret;

	snprintf(t->dir, sizeof(t->dir), INSTANCES "%s", name);
	rmdir(t->dir);
	if (!mkdir(t->dir, 0700))
		return 0;

	ret = -errno;
	t->dir[0] = '\0';
	return ret;
}

void tracing_close(struct tracing *t)
{
	if (t->dir[0])
		rmdir(t->dir);
	t->dir[0] = '\0';
}

int tracing_set(const struct tracing *t, const char *file, const char *text)
{
	char path[PATH_LEN];

	snprintf(path, sizeof(path), "%s/%s", t->dir, file);
	return text_write(path, text);
}

int tracing_enable(const struct tracing *t, const char *event)
{
	char file[96];

	snprintf(file, sizeof(file), "events/%s/enable", event);
	return tracing_set(t, file, "1");
}

FILE *tracing_read(const struct tracing *t)
{
	char path[PATH_LEN];

	snprintf(path, sizeof(path), "%s/trace", t->dir);
	return fopen(path, "r");
}

int tracing_clear(const struct tracing *t)
{
	return tracing_set(t, "trace", "\n");
}

long tracing_count(const struct tracing *t, const char *text)
{
	char line[512];
	long nr = 0;
	FILE *file;

	file = tracing_read(t);
	if (!file)
		return -errno;
	while (nr >= 0 && fgets(line, sizeof(line), file)) {
		if (strstr(line, "LOST"))
			nr = -EOVERFLOW;
		else if (line[0] != '#' && strstr(line, text))
			nr++;
	}
	fclose(file);
	return nr;
}
